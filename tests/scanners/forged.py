"""Forged tokens, as many as the gateway answers: well-formed, in the issuer's name and under its key ids, with
one bit of the signature wrong. From one address the limit of failed verifications stops them; from a thousand
addresses it does not, and each costs a verification.

The gateway is one of its own, with a processor and so a worker to itself: a good caller then waits for the gateway,
not for the flood. Services, flood and good caller share the other processors.
"""
import collections
import concurrent.futures
import ipaddress
import multiprocessing
import os
import re
import select
import socket
import time

import logs
import tokens
import world as worlds
from attack import Attack

# A p99 that is more than the worst two: what it costs to start a flood is a part of it, and not all.
SECONDS, QUIET_SECONDS, RATE = 20, 10, 50
ANSWERED_WITHIN = 10    # what is still due at the end
CONNECTIONS = 100       # from the one address
PIPELINED = 8           # requests under way on one connection, where it is more than one
PER_CONNECTION = 5_000  # `limits.requests_per_connection` is 10,000: none is lost to its end
MOST_PROCESSES = 4
PER_SECOND = 500        # `limits.failed_verifications_per_second`
PROMISED = 2
PATH = "/guarded/1"
GOOD_CALLER = "127.1.0.1"
ONE = ["127.0.0.1"] * CONNECTIONS  # a connection from each
FIRST, LAST = (int(ipaddress.IPv4Address(address)) for address in ("127.0.0.2", "127.0.3.254"))
MANY = [str(ipaddress.IPv4Address(address)) for address in range(FIRST, LAST + 1)]
REFUSED = r'portcullis_token_verifications_total\{[^}]*result="refused"[^}]*\}'
KINDS = tuple((algorithm, sources, depth) for algorithm, depth in (("RS256", 1), ("ES256", 1), ("RS256", PIPELINED))
              for sources in (ONE, MANY))
STATUS = re.compile(rb"HTTP/1\.1 (\d\d\d)")
STATUS_BYTES = 12


def run(world, report, match=""):
    chosen = [kind for kind in KINDS if match in name_of(*kind)]
    if not chosen:
        return
    folder = os.path.join(world.folder, "forged")
    os.mkdir(folder)
    processors = sorted(os.sched_getaffinity(0))
    own, *others = processors
    try:
        if others:
            os.sched_setaffinity(0, others)  # whatever is started from here on inherits it
        with worlds.World(folder, os.environ["PORTCULLIS"], own if others else None) as pinned:
            for kind in chosen:
                report(attack(pinned, *kind, processes=max(1, min(len(others), MOST_PROCESSES))))
            logs.run(pinned, report)
    finally:
        os.sched_setaffinity(0, processors)


def name_of(algorithm, sources, depth):
    addresses = len(set(sources))
    where = "one address" if addresses == 1 else f"{addresses:,} addresses"
    pipelined = f", {depth} at once on a connection" if depth > 1 else ""
    return f"{algorithm}, {where}{pipelined}, for {SECONDS} s"


def attack(world, algorithm, sources, depth, processes):
    good, bad = (world.lines(f"{algorithm.lower()}.{kind}") for kind in ("500", "bad"))
    under = Attack(world, "forged tokens", name_of(algorithm, sources, depth), GOOD_CALLER,
                   quiet_seconds=QUIET_SECONDS, rate=RATE)
    with under:
        # Otherwise the same answer to all would pass.
        status = tokens.ask(world, good[0], PATH)
        if status != 200 or world.counts(world.attacked)["requests"] != 1:
            under.faults.append(f"a good token is answered with {status} where the forged ones go")
        counted = world.metric(REFUSED)
        found = flood(world, sources, bad, depth, processes)
        counted = world.metric(REFUSED) - counted
        reached = world.counts(world.attacked)["requests"]
        under.faults += judge(found, counted, reached, len(set(sources)) == 1)
        answers = ", ".join(f"{number:,} × {status}" for status, number in sorted(found["statuses"].items()))
        under.notes.append(f"{found['sent'] / SECONDS:,.0f} forged tokens a second, {found['opened']:,} connections: "
                           f"{answers}")
    under.result.notes += compared(under.result.figures)
    return under.result


def judge(found, counted, reached, is_one_address):
    faults, statuses = [], found["statuses"]
    others = {status: number for status, number in statuses.items() if status not in (401, 429)}
    if others:
        faults.append(f"forged tokens were answered with {others}")
    if reached:
        faults.append(f"{reached} forged tokens reached the service")
    if found["sent"] != sum(statuses.values()):
        faults.append(f"{found['sent'] - sum(statuses.values())} of {found['sent']} were not answered")
    if counted != statuses.get(401, 0):
        faults.append(f"the gateway counted {counted:.0f} verifications that failed, not {statuses.get(401, 0)}")
    # It counts in seconds of its own clock: one more is begun, and one more ends while answers are awaited.
    most = PER_SECOND * (found["seconds"] + 2)
    if is_one_address and statuses.get(401, 0) > most:
        faults.append(f"{statuses[401]} from one address were verified, more than {most:.0f}")
    if is_one_address and not statuses.get(429):
        faults.append("too slow a flood: the limit of failed verifications was not reached")
    if not is_one_address and statuses.get(429):
        faults.append("an address was refused for what others had sent, or this flood is not from many")
    return faults


