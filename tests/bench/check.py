"""Whether a system does the job, read from answers and from what the service received."""
import time

import mint
from running import Running
from scenarios import Scenario

FORGED = [("X-User-ID", "attacker")]
SUBJECTS = {"valid RS256": 7, "valid ES256": 8, "valid EdDSA": 9, "audience in a list": 7}
SCOPE_CASES = ("no scope", "another scope", "scopes that look like it")
EXPIRES = "expires while remembered"
NO_FETCHES = "bad signatures fetch no keys"


def check(bench, system):
    """[(check, verdict, what was seen)]; the verdict is `ok`, `differs` (known, with a reason) or `FAIL`."""
    results = []

    def judge(name, is_good, seen):
        if is_good:
            results.append((name, "ok", seen))
        elif name in system.differs:
            results.append((name, "differs", f"{seen} ({system.differs[name]})"))
        else:
            results.append((name, "FAIL", seen))

    ways = [("", {}), (", mutual TLS to the service", {"mutual_tls": True})]
    if system.edge_tls:
        ways.append((", TLS and HTTP/2 from the caller", {"edge_tls": True}))
    for way, settings in ways:
        if system.has_public:
            with Running(bench, system, Scenario("check-public", "", **settings)) as running:
                check_public(running, way, judge)
        if system.algorithms and system.is_floor:
            with Running(bench, system, Scenario("check", "", "rs256.one", **settings)) as running:
                for algorithm in system.algorithms:
                    check_floor(running, algorithm, way, judge)
                check_refused(running, "no token", way, judge)
        elif system.algorithms:
            with Running(bench, system, Scenario("check", "", "rs256.one", **settings)) as running:
                if settings:
                    check_valid(running, "valid RS256", way, judge)
                    check_refused(running, "bad signature RS256", way, judge)
                else:
                    check_tokens(running, judge)
    return results


def check_public(running, way, judge):
    status, _, echo, version = running.ask(running.bench.cases["valid RS256"], FORGED)
    is_good = status == 200 and echo.get("user") == "" and fits(running, echo, version)
    judge(f"public: forwarded without X-User-ID{way}", is_good, describe(status, echo, version))


def check_floor(running, algorithm, way, judge):
    """It verifies signatures, and knows nobody by them."""
    status, _, echo, version = running.ask(running.bench.cases[f"valid {algorithm}"], FORGED)
    is_good = status == 200 and echo.get("user") == "" and fits(running, echo, version)
    judge(f"valid {algorithm}{way}", is_good, describe(status, echo, version))
    check_refused(running, f"bad signature {algorithm}", way, judge)


def check_valid(running, case, way, judge):
    before = running.bench.service.requests.read()
    status, _, echo, version = running.ask(running.bench.cases[case], FORGED)
    reached = running.bench.service.requests.read() - before
    is_good = (status == 200 and reached == 1 and fits(running, echo, version)
               and echo.get("user") == f"user-{SUBJECTS[case]:08d}")
    judge(f"{case}{way}", is_good, describe(status, echo, version))


def fits(running, echo, version):
    """Whether the way there and what else was forwarded are as asked."""
    is_mutual = echo.get("client", "").startswith("SUCCESS")
    return (echo.get("authorization", "").startswith("Bearer ")
            and is_mutual == running.job.mutual_tls
            and version == ("2" if running.job.edge_tls else "1.1"))


def describe(status, echo, version):
    if not echo:
        return str(status)
    kept = "kept" if echo["authorization"] else "dropped"
    client = echo["client"].strip()
    return (f"{status}, HTTP/{version}, X-User-ID {echo['user'] or 'none'}, Authorization {kept}"
            + (f", client {client}" if client else ""))


def check_refused(running, case, way, judge):
    token = running.bench.cases.get(case)
    before = running.bench.service.requests.read()
    status, fields, _, _ = running.ask(token, FORGED)
    reached = running.bench.service.requests.read() - before
    wanted = (403,) if case in SCOPE_CASES else (401,) if case == "no token" else (401, 403)
    seen = f"{status}, {'reached the service' if reached else 'not forwarded'}"
    challenge = fields.get("www-authenticate")
    judge(f"{case}{way}", status in wanted and not reached, seen + (f", {challenge}" if challenge else ""))


def check_tokens(running, judge):
    bench = running.bench
    for case in SUBJECTS:
        check_valid(running, case, "", judge)
    fetched = bench.key_set.fetches.read()
    for case in bench.cases:
        if case.startswith("bad signature"):
            check_refused(running, case, "", judge)
    fetched = bench.key_set.fetches.read() - fetched
    judge(NO_FETCHES, fetched == 0, f"{fetched} fetches")
    for case in ["no token", *bench.cases]:
        if case not in SUBJECTS and not case.startswith("bad signature"):
            check_refused(running, case, "", judge)
    check_expiry(running, judge)


def check_expiry(running, judge):
    """A token that is good for two seconds more, seen before and after."""
    bench, leeway = running.bench, running.system.leeway
    signer = mint.Signer.load("RS256", "rs-1", bench.file("rs256.key"))
    now = int(time.time())
    token = signer.token(mint.claims(5, now, iat=now - 3600, exp=now + 2 - leeway))
    before = [running.ask(token)[0] for _ in range(3)]
    time.sleep(3.6)
    after = running.ask(token)[0]
    seen = f"{before}, later {after}, leeway {leeway} s"
    judge(EXPIRES, before == [200] * 3 and after in (401, 403), seen)
