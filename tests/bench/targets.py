"""What this project wants to reach, and whether a result does. Medians of paired rounds."""
from dataclasses import dataclass

from scenarios import ONE, PUBLIC

# Fewer rounds say something about the set-up, and nothing about a target.
ROUNDS = 5
OURS = "portcullis"
BASELINE = "baseline"     # another build of ours
# They look at no claim; the second one verifies the signature of each token.
FLOOR, SIGNATURE_FLOOR = "bare", "bare+signature"


@dataclass(frozen=True)
class Target:
    about: str
    limit: float
    unit: str           # `×`, `µs`, `MiB`, `s`, or `` for a count
    values: object      # what to take of a result: index -> a value for each round


def ratio(about, scenario, other, limit, of=None):
    """CPU per request, as a multiple of another system's, by default in the same scenario."""
    against = of or scenario
    where = "" if of is None else f", {of}"
    return Target(f"{about}: CPU per request / {other}{where}", limit, "×",
                  lambda index: index.ratios((scenario, OURS), (against, other)))


def group(about, scenario, **limits):
    names = {"envoy_cache": "envoy+cache"}
    return [ratio(about, scenario, names.get(other, other), limit) for other, limit in limits.items()]


def miss(algorithm):
    scenario = f"{algorithm.lower()}-new"

    def values(index):
        cost = index.differences((scenario, OURS), (PUBLIC, OURS))
        return {r: cost[r] - index.verify[r][algorithm] for r in cost if r in index.verify}

    return Target(f"miss, {algorithm}: CPU above our public route and the signature alone", 5, "µs", values)


def miss_in_place(algorithm):
    """As `miss`, with what the signature costs in a proxy."""
    scenario = f"{algorithm.lower()}-new"

    def values(index):
        cost = index.differences((scenario, OURS), (PUBLIC, OURS))
        signature = index.differences((scenario, SIGNATURE_FLOOR), (scenario, FLOOR))
        return {r: cost[r] - signature[r] for r in cost if r in signature}

    return Target(f"miss, {algorithm}: CPU above our public route and the signature in bare Pingora", 5, "µs", values)


def latency(about, scenario, limit):
    return Target(f"latency at the fixed rate, {about}: p50 / haproxy", limit, "×",
                  lambda index: index.ratios((scenario, OURS), (scenario, "haproxy"), "paced", "p50_us"))


TARGETS = [
    *group("public route", PUBLIC, bare=1.10, pingap=0.95, envoy=0.60),
    *group("one token, RS256", ONE, bare=1.15, haproxy=0.65, envoy_cache=0.55),
    *group("500 tokens, RS256", "rs256-500", bare=1.15, haproxy=0.65, envoy_cache=0.55),
    *group("one token, ES256", "es256-one", bare=1.15, envoy_cache=0.55),
    *group("one token, EdDSA", "eddsa-one", bare=1.15, envoy_cache=0.55),
    *group("every token new, RS256", "rs256-new", bare=1.80, haproxy=0.92),
    *group("every token new, ES256", "es256-new", bare=3.05, pingap=0.85),
    *group("every token new, EdDSA", "eddsa-new", bare=2.55, pingap=0.90),
    *group("bad signature", "rs256-bad", bare=1.35, haproxy=1.00),
    Target("bad signature: fetches of the key set", 0, "",
           lambda index: index.counts("rs256-bad", OURS, "key_set_fetches")),
    Target("bad signature: requests that reach the service", 0, "",
           lambda index: index.counts("rs256-bad", OURS, "reached")),
    *group("mutual TLS to the service, one token", "mtls-rs256-one", bare=1.15, haproxy=0.70),
    *group("TLS and HTTP/2 from the caller, one token", "h2-rs256-one", bare=1.10, envoy=0.80),
    ratio("access log on", "access-log", OURS, 1.10, of=ONE),
    Target("hit: CPU above our public route", 3, "µs",
           lambda index: index.differences((ONE, OURS), (PUBLIC, OURS))),
    miss("RS256"), miss("ES256"), miss("EdDSA"),
    miss_in_place("RS256"), miss_in_place("ES256"), miss_in_place("EdDSA"),
    latency("public route", PUBLIC, 1.05), latency("one token", ONE, 1.05),
    latency("every token new, RS256", "rs256-new", 1.05),
    Target("memory (PSS) with 10,000 tokens remembered", 26, "MiB",
           lambda index: index.values("rs256-10000", OURS, lambda turn: turn.get("memory_after"))),
    Target("start to first answer, 1,000 routes", 0.3, "s",
           lambda index: index.values("start", OURS, lambda turn: turn.get("ready_s"))),
]
