"""One turn: a system is started, warmed up, measured and stopped."""
import json
import re
import resource
import subprocess
import time

import programs
from running import Running

PATH = "/orders/1"
# Of all answers: what may be off for reasons of the count itself (requests on the way when it is read).
TOLERANCE = 0.001
WARM_UP = 1
TOKENS_AT_LEAST = 10_000
H2_CONNECTIONS, H2_STREAMS = 8, 4


def turn(bench, options, system, job, offset):
    """What was measured, as a dictionary; `faults` says what makes it worthless."""
    with Running(bench, system, job) as running:
        result = {"ready_s": round(running.ready_s, 4), "faults": []}
        if not job.load:
            return result
        result["memory_rest"] = programs.memory_mib(running.pid)
        load = H2Load(running) if job.edge_tls else Load(running, options.load)
        following = load.warm_up(options, offset)
        if job.paced:
            result["paced"] = observe(running, result, lambda: load.paced(options, following))
            following = result["paced"].pop("next")
        result["full"] = observe(running, result, lambda: load.full(options, following))
        result["full"].pop("next", None)
        result["memory_after"] = programs.memory_mib(running.pid)
    return result


def observe(running, result, load):
    """Runs the load; adds what the system used, and what arrived elsewhere."""
    bench, job = running.bench, running.job
    counts = getattr(running.system, "counts", None)
    counted = counts(bench) if counts else {}
    reached, fetched = bench.service.requests.read(), bench.key_set.fetches.read()
    children = children_seconds()
    served = programs.cpu_seconds(bench.service.program.pid)[0]
    busy, used, began = programs.busy_seconds(), programs.cpu_seconds(running.pid), time.monotonic()
    answers = load()
    seconds = time.monotonic() - began
    used = [after - before for after, before in zip(programs.cpu_seconds(running.pid), used)]
    after = programs.busy_seconds()
    served = programs.cpu_seconds(bench.service.program.pid)[0] - served + children_seconds() - children
    busy = {cpu: [after[cpu][i] - busy[cpu][i] for i in (0, 1)] for cpu in after}
    n = max(1, answers["completed"])
    own = busy[bench.cpus["proxy"]]
    measured = {
        **{key: value for key, value in answers.items() if key not in ("faults", "bytes")},
        "cpu_us": round(used[0] / n * 1e6, 3), "cpu_us_by_ticks": round(used[1] / n * 1e6, 3),
        # Of the time of the load itself: reading its tokens, before, can take as long.
        "share": round(used[0] * answers["rps"] / n, 3), "load_share": round(served / seconds, 3),
        "others": round(max(0.0, own[0] - used[0]) / seconds, 3), "stolen": round(own[1] / seconds, 3),
        "reached": bench.service.requests.read() - reached,
        "key_set_fetches": bench.key_set.fetches.read() - fetched,
    }
    if counts:
        now = counts(bench)
        measured["counts"] = {key: now[key] - (0 if key == "remembered" else counted[key]) for key in now}
    result["faults"] += answers["faults"] + faults(job, running.system, measured)
    return measured


def children_seconds():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def faults(job, system, measured):
    """What contradicts that the job was done as described."""
    n, found = measured["completed"], []
    slack = 3 + n * TOLERANCE
    if is_refused(job, system):
        if measured["reached"]:
            found.append(f"{measured['reached']} refused requests reached the service")
    elif abs(measured["reached"] - n) > slack:
        found.append(f"the service saw {measured['reached']} of {n}")
    if measured.get("reconnects"):
        found.append(f"{measured['reconnects']} connections were opened anew")
    counts = measured.get("counts")
    if counts and job.checks_tokens:
        expected = "refused" if job.is_refused else "verified" if job.small_cache else "cached"
        # The few that a small cache holds are met once in each pass over all tokens.
        passes = 1 + n // TOKENS_AT_LEAST
        met_again = counts["remembered"] * passes if job.small_cache else 0
        if counts[expected] < n * 0.99 - slack - met_again:
            found.append(f"only {counts[expected]} of {n} tokens were {expected}")
    if counts and counts["lost_lines"]:
        found.append(f"{counts['lost_lines']} lines of the access log were lost")
    if counts and job.token_file.endswith(".10000") and counts["remembered"] < 10_000:
        found.append(f"only {counts['remembered']} tokens are remembered")
    return found


