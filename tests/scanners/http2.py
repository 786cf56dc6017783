"""One connection of HTTP/2, frame by frame: nothing here minds the rules. Frames by hyperframe and hpack."""
import collections
import select
import socket
import ssl
import struct
import time

import hpack
from hyperframe import frame as frames

import world as worlds

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
NAMES = {0: "DATA", 1: "HEADERS", 3: "RST_STREAM", 4: "SETTINGS", 6: "PING", 7: "GOAWAY", 8: "WINDOW_UPDATE"}
CODES = {0: "NO_ERROR", 1: "PROTOCOL_ERROR", 2: "INTERNAL_ERROR", 3: "FLOW_CONTROL_ERROR", 5: "STREAM_CLOSED",
         6: "FRAME_SIZE_ERROR", 9: "COMPRESSION_ERROR", 11: "ENHANCE_YOUR_CALM"}
INITIAL_WINDOW_SIZE, MOST_WINDOW = frames.SettingsFrame.INITIAL_WINDOW_SIZE, (1 << 31) - 1
CONNECT_TIMEOUT = 10


class Connection:
    """With a preface and settings sent. `is_reading` says whether it ever takes what comes."""

    def __init__(self, world, settings=(), is_reading=True, source="127.0.0.1"):
        self.is_reading, self.is_closed = is_reading, False
        self.received, self.goaway = collections.Counter(), None
        self.bytes_received = 0
        self._unparsed = bytearray()
        plain = socket.create_connection(world.address("tls"), CONNECT_TIMEOUT, (source, 0))
        try:
            self.socket = world.client_context("h2").wrap_socket(plain, server_hostname=worlds.NAME)
        except OSError:
            plain.close()
            raise
        self.socket.setblocking(False)
        self.send(PREFACE + settings_frame(dict(settings)), time.monotonic() + CONNECT_TIMEOUT)

    def close(self):
        self.is_closed = True
        self.socket.close()

    def send(self, data, end):
        """Sends all of it, unless it is `end` or the connection closes before; says whether it did."""
        left = memoryview(data)
        while left and not self.is_closed:
            if self.is_reading:
                self._read()
            try:
                left = left[self.socket.send(left):]
            except (ssl.SSLWantWriteError, ssl.SSLWantReadError):
                if time.monotonic() > end:
                    break
                self._wait(write=True)
            except OSError:
                self._read_rest()
        return not left

    def read_until(self, end):
        """Takes what comes, until then or until the connection closes."""
        while not self.is_closed and time.monotonic() < end:
            self._read()
            if not self.is_closed:
                self._wait(write=False)

    def wait(self, seconds):
        """Lets time pass, taking what comes if it is one that reads."""
        if self.is_reading:
            self.read_until(time.monotonic() + seconds)
        else:
            time.sleep(seconds)

    def is_ended(self):
        """Looks whether the other side has closed, without taking more than is needed for that."""
        if self.is_reading:
            self._read()
        return self.is_closed

    def _wait(self, write):
        select.select([self.socket] if self.is_reading else [], [self.socket] if write else [], [], 0.05)

    def _read(self):
        try:
            while data := self.socket.recv(1 << 18):
                self.bytes_received += len(data)
                self._unparsed += data
                self._parse()
            self.is_closed = True
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            pass
        except OSError:
            self.is_closed = True

    def _read_rest(self):
        """After a write failed: the reason may have been said before."""
        self._read()
        self.is_closed = True

    def _parse(self):
        start = 0
        while len(self._unparsed) - start >= 9:
            length = int.from_bytes(self._unparsed[start:start + 3], "big")
            if len(self._unparsed) - start < 9 + length:
                break
            kind = NAMES.get(self._unparsed[start + 3], "other")
            self.received[kind] += 1
            if kind == "GOAWAY":
                code, = struct.unpack(">I", self._unparsed[start + 13:start + 17])
                if code or self.goaway is None:
                    self.goaway = CODES.get(code, str(code))
            start += 9 + length
        del self._unparsed[:start]


def settings_frame(settings):
    return frames.SettingsFrame(0, settings=settings).serialize()


def headers_frame(stream, block, flags=("END_HEADERS", "END_STREAM")):
    return frames.HeadersFrame(stream, block, flags=list(flags)).serialize()


def raw_frame(kind, flags, stream, payload=b""):
    """For what hyperframe refuses to build."""
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def window_update(stream, increment):
    return raw_frame(8, 0, stream, struct.pack(">I", increment))


def block(path, method="GET", *more):
    """A header block that leaves nothing in the table, so it can be sent again and again."""
    encoder = hpack.Encoder()
    encoder.header_table_size = 0
    fields = [(":method", method), (":scheme", "https"), (":authority", worlds.NAME), (":path", path), *more]
    return encoder.encode([hpack.NeverIndexedHeaderTuple(name, value) for name, value in fields])
