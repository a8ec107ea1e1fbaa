"""A result as one HTML page that needs nothing else: curves as inline SVG, the runs as a table, light and dark."""

from __future__ import annotations

import math
from html import escape
from typing import TYPE_CHECKING

from parley.clients.capacity.curves import Panel, even_ticks, panels
from parley.clients.capacity.result import delays
from parley.clients.capacity.slo import Size

if TYPE_CHECKING:
    from parley.clients.capacity.level import Run
    from parley.clients.capacity.result import Result
    from parley.clients.simulator.figures import Spread

WIDTH, HEIGHT = 760, 260
LEFT, RIGHT, TOP, BOTTOM = 62, 14, 20, 42  # margins of the axes

STYLE = """
:root { color-scheme: light dark; --ground: #fff; --text: #1c2126; --quiet: #5c6570; --grid: #e3e6ea; --p50: #93bfe6;
  --p95: #3f87c4; --p99: #0b4a80; --held: #1a7f4b; --broken: #c43a31; }
@media (prefers-color-scheme: dark) { :root { --ground: #14181c; --text: #e8ebee; --quiet: #9aa4ae; --grid: #2b3238;
  --p50: #2f5f8a; --p95: #4f9bd9; --p99: #b5daf8; --held: #4cc98a; --broken: #ff7b70; } }
body { background: var(--ground); color: var(--text); font: 15px/1.5 system-ui, sans-serif; max-width: 800px;
  margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.4rem; line-height: 1.3; margin-bottom: .5rem; } h2 { font-size: 1rem; margin: 1.6rem 0 .2rem; }
p { margin: .3rem 0; } .quiet, figcaption { color: var(--quiet); font-size: .85rem; }
figure { margin: 0; } svg { width: 100%; height: auto; display: block; font: 12px system-ui, sans-serif; }
svg text { fill: var(--quiet); } .grid { stroke: var(--grid); } .axis { stroke: var(--quiet); }
.curve { fill: none; stroke-width: 2; stroke-linejoin: round; }
.p50 { stroke: var(--p50); } .p95 { stroke: var(--p95); } .p99, .cores, .memory { stroke: var(--p99); }
circle { stroke-width: 1.5; } circle.held { fill: var(--p99); stroke: var(--p99); }
circle.not { fill: var(--ground); stroke: var(--broken); }
.limit { stroke: var(--broken); stroke-dasharray: 6 4; } svg text.limit-text { fill: var(--broken); }
.knee { stroke: var(--held); stroke-width: 2; } .advice { stroke: var(--held); stroke-dasharray: 2 4; }
svg text.knee-text { fill: var(--held); font-weight: 600; }
.swatch { display: inline-block; width: 1.4em; border-top: 3px solid; vertical-align: middle; margin: 0 .3em 0 .9em; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .6rem; text-align: right; border-bottom: 1px solid var(--grid); white-space: nowrap; }
th { color: var(--quiet); font-weight: 500; } td.words { text-align: left; white-space: normal; min-width: 14em; }
td.held { color: var(--held); } td.not { color: var(--broken); }
"""


