"""What is measured: one row of the tables each."""
from dataclasses import dataclass


@dataclass(frozen=True)
class Scenario:
    name: str
    title: str
    tokens: str | None = None  # file that mint.py writes: ALGORITHM.KIND; None sends one all the same
    mutual_tls: bool = False   # towards the service
    edge_tls: bool = False     # from the caller, with HTTP/2
    paced: bool = False        # also at a fixed rate, for latency
    small_cache: bool = False  # fewer tokens are remembered than are used
    entries: int = 0           # that our token cache has room for; 0 is its default
    workers: int = 1           # of ours
    access_log: bool = False
    routes: int = 1
    only: tuple = ()           # names of systems; () is all that can
    load: bool = True          # False: only the time to the first answer

    @property
    def checks_tokens(self):
        return self.tokens is not None

    @property
    def token_file(self):
        return self.tokens or "rs256.one"

    @property
    def algorithm(self):
        return {"rs256": "RS256", "es256": "ES256", "eddsa": "EdDSA"}[self.token_file.split(".")[0]]

    @property
    def is_refused(self):
        return self.token_file.endswith(".bad")

    @property
    def verifies_each(self):
        """Whether each request costs a signature, remembered tokens or not."""
        return self.small_cache or self.is_refused


PUBLIC, ONE = "public", "rs256-one"

SCENARIOS = {scenario.name: scenario for scenario in (
    Scenario(PUBLIC, "public route", paced=True),
    Scenario(ONE, "one token, RS256", "rs256.one", paced=True),
    Scenario("access-log", "one token, RS256, access log on", "rs256.one", access_log=True,
             only=("portcullis",)),
    Scenario("rs256-500", "500 tokens, RS256", "rs256.500"),
    Scenario("es256-one", "one token, ES256", "es256.one"),
    Scenario("eddsa-one", "one token, EdDSA", "eddsa.one"),
    Scenario("rs256-new", "every token new, RS256", "rs256.new", small_cache=True, paced=True),
    Scenario("es256-new", "every token new, ES256", "es256.new", small_cache=True),
    Scenario("eddsa-new", "every token new, EdDSA", "eddsa.new", small_cache=True),
    Scenario("rs256-bad", "bad signature, RS256", "rs256.bad"),
    Scenario("mtls-public", "mutual TLS to the service, public route", mutual_tls=True),
    Scenario("mtls-rs256-one", "mutual TLS to the service, one token", "rs256.one", mutual_tls=True),
    Scenario("h2-public", "TLS and HTTP/2 from the caller, public route", edge_tls=True),
    Scenario("h2-rs256-one", "TLS and HTTP/2 from the caller, one token", "rs256.one", edge_tls=True),
    Scenario("rs256-10000", "10,000 tokens, RS256", "rs256.10000", only=("portcullis",)),
    Scenario("start", "start with 1,000 routes", "rs256.one", routes=1000, only=("portcullis",),
             load=False),
)}


def runs_on(scenario, system):
    """Whether a system takes part in a scenario."""
    if scenario.only:
        return system.name in scenario.only
    if scenario.edge_tls and not system.edge_tls:
        return False
    if system.is_floor:
        return scenario.verifies_each if system.algorithms else True
    if scenario.checks_tokens:
        return scenario.algorithm in system.algorithms
    return system.has_public