def is_refused(job, system):
    """Whether this one refuses what has a bad signature: the floor may look at no token."""
    return job.is_refused and job.algorithm in system.algorithms


class Load:
    """load.c: HTTP/1.1, closed loop or at a fixed rate."""

    def __init__(self, running, binary):
        self.running, self.binary = running, binary

    def warm_up(self, options, offset):
        return self._run(options, WARM_UP, offset)["next"]

    def fill(self, options, seconds, offset):
        return self._run(options, seconds, offset)

    def paced(self, options, offset):
        return self._run(options, options.secs, offset, options.rate)

    def full(self, options, offset):
        return self._run(options, options.secs, offset)

    def _run(self, options, seconds, offset, rate=0):
        bench, job = self.running.bench, self.running.job
        refused = is_refused(job, self.running.system)
        command = [self.binary, "-p", str(bench.port), "-c", str(options.connections), "-d", str(seconds),
                   "-r", str(rate), "-u", PATH, "-t", bench.file(job.token_file), "-o", str(offset),
                   "-b", bench.file("body.json"), "-s", "401" if refused else "200"]
        run = subprocess.run(programs.pinned(command, bench.cpus["load"]), capture_output=True, text=True,
                             timeout=seconds + 40)
        if run.returncode:
            raise RuntimeError(f"load ended with {run.returncode}: {run.stderr}")
        answers = json.loads(run.stdout)
        n, found = answers["completed"], []
        if answers["as_wanted"] != n or not n:
            found.append(f"statuses {answers['status']}")
        if not refused and answers["body_same"] != n:
            found.append(f"{n - answers['body_same']} bodies differ")
        if answers["errors"] or answers["unanswered"]:
            found.append(f"{answers['errors']} errors, {answers['unanswered']} unanswered")
        return {**answers, "faults": found}


class H2Load:
    """h2load of nghttp2: TLS and HTTP/2, closed loop. It compares statuses; we compare the bytes of all bodies."""

    def __init__(self, running):
        self.running, self.rate = running, 0

    def warm_up(self, _options, _offset):
        found = self._run(["--duration", str(WARM_UP)])
        self.rate = float(found(r"finished in [\d.]+\w+, ([\d.]+) req/s"))
        return 0

    def full(self, options, _offset):
        number = max(H2_CONNECTIONS * H2_STREAMS, int(self.rate * options.secs))
        found = self._run(["--requests", str(number)])
        good, failed = int(found(r" (\d+) succeeded")), []
        of_200 = int(found(r"status codes: (\d+) 2xx"))
        if good != number or of_200 != number:
            failed.append(f"{good} of {number} succeeded, {of_200} with 2xx")
        length = len(self.running.bench.service.body) * number
        data = int(found(r"headers .*\((\d+)\) data"))
        if data != length:
            failed.append(f"bodies of {data} bytes, not {length}")
        return {"completed": good, "rps": float(found(r"finished in [\d.]+\w+, ([\d.]+) req/s")), "faults": failed}

    def _run(self, arguments):
        bench = self.running.bench
        with open(bench.file(self.running.job.token_file)) as file:
            token = file.readline().strip()
        command = ["h2load", "--clients", str(H2_CONNECTIONS), "--max-concurrent-streams", str(H2_STREAMS),
                   "--header", f"authorization: Bearer {token}", "--header", "x-user-id: spoofed", *arguments,
                   f"https://127.0.0.1:{bench.port}{PATH}"]
        run = subprocess.run(programs.pinned(command, bench.cpus["load"]), capture_output=True, text=True,
                             timeout=60)
        if run.returncode:
            raise RuntimeError(f"h2load ended with {run.returncode}: {run.stderr}")

        def found(pattern):
            match = re.search(pattern, run.stdout)
            if not match:
                raise RuntimeError(f"h2load says: {run.stdout}")
            return match.group(1)

        return found
