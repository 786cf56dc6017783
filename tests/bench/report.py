#!/usr/bin/env python3
"""Tables, verdicts and a chart of a result.

    python report.py RESULT.json                    text
    python report.py --markdown RESULT.json         for docs/performance.md
    python report.py --json RESULT.json             ratios and verdicts alone
    python report.py --svg RESULT.json              the chart

Every ratio and difference is taken within a round, and then over the rounds: median (least..most).
"""
import argparse
import json
import os
import statistics

import chart
from targets import BASELINE, FLOOR, OURS, ROUNDS, SIGNATURE_FLOOR, TARGETS

# Share of the proxy's processor that others had in a measurement: from here on it is noted.
NOISE = 0.05


class Index:
    """The turns of a result without a fault, to be asked for values by round."""

    def __init__(self, result):
        self.turns, self.all = {}, result["turns"]
        for turn in self.all:
            if not turn["faults"]:
                self.turns.setdefault((turn["scenario"], turn["system"]), {})[turn["round"]] = turn
        self.verify = {entry["round"]: entry for entry in result["verify"]}

    def values(self, scenario, system, value):
        """{round: value}, where there is one."""
        found = {r: value(turn) for r, turn in self.turns.get((scenario, system), {}).items()}
        return {r: v for r, v in found.items() if v is not None}

    def full(self, scenario, system, key):
        return self.values(scenario, system, lambda turn: turn.get("full", {}).get(key))

    def counts(self, scenario, system, key):
        """Of the turns with faults too: a count that should be zero is one."""
        return {turn["round"]: turn["full"][key] for turn in self.all
                if "full" in turn and (turn["scenario"], turn["system"]) == (scenario, system)}

    def paced(self, scenario, system, key):
        return self.values(scenario, system, lambda turn: turn.get("paced", {}).get(key))

    def ratios(self, one, other, load="full", key="cpu_us"):
        pick = self.full if load == "full" else self.paced
        a, b = pick(*one, key), pick(*other, key)
        return {r: a[r] / b[r] for r in a if b.get(r)}

    def differences(self, one, other, key="cpu_us"):
        a, b = self.full(*one, key), self.full(*other, key)
        return {r: a[r] - b[r] for r in a if r in b}


def spread(values, digits=2):
    values = list(values.values() if isinstance(values, dict) else values)
    if not values:
        return "–"
    median, low, high = statistics.median(values), min(values), max(values)
    if len(values) == 1:
        return f"{median:.{digits}f}"
    return f"{median:.{digits}f} ({low:.{digits}f}..{high:.{digits}f})"


# ---------------------------------------------------------------- what a report consists of
def verdicts(result):
    """[{about, limit, unit, values, median, verdict}]; the verdict is `pass`, `MISS` or `not measured`."""
    index, found = Index(result), []
    for target in TARGETS:
        values = list(target.values(index).values())
        # Of a count the worst round decides.
        median = (statistics.median(values) if target.unit else max(values)) if values else None
        verdict = "not measured" if median is None else "pass" if median <= target.limit else "MISS"
        found.append({"about": target.about, "limit": target.limit, "unit": target.unit,
                      "values": [round(v, 4) for v in values], "median": median, "verdict": verdict})
    return found


def tables(result):
    """[(title, remark, head, rows)]"""
    index, systems = Index(result), list(result["systems"])
    titles = result["scenarios"]
    found = []

    def add(title, cell, remark="", columns=systems, only=titles):
        rows = [[titles[s]] + [cell(s, system) for system in columns] for s in titles if s in only]
        rows = [row for row in rows if any(text != "–" for text in row[1:])]
        used = [c for c in range(len(columns)) if any(row[c + 1] != "–" for row in rows)]
        if rows:
            found.append((title, remark, ["scenario"] + [columns[c] for c in used],
                          [[row[0]] + [row[c + 1] for c in used] for row in rows]))

    others = [s for s in systems if s != OURS]
    paced = [turn["scenario"] for turn in result["turns"] if "paced" in turn]
    add(f"CPU per request at saturation, {OURS} as a multiple of each other system",
        lambda s, system: spread(index.ratios((s, OURS), (s, system))), columns=others,
        remark=f"Below 1: {OURS} needs less. `{FLOOR}` is bare Pingora, which gets the same requests and "
               "checks nothing.")
    add(f"CPU per request at saturation, each system as a multiple of `{FLOOR}`",
        lambda s, system: spread(index.ratios((s, system), (s, FLOOR))),
        columns=[s for s in systems if s != FLOOR])
    add("CPU per request at saturation, µs",
        lambda s, system: spread(index.full(s, system, "cpu_us"), 1))
    add("Requests per second at saturation",
        lambda s, system: spread(index.full(s, system, "rps"), 0),
        remark="With the proxy on one processor. Where the load or the service needs all of theirs, this "
               "is their limit.")
    rate = result["options"]["rate"]
    add(f"Latency at {rate} requests per second, p50, µs",
        lambda s, system: spread(index.paced(s, system, "p50_us"), 0), only=paced)
    add(f"Latency at {rate} requests per second, p99, µs",
        lambda s, system: spread(index.paced(s, system, "p99_us"), 0), only=paced)
    add(f"CPU per request at {rate} requests per second, µs",
        lambda s, system: spread(index.paced(s, system, "cpu_us"), 0), only=paced)
    add("Memory after the load (PSS), MiB",
        lambda s, system: spread(index.values(s, system, lambda t: t.get("memory_after")), 1))
    add("Start to first answer, ms",
        lambda s, system: spread(index.values(s, system, lambda t: t.get("ready_s") and t["ready_s"] * 1000), 0))
    return found


