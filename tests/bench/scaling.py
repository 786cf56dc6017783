"""Measures what grows with use: remembered tokens, and workers. `scaling` starts it; README.md explains.

All gateways run at once, each with its tokens remembered already, and take turns: one that waits costs nothing.
"""
import argparse
import copy
import multiprocessing
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

import mint
import programs
from bench import HERE, origin, processors, say
from measure import TOKENS_AT_LEAST, Load, observe
from running import Bench, Running
from scenarios import Scenario
from systems import Portcullis

SIZES = [100, 1_000, 10_000, 100_000, 1_000_000]
# Tokens that nobody remembers, for one gateway: more than it meets in all its turns.
NEW = 400_000
FILL = 10


def arguments():
    parser = argparse.ArgumentParser(prog="tests/bench/scaling", description=__doc__.split("\n")[0])
    parser.add_argument("--most", type=int, default=SIZES[-1], help="remembered tokens; default: %(default)s")
    parser.add_argument("--rounds", type=int, default=5, help="default: %(default)s")
    parser.add_argument("--secs", type=float, default=2.0, help="of each measurement; default: %(default)s")
    parser.add_argument("--connections", type=int, default=32, help="default: %(default)s")
    parser.add_argument("--cpus", default="", help="PROXY,LOAD,SERVICE; default: as tests/bench/run")
    return parser.parse_args()


def sign(work):
    """One part of the tokens, in a process of its own."""
    path, key, now, numbers = work
    signer = mint.Signer.load("EdDSA", "ed-1", key)
    with open(path, "w") as file:
        file.writelines(signer.token(mint.claims(number, now)) + "\n" for number in numbers)


def write_tokens(bench, count):
    """Signed on all processors: `eddsa.all`, a token a line."""
    parts, now = 4 * os.cpu_count(), int(time.time())
    edges = [count * part // parts for part in range(parts + 1)]
    work = [(bench.file(f"part-{part}"), bench.file("eddsa.key"), now, range(edges[part], edges[part + 1]))
            for part in range(parts)]
    with multiprocessing.Pool() as pool:
        pool.map(sign, work, chunksize=1)
    with open(bench.file("eddsa.all"), "w") as whole:
        for path, *_ in work:
            with open(path) as part:
                shutil.copyfileobj(part, whole)
            os.remove(path)


def write_some(bench, name, first, count):
    with open(bench.file("eddsa.all")) as whole, open(bench.file(name), "w") as some:
        for number, line in enumerate(whole):
            if number >= first + count:
                break
            if number >= first:
                some.write(line)


class Measured:
    """A gateway that runs until the end, and what its turns have cost."""

    def __init__(self, bench, job, options, processors_too=()):
        self.bench, self.job, self.options = copy.copy(bench), job, options
        self.bench.port, self.bench.admin_port = programs.free_ports(2)
        self.running = Running(self.bench, Portcullis(), job)
        if processors_too:
            for thread in os.listdir(f"/proc/{self.running.pid}/task"):
                os.sched_setaffinity(int(thread), {bench.cpus["proxy"], *processors_too})
        self.following = {}
        self.turns = {}

    def load(self, name):
        """The load that sends the tokens of this file."""
        running = copy.copy(self.running)
        running.job = Scenario(self.job.name, "", name, small_cache=name.endswith(".new"))
        return running, Load(running, self.options.load)

    def fill(self, name, count):
        _, load = self.load(name)
        following = 0
        while following < count:
            answers = load.fill(self.options, FILL, following)
            if answers["faults"]:
                raise RuntimeError(f"{self.job.name}: {answers['faults']}")
            following = answers["next"]
        self.memory = programs.memory_mib(self.running.pid)
        self.remembered = Portcullis.counts(self.bench)["remembered"]

    def turn(self, name):
        running, load = self.load(name)
        result = {"faults": []}
        full = observe(running, result, lambda: load.full(self.options, self.following.get(name, 0)))
        self.following[name] = full["next"]
        wanted = full["counts"]["verified" if running.job.small_cache else "cached"]
        if wanted < 0.99 * full["completed"]:
            result["faults"].append(f"only {wanted} of {full['completed']} tokens were of this kind")
        if result["faults"]:
            raise RuntimeError(f"{self.job.name}, {name}: {result['faults']}")
        self.turns.setdefault(name, []).append(full)
        print(f"{self.job.name:20} {name:14} {full['cpu_us']:7.1f} µs {full['rps']:7.0f}/s, "
              f"proxy {full['share']:.2f}, load {full['load_share']:.2f}", flush=True)

    def costs(self, name):
        return [turn["cpu_us"] for turn in self.turns[name]]


def spread(values, digits=1):
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f}..{max(values):.{digits}f})"


