"""An attack, and what it must not change: others are served, and the gateway is as it was before."""
import time

import good_caller
import results
import watch
from watch import MIB

# A good caller waits at most twice as long as without the attack, or this long: on a machine with few
# processors the attacker takes one of them away, and that is not the gateway's doing.
patience_ms = 250
QUIET_SECONDS = 3
# Connections to the service and a file that is just read; what an allocator keeps for the next time.
MORE_DESCRIPTORS, MORE_MEMORY = 10, 48 * MIB
# The longest deadline of a caller's connection is 30 s (`body_timeout`), then the service's own.
BACK_TIMEOUT = 45


class Attack:
    """Use it with `with`, around the attack; then `result` has a row."""

    def __init__(self, world, tool, name, source="127.0.0.2", most_memory=256 * MIB, quiet_seconds=QUIET_SECONDS,
                 rate=good_caller.RATE):
        self.world, self.tool, self.name, self.source = world, tool, name, source
        self.most_memory, self.quiet_seconds, self.rate = most_memory, quiet_seconds, rate
        self.faults, self.notes = [], []
        self.result = None

    def __enter__(self):
        self.quiet = good_caller.quiet(self.world, self.quiet_seconds, self.source, self.rate)
        self.world.counts(self.world.attacked)
        self.before = watch.Sample(self.world.pid)
        self.watch = watch.Watch(self.world.pid)
        self.caller = good_caller.GoodCaller(self.world, self.source, self.rate)
        self.began = time.monotonic()
        return self

    def __exit__(self, kind, error, _):
        seconds = time.monotonic() - self.began
        samples = self.watch.stop()
        busy = self.caller.stop()
        if kind and not issubclass(kind, Exception):
            return False
        if error:
            self.faults.append(f"the tool failed: {kind.__name__}: {error}")
        figures = {"seconds": round(seconds, 1), **self._judge_caller(busy)}
        if self.world.is_alive:
            figures |= self._judge_process(samples)
        else:
            self.faults.append("the gateway has ended")
        self.result = results.Row(self.tool, self.name, self.faults, figures, self.notes)
        return True

    def _judge_caller(self, busy):
        figures = {}
        for way, found in busy.items():
            quiet = self.quiet[way]
            if quiet["failed"] or not quiet["served"]:
                self.faults.append(f"good caller, {way}, before the attack: {quiet['failed'] or 'not served'}")
            before = quiet["p99_ms"] or 0
            bound = max(2 * before, patience_ms)
            figures |= {f"{way}_p50_quiet_ms": self.quiet[way]["p50_ms"], f"{way}_p50_ms": found["p50_ms"],
                        f"{way}_p99_quiet_ms": before, f"{way}_p99_ms": found["p99_ms"],
                        f"{way}_worst_ms": found["worst_ms"], f"{way}_served": found["served"],
                        f"{way}_failed": sum(found["failed"].values())}
            if way == "direct":
                # The control does not judge the gateway; it says how far to believe what does.
                if found["p99_ms"] is None or found["p99_ms"] > bound:
                    self.notes.append(f"the machine is busy: p99 {found['p99_ms']} ms past the gateway too")
                continue
            if found["failed"]:
                self.faults.append(f"good caller, {way}: {found['failed']} of {found['served']} failed")
            if not found["served"]:
                self.faults.append(f"good caller, {way}: not served at all")
            elif found["p99_ms"] > bound:
                self.faults.append(f"good caller, {way}: p99 {found['p99_ms']} ms, more than {bound:.0f} ms")
        return figures

    def _judge_process(self, samples):
        most = max(sample.memory for sample in samples)
        after = watch.until_back(self.world.pid, self.before, MORE_DESCRIPTORS, MORE_MEMORY, BACK_TIMEOUT)
        figures = {
            "memory_mib": round(self.before.memory / MIB, 1), "memory_most_mib": round(most / MIB, 1),
            "memory_after_mib": round(after.memory / MIB, 1),
            "descriptors": self.before.descriptors,
            "descriptors_most": max(sample.descriptors for sample in samples),
            "descriptors_after": after.descriptors,
        }
        if most - self.before.memory > self.most_memory:
            self.faults.append(f"memory grew by {(most - self.before.memory) / MIB:.0f} MiB")
        if after.memory - self.before.memory > MORE_MEMORY:
            self.faults.append(f"{(after.memory - self.before.memory) / MIB:.0f} MiB more than before are kept")
        if after.descriptors - self.before.descriptors > MORE_DESCRIPTORS:
            self.faults.append(f"{after.descriptors - self.before.descriptors} descriptors more than before")
        return figures