def losses(result):
    """Where another gateway needs less CPU than ours, by the median."""
    index, not_others = Index(result), (OURS, BASELINE, FLOOR, SIGNATURE_FLOOR)
    for scenario, title in result["scenarios"].items():
        for system in result["systems"]:
            values = index.ratios((scenario, OURS), (scenario, system))
            if system not in not_others and values and statistics.median(values.values()) > 1:
                yield f"{title}: {system} needs less; ours / {system} is {spread(values)}"


def faults(result):
    for turn in result["turns"]:
        for fault in turn["faults"]:
            yield f"round {turn['round']}, {turn['scenario']}, {turn['system']}: {fault}"
    yield from result["failed"]


def noise(result):
    """How many measurements had company on the proxy's processor."""
    loads = [turn[load] for turn in result["turns"] for load in ("full", "paced") if load in turn]
    noisy = [load for load in loads if load["others"] + load["stolen"] >= NOISE]
    unsaturated = [turn for turn in result["turns"] if "full" in turn and turn["full"]["share"] < 0.9]
    ticks = [t["full"] for t in result["turns"] if "full" in t]
    off = [f for f in ticks if abs(f["cpu_us_by_ticks"] / max(f["cpu_us"], 1e-9) - 1) > 0.1]
    yield (f"{len(noisy)} of {len(loads)} measurements had others on the proxy's processor for "
           f"{NOISE * 100:.0f} % of the time or more (stolen time included)")
    yield (f"{len(unsaturated)} of {len(ticks)} saturation measurements left 10 % or more of the proxy's "
           "processor unused by it: others were there, or the load or the service was the limit")
    if off:
        yield f"{len(off)} measurements differ by more than 10 % between the scheduler's clock and its ticks"


def differences(result):
    for system, checks in result["checks"].items():
        for name, verdict, seen in checks:
            if verdict != "ok":
                yield f"{system}, {name}: {verdict}; {seen}"


def about(result):
    machine, options = result["machine"], result["options"]
    commit = (result["commit"] or "unknown") + (" with uncommitted changes" if result["has_changes"] else "")
    versions = ", ".join(f"{name} {version}" for name, version in result["systems"].items())
    pins = result["cpus"]
    size = ", ".join(f"{a} {n}" for a, n in result["minted"]["token_bytes"].items())
    yield f"Date {result['date']}, commit {commit}"
    yield (f"{machine['processors']} × {machine['processor']}, hypervisor {machine['hypervisor']}, "
           f"{machine['memory_gib']} GiB; {machine['system']}, Linux {machine['kernel']}")
    yield f"Proxy on processor {pins['proxy']}, load on {pins['load']}, service and key set on {pins['service']}"
    yield (f"Rounds: {options['rounds']}, of {options['secs']:g} s; {options['connections']} connections; tokens "
           f"of {size} bytes, {options['tokens']} of them where every one is new; body of "
           f"{result['minted']['body_bytes']} bytes")
    yield versions
    if result["verify"]:
        algorithms = [key for key in result["verify"][0] if key not in ("round", "warm")]
        costs = ", ".join(f"{a} {spread([v[a] for v in result['verify']], 1)}" for a in algorithms)
        yield f"A signature alone (aws-lc-rs), µs: {costs}"


