"""Memory, descriptors and threads of the gateway, looked at again and again."""
import os
import threading
import time

MIB = 1024 * 1024


class Sample:
    """What the gateway holds at one moment."""

    def __init__(self, pid):
        self.at = time.monotonic()
        with open(f"/proc/{pid}/status") as file:
            fields = dict(line.split(":", 1) for line in file)
        self.memory = int(fields["VmRSS"].split()[0]) * 1024
        self.threads = int(fields["Threads"])
        self.descriptors = len(os.listdir(f"/proc/{pid}/fd"))


class Watch:
    """Samples until it is stopped."""

    def __init__(self, pid, every=0.1):
        self.pid, self.every, self.samples = pid, every, [Sample(pid)]
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def _look(self):
        while not self._is_over.wait(self.every):
            try:
                self.samples.append(Sample(self.pid))
            except (OSError, KeyError):  # it has ended; others notice
                return

    def stop(self):
        self._is_over.set()
        self._thread.join()
        return self.samples


def until_back(pid, before, descriptors, memory, timeout):
    """The first sample that is back at `before`, give or take, or the last one when the time is over."""
    end = time.monotonic() + timeout
    while True:
        now = Sample(pid)
        is_back = (now.descriptors <= before.descriptors + descriptors
                   and now.memory <= before.memory + memory)
        if is_back or time.monotonic() > end:
            return now
        time.sleep(0.25)
