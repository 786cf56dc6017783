"""slowhttptest: callers that are slow on purpose, many of them, while a good one is served."""
import re
import subprocess
import threading
import time

from attack import Attack

ABOVE_LIMIT, BELOW_LIMIT = 1_500, 900  # `limits.connections_per_address` is 1,000
SECONDS = 60
MARGIN = 60  # it takes a while to open, and ends when all are closed
# What docs/security.md says of a connection with a large response that is not taken: below 0.9 MB.
HOSTILE_CONNECTION = 900_000
LARGE = "/public/bytes/1000000"

# Name, arguments, path.
KINDS = (
    ("slow heads (slowloris)", ["-H", "-i", "5", "-x", "24"], "/public/x"),
    ("slow bodies", ["-B", "-i", "5", "-s", "8192", "-x", "10"], "/public/x"),
    ("range header (Apache killer)", ["-R", "-t", "HEAD", "-a", "10", "-b", "3000"], "/public/x"),
    ("slow reading", ["-X", "-n", "5", "-z", "32", "-w", "10", "-y", "20", "-k", "3"], LARGE),
)


def run(world, report, match=""):
    for name, arguments, path in KINDS:
        for connections, source in ((ABOVE_LIMIT, "127.0.0.2"), (BELOW_LIMIT, "127.0.0.1")):
            where = "another address" if source == "127.0.0.2" else "the same address"
            full_name = f"{name}, {connections:,} connections, good caller at {where}"
            if match in full_name:
                report(attack(world, full_name, arguments, path, connections, source))


def attack(world, name, arguments, path, connections, source):
    under = Attack(world, "slowhttptest", name, source, most_memory=1_000 * HOSTILE_CONNECTION)
    with under:
        held = Held(world)
        said = slowhttptest(world, arguments, path, connections)
        most = held.stop()
        reached = world.counts(world.attacked)["requests"]
        available = re.search(r"service available:\s*(\w+)", said)
        status = re.findall(r"Exit status:\s*(.+)", said)
        under.notes += [f"{most:,.0f} held at most", f"slowhttptest: {status[-1].strip() if status else said[-200:]}"]
        # Its own probe comes from the attacker's address: above the limit it is meant to be turned away.
        is_probe_welcome = connections == BELOW_LIMIT
        if is_probe_welcome and available and available.group(1) != "YES":
            under.faults.append("slowhttptest's own probe was not answered")
        if most > 1_000 + 10:
            under.faults.append(f"{most:.0f} connections were open")
        # Its probes are the only heads that are ever finished, one a second.
        if arguments[0] == "-H" and reached > 2 * SECONDS:
            under.faults.append(f"{reached} requests reached the service")
    return under.result


def slowhttptest(world, arguments, path, connections):
    command = ["slowhttptest", *arguments, "-c", str(connections), "-r", "200", "-l", str(SECONDS), "-p", "5",
               "-v", "1", "-u", world.url("tls", path)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS + MARGIN,
                         stdin=subprocess.DEVNULL)
    return re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", run.stdout + run.stderr)


class Held:
    """How many connections were open at most, by the gateway's own count."""

    def __init__(self, world):
        self.world, self.most, self._is_over = world, 0, threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def _look(self):
        while not self._is_over.wait(0.5):
            try:
                self.most = max(self.most, self.world.metric("portcullis_connections"))
            except OSError:
                time.sleep(0.5)

    def stop(self):
        self._is_over.set()
        self._thread.join()
        return self.most