def compared(figures):
    """What the good caller waited for, against the promise."""
    notes = []
    for way in ("kept", "fresh", "direct"):
        p50, p50_quiet, p99, p99_quiet = (
            figures[f"{way}_{name}"] for name in ("p50_ms", "p50_quiet_ms", "p99_ms", "p99_quiet_ms"))
        if not (p50_quiet and p99_quiet and p99):
            continue
        ratio = p99 / p99_quiet
        figures[f"{way}_p99_ratio"] = round(ratio, 2)
        broken = f", more than the {PROMISED} times that are promised" if way != "direct" and ratio > PROMISED else ""
        notes.append(f"{way}: p50 {p50_quiet} → {p50} ms, p99 {p99_quiet} → {p99} ms, {ratio:.1f} times{broken}")
    return notes


# ---------------------------------------------------------------- the flood
def flood(world, sources, bad, depth, processes):
    """{"sent", "opened", "seconds", "statuses": {status: number}}, of all processes together."""
    spawned = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(processes, mp_context=spawned) as pool:
        waiting = [pool.submit(_main, world.address("plain"), sources[number::processes], bad, depth)
                   for number in range(processes)]
        parts = [each.result() for each in waiting]
    return {"sent": sum(part["sent"] for part in parts), "opened": sum(part["opened"] for part in parts),
            "seconds": max(part["seconds"] for part in parts),
            "statuses": dict(sum((part["statuses"] for part in parts), collections.Counter()))}


def _main(address, sources, bad, depth):
    os.nice(10)  # the good caller may be on the same processor, and is not to wait for it
    return Flood(address, bad, depth).run(sources)


class Connection:
    def __init__(self, address, source):
        self.source, self.sent, self.due, self.tail = source, 0, 0, b""
        self.socket = socket.create_connection(address, ANSWERED_WITHIN, (source, 0))

    def read(self):
        """The statuses of the answers that have come; `None` when it has ended."""
        try:
            data = self.socket.recv(1 << 18)
        except OSError:
            data = b""
        if not data:
            return None
        data = self.tail + data
        # Too short for a status that was counted, long enough for the beginning of one that was not.
        self.tail = data[1 - STATUS_BYTES:]
        found = STATUS.findall(data)
        self.due -= len(found)
        return found


class Flood:
    """One process's part. Each answer is followed by the next request, until the time is over."""

    def __init__(self, address, bad, depth):
        self.address, self.depth, self.live, self.events = address, depth, {}, select.epoll()
        self.tokens = len(bad)
        # Twice, so that what is sent together is one slice.
        self.requests = 2 * [
            f"GET {PATH} HTTP/1.1\r\nHost: {worlds.NAME}\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
            for token in bad]
        self.next, self.sent, self.opened, self.statuses = 0, 0, 0, collections.Counter()

    def run(self, sources):
        began = time.monotonic()
        end = began + SECONDS
        for source in sources:
            self.open(source)
        while time.monotonic() < end:
            self.turn(is_over=False)
        while time.monotonic() < end + ANSWERED_WITHIN and any(each.due for each in self.live.values()):
            self.turn(is_over=True)
        for connection in self.live.values():
            connection.socket.close()
        return {"sent": self.sent, "opened": self.opened, "seconds": time.monotonic() - began,
                "statuses": collections.Counter({int(status): number for status, number in self.statuses.items()})}

    def turn(self, is_over):
        for descriptor, _ in self.events.poll(0.1):
            connection = self.live[descriptor]
            found = connection.read()
            is_ended = found is None
            self.statuses.update(found or ())
            if is_ended or (connection.sent >= PER_CONNECTION and not connection.due):
                del self.live[descriptor]
                connection.socket.close()
                if not is_over:
                    self.open(connection.source)
            elif found and not is_over and connection.sent < PER_CONNECTION:
                self.send(connection, len(found))

    def open(self, source):
        connection = Connection(self.address, source)
        self.opened += 1
        self.live[connection.socket.fileno()] = connection
        self.events.register(connection.socket, select.EPOLLIN)
        self.send(connection, self.depth)

    def send(self, connection, count):
        data = b"".join(self.requests[self.next:self.next + count])
        self.next = (self.next + count) % self.tokens
        connection.sent += count
        connection.due += count
        self.sent += count
        try:
            connection.socket.sendall(data)  # so little always goes in
        except OSError:
            pass  # reading sees the end, and what is still due counts as not answered