def ratios(values, others):
    return spread([value / other for value, other in zip(values, others)], 2)


def in_turns(options, gateways, names):
    for number in range(options.rounds):
        for kind in names:
            first = number % len(gateways)
            for gateway in gateways[first:] + gateways[:first]:
                gateway.turn(kind(gateway))


def remembered(bench, options):
    """Requests beside as many remembered tokens."""
    sizes = [size for size in SIZES if size <= options.most]
    gateways = []
    for size in sizes:
        name = f"eddsa.{size}"
        write_some(bench, name, 0, size)
        say(f"{size} tokens to remember")
        # A quarter more room than tokens: each of the cache's parts is bounded by itself.
        job = Scenario(f"{size} remembered", "", name, entries=size + size // 4 + 1000)
        gateways.append(Measured(bench, job, options))
        gateways[-1].fill(name, size)
    in_turns(options, gateways, [lambda gateway: gateway.job.tokens, lambda _: "eddsa.new"])
    few = gateways[0]
    print("\n| remembered | a hit, µs | of 100 | a new token, µs | of 100 | memory, MiB |\n| --- | --- | --- | --- | --- | --- |")
    for size, gateway in zip(sizes, gateways):
        hits, misses = gateway.costs(gateway.job.tokens), gateway.costs("eddsa.new")
        print(f"| {gateway.remembered:,} of {size:,} | {spread(hits)} | {ratios(hits, few.costs(few.job.tokens))} "
              f"| {spread(misses)} | {ratios(misses, few.costs('eddsa.new'))} | {gateway.memory:.1f} |")
    for gateway in gateways:
        gateway.running.stop()


def workers(bench, options):
    """Two workers, on the processors of proxy and load, beside one."""
    one = Measured(bench, Scenario("one worker", "", "rs256.500", entries=1000), options)
    two = Measured(bench, Scenario("two workers", "", "rs256.500", entries=1000, workers=2), options,
                   [bench.cpus["load"]])
    for gateway in (one, two):
        gateway.fill("rs256.500", mint.FEW)
    in_turns(options, [one, two], [lambda _: "rs256.500", lambda _: "eddsa.new"])
    print("\n| | CPU of a request, of one worker's | so they do, of one worker's | requests/s, of one worker's | "
          "the load has |\n| --- | --- | --- | --- | --- |")
    for title, name in (("500 tokens, RS256", "rs256.500"), ("every token new, EdDSA", "eddsa.new")):
        pairs = list(zip(one.turns[name], two.turns[name]))
        share = spread([turn["load_share"] for _, turn in pairs], 2)
        print(f"| {title} | {ratios(two.costs(name), one.costs(name))} "
              f"| {spread([2 * a['cpu_us'] / b['cpu_us'] for a, b in pairs], 2)} "
              f"| {spread([b['rps'] / a['rps'] for a, b in pairs], 2)} | {share} of a processor |")


def main():
    options = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    root = tempfile.mkdtemp(prefix="portcullis-scaling-")
    os.chmod(root, 0o755)
    try:
        made = origin()
        print(f"{made['date']}, commit {made['commit']}, {made['machine']['processor']}")
        cpus = processors(options.cpus)
        options.load = os.path.join(root, "load")
        subprocess.run(["cc", "-O2", "-o", options.load, os.path.join(HERE, "load.c"), "-lm"], check=True)
        bench = Bench(root, TOKENS_AT_LEAST, cpus)
        say("minting tokens")
        write_tokens(bench, options.most + NEW)
        write_some(bench, "eddsa.new", options.most, NEW)
        os.sched_setaffinity(0, {cpus["load"]})
        remembered(bench, options)
        workers(bench, options)
    finally:
        programs.stop_all()
        shutil.rmtree(root, ignore_errors=True)


if __name__ == "__main__":
    main()
