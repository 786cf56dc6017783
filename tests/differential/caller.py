"""Connections that send inputs and read answers, one after the other, many at a time."""
import asyncio
import re
import socket
import struct
import time
from collections import namedtuple

Answer = namedtuple("Answer", "status head body closes")

PATIENCE = 20
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding: *chunked", re.IGNORECASE)
_CLOSE = re.compile(rb"\r\nconnection: *close", re.IGNORECASE)
# Closing by a reset leaves no port waiting.
_RESET = struct.pack("ii", 1, 0)


def parse(data):
    """The first final answer in `data`, or None when it is not whole."""
    while True:
        end = data.find(b"\r\n\r\n")
        if end < 0 or not data.startswith(b"HTTP/"):
            return None
        status = int(data[9:12])
        if status >= 200:
            break
        data = data[end + 4:]
    head, start = bytes(data[:end]), end + 4
    closes = bool(_CLOSE.search(head))
    if _CHUNKED.search(head):
        body = b""
        while True:
            line = data.find(b"\r\n", start)
            if line < 0:
                return None
            size = int(data[start:line].split(b";")[0], 16)
            if len(data) < line + 2 + size + 2:
                return None
            if not size:
                return Answer(status, head, body, closes)
            body += data[line + 2:line + 2 + size]
            start = line + 2 + size + 2
    length = _LENGTH.search(head)
    if not length:
        # Ends with the connection, or has no body; nobody here does the former.
        return Answer(status, head, b"", closes)
    size = int(length.group(1))
    if len(data) < start + size:
        return None
    return Answer(status, head, bytes(data[start:start + size]), closes)


class Caller(asyncio.Protocol):
    """Takes requests from `work` until there are none. `on_answer` gets each with its answer, or with None
    when the connection ended before."""

    def __init__(self, port, work, on_answer, done):
        self.port, self.work, self.on_answer, self.done = port, work, on_answer, done
        self.data, self.current, self.transport, self.since = bytearray(), None, None, 0.0

    async def connect(self):
        loop = asyncio.get_running_loop()
        for _ in range(50):
            try:
                await loop.create_connection(lambda: self, "127.0.0.1", self.port)
                return
            except OSError:
                await asyncio.sleep(0.1)
        self.done.set_exception(RuntimeError("the gateway accepts no connection"))

    def connection_made(self, transport):
        self.transport = transport
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._next()

    def _next(self):
        try:
            self.current = next(self.work, None)
        except Exception as error:
            self._end(error)
            raise
        if self.current is None:
            self._end()
            return
        self.since = time.monotonic()
        self.transport.write(self.current.head)

    def _end(self, error=None):
        if not self.done.done():
            self.done.set_exception(error) if error else self.done.set_result(None)
        self.transport.abort()

    def data_received(self, data):
        self.data += data
        if self.current is None:
            return
        answer = parse(self.data)
        if answer is None:
            return
        self.data.clear()
        asked, self.current = self.current, None
        try:
            self.on_answer(asked, answer)
        except Exception as error:
            self._end(error)
            raise
        if answer.closes:
            self.transport.abort()
        else:
            self._next()

    def connection_lost(self, _error):
        self.data.clear()
        asked, self.current = self.current, None
        if asked is not None:
            self.on_answer(asked, None)
        if not self.done.done():
            asyncio.ensure_future(self.connect())

    def give_up(self, now):
        if self.current is not None and now - self.since > PATIENCE:
            self.transport.abort()


async def call(port, work, on_answer, connections):
    """Sends all of `work` to `port`."""
    loop = asyncio.get_running_loop()
    callers = [Caller(port, work, on_answer, loop.create_future()) for _ in range(connections)]
    for caller in callers:
        await caller.connect()

    async def watch():
        while True:
            await asyncio.sleep(1)
            now = time.monotonic()
            for caller in callers:
                caller.give_up(now)

    watching = asyncio.ensure_future(watch())
    await asyncio.gather(*(caller.done for caller in callers))
    watching.cancel()


async def ask(port, head):
    """One request on a connection of its own."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(head)
    data = b""
    try:
        while (answer := parse(data)) is None:
            part = await asyncio.wait_for(reader.read(65536), PATIENCE)
            if not part:
                return None
            data += part
        return answer
    finally:
        writer.close()
