"""Counts the instructions that one request costs, its allocations and how often it reads the clock, under callgrind.
`instructions` starts it; README.md explains.

Everything that is not a request cancels out: the program has started, every connection is open and every
cache is filled before the first count, and threads that work by the clock are not counted.
"""
import argparse
import glob
import operator
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import tomllib
from dataclasses import astuple, dataclass

import programs
from measure import PATH, is_refused
from running import Bench, Running
from scenarios import ONE, PUBLIC, SCENARIOS, Scenario
from systems import Bare, Portcullis

BUDGETS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "instructions.toml")
MANY_ROUTES = Scenario("rs256-one-10000-routes", "one token, RS256, 10,000 routes", "rs256.one", routes=10_000)
COUNTED = [SCENARIOS[name] for name in (
    PUBLIC, ONE, "access-log", "rs256-500", "rs256-bad", "rs256-new", "es256-new", "eddsa-new",
    "mtls-rs256-one", "h2-rs256-one")] + [MANY_ROUTES]
# What bare Pingora is asked for, to compare with: the same way there and back, and no token is looked at.
FLOOR_SCENARIOS = [SCENARIOS[name] for name in (PUBLIC, "mtls-public", "h2-public")]
# More tokens than are used again and again, or than a small cache holds; then some while instructions are
# counted already, which are not looked at.
WARM_UP, SETTLE = 520, 10
PARTS, REQUESTS = 5, 60
TOKENS = WARM_UP + SETTLE + PARTS * REQUESTS
# By name: one for each of `--threads`, and the one that writes the access log. The others look at memory,
# files and clocks, so many times a second.
COUNTED_THREADS = ("worker-", "access-log")
# The copy of some processors is one instruction for any number of bytes, and valgrind would count each byte.
TUNABLES = "glibc.cpu.x86_rep_movsb_threshold=1000000000:glibc.cpu.x86_rep_stosb_threshold=1000000000"
# Under valgrind: 10,000 routes are read in this time, too, on a machine that does other things besides.
READY_TIMEOUT = 180
# What hands out memory, to Rust and to aws-lc: the gateway's allocator and the system's, which the floor has.
ALLOCATE = re.compile(r"(mi_(malloc|zalloc|calloc|realloc)\w*|malloc|calloc|realloc|aligned_alloc|posix_memalign)(@.*)?")
READ_CLOCK = re.compile(r"clock_gettime(@.*)?")
# Further below its budget than this, in percent, a scenario could have a lower one.
LOWER = 5.0


@dataclass(frozen=True)
class Counts:
    instructions: float = 0
    allocations: float = 0
    clock_reads: float = 0

    @classmethod
    def read(cls, path):
        """Of one thread. A name is written once, and a number stands for it from then on."""
        totals, names, called, caller = 0, {}, "", ""
        calls = {ALLOCATE: 0, READ_CLOCK: 0}
        with open(path) as file:
            for line in file:
                if line.startswith(("fn=", "cfn=")):
                    number, _, name = line.rstrip("\n").partition("=")[2].partition(" ")
                    called = names.setdefault(number, name)
                elif line.startswith("calls="):
                    for kind in calls:
                        # Not what one of them asks another.
                        if kind.fullmatch(called) and not kind.fullmatch(caller):
                            calls[kind] += int(line[len("calls="):].split()[0])
                elif line.startswith("totals: "):
                    totals = int(line.split()[1])
                if line.startswith("fn="):
                    caller = called
        return cls(totals, calls[ALLOCATE], calls[READ_CLOCK])

    def map(self, function, *others):
        return Counts(*(function(*values) for values in zip(*(astuple(each) for each in (self, *others)))))

    def __add__(self, other):
        return self.map(operator.add, other)

    def __sub__(self, other):
        return self.map(operator.sub, other)

    def __truediv__(self, number):
        return self.map(lambda value: value / number)

    @classmethod
    def median(cls, parts):
        return parts[0].map(lambda *values: statistics.median(values), *parts[1:])


