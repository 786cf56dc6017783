"""A bar chart as SVG, readable on light and on dark ground."""
import statistics
from xml.sax.saxutils import escape

WIDTH, LEFT, RIGHT = 860, 300, 70
BAR, GAP, BETWEEN = 13, 3, 14
# Longer bars are cut; their number says how long they are.
MOST = 6.0
COLOURS = ("#0b6bcb", "#8a8f98", "#2a9d8f", "#e9a23b", "#c8553d", "#8e5ea2", "#5f7a34", "#b0568f")
STYLE = """text { font: 12px system-ui, sans-serif; fill: #1f2328; } .title { font-size: 15px; font-weight: 600; }
.small { font-size: 11px; fill: #59636e; } .grid { stroke: #d1d9e0; } .one { stroke: #59636e; stroke-dasharray: 4 3; }
.range { stroke: #1f2328; } @media (prefers-color-scheme: dark) { text { fill: #f0f6fc; } .small { fill: #9198a1; }
.grid { stroke: #3d444d; } .one { stroke: #9198a1; } .range { stroke: #f0f6fc; } }"""


def bars(title, subtitle, groups, names):
    """`groups` is [(title, [(name, values)])]; `names` give the colours their order."""
    colours = {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(names)}
    shown = [name for name in names if any(name == bar for _, group in groups for bar, _ in group)]
    longest = max([1.2] + [statistics.median(v) for _, group in groups for _, v in group])
    limit = min(MOST, longest * 1.05)

    def x(value):
        return LEFT + (WIDTH - LEFT - RIGHT) * min(value, limit) / limit

    top = 84
    height = top + sum(len(group) * (BAR + GAP) + BETWEEN for _, group in groups) + 30
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" '
           f'aria-label="{escape(title)}">', f"<style>{STYLE}</style>",
           f'<text class="title" x="12" y="24">{escape(title)}</text>',
           f'<text class="small" x="12" y="42">{escape(subtitle)}</text>']
    at = 12
    for name in shown:
        out.append(f'<rect x="{at}" y="54" width="11" height="11" rx="2" fill="{colours[name]}"/>'
                   f'<text x="{at + 16}" y="64">{escape(name)}</text>')
        at += 34 + 7 * len(name)
    bottom = height - 24
    for tick in range(0, int(limit) + 1):
        kind = "one" if tick == 1 else "grid"
        out.append(f'<line class="{kind}" x1="{x(tick):.1f}" y1="{top - 8}" x2="{x(tick):.1f}" y2="{bottom}"/>'
                   f'<text class="small" x="{x(tick):.1f}" y="{bottom + 15}" text-anchor="middle">{tick} ×</text>')
    y = top
    for group_title, group in groups:
        middle = y + len(group) * (BAR + GAP) / 2
        out.append(f'<text x="{LEFT - 10}" y="{middle + 3:.1f}" text-anchor="end">{escape(group_title)}</text>')
        for name, values in group:
            median = statistics.median(values)
            out.append(f'<rect x="{LEFT}" y="{y}" width="{x(median) - LEFT:.1f}" height="{BAR}" rx="2" '
                       f'fill="{colours[name]}"><title>{escape(name)}: {median:.2f}</title></rect>')
            end = x(median)
            if len(values) > 1 and median <= limit:
                low, high, centre = x(min(values)), x(max(values)), y + BAR / 2
                out.append(f'<line class="range" x1="{low:.1f}" y1="{centre}" x2="{high:.1f}" y2="{centre}"/>')
                end = max(end, high)
            more = " →" if median > limit else ""
            out.append(f'<text class="small" x="{end + 5:.1f}" y="{y + BAR - 2.5}">{median:.2f}{more}</text>')
            y += BAR + GAP
        y += BETWEEN
    out.append("</svg>\n")
    return "\n".join(out)
