"""Measures Portcullis beside other gateways, on loopback, in turns. `run` starts it; README.md explains.

Within each round every system has its turn at a scenario before the next scenario begins, and each
round begins with another system.
"""
import argparse
import datetime
import json
import os
import platform
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import check
import measure
import programs
import report
from running import Bench
from scenarios import SCENARIOS, runs_on
from systems import SYSTEMS

HERE = os.path.dirname(os.path.abspath(__file__))
RESULTS = os.path.join(HERE, "..", "..", "target", "bench", "results")
QUICK = {"rounds": 1, "secs": 2.0}


def arguments():
    parser = argparse.ArgumentParser(prog="tests/bench/run", description=__doc__.split("\n")[0])
    parser.add_argument("--check", action="store_true", help="only see whether each system does the job")
    parser.add_argument("--no-check", action="store_true", help="measure without seeing that first")
    parser.add_argument("--quick", action="store_true", help="one round of 2 s: proves the set-up, not a target")
    parser.add_argument("--systems", default="", help=f"of {','.join(s.name for s in SYSTEMS)}")
    parser.add_argument("--scenarios", default="", help=f"of {','.join(SCENARIOS)}")
    parser.add_argument("--rounds", type=int, help="default: 5")
    parser.add_argument("--secs", type=float, help="of each measurement; default: 3")
    parser.add_argument("--minutes", type=float, default=90, help="no turn starts after these; default: 90")
    parser.add_argument("--rate", type=int, default=1500, help="requests a second for latency; default: 1500")
    parser.add_argument("--connections", type=int, default=32, help="default: 32")
    parser.add_argument("--tokens", type=int, default=20_000,
                        help="where every token is new: more than any system remembers; default: 20000")
    parser.add_argument("--cpus", default="", help="PROXY,LOAD,SERVICE; default: 0,1,1, with more of them 0,1,2")
    parser.add_argument("--out", default="", help="file for the result, without extension")
    options = parser.parse_args()
    defaults = QUICK if options.quick else {"rounds": 5, "secs": 3.0}
    for name, value in defaults.items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    if options.tokens < 10_000:
        parser.error("--tokens: at least 10000")
    for given, known in ((options.systems, [s.name for s in SYSTEMS]), (options.scenarios, SCENARIOS)):
        for name in filter(None, given.split(",")):
            if name not in known:
                parser.error(f"`{name}` is none of {', '.join(known)}")
    return options


def processors(wanted):
    allowed = sorted(os.sched_getaffinity(0))
    if wanted:
        chosen = [int(cpu) for cpu in wanted.split(",")]
    elif len(allowed) > 2:
        chosen = allowed[:3]
    else:
        chosen = [allowed[0], allowed[-1], allowed[-1]]
    if len(chosen) != 3 or not set(chosen) <= set(allowed):
        sys.exit(f"error: --cpus: three of {allowed}")
    if chosen[0] in chosen[1:]:
        sys.exit("error: at least two processors are needed, one of them for the proxy alone")
    return dict(zip(("proxy", "load", "service"), chosen))


# ---------------------------------------------------------------- what a result has to say about its origin
def output(*command):
    try:
        return subprocess.run(command, capture_output=True, text=True, cwd=HERE, timeout=10).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return ""


def machine():
    def first(path, key):
        with open(path) as file:
            for line in file:
                name, _, value = line.partition(":")
                if name.strip() == key:
                    return value.strip()
        return ""

    lscpu = dict(line.split(":", 1) for line in output("lscpu").splitlines() if ":" in line)
    kib = int(first("/proc/meminfo", "MemTotal").split()[0])
    system = platform.freedesktop_os_release().get("PRETTY_NAME", "")
    return {
        "processor": first("/proc/cpuinfo", "model name") or platform.machine(),
        "processors": os.cpu_count(), "memory_gib": round(kib / 2**20, 1), "system": system,
        "kernel": platform.release(), "hypervisor": lscpu.get("Hypervisor vendor", "none").strip(),
    }


def origin():
    return {"date": datetime.datetime.now().astimezone().isoformat(timespec="minutes"),
            "commit": output("git", "rev-parse", "--short=12", "HEAD"),
            "has_changes": bool(output("git", "status", "--porcelain", "--untracked-files=no")),
            "machine": machine()}


