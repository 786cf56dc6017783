"""What the gateway wrote meanwhile: no panic, and nothing of a token."""
import json

import results


def run(world, report):
    faults, notes, lines = [], [], 0
    said = world.log()
    if not world.is_alive:
        faults.append(f"the gateway has ended with {world.gateway.returncode}")
    elif panics := world.metric("portcullis_panics_total"):
        faults.append(f"{panics:.0f} panics")
    if "panicked" in said:
        faults.append("a panic is in the log")
    # The signature is what must not get out; the parts before it are common to many tokens.
    secret = world.token.rsplit(".", 1)[1]
    if secret in said:
        faults.append("a token is in the log")
    for line in world.access_log():
        lines += 1
        if secret in line:
            faults.append("a token is in the access log")
            break
        try:
            json.loads(line)
        except ValueError:
            faults.append(f"a line of the access log is no JSON: {line[:80]!r}")
            break
    notes.append(f"{lines:,} lines in the access log, {len(said.splitlines()):,} in the log")
    report(results.Row("logs", "no panic, no token, only JSON", faults, notes=notes))
