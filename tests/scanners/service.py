"""The service behind the gateway; and, given a folder, the issuer that serves its key set from there.

    python service.py [FOLDER]        prints its port

    …/bytes/N        answers with N bytes (1 KiB for any other path)
    …/after/MS       answers after that time
    /counts          requests, and most of them at once, since the last time it was asked

A request whose connection ends is given up, as a service does that looks after itself.
"""
import asyncio
import json
import os
import re
import sys

PART = b"x" * 65_536


class Counts:
    requests = in_flight = most = 0


def content_of(folder, path):
    """The body that a path stands for, and the seconds until it begins."""
    if folder:
        with open(os.path.join(folder, os.path.basename(path)), "rb") as file:
            return [file.read()], 0
    if path == "/counts":
        counted = {"requests": Counts.requests, "most_at_once": Counts.most}
        Counts.requests, Counts.most = 0, Counts.in_flight
        return [json.dumps(counted).encode()], 0
    named = re.search(r"/(bytes|after)/(\d+)$", path)
    number = int(named.group(2)) if named else 1024
    if named and named.group(1) == "after":
        return [b"late"], number / 1000
    return [PART] * (number // len(PART)) + [PART[:number % len(PART)]], 0


async def read_body(reader, head):
    length = re.search(rb"\r\ncontent-length: *(\d+)", head, re.IGNORECASE)
    if length:
        await reader.readexactly(int(length.group(1)))
    elif re.search(rb"\r\ntransfer-encoding: *chunked", head, re.IGNORECASE):
        while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
            await reader.readexactly(size + 2)
        await reader.readuntil(b"\r\n")


async def answer(folder, head, reader, writer):
    await read_body(reader, head)
    method, path = head.split(b" ", 2)[:2]
    parts, seconds = content_of(folder, path.decode("latin1").split("?")[0])
    if seconds:
        await sleep_unless_closed(reader, seconds)
    length = sum(len(part) for part in parts)
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % length)
    for part in parts if method != b"HEAD" else []:
        writer.write(part)
        await writer.drain()


async def sleep_unless_closed(reader, seconds):
    end = asyncio.get_running_loop().time() + seconds
    while asyncio.get_running_loop().time() < end:
        if reader.at_eof():
            raise ConnectionResetError
        await asyncio.sleep(0.05)


async def serve(folder, reader, writer):
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            is_counted = b" /counts " not in head.split(b"\r\n", 1)[0]
            Counts.requests += is_counted
            Counts.in_flight += is_counted
            Counts.most = max(Counts.most, Counts.in_flight)
            try:
                await answer(folder, head, reader, writer)
            finally:
                Counts.in_flight -= is_counted
    except (OSError, ValueError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        pass
    finally:
        writer.close()


async def main(folder):
    server = await asyncio.start_server(
        lambda reader, writer: serve(folder, reader, writer), "127.0.0.1", 0, backlog=4096, limit=1 << 18)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    try:
        asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else None))
    except KeyboardInterrupt:
        pass