class Counted:
    """A system under callgrind, which counts nothing yet."""

    def __init__(self, system):
        self.system = system

    def __getattr__(self, name):
        return getattr(self.system, name)

    def command(self, bench, job, folder):
        self.folder = folder
        return ["env", f"GLIBC_TUNABLES={TUNABLES}", "valgrind", "--tool=callgrind", "--instr-atstart=no",
                "--separate-threads=yes", "--cache-sim=no", "--branch-sim=no", "--dump-line=no",
                f"--vgdb-prefix={folder}/vgdb", f"--callgrind-out-file={folder}/counts",
                *self.system.command(bench, job, folder)]

    def tell(self, pid, *words):
        subprocess.run(["vgdb", f"--vgdb-prefix={self.folder}/vgdb", f"--pid={pid}", *words], check=True,
                       capture_output=True, text=True, timeout=120)

    def take(self, pid):
        """{thread: `Counts` since the last time}. Threads are numbered as they were started."""
        self.tell(pid, "dump")
        counts = {}
        for path in glob.glob(f"{self.folder}/counts.*"):
            thread = re.search(r"-(\d+)$", path)
            if thread:
                counts[int(thread.group(1))] = Counts.read(path)
            os.remove(path)
        return counts


class Http1:
    """One connection, one request after the other, always of the same bytes but for the token."""

    def __init__(self, running, tokens):
        self.running, self.tokens = running, iter(tokens)
        refused = is_refused(running.job, running.system)
        self.status, self.body = (401, None) if refused else (200, running.bench.service.body.encode())
        self.socket = socket.create_connection(("127.0.0.1", running.bench.port), 60)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, number):
        for _ in range(number):
            self.socket.sendall((
                f"GET {PATH} HTTP/1.1\r\nHost: localhost\r\nUser-Agent: load\r\nAccept: */*\r\n"
                f"X-User-ID: spoofed\r\nAuthorization: Bearer {next(self.tokens)}\r\n\r\n").encode())
            self.expect_answer()

    def expect_answer(self):
        data, length = b"", None
        while length is None or len(data) < length:
            part = self.socket.recv(65536)
            if not part:
                raise RuntimeError("the connection was closed")
            data += part
            head, end, _ = data.partition(b"\r\n\r\n")
            if end and length is None:
                announced = re.search(rb"(?i)\r\ncontent-length: (\d+)", head)
                if not announced:
                    raise RuntimeError(f"an answer without a length: {head}")
                length = len(head) + 4 + int(announced.group(1))
        if int(head.split()[1]) != self.status or self.body not in (None, data[len(head) + 4:]):
            raise RuntimeError(f"another answer than {self.status} and its body: {data[:200]}")

    def part(self, count):
        """What one request costs."""
        self.send(REQUESTS)
        return count() / REQUESTS


class Http2:
    """h2load. It makes a connection each time: what that costs is in two loads, and not in their difference."""

    def __init__(self, running, tokens):
        self.running, self.token = running, tokens[0]

    def send(self, number):
        command = ["h2load", "--clients", "1", "--max-concurrent-streams", "1", "--requests", str(number),
                   "--header", f"authorization: Bearer {self.token}", "--header", "x-user-id: spoofed",
                   f"https://127.0.0.1:{self.running.bench.port}{PATH}"]
        run = subprocess.run(command, capture_output=True, text=True, timeout=120)
        if f" {number} 2xx," not in run.stdout:
            raise RuntimeError(f"h2load says: {run.stdout}{run.stderr}")

    def part(self, count):
        self.send(REQUESTS)
        few = count()
        self.send(3 * REQUESTS)
        return (count() - few) / (2 * REQUESTS)


def threads(pid):
    """{number: name}, as callgrind numbers them: in the order of their start."""
    folder = f"/proc/{pid}/task"
    names = {}
    for number, thread in enumerate(sorted(os.listdir(folder), key=int), 1):
        with open(f"{folder}/{thread}/comm") as file:
            names[number] = file.read().strip()
    return names


