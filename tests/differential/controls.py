"""Can this fail? What is found when there is no gateway, and it has to be."""
import asyncio

import tally
from caller import ask, call
from judge import Judge
from oracle import disagreements

# Inputs to each backend that show what would be found without the gateway.
TEETH = 1000


async def check_controls(backends):
    """Asks each backend directly for what it must be caught at. An oracle that never objects is dead."""
    dead = []
    for backend in backends.values():
        for control in backend.controls:
            fields = b"".join(b"%s: %s\r\n" % field for field in (
                (b"Host", backend.host.encode()), (b"X-Forwarded-For", b"127.0.0.1"), (b"X-Forwarded-Proto", b"http"),
                *control.fields))
            answer = await ask(backend.ports[control.route], b"GET %s HTTP/1.1\r\n%s\r\n" % (control.target, fields))
            belief = answer and backend.read(answer.body)
            kinds = {each.kind for each in disagreements(control.asked or control.target, belief)} if belief else set()
            if not (control.kinds <= kinds if control.kinds else belief and not kinds):
                dead.append(f"{backend.name}: control `{control.name}` found {sorted(kinds)}: {belief or answer}")
    return dead


def judged_plainly(target):
    """As the simplest gateway would: by how the path begins."""
    path = target.partition(b"?")[0]
    if path.startswith(b"/public/internal/") or path == b"/public/internal":
        return "internal"
    for route in ("health", "export"):
        if path.rstrip(b"/") == b"/orders/" + route.encode():
            return route
    return next((route for route in ("orders", "public", "admin") if path.startswith(b"/%s/" % route.encode())), None)


class Unguarded(Judge):
    """Counts what somebody would get past the simplest gateway, which removes no field either."""

    def __call__(self, asked, answer):
        belief = answer and self.backends[asked.backend].read(answer.body)
        route = judged_plainly(asked.target)
        if not belief or not route:
            return
        found = disagreements(asked.target, belief._replace(route=route))
        kinds = {each.kind for each in found if each.kind == "route"}
        # That the gateway's fields are missing goes without saying.
        kinds |= {each.kind for each in found if each.kind == "identity" and not each.believed.endswith(": None")}
        self.tally.outcomes.update((asked.backend, kind) for kind in kinds)


async def check_teeth(generator, backends):
    """Sends inputs to the backends without a gateway. Inputs that find nothing there are too tame."""
    judge = Unguarded(backends)
    numbers = range(TEETH * len(backends))
    work = {name: [] for name in backends}
    for asked in map(generator.input, numbers):
        work[asked.backend].append(asked)
    await asyncio.gather(*(call(backend.ports["public"], iter(work[name]), judge, 8)
                           for name, backend in backends.items()))
    found = judge.tally.outcomes
    rows = [("without the gateway", "inputs", "other routes", "other identities")]
    rows += [(name, TEETH, found[name, "route"], found[name, "identity"]) for name in backends]
    print(tally.table(rows), end="\n\n")
    return [f"{name}: {TEETH} inputs without the gateway find no {kind}"
            for name in backends for kind in ("route", "identity") if not found[name, kind]]
