"""A comparison's JSON as a picture: `python -m scripts.peers.plot IN.json OUT.png`. Runs in .venv-peers."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

OURS, THEIRS = "#1f5fa8", "#9aa0a6"


def main(figures: Path, picture: Path) -> int:
    from matplotlib import pyplot

    report = json.loads(figures.read_text(encoding="utf-8"))
    panels: dict[str, dict[str, float]] = {}
    for row in reversed(report["rows"]):
        for limit_s, count in row["held"].items():
            panels.setdefault(f"calls held, p99 final {float(limit_s) * 1000:g} ms", {})[row["name"]] = count
    panels = dict(sorted(panels.items(), key=lambda panel: len(panel[0])))
    panels["recordings, audio-s/s"] = {row["name"]: row["audio_s_per_s"] for row in reversed(report["rows"])}

    figure, axes = pyplot.subplots(1, len(panels), figsize=(4.2 * len(panels), 3.4), layout="constrained")
    for axis, (title, bars) in zip(axes, panels.items(), strict=True):
        _bars(axis, title, bars)
    figure.savefig(picture, dpi=110)
    return 0


def _bars(axis: Any, title: str, bars: dict[str, float]) -> None:
    colours = [OURS if name.startswith("Parley") else THEIRS for name in bars]
    drawn = axis.barh(list(bars), list(bars.values()), color=colours)
    axis.bar_label(drawn, fmt="%.3g", padding=3)
    axis.set_title(title, fontsize=10)
    axis.set_xticks([])
    axis.margins(x=0.15)
    axis.spines[["top", "right", "bottom"]].set_visible(False)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