def count_scenario(bench, system, job):
    """`Counts` of a request, of each part."""
    system = Counted(system)
    with open(bench.file(job.token_file)) as file:
        tokens = file.read().split()
    tokens *= -(-TOKENS // len(tokens))
    with Running(bench, system, job, READY_TIMEOUT) as running:
        names = threads(running.pid)

        def count():
            counts = system.take(running.pid)
            busiest = max(counts, key=lambda number: counts[number].instructions)
            if system.is_floor:
                return counts[busiest]  # its one worker has a name that says nothing
            chosen = [number for number in counts if names.get(number, "").startswith(COUNTED_THREADS)]
            if busiest not in chosen:
                raise RuntimeError(f"another thread is the busiest: {names.get(busiest)}")
            return sum((counts[number] for number in chosen), Counts())

        load = (Http2 if job.edge_tls else Http1)(running, tokens)
        load.send(WARM_UP)
        before = None if system.is_floor else system.counts(bench)
        system.tell(running.pid, "instrumentation", "on")
        load.send(SETTLE)
        count()
        parts = [load.part(count) for _ in range(PARTS)]
        system.tell(running.pid, "instrumentation", "off")
        if not all(all(astuple(part)) for part in parts):
            raise RuntimeError(f"callgrind knows no allocator or no clock by name: {parts[0]}")
        if not system.is_floor:
            check(job, before, system.counts(bench))
    return parts


def check(job, before, after):
    """Whether tokens were judged as the scenario says, every one of them."""
    requests = SETTLE + PARTS * REQUESTS * (4 if job.edge_tls else 1)
    if job.checks_tokens:
        expected = "refused" if job.is_refused else "verified" if job.small_cache else "cached"
        judged = after[expected] - before[expected]
        if judged != requests:
            raise RuntimeError(f"{judged} of {requests} tokens were {expected}")
    if after["lost_lines"]:
        raise RuntimeError(f"{after['lost_lines']} lines of the access log were lost")


# ---------------------------------------------------------------- budgets
@dataclass
class Row:
    """A scenario with what it may cost, and what it costs."""
    job: Scenario
    budget: int         # instructions
    allocations: float  # the budget of them
    tolerance: float    # percent of the instructions
    more_allocations: float  # than their budget
    parts: list
    floor: Counts | None
    is_updated: bool = False
    fault: str = ""

    @property
    def count(self):
        return Counts.median(self.parts)

    @property
    def change(self):
        return 100 * (self.count.instructions / self.budget - 1) if self.budget else 0.0

    @property
    def verdict(self):
        if self.fault:
            return "FAIL"
        if self.is_updated:
            return "allowed"
        if not self.budget or not self.allocations:
            return "no budget"
        is_more = self.change > self.tolerance or self.count.allocations > self.allocations + self.more_allocations
        return "FAIL" if is_more else "ok"

    def __str__(self):
        title = f"{self.job.name:24}"
        if self.fault:
            return f"{title}{self.verdict}: {self.fault}"
        beyond = self.count - self.floor if self.floor else None
        instructions = [part.instructions for part in self.parts]
        spread = 100 * (max(instructions) - min(instructions)) / self.count.instructions
        return (f"{title}{self.count.instructions:14,.0f}{self.budget or 0:12,}{self.change:+8.2f} %"
                f"{self.tolerance:10.1f} %{spread:9.2f} %{cell(beyond, 'instructions', ',.0'):>12}"
                f"{self.count.allocations:12.1f}{self.allocations:8.1f}{cell(beyond, 'allocations', '.1'):>8}"
                f"{self.count.clock_reads:12.1f}{cell(beyond, 'clock_reads', '.1'):>8}  {self.verdict}")


def cell(beyond, name, form):
    return f"{getattr(beyond, name):+{form}f}" if beyond else "–"


HEADER = (f"{'scenario':24}{'instructions':>14}{'budget':>12}{'change':>10}{'tolerance':>12}{'spread':>11}{'bare':>12}"
          f"{'allocations':>12}{'budget':>8}{'bare':>8}{'clock reads':>12}{'bare':>8}")


def load_budgets():
    with open(BUDGETS, "rb") as file:
        return tomllib.load(file)


def update(rows):
    """Writes what was counted; all other lines, comments too, stay. The counts are the last two tables of the file."""
    counts = {row.job.name: row.count for row in rows}
    tables = {"[instructions]\n": lambda count: f"{round(count.instructions, -2):_.0f}",
              "[allocations]\n": lambda count: f"{count.allocations:.1f}"}
    with open(BUDGETS) as file:
        lines = file.readlines()
    edges = [lines.index(title) for title in tables] + [len(lines)]
    written = lines[:edges[0]]
    for (title, form), first, last in zip(tables.items(), edges, edges[1:]):
        new = {name: f"{name} = {form(count)}\n" for name, count in counts.items()}
        kept = [new.pop(line.split(" ")[0], line) for line in lines[first + 1:last]]
        gap = [kept.pop()] if kept and kept[-1] == "\n" else []
        written += [title, *kept, *new.values(), *gap]
    with open(BUDGETS, "w") as file:
        file.writelines(written)


def arguments():
    parser = argparse.ArgumentParser(prog="tests/bench/instructions", description=__doc__.split("\n")[0])
    parser.add_argument("--update", action="store_true", help="allow what is counted")
    parser.add_argument("--scenarios", default="", help=f"of {','.join(job.name for job in COUNTED)}")
    options = parser.parse_args()
    for name in filter(None, options.scenarios.split(",")):
        if name not in [job.name for job in COUNTED]:
            parser.error(f"`{name}` is none of {', '.join(job.name for job in COUNTED)}")
    return options


def count_all(options, root):
    budgets = load_budgets()
    cpus = sorted(os.sched_getaffinity(0))
    bench = Bench(root, TOKENS, {"proxy": cpus[0], "load": cpus[-1], "service": cpus[-1]})
    chosen = options.scenarios.split(",") if options.scenarios else [job.name for job in COUNTED]
    jobs = [job for job in COUNTED if job.name in chosen]
    floors, rows = {}, []
    if Bare().is_present():
        for job in FLOOR_SCENARIOS:
            if any((job.mutual_tls, job.edge_tls) == (other.mutual_tls, other.edge_tls) for other in jobs):
                floors[job.mutual_tls, job.edge_tls] = Counts.median(count_scenario(bench, Bare(), job))
    print(HEADER, flush=True)
    for job in jobs:

        def allowed(table, name=job.name):
            return budgets[table].get(name, budgets[table].get("default", 0))

        row = Row(job, allowed("instructions"), allowed("allocations"), allowed("tolerance_percent"),
                  allowed("tolerance_allocations"), [], floors.get((job.mutual_tls, job.edge_tls)), options.update)
        try:
            row.parts = count_scenario(bench, Portcullis(), job)
        except subprocess.SubprocessError as error:
            row.fault = f"{error.cmd[0]}: {type(error).__name__}: {error.stderr or ''}"
        except (RuntimeError, OSError, ValueError) as error:
            row.fault = str(error)
        rows.append(row)
        print(row, flush=True)
    return rows


def main():
    options = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    root = tempfile.mkdtemp(prefix="portcullis-instructions-")
    os.chmod(root, 0o755)
    try:
        rows = count_all(options, root)
    finally:
        programs.stop_all()
        shutil.rmtree(root, ignore_errors=True)
    good = [row for row in rows if not row.fault]
    if options.update:
        update(good)
    else:
        lower = [row.job.name for row in good if row.budget and row.change < -LOWER
                 or row.count.allocations < row.allocations - row.more_allocations]
        if lower:
            print(f"could have a lower budget: {', '.join(lower)}")
        if lower or len(good) < len(rows) or any(row.verdict != "ok" for row in rows):
            print("how to accept: tests/bench/instructions --update")
    failed = [row for row in rows if row.verdict not in ("ok", "allowed")]
    print(f"{len(rows) - len(failed)} passed, {len(failed)} failed")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
