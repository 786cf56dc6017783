"""Traffic of all kinds for minutes: good, bad and broken off. What the gateway holds must stay flat."""
import collections
import random
import socket
import statistics
import threading
import time

import good_caller
import results
import watch
import world as worlds
from http2 import Connection, block, headers_frame
from floods import reset
from watch import MIB

WARM_UP = 0.2        # of the time, at most a minute
WORKERS = 2
EVERY = 0.5
# The last third against the first: what an allocator moves about.
MORE_MEMORY, MORE_DESCRIPTORS, MORE_THREADS = 8 * MIB, 5, 4
TIMEOUT = 10


def run(world, report, minutes):
    seconds = minutes * 60
    is_over, done = threading.Event(), collections.Counter()
    workers = [threading.Thread(target=work, args=(world, random.Random(number), is_over, done))
               for number in range(WORKERS)]
    caller = good_caller.GoodCaller(world, "127.0.0.2")
    for worker in workers:
        worker.start()
    time.sleep(min(60, seconds * WARM_UP))
    looking = watch.Watch(world.pid, EVERY)
    time.sleep(seconds - min(60, seconds * WARM_UP))
    samples = looking.stop()
    is_over.set()
    for worker in workers:
        worker.join()
    report(judge(samples, caller.stop(), done, minutes))


def judge(samples, served, done, minutes):
    third = len(samples) // 3
    faults, notes = [], []
    for name, more, unit in (("memory", MORE_MEMORY, MIB), ("descriptors", MORE_DESCRIPTORS, 1),
                             ("threads", MORE_THREADS, 1)):
        values = [getattr(sample, name) / unit for sample in samples]
        first, last = statistics.median(values[:third]), statistics.median(values[-third:])
        notes.append(f"{name} {first:.1f}, then {last:.1f} (most {max(values):.1f})")
        if last - first > more / unit:
            faults.append(f"{name} grew from {first:.1f} to {last:.1f}")
    for way, found in served.items():
        if way == "direct":
            continue
        notes.append(f"good caller, {way}: {found['served']:,} served, p99 {found['p99_ms']} ms, "
                     f"worst {found['worst_ms']} ms")
        if found["failed"]:
            faults.append(f"good caller, {way}: {found['failed']}")
    wrong = {name: number for name, number in done.items() if name.startswith("wrong")}
    faults += [f"{name}: {number} times" for name, number in wrong.items()]
    faults += [f"{name}: never" for name in KINDS if not done[name]]
    notes.append(f"{sum(done.values()) - sum(wrong.values()):,} exchanges of {len(done) - len(wrong)} kinds")
    return results.Row("soak", f"{minutes:g} minutes of good, bad and broken traffic", faults, notes=notes)


def work(world, chance, is_over, done):
    names = list(KINDS)
    while not is_over.is_set():
        name = chance.choice(names)
        try:
            said = KINDS[name](world, chance)
            done[name if said is None else f"wrong: {name}: {said}"] += 1
        except Exception as error:  # whatever it is, the others go on
            done[f"wrong: {name}: {type(error).__name__}"] += 1
        time.sleep(0.002)


# ---------------------------------------------------------------- kinds: each says what was wrong, if anything
def plain(world):
    return socket.create_connection(world.address("plain"), TIMEOUT)


def encrypted(world):
    connection = socket.create_connection(world.address("tls"), TIMEOUT)
    return world.client_context("http/1.1").wrap_socket(connection, server_hostname=worlds.NAME)


def head(method, path, *lines):
    return "\r\n".join([f"{method} {path} HTTP/1.1", f"Host: {worlds.NAME}", *lines, "", ""]).encode()


def status_of(connection, data):
    with connection:
        connection.sendall(data)
        answer = connection.recv(65_536)
    return int(answer.split(b" ", 2)[1]) if answer.startswith(b"HTTP/") else None


def answered(status, *accepted):
    return None if status in accepted else f"answered with {status}"


def good(world, chance):
    token = chance.choice(world.tokens)
    way = chance.choice((plain, encrypted))
    return answered(status_of(way(world), head("GET", "/orders/1", f"Authorization: Bearer {token}")), 200)


def upload(world, chance):
    body = b"x" * chance.randrange(1, 60_000)
    return answered(status_of(plain(world), head("POST", "/public/x", f"Content-Length: {len(body)}") + body), 200)


def refused(world, chance):
    token = chance.choice([*world.bad_tokens, *(world.cases[name] for name in (
        "expired", "wrong audience", "algorithm none", "HS256 with the public key", "garbage"))])
    return answered(status_of(plain(world), head("GET", "/orders/1", f"Authorization: Bearer {token}")), 401)


def unknown(world, chance):
    return answered(status_of(plain(world), head("GET", f"/nowhere/{chance.random()}")), 404)


def ambiguous(world, chance):
    path = chance.choice(("/public/..%2forders/1", "//orders/1", "/orders/%2e%2e/x"))
    return answered(status_of(plain(world), head("GET", path)), 400)


def too_large(world, chance):
    lines = [f"X-{number}: {'y' * 1_000}" for number in range(50)]
    return answered(status_of(plain(world), head("GET", "/public/x", *lines)), 431)


def nonsense(world, chance):
    return answered(status_of(plain(world), b"\x16\x03\x01" + chance.randbytes(100) + b"\r\n\r\n"), 400, None)


def left_in_head(world, chance):
    with plain(world) as connection:
        connection.sendall(head("GET", "/public/x")[:-chance.randrange(2, 40)])


def left_in_body(world, chance):
    with plain(world) as connection:
        connection.sendall(head("POST", "/public/x", "Content-Length: 100000") + b"x" * chance.randrange(50_000))


def left_in_answer(world, chance):
    with plain(world) as connection:
        connection.sendall(head("GET", "/public/bytes/1000000"))
        connection.recv(chance.randrange(1, 100_000))


def left_in_handshake(world, chance):
    with socket.create_connection(world.address("tls"), TIMEOUT) as connection:
        connection.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + chance.randbytes(32))


def left_while_waiting(world, chance):
    with plain(world) as connection:
        connection.sendall(head("GET", "/public/after/500"))
        time.sleep(0.01)


def streams_reset(world, chance):
    connection = Connection(world)
    try:
        fields = block("/public/after/500")
        for stream in range(1, 2 * chance.randrange(2, 15), 2):
            connection.send(headers_frame(stream, fields) + reset(stream), time.monotonic() + TIMEOUT)
    finally:
        connection.close()


def streams_left(world, chance):
    connection = Connection(world)
    try:
        fields = block("/public/bytes/100000")
        for stream in range(1, 2 * chance.randrange(2, 15), 2):
            connection.send(headers_frame(stream, fields), time.monotonic() + TIMEOUT)
        connection.read_until(time.monotonic() + 0.02)
    finally:
        connection.close()


KINDS = {kind.__name__.replace("_", " "): kind for kind in (
    good, upload, refused, unknown, ambiguous, too_large, nonsense, left_in_head, left_in_body, left_in_answer,
    left_in_handshake, left_while_waiting, streams_reset, streams_left)}