def page(result: Result) -> str:
    """The whole page. `result` has at least one run."""
    said = "\n".join(f"<p>{escape(line)}</p>" for line in result.explanation())
    figures = "\n".join(_figure(panel, result) for panel in panels(result))
    title = escape(result.headline())
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8"/>
<meta name="viewport" content="width=device-width, initial-scale=1"/>
<title>{title}</title>
<style>{STYLE}</style>
</head>
<body>
<h1>{title}</h1>
<p class="quiet">{escape(result.node)}</p>
{said}
{figures}
<h2>Every run</h2>
<div class="scroll">
{_table(result.runs)}
</div>
</body>
</html>
"""


def _figure(panel: Panel, result: Result) -> str:
    caption = " ".join(
        f'<span class="swatch" style="border-color: var(--{name})"></span>{name}'
        for name in panel.curves
        if len(panel.curves) > 1
    )
    dots = "each dot is a run" + (", at its p99" if caption else "") + "; hollow: it did not hold"
    return (
        f"<figure>\n<h2>{escape(panel.title)}</h2>\n{_svg(panel, result)}\n"
        f"<figcaption>{caption}{'; ' if caption else ''}{dots}</figcaption>\n</figure>"
    )


def _svg(panel: Panel, result: Result) -> str:
    most = max(run.calls for run in result.runs) * 1.05
    low, high = (math.log(panel.low), math.log(panel.high)) if panel.log else (panel.low, panel.high)

    def x(calls: float) -> str:
        return f"{LEFT + (WIDTH - LEFT - RIGHT) * calls / most:.1f}"

    def y(value: float) -> str:
        share = ((math.log(value) if panel.log else value) - low) / (high - low)
        return f"{HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * share:.1f}"

    right, foot = WIDTH - RIGHT, HEIGHT - BOTTOM
    parts = []
    for tick in panel.ticks:
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{right}" y1="{y(tick)}" y2="{y(tick)}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y(tick)}" text-anchor="end" dominant-baseline="middle">{tick:g}</text>')
    parts += [
        f'<text x="{x(tick)}" y="{foot + 16}" text-anchor="middle">{tick:g}</text>' for tick in even_ticks(most, 8)
    ]
    parts.append(f'<line class="axis" x1="{LEFT}" x2="{right}" y1="{foot}" y2="{foot}"/>')
    parts.append(f'<text x="{(LEFT + right) / 2}" y="{HEIGHT - 8}" text-anchor="middle">calls at once</text>')
    middle = (TOP + foot) / 2
    parts.append(
        f'<text x="14" y="{middle}" text-anchor="middle" transform="rotate(-90 14 {middle})">{panel.unit}</text>'
    )
    if panel.limit:
        at = y(panel.limit.value)
        parts.append(f'<line class="limit" x1="{LEFT}" x2="{right}" y1="{at}" y2="{at}"/>')
        text = escape(panel.limit.text)
        parts.append(f'<text class="limit-text" x="{LEFT}" y="{at}" dx="4" dy="-5">{text}</text>')
    held = result.answer.held
    if held:
        marks = [("knee", held, f"{held} held", "start", 5)]
        if result.calls != held:
            marks.append(("advice", result.calls, f"{result.calls} recommended", "end", -5))
        for name, calls, text, anchor, dx in marks:
            parts.append(f'<line class="{name}" x1="{x(calls)}" x2="{x(calls)}" y1="{TOP - 8}" y2="{foot}"/>')
            parts.append(
                f'<text class="knee-text" x="{x(calls)}" y="{TOP}" dx="{dx}" text-anchor="{anchor}">{text}</text>'
            )
    for name, points in panel.curves.items():
        line = " ".join(f"{x(calls)},{y(value)}" for calls, value in points)
        parts.append(f'<polyline class="curve {name}" points="{line}"/>')
    for (at_calls, value), fine in panel.dots:
        hint = f"{at_calls:g} calls: {value:.4g} {panel.unit}, {'held' if fine else 'not held'}"
        place = f'cx="{x(at_calls)}" cy="{y(value)}" r="4"'
        parts.append(f'<circle class="{"held" if fine else "not"}" {place}><title>{hint}</title></circle>')
    inside = "\n".join(parts)
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(panel.title)}">\n{inside}\n</svg>'


def _table(runs: tuple[Run, ...]) -> str:
    measured = delays(runs) | {"callers late": [run.played.late for run in runs]}
    heads = ["calls", "", *(f"{name} p50/p95/p99 ms (count)" for name in measured), "cores", "memory", "why"]
    rows = []
    for number, run in enumerate(runs):
        cells = [
            f"<td>{run.calls}</td>",
            f'<td class="{"held" if not run.reason else "not"}">{run.outcome.value}</td>',
            *(f"<td>{_times(spreads[number])}</td>" for spreads in measured.values()),
            f"<td>{'' if run.cores is None else f'{run.cores:.2f}'}</td>",
            f"<td>{Size(run.memory_bytes) if run.memory_bytes else ''}</td>",
            f'<td class="words">{escape(run.reason)}</td>',
        ]
        rows.append(f"<tr>{''.join(cells)}</tr>")
    head = "".join(f"<th>{text}</th>" for text in heads)
    return f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{chr(10).join(rows)}\n</tbody>\n</table>"


def _times(spread: Spread | None) -> str:
    if spread is None:
        return ""
    times = "/".join(f"{time_s * 1000:.0f}" for time_s in (spread.p50, spread.p95, spread.p99))
    return f"{times} ({spread.count})"