def verdict_rows(result):
    """As text: what, limit, measured, verdict."""
    precision = {"×": (2, 2), "µs": (0, 1), "MiB": (0, 1), "s": (1, 3), "": (0, 0)}
    rows = []
    for v in verdicts(result):
        of_limit, of_values = precision[v["unit"]]
        unit = "" if v["unit"] in ("", "×") else f" {v['unit']}"
        few = f", {len(v['values'])} of {ROUNDS} rounds" if 0 < len(v["values"]) < ROUNDS else ""
        rows.append([v["about"], f"≤ {v['limit']:.{of_limit}f}{unit}", spread(v["values"], of_values),
                     v["verdict"] + few])
    return rows


TARGET_HEAD = ["target", "limit", "measured", "verdict"]


# ---------------------------------------------------------------- forms
def aligned(head, rows):
    widths = [max(len(row[c]) for row in [head, *rows]) for c in range(len(head))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip()
                     for row in [head, *rows])


def text(result):
    parts = ["\n".join(about(result))]
    for title, remark, head, rows in tables(result):
        parts.append(f"{title}\n" + (f"{remark}\n" if remark else "") + aligned(head, rows))
    parts.append("Targets\n" + aligned(TARGET_HEAD, verdict_rows(result)))
    for title, lines in lists(result):
        parts.append(f"{title}\n" + ("\n".join(f"- {line}" for line in lines) or "- none"))
    return "\n\n".join(parts) + "\n"


def markdown(result):
    def table(head, rows):
        return "\n".join("| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *rows])

    parts = ["\n".join(f"- {line}" for line in about(result))]
    parts.append("### Targets\n\n" + table(TARGET_HEAD, verdict_rows(result)))
    for title, remark, head, rows in tables(result):
        parts.append(f"### {title}\n\n" + (f"{remark}\n\n" if remark else "") + table(head, rows))
    for title, lines in lists(result):
        parts.append(f"### {title}\n\n" + ("\n".join(f"- {line}" for line in lines) or "None."))
    return "\n\n".join(parts) + "\n"


def lists(result):
    return [("Where others need less", list(losses(result))),
            ("Where the systems do not do the same", list(differences(result))),
            ("Faults: these turns are not counted", list(faults(result))),
            ("The machine meanwhile", list(noise(result)))]


def summary(result):
    """Ratios and verdicts, for programs."""
    index = Index(result)
    ratios = {s: {system: list(index.ratios((s, OURS), (s, system)).values())
                  for system in result["systems"] if system != OURS} for s in result["scenarios"]}
    return {"targets": verdicts(result), "ours_as_multiple_of": ratios,
            "where_others_need_less": list(losses(result)), "faults": list(faults(result))}


def svg(result):
    index = Index(result)
    groups = []
    for scenario, title in result["scenarios"].items():
        bars = [(system, list(index.ratios((scenario, system), (scenario, FLOOR)).values()))
                for system in result["systems"] if system != FLOOR]
        bars = [(system, values) for system, values in bars if values]
        if bars:
            groups.append((title, bars))
    return chart.bars("CPU per request at saturation, as a multiple of bare Pingora",
                      f"median and range of {result['options']['rounds']} rounds, {result['date'][:10]}, "
                      f"commit {result['commit']}; less is better", groups, list(result["systems"]))


def write_all(result, base):
    os.makedirs(os.path.dirname(base), exist_ok=True)
    forms = {"json": json.dumps({**result, "summary": summary(result)}, indent=1), "txt": text(result),
             "md": markdown(result), "svg": svg(result)}
    for extension, content in forms.items():
        with open(f"{base}.{extension}", "w") as file:
            file.write(content)
    print(f"== written: {base}.{{{','.join(forms)}}}", flush=True)


def main():
    parser = argparse.ArgumentParser(description="Tables, verdicts and a chart of a result.")
    form = parser.add_mutually_exclusive_group()
    for name, help_text in (("markdown", "for docs/performance.md"), ("json", "ratios and verdicts alone"),
                            ("svg", "the chart")):
        form.add_argument(f"--{name}", action="store_true", help=help_text)
    parser.add_argument("result", help="the JSON file that a run has written")
    options = parser.parse_args()
    with open(options.result) as file:
        result = json.load(file)
    if options.json:
        print(json.dumps(summary(result), indent=1))
    else:
        print((markdown if options.markdown else svg if options.svg else text)(result), end="")


if __name__ == "__main__":
    main()
