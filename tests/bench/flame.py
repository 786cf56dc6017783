"""Draws where the gateway's time goes under one scenario's load. `flame` starts it; README.md explains."""
import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

import programs
from bench import HERE, RESULTS, origin, processors, say
from measure import H2Load, Load, observe
from running import Bench, Running
from scenarios import SCENARIOS
from systems import Portcullis

TOOLS = os.path.join(HERE, "..", "..", "target", "tools", "bin")
# Of the processor's time. More would be no better: a stack is copied with each sample.
SAMPLES_PER_SECOND, STACK_BYTES = 999, 65_528
# Narrower ones are left out of the picture, in pixels.
NARROWEST = 0.5
LOAD_BEFORE = 1


def arguments():
    parser = argparse.ArgumentParser(prog="tests/bench/flame", description=__doc__.split("\n")[0])
    parser.add_argument("scenario", choices=[name for name, job in SCENARIOS.items() if job.load])
    parser.add_argument("--secs", type=float, default=6.0, help="of samples; default: %(default)s")
    parser.add_argument("--connections", type=int, default=32, help="default: %(default)s")
    parser.add_argument("--tokens", type=int, default=20_000, help="where every token is new; default: %(default)s")
    parser.add_argument("--cpus", default="", help="PROXY,LOAD,SERVICE; default: as tests/bench/run")
    parser.add_argument("--out", default="", help="file for the picture")
    return parser.parse_args()


def record(running, options, data):
    """Samples of the gateway alone, while it has as much to do as it can."""
    load = H2Load(running) if running.job.edge_tls else Load(running, options.load)
    following = load.warm_up(options, 0)
    options.secs += 2 * LOAD_BEFORE
    answers, result = {}, {"faults": []}
    worker = threading.Thread(target=lambda: answers.update(
        observe(running, result, lambda: load.full(options, following))))
    worker.start()
    time.sleep(LOAD_BEFORE)
    subprocess.run(["perf", "record", "--quiet", "-e", "cpu-clock", "-F", str(SAMPLES_PER_SECOND), "--call-graph",
                    f"dwarf,{STACK_BYTES}", "-o", data, "-p", str(running.pid), "--",
                    "sleep", str(options.secs - 2 * LOAD_BEFORE)], check=True, stdout=subprocess.DEVNULL)
    worker.join()
    if not answers or result["faults"]:
        raise RuntimeError(f"the load says: {result['faults']}")
    return answers["completed"]


def draw(data, picture, title, subtitle):
    with open(f"{data}.stacks", "wb") as stacks:
        script = subprocess.Popen(["perf", "script", "--no-inline", "-i", data], stdout=subprocess.PIPE,
                                  stderr=subprocess.DEVNULL)
        subprocess.run([os.path.join(TOOLS, "inferno-collapse-perf")], stdin=script.stdout, stdout=stacks, check=True)
        if script.wait():
            raise RuntimeError(f"perf script ended with {script.returncode}")
    with open(picture, "wb") as svg:
        subprocess.run([os.path.join(TOOLS, "inferno-flamegraph"), "--title", title, "--subtitle", subtitle,
                        "--countname", "ns", "--minwidth", str(NARROWEST), "--hash", f"{data}.stacks"],
                       stdout=svg, check=True)


def main():
    options = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    root = tempfile.mkdtemp(prefix="portcullis-flame-")
    os.chmod(root, 0o755)
    job, made = SCENARIOS[options.scenario], origin()
    changed = " with uncommitted changes" if made["has_changes"] else ""
    picture = os.path.realpath(options.out or os.path.join(RESULTS, f"{job.name}.flame.svg"))
    try:
        cpus = processors(options.cpus)
        options.load = os.path.join(root, "load")
        subprocess.run(["cc", "-O2", "-o", options.load, os.path.join(HERE, "load.c"), "-lm"], check=True)
        bench = Bench(root, options.tokens, cpus)
        os.sched_setaffinity(0, {cpus["load"]})
        data = os.path.join(root, "samples")
        with Running(bench, Portcullis(), job) as running:
            requests = record(running, options, data)
        say("drawing")
        os.makedirs(os.path.dirname(picture), exist_ok=True)
        draw(data, picture, f"portcullis: {job.title}",
             f"commit {made['commit']}{changed}, {made['date'][:10]}, {requests} requests")
    finally:
        programs.stop_all()
        shutil.rmtree(root, ignore_errors=True)
    print(f"== written: {picture}")


if __name__ == "__main__":
    main()
