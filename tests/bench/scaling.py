"""Measures what grows with use: remembered tokens, workers, and routes that are read again while requests come.
`scaling` starts it; README.md explains.

Of remembered tokens and workers, all gateways run at once and take turns: one that waits costs nothing.
"""
import argparse
import copy
import multiprocessing
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

import mint
import programs
import service
from bench import HERE, origin, processors, say
from instructions import Http1
from measure import TOKENS_AT_LEAST, Load, observe
from running import Bench, Running
from scenarios import Scenario
from systems import Portcullis

SIZES = [100, 1_000, 10_000, 100_000, 1_000_000]
# Tokens that nobody remembers, for one gateway: more than it meets in all its turns.
NEW = 400_000
FILL = 10
# One caller who asks at this pace; a reload begins every so many requests, if the one before has ended.
ROUTES, CALLS, PACE, CALLS_PER_RELOAD = 10_000, 2_000, 0.002, 250
RELOADED_WITHIN, RELOADS_AT_LEAST = 10, 3
# Until what was in force before is gone as well.
SETTLE = 1
PARTS = ("tokens", "workers", "reloads")


def arguments():
    parser = argparse.ArgumentParser(prog="tests/bench/scaling", description=__doc__.split("\n")[0])
    parser.add_argument("--most", type=int, default=SIZES[-1], help="remembered tokens; default: %(default)s")
    parser.add_argument("--only", default="", help=f"of {','.join(PARTS)}")
    parser.add_argument("--rounds", type=int, default=5, help="default: %(default)s")
    parser.add_argument("--secs", type=float, default=2.0, help="of each measurement; default: %(default)s")
    parser.add_argument("--connections", type=int, default=32, help="default: %(default)s")
    parser.add_argument("--cpus", default="", help="PROXY,LOAD,SERVICE; default: as tests/bench/run")
    options = parser.parse_args()
    for name in filter(None, options.only.split(",")):
        if name not in PARTS:
            parser.error(f"`{name}` is none of {', '.join(PARTS)}")
    return options


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


class Caller:
    """Asks on one connection, and notes how long each answer took, in ms."""

    def __init__(self, running):
        self.load = Http1(running, [running.bench.token] * (2 * CALLS))
        self.waits = []

    def call(self, number):
        for _ in range(number):
            began = time.perf_counter()
            self.load.send(1)
            self.waits.append((time.perf_counter() - began) * 1e3)
            time.sleep(PACE)

    def part(self, share):
        return sorted(self.waits)[int(share * len(self.waits))]


def applied(bench):
    _, _, text = service.get(bench.admin_port, "/metrics")
    return int(re.search(r'^portcullis_config_reloads_total\{result="applied"\} (\d+)$', text, re.M).group(1))


def reloads(bench, options):
    """One worker, whose processor the reload has to share: what a caller waits for, with reloads and without."""
    job = Scenario(f"{ROUTES} routes", "", "rs256.one", routes=ROUTES)
    bench = copy.copy(bench)
    pairs, made = [], 0
    with Running(bench, Portcullis(), job, patience=60) as running:
        policy = os.path.join(os.path.dirname(running.log), "policy-0.yaml")
        with open(policy) as file:
            text = file.read()
        Caller(running).call(CALLS // 10)
        for number in range(options.rounds):
            pair = {}
            for is_reloading in (False, True) if number % 2 else (True, False):
                caller, before, begun = Caller(running), applied(bench), 0
                while len(caller.waits) < CALLS:
                    # One at a time: those that wait for the one before would be one.
                    if is_reloading and applied(bench) - before >= begun:
                        made, begun = made + 1, begun + 1
                        changed = f"{policy}.new"
                        with open(changed, "w") as file:
                            file.write(text.replace("name: r1,", f"name: r1-{made},"))
                        os.rename(changed, policy)
                        os.kill(running.pid, signal.SIGHUP)
                    caller.call(CALLS_PER_RELOAD)
                caller.load.socket.close()
                until = time.monotonic() + RELOADED_WITHIN
                while (done := applied(bench) - before) < begun and time.monotonic() < until:
                    time.sleep(0.05)
                if done < begun or is_reloading and begun < RELOADS_AT_LEAST:
                    raise RuntimeError(f"{done} of {begun} reloads were applied")
                time.sleep(SETTLE)
                pair[is_reloading] = caller
                print(f"{job.name}, {done} reloads: p50 {caller.part(0.5):.2f}, p99 {caller.part(0.99):.2f}, "
                      f"worst {max(caller.waits):.2f} ms", flush=True)
            pairs.append(pair)
    print("\n| | p50, ms | p99, ms | worst, ms |\n| --- | --- | --- | --- |")
    for title, is_reloading in (("at rest", False), ("reloading", True)):
        callers = [pair[is_reloading] for pair in pairs]
        print(f"| {title} | {spread([c.part(0.5) for c in callers], 2)} | {spread([c.part(0.99) for c in callers], 2)} "
              f"| {spread([max(c.waits) for c in callers], 2)} |")
    print(f"| reloading / at rest | {ratios([p[True].part(0.5) for p in pairs], [p[False].part(0.5) for p in pairs])} "
          f"| {ratios([p[True].part(0.99) for p in pairs], [p[False].part(0.99) for p in pairs])} | |")
    print(f"{made} reloads of {ROUTES:,} routes; each of {2 * len(pairs) * CALLS:,} answers was compared")


def main():
    options = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    root = tempfile.mkdtemp(prefix="portcullis-scaling-")
    os.chmod(root, 0o755)
    try:
        made = origin()
        changed = " with uncommitted changes" if made["has_changes"] else ""
        print(f"{made['date']}, commit {made['commit']}{changed}, {made['machine']['processor']}, {Portcullis.binary}")
        cpus = processors(options.cpus)
        options.load = os.path.join(root, "load")
        subprocess.run(["cc", "-O2", "-o", options.load, os.path.join(HERE, "load.c"), "-lm"], check=True)
        bench = Bench(root, TOKENS_AT_LEAST, cpus)
        chosen = options.only.split(",") if options.only else PARTS
        if set(chosen) & {"tokens", "workers"}:
            say("minting tokens")
            write_tokens(bench, options.most + NEW)
            write_some(bench, "eddsa.new", options.most, NEW)
        os.sched_setaffinity(0, {cpus["load"]})
        for name, part in zip(PARTS, (remembered, workers, reloads)):
            if name in chosen:
                part(bench, options)
    finally:
        programs.stop_all()
        shutil.rmtree(root, ignore_errors=True)


if __name__ == "__main__":
    main()
