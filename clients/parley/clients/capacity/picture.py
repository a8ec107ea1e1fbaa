"""A result's curves as a PNG, by matplotlib (parley-asr[plot])."""

from __future__ import annotations

from textwrap import shorten, wrap
from typing import TYPE_CHECKING

from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from parley.clients.capacity.curves import Panel, even_ticks, panels

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes

    from parley.clients.capacity.result import Result

SHADES = {"p50": "#93bfe6", "p95": "#3f87c4", "p99": "#0b4a80", "cores": "#0b4a80", "memory": "#0b4a80"}
HELD, BROKEN, QUIET = "#1a7f4b", "#c43a31", "#5c6570"
WIDTH_IN, PANEL_IN, LINE_IN = 9.0, 2.9, 0.27
TITLE_LETTERS, BELOW_LETTERS = 78, 125  # in a line of the title, and of what stands below it


def draw(result: Result, path: Path) -> None:
    """Writes the file. `result` has at least one run."""
    drawn = panels(result)
    title = wrap(result.headline(), TITLE_LETTERS)
    below = f"{result.node}; {result.explanation()[0]}"
    title_in = LINE_IN * (len(title) + 2)
    height_in = PANEL_IN * len(drawn) + title_in
    layout = ConstrainedLayoutEngine(rect=(0, 0, 1, 1 - title_in / height_in), h_pad=0.12, w_pad=0.12)
    figure = Figure(figsize=(WIDTH_IN, height_in), dpi=150, layout=layout)
    top, under = 1 - LINE_IN / 2 / height_in, 1 - LINE_IN * (len(title) + 1) / height_in
    figure.text(0.02, top, "\n".join(title), fontsize=13, fontweight="bold", va="top")
    figure.text(0.02, under, shorten(below, BELOW_LETTERS), color=QUIET, fontsize=9, va="center")
    places: list[Axes] = figure.subplots(len(drawn), squeeze=False)[:, 0].tolist() if drawn else []
    for axes, panel in zip(places, drawn, strict=True):
        _draw(axes, panel, result)
        axes.set_xlabel("calls at once")
    figure.savefig(path)


def _draw(axes: Axes, panel: Panel, result: Result) -> None:
    axes.set_title(panel.title, loc="left", fontsize=10)
    axes.set_ylabel(panel.unit)
    if panel.log:
        axes.set_yscale("log")
    axes.set_ylim(panel.low, panel.high)
    axes.yaxis.set_major_locator(FixedLocator(panel.ticks))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    most = max(run.calls for run in result.runs) * 1.05
    axes.set_xlim(0, most)
    axes.xaxis.set_major_locator(FixedLocator(even_ticks(most, 8)))
    axes.grid(visible=True, color="#e3e6ea", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    for name, points in panel.curves.items():
        axes.plot(*zip(*points, strict=True), color=SHADES[name], linewidth=2, label=name)
    for (calls, value), fine in panel.dots:
        colour, face = (SHADES["p99"], SHADES["p99"]) if fine else (BROKEN, "white")
        axes.plot(calls, value, "o", color=colour, markerfacecolor=face, markersize=5)
    if panel.limit:
        axes.axhline(panel.limit.value, color=BROKEN, linewidth=1.2, linestyle="--")
        axes.annotate(
            panel.limit.text, (0, panel.limit.value), xycoords=("axes fraction", "data"), xytext=(4, 3),
            textcoords="offset points", ha="left", va="bottom", fontsize=8, color=BROKEN,
        )  # fmt: skip
    held = result.answer.held
    if held:
        _mark(axes, held, f"{held} held", "-", after=True)
    if held and result.calls != held:
        _mark(axes, result.calls, f"{result.calls} recommended", ":", after=False)
    if len(panel.curves) > 1:
        axes.legend(loc="lower right", bbox_to_anchor=(1, 1), fontsize=8, frameon=False, ncols=len(panel.curves))


def _mark(axes: Axes, calls: int, text: str, style: str, *, after: bool) -> None:
    """A number of calls, named after its line or before it."""
    axes.axvline(calls, color=HELD, linewidth=1.5, linestyle=style)
    axes.annotate(
        text, (calls, 1), xycoords=("data", "axes fraction"), xytext=(4 if after else -4, -4),
        textcoords="offset points", ha="left" if after else "right", va="top", fontsize=8, color=HELD,
    )  # fmt: skip
