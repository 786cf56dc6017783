"""Asks the gateway, in front of real backends, for made-up requests, and compares what each backend believes
with what the gateway judged. README.md explains; `run` installs what this needs."""
import argparse
import asyncio
import itertools
import multiprocessing
import os
import secrets
import shutil
import signal
import sys
import tempfile
import time

import processes
import tally
from backends import BACKENDS
from caller import ask, call
from controls import check_controls, check_teeth
from gateway import Gateway, Issuer
from generator import Generator
from judge import Judge

LEAST_ADMITTED = 0.3


def arguments():
    parser = argparse.ArgumentParser(prog="tests/differential/run", description=__doc__)
    parser.add_argument("--count", type=int, default=20_000, help="inputs in all (default: %(default)s)")
    parser.add_argument("--seed", type=int, help="for the same inputs once more (default: another each time)")
    parser.add_argument("--backends", default=",".join(BACKENDS), help="(default: %(default)s)")
    parser.add_argument("--gateway", default=os.environ.get("PORTCULLIS", "target/debug/portcullis"),
                        help="the binary (default: $PORTCULLIS, or target/debug/portcullis)")
    parser.add_argument("--input", type=int, metavar="NUMBER", help="this one only, with all that was said")
    parser.add_argument("--show", type=int, default=3, help="findings of each sort to print (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=max(1, (os.cpu_count() or 1) // 2), help="processes that ask")
    parser.add_argument("--connections", type=int, default=24, help="of each of them")
    given = parser.parse_args()
    given.backends = given.backends.split(",")
    unknown = set(given.backends) - set(BACKENDS)
    if unknown:
        parser.error(f"no such backend: {', '.join(sorted(unknown))}")
    binary = shutil.which(given.gateway)
    if not binary:
        parser.error(f"no gateway at {given.gateway}: build it with `cargo build`, or name it with --gateway")
    given.gateway = os.path.abspath(binary)
    if given.seed is None:
        given.seed = secrets.randbelow(1 << 32)
    return given


def shard(generator, port, backends, numbers, connections):
    """Asks for `numbers`; in a process of its own."""
    judge = Judge(backends)
    work = map(generator.input, numbers)
    asyncio.run(call(port, work, judge, min(connections, len(numbers))))
    return judge.tally


def run_all(given, generator, gateway, backends):
    numbers = [range(job, given.count, given.jobs) for job in range(given.jobs)]
    numbers = [each for each in numbers if each]
    whole = tally.Tally()
    context = multiprocessing.get_context("fork")
    with context.Pool(len(numbers)) as pool:
        parts = pool.starmap(shard, zip(*map(itertools.repeat, (generator, gateway.port, backends)), numbers,
                                        itertools.repeat(given.connections)))
    for part in parts:
        whole.add(part)
    return whole


async def run_one(given, generator, gateway, backends):
    asked = generator.input(given.input)
    answer = await ask(gateway.port, asked.head)
    judge = Judge(backends)
    judge(asked, answer)
    print(f"asked of {asked.backend}, changed {asked.kinds}:\n{asked.head!r}")
    print(f"answer: {answer}\nbelief: {answer and backends[asked.backend].read(answer.body)}")
    return judge.tally


def report(given, token, whole, seconds):
    for signature, findings in whole.by_signature():
        print(f"\n{len(findings)} x {' | '.join(map(str, signature))}")
        for finding in findings[:given.show]:
            print(f"  number {finding.input.number}, changed {', '.join(finding.input.kinds) or 'nothing'}: "
                  f"{finding.outcome}\n    {finding.input.head.replace(token, b'TOKEN')!r}")
            print("    " + finding.text.replace("\n", "\n    "))
            print(f"    once more: --seed {given.seed} --backends {','.join(given.backends)} "
                  f"--input {finding.input.number}")
    print("\n" + tally.table(whole.by_kind()))
    print("\n" + tally.table(whole.by_backend(given.backends)))
    refused = ", ".join(f"{status}: {count}" for status, count in sorted(whole.statuses.items()))
    print(f"\nadmitted {100 * whole.admitted_share:.1f} %; refused with {refused}")
    print(f"{whole.inputs} inputs in {seconds:.1f} s, {whole.inputs / seconds:.0f} a second; seed {given.seed}")


def problems(given, whole):
    """Why a run shows less than it says."""
    if given.input is not None:
        return []
    found = [f"{name} ended" for name in processes.ended()]
    if whole.inputs != given.count:
        found.append(f"{whole.inputs} inputs of {given.count} were asked")
    if given.count >= 1000 and whole.admitted_share < LEAST_ADMITTED:
        found.append(f"fewer than {100 * LEAST_ADMITTED:.0f} % were admitted")
    return found


def main():
    given = arguments()
    print(f"seed {given.seed}", flush=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    root = tempfile.mkdtemp(prefix="differential-")
    # Whoever serves as somebody else has to read what is in there.
    os.chmod(root, 0o755)
    try:
        backends = {name: BACKENDS[name]() for name in given.backends}
        issuer = Issuer()
        gateway = Gateway(given.gateway, issuer, backends.values())
        for backend in backends.values():
            backend.start(root)
        gateway.start(root)
        generator = Generator(given.seed, [(name, backend.host.encode()) for name, backend in backends.items()],
                              issuer.token(), issuer.bad_tokens())
        dead = asyncio.run(check_controls(backends)) + asyncio.run(check_teeth(generator, backends))
        started = time.monotonic()
        if given.input is None:
            whole = run_all(given, generator, gateway, backends)
        else:
            whole = asyncio.run(run_one(given, generator, gateway, backends))
        report(given, generator.token, whole, time.monotonic() - started)
        wrong = dead + problems(given, whole)
    finally:
        processes.stop_all()
        shutil.rmtree(root, ignore_errors=True)
    for each in wrong:
        print(f"error: {each}")
    failed = whole.failed + len(wrong)
    print(f"{whole.inputs - whole.failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
