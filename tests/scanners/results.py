"""Rows of a run, as a table for people and as Markdown for docs/security.md."""


class Row:
    """One thing that was tried; without faults it passed."""

    def __init__(self, tool, name, faults, figures=None, notes=()):
        self.tool, self.name, self.faults = tool, name, list(faults)
        self.figures, self.notes = figures or {}, list(notes)

    @property
    def is_passed(self):
        return not self.faults

    def as_json(self):
        return {"tool": self.tool, "name": self.name, "passed": self.is_passed, "faults": self.faults,
                "figures": self.figures, "notes": self.notes}

    def text(self):
        lines = [f"{'ok  ' if self.is_passed else 'FAIL'} {self.tool}: {self.name}"]
        if "kept_p99_ms" in self.figures:
            lines.append(f"       good caller p99 {waits(self.figures)}; memory {memory(self.figures)} MiB; "
                         f"descriptors {descriptors(self.figures)}")
        lines += [f"       {note}" for note in self.notes]
        lines += [f"       ! {fault}" for fault in self.faults]
        return "\n".join(lines)


def waits(figures):
    return ", ".join(f"{way} {figures[f'{way}_p99_ms']} ms (quiet {figures[f'{way}_p99_quiet_ms']})"
                     for way in ("kept", "fresh", "direct"))


def memory(figures):
    return "{memory_mib}, {memory_most_mib}, {memory_after_mib}".format_map(Known(figures))


def descriptors(figures):
    return "{descriptors}, {descriptors_most}, {descriptors_after}".format_map(Known(figures))


class Known(dict):
    def __missing__(self, key):
        return "?"


def table(rows):
    return "\n".join(row.text() for row in rows)


def markdown(rows):
    """Two tables: attacks that others were served during, and tools that only look."""
    lines = []
    attacks = [row for row in rows if "kept_p99_ms" in row.figures]
    if attacks:
        lines += ["| attack | what came of it | a good caller's p99, quiet → meanwhile: kept; new connection; past the gateway "
                  "| memory before, most, after (MiB) | descriptors | |",
                  "|---|---|---|---|---|---|"]
        for row in attacks:
            f = row.figures
            pairs = "; ".join(f"{f[f'{way}_p99_quiet_ms']} → {f[f'{way}_p99_ms']} ms"
                              for way in ("kept", "fresh", "direct"))
            lines.append(f"| {row.tool}: {row.name} | {'; '.join(row.notes)} | {pairs} | {memory(f)} "
                         f"| {descriptors(f)} | {verdict(row)} |")
    others = [row for row in rows if row not in attacks]
    if others:
        lines += ["", "| tool | what | result | |", "|---|---|---|---|"]
        lines += [f"| {row.tool} | {row.name} | {'; '.join(row.notes)} | {verdict(row)} |" for row in others]
    return "\n".join(lines).strip()


def verdict(row):
    return "ok" if row.is_passed else "**failed**: " + "; ".join(row.faults)
