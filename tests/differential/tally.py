"""What became of the inputs."""
from collections import Counter, namedtuple

# Outcomes of one input.
AGREED, REFUSED, BACKEND_REFUSED, DISAGREED, FAULT = "agreed", "refused", "by backend", "disagreed", "faults"
OUTCOMES = (AGREED, REFUSED, BACKEND_REFUSED, DISAGREED, FAULT)
ADMITTED = (AGREED, BACKEND_REFUSED, DISAGREED)

Finding = namedtuple("Finding", "input outcome text signature")


class Tally:
    def __init__(self):
        self.outcomes = Counter()  # (backend, outcome)
        self.kinds = Counter()     # (kind, whether it was admitted)
        self.statuses = Counter()  # of refusals
        self.nowhere = Counter()   # backend: admitted, and a place that it does not know
        self.findings = []

    def count(self, asked, outcome):
        self.outcomes[asked.backend, outcome] += 1
        for kind in asked.kinds:
            self.kinds[kind, outcome in ADMITTED] += 1

    def add(self, other):
        for name in ("outcomes", "kinds", "statuses", "nowhere"):
            getattr(self, name).update(getattr(other, name))
        self.findings += other.findings

    def of(self, outcome):
        return sum(count for (_, each), count in self.outcomes.items() if each == outcome)

    @property
    def inputs(self):
        return sum(self.outcomes.values())

    @property
    def failed(self):
        return self.of(DISAGREED) + self.of(FAULT)

    @property
    def admitted_share(self):
        return sum(map(self.of, ADMITTED)) / max(1, self.inputs)

    def by_backend(self, backends):
        rows = [("backend", "inputs", "admitted", "refused", "by backend", "unknown place", "disagreements", "faults")]
        for name in backends:
            of = {outcome: self.outcomes[name, outcome] for outcome in OUTCOMES}
            rows.append((name, sum(of.values()), sum(of[outcome] for outcome in ADMITTED), of[REFUSED],
                         of[BACKEND_REFUSED], self.nowhere[name], of[DISAGREED], of[FAULT]))
        rows.append(("all", *(sum(column) for column in zip(*(row[1:] for row in rows[1:])))))
        return rows

    def by_kind(self):
        rows = [("what was changed", "inputs", "admitted", "share")]
        for kind in sorted({kind for kind, _ in self.kinds}):
            admitted, refused = self.kinds[kind, True], self.kinds[kind, False]
            rows.append((kind, admitted + refused, admitted, f"{100 * admitted / (admitted + refused):.0f} %"))
        return rows

    def by_signature(self):
        """Findings of the same sort together, the most frequent first."""
        groups = {}
        for finding in self.findings:
            groups.setdefault(finding.signature, []).append(finding)
        return sorted(groups.items(), key=lambda item: -len(item[1]))


def table(rows):
    widths = [max(len(str(cell)) for cell in column) for column in zip(*rows)]
    lines = []
    for row in rows:
        first, *others = (str(cell) for cell in row)
        lines.append("  ".join([first.ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(others, widths[1:]))]))
    return "\n".join(lines)