# ---------------------------------------------------------------- the run
class Run:
    def __init__(self, options, root):
        self.options, self.root = options, root
        self.until = time.monotonic() + options.minutes * 60
        self.cpus = processors(options.cpus)
        os.sched_setaffinity(0, {self.cpus["load"]})
        options.load = os.path.join(root, "load")
        source = os.path.join(HERE, "load.c")
        subprocess.run(["cc", "-O2", "-o", options.load, source, "-lm"], check=True)
        wanted = options.systems.split(",") if options.systems else [s.name for s in SYSTEMS]
        self.systems = [s for s in SYSTEMS if s.name in wanted and s.is_present()]
        for system in SYSTEMS:
            if system.name in wanted and system not in self.systems:
                say(f"{system.name} is not here")
        chosen = options.scenarios.split(",") if options.scenarios else list(SCENARIOS)
        self.scenarios = [SCENARIOS[name] for name in SCENARIOS if name in chosen]
        say("minting keys and tokens")
        self.bench = Bench(root, options.tokens, self.cpus)
        self.result = {
            "format": 1, **origin(), "systems": {s.name: s.version() for s in self.systems},
            "options": {key: getattr(options, key) for key in
                        ("rounds", "secs", "rate", "connections", "tokens")},
            "cpus": self.cpus, "minted": self.bench.minted,
            "scenarios": {s.name: s.title for s in self.scenarios},
            "checks": {}, "verify": [], "turns": [], "failed": [],
        }

    def check(self):
        """Leaves out whatever does not do the job."""
        for system in list(self.systems):
            say(f"checking {system.name} {system.version()}")
            try:
                results = check.check(self.bench, system)
            except (RuntimeError, OSError, ValueError) as error:
                results = [("starts and answers", "FAIL", str(error))]
            self.result["checks"][system.name] = results
            for name, verdict, seen in results:
                print(f"  {verdict:8}{name}: {seen}", flush=True)
            if any(verdict == "FAIL" for _, verdict, _ in results):
                self.result["failed"].append(f"{system.name} does not pass the checks and is not measured")
                self.systems.remove(system)

    def measure(self):
        chance = random.Random(7)
        for number in range(1, self.options.rounds + 1):
            self.verify(number)
            for scenario in self.scenarios:
                systems = [s for s in self.systems if runs_on(scenario, s)]
                first = (number - 1) % max(1, len(systems))
                for system in systems[first:] + systems[:first]:
                    if time.monotonic() > self.until:
                        self.result["failed"].append(f"out of time in round {number}, at {scenario.name}")
                        return
                    self.turn(number, scenario, system, chance.randrange(self.options.tokens))

    def turn(self, number, scenario, system, offset):
        turn = {"round": number, "scenario": scenario.name, "system": system.name}
        try:
            turn.update(measure.turn(self.bench, self.options, system, scenario, offset))
        except (RuntimeError, OSError, ValueError, subprocess.TimeoutExpired) as error:
            turn["faults"] = [str(error)]
        self.result["turns"].append(turn)
        print(line(turn), flush=True)

    def verify(self, number):
        """What a signature costs on this machine, now."""
        binary = os.path.join(os.environ.get("FLOOR", ""), "verify")
        if os.path.exists(binary):
            run = subprocess.run(programs.pinned([binary], self.cpus["proxy"]), capture_output=True,
                                 text=True, timeout=60)
            if run.returncode == 0:
                self.result["verify"].append({"round": number, **json.loads(run.stdout)})


def line(turn):
    text = f"{turn['round']} {turn['scenario']:15} {turn['system']:11}"
    if "full" in turn:
        full = turn["full"]
        text += (f" {full['cpu_us']:7.1f} µs {full['rps']:7.0f}/s, "
                 f"proxy {full['share']:.2f}, load {full['load_share']:.2f}")
        if full["others"] + full["stolen"] >= report.NOISE:
            text += f", others {full['others'] + full['stolen']:.2f}"
        text += f", {turn['memory_after']:.0f} MiB"
    elif "ready_s" in turn:
        text += f" {turn['ready_s'] * 1000:7.0f} ms to the first answer"
    if "paced" in turn:
        text += f", p50 {turn['paced']['p50_us']:.0f} µs"
    return text + "".join(f"; FAULT: {fault}" for fault in turn["faults"])


def say(text):
    print(f"== {text}", file=sys.stderr, flush=True)


def main():
    options = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    root = tempfile.mkdtemp(prefix="portcullis-bench-")
    os.chmod(root, 0o755)
    run = None
    try:
        run = Run(options, root)
        began = time.monotonic()
        if not options.no_check:
            run.check()
        if not options.check:
            run.measure()
        run.result["seconds"] = round(time.monotonic() - began)
    finally:
        programs.stop_all()
        shutil.rmtree(root, ignore_errors=True)
        if run and run.result["turns"]:
            name = f"{run.result['date'][:16].replace(':', '')}-{run.result['commit'] or 'unknown'}"
            report.write_all(run.result, os.path.realpath(options.out or os.path.join(RESULTS, name)))
    if run.result["turns"]:
        print(report.text(run.result))
    for failure in run.result["failed"]:
        say(failure)
    if run.result["failed"] or any(turn["faults"] for turn in run.result["turns"]):
        sys.exit(1)


if __name__ == "__main__":
    main()
