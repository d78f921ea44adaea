#!/usr/bin/env python3
"""Draws docs/figures.svg from the side-by-side table of BENCHMARKS.md.

Each row of the table becomes a row of the chart; each server becomes a dot at its requests per second of server CPU,
divided by those of the best peer in that row. A cell that is empty or void (marked "errors") gets no dot.
Needs only the standard library. The same table gives the same bytes.

usage: draw-chart.py [BENCHMARKS [OUTPUT]]        (default: BENCHMARKS.md docs/figures.svg)
"""
import pathlib
import re
import sys
from html import escape

TABLE_FOLLOWS = "<!-- chart: the next table is drawn by docs/draw-chart.py -->"
PEERS = ("nginx", "H2O", "lighttpd")
OURS = "pagecast"
CASES = {
    "hot-1k": "1 KiB file, hot",
    "hot-10k": "10 KiB file, hot",
    "missing": "missing file (404)",
    "hot-100k": "100 KiB file, hot",
    "not-mod": "not modified (304)",
    "close-1k": "1 KiB, new connection each",
    "range-64k": "64 KiB range of a large file",
    "many-4k": "20,000 files of 4 KiB",
    "hot-1m": "1 MiB file, hot",
    "big-100m": "100 MiB file, hot",
}
WIDTH, LEFT, RIGHT, TOP, ROW = 820, 215, 690, 92, 28
TICKS = (0, 0.25, 0.5, 0.75, 1.0, 1.25)
MAXIMUM = 1.25

STYLE = """
    .card { fill: #ffffff; stroke: #d0d7de; }
    text { font: 13px system-ui, "Segoe UI", Helvetica, Arial, sans-serif; fill: #1f2328; }
    .title { font-size: 16px; font-weight: 600; }
    .note, .tick { fill: #59636e; font-size: 12px; }
    .number { font-variant-numeric: tabular-nums; }
    .grid { stroke: #d0d7de; }
    .one { stroke: #59636e; stroke-dasharray: 4 3; }
    .nginx { fill: none; stroke: #1a7f37; stroke-width: 2; }
    .H2O { fill: none; stroke: #9a6700; stroke-width: 2; }
    .lighttpd { fill: none; stroke: #8250df; stroke-width: 2; }
    .pagecast { fill: #0969da; }
    @media (prefers-color-scheme: dark) {
      .card { fill: #0d1117; stroke: #3d444d; }
      text { fill: #f0f6fc; }
      .note, .tick { fill: #9198a1; }
      .grid { stroke: #3d444d; }
      .one { stroke: #9198a1; }
      .nginx { stroke: #3fb950; }
      .H2O { stroke: #d29922; }
      .lighttpd { stroke: #ab7df8; }
      .pagecast { fill: #4493f8; }
    }
"""


def main():
    source = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "BENCHMARKS.md")
    output = pathlib.Path(sys.argv[2] if len(sys.argv) > 2 else "docs/figures.svg")
    output.write_text(draw(read_table(source.read_text())))


def read_table(text):
    """Returns [(case, {server: number})] of the table behind the marker."""
    lines = text.split(TABLE_FOLLOWS, 1)[1].strip().splitlines()
    head, rows = cells(lines[0]), []
    for line in lines[2:]:
        if not line.startswith("|"):
            break
        row = dict(zip(head, cells(line)))
        numbers = {name: number(row[name]) for name in (*PEERS, OURS)}
        rows.append((row["case"], {name: found for name, found in numbers.items() if found}))
    return rows


def cells(line):
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def number(cell):
    return int(cell.replace(",", "")) if re.fullmatch(r"[\d,]+", cell) else None


def draw(rows):
    height = TOP + ROW * len(rows) + 56
    bottom = TOP + ROW * len(rows)
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        'role="img" aria-labelledby="t d">',
        '<title id="t">Requests per second of server CPU, relative to the best peer</title>',
        f'<desc id="d">{escape(describe(rows))}</desc>',
        f"<style>{STYLE}</style>",
        f'<rect class="card" x="0.5" y="0.5" width="{WIDTH - 1}" height="{height - 1}" rx="8"/>',
        '<text class="title" x="20" y="30">Requests per second of server CPU, best peer = 1</text>',
        *legend(),
        f'<text class="note" x="{WIDTH - 20}" y="{TOP - 12}" text-anchor="end">pagecast: req/s</text>',
    ]
    for tick in TICKS:
        kind = "one" if tick == 1 else "grid"
        out.append(f'<line class="{kind}" x1="{place(tick)}" y1="{TOP - 6}" x2="{place(tick)}" y2="{bottom}"/>')
        out.append(f'<text class="tick" x="{place(tick)}" y="{bottom + 18}" text-anchor="middle">{tick:g}</text>')
    for index, (case, numbers) in enumerate(rows):
        middle = TOP + ROW * index + ROW // 2
        best = max(numbers[name] for name in PEERS if name in numbers)
        out.append(f'<text x="{LEFT - 14}" y="{middle + 4}" text-anchor="end">{escape(CASES.get(case, case))}</text>')
        for name in (OURS, *PEERS):  # ours first: the outlines of close peers stay visible on top
            if name in numbers:
                out.append(mark(name, place(numbers[name] / best), middle))
        out.append(
            f'<text class="number" x="{WIDTH - 20}" y="{middle + 4}" text-anchor="end">{numbers[OURS]:,}</text>'
        )
    out.append(
        f'<text class="note" x="20" y="{height - 14}">One core each, the same machine, median of interleaved rounds. '
        "Right is better. Method and all figures: BENCHMARKS.md.</text>"
    )
    return "\n".join(out) + "\n</svg>\n"


def describe(rows):
    parts = []
    for case, numbers in rows:
        best = max(numbers[name] for name in PEERS if name in numbers)
        parts.append(f"{CASES.get(case, case)}: pagecast {numbers[OURS] / best:.2f}")
    return "; ".join(parts) + "."


def legend():
    out, x = [], 26
    for name in (OURS, *PEERS):
        out.append(mark(name, x, 54))
        out.append(f'<text x="{x + 13}" y="58">{name}</text>')
        x += 44 + 7 * len(name)
    return out


def mark(name, x, y):
    """A shape and a colour for each server, so that the chart can be read without colour."""
    if name == OURS:
        return f'<circle class="{name}" cx="{x}" cy="{y}" r="7"/>'
    if name == "nginx":
        return f'<rect class="{name}" x="{x - 5}" y="{y - 5}" width="10" height="10"/>'
    if name == "H2O":
        return f'<path class="{name}" d="M{x} {y - 6} l6 11 h-12 z"/>'
    return f'<path class="{name}" d="M{x} {y - 7} l7 7 l-7 7 l-7 -7 z"/>'


def place(ratio):
    return round(LEFT + (RIGHT - LEFT) * min(ratio, MAXIMUM) / MAXIMUM, 1)


if __name__ == "__main__":
    main()
