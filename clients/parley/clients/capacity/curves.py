"""What is drawn of a result: panels of curves over calls, with their limits and ticks. Draws nothing."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from parley.clients.capacity.result import medians
from parley.clients.capacity.search import Outcome

if TYPE_CHECKING:
    from collections.abc import Sequence

    from parley.clients.capacity.result import Result

SHARES = ("p50", "p95", "p99")
MIB = 1 << 20
Point = tuple[float, float]  # calls, value


@dataclass(frozen=True, slots=True)
class Limit:
    value: float
    text: str


@dataclass(frozen=True, slots=True)
class Panel:
    """One pair of axes over calls. `curves`: medians over a level's runs; `dots`: the runs, and whether each held."""

    title: str
    unit: str
    curves: dict[str, list[Point]]
    dots: list[tuple[Point, bool]]
    limit: Limit | None
    log: bool

    @property
    def low(self) -> float:
        """Where the axis begins."""
        if not self.log:
            return 0.0
        least = min(self._values())
        return max(step for step in _steps(least) if step < least * 0.95)  # a curve on the axis is not seen

    @property
    def high(self) -> float:
        """Where the axis ends."""
        most = max(self._values())
        if self.log:
            return min(step for step in _steps(most) if step >= most * 1.5)  # room for what is written there
        return most * 1.3 or 1.0

    @property
    def ticks(self) -> list[float]:
        if self.log:
            return [step for step in _steps(self.low, self.high) if self.low <= step <= self.high]
        return even_ticks(self.high)

    def _values(self) -> list[float]:
        values = [value for points in self.curves.values() for _, value in points]
        values += [value for (_, value), _ in self.dots]
        return [*values, self.limit.value] if self.limit else values


def panels(result: Result) -> list[Panel]:
    """Delays of what was promised, then what it took; none for what was not measured."""
    slo = result.slo
    delays = {
        "final": ("From a call's last packet to its final", slo.final),
        "partial": ("From audio to its interim result", slo.partial),
        "file": (f"A file of {slo.file.length} back" if slo.file else "", slo.file.within if slo.file else None),
    }
    drawn = []
    for of, (title, limit) in delays.items():
        runs = [(run, spread) for run in result.runs if (spread := getattr(run.played, of))]
        if not runs:
            continue
        drawn.append(
            Panel(
                title,
                "ms",
                {share: [(calls, _ms(s)) for calls, s in medians(result.runs, of, share)] for share in SHARES},
                [((run.calls, _ms(spread.p99)), run.outcome is Outcome.HELD) for run, spread in runs],
                Limit(limit.seconds * 1000, f"promised: {limit}") if limit else None,
                log=True,
            )
        )
    cores = [
        ((float(run.calls), run.cores), run.outcome is Outcome.HELD) for run in result.runs if run.cores is not None
    ]
    if cores:
        top = Limit(result.cores, f"this machine's {result.cores} cores") if result.cores else None
        drawn.append(
            Panel("Processor cores that the node had busy", "cores", {"cores": _means(cores)}, cores, top, log=False)
        )
    memory = [
        ((float(run.calls), run.memory_bytes / MIB), run.outcome is Outcome.HELD)
        for run in result.runs
        if run.memory_bytes
    ]
    if memory:
        most = Limit(slo.memory.bytes / MIB, f"promised: {slo.memory}") if slo.memory else None
        drawn.append(Panel("Memory of the node's process", "MiB", {"memory": _means(memory)}, memory, most, log=False))
    return drawn


def even_ticks(high: float, about: int = 5) -> list[float]:
    """Round numbers from 0 up to `high`, some `about` of them."""
    step = min(each for each in _steps(high / about) if each >= high / about)
    return [step * number for number in range(int(high / step + 1e-9) + 1)]


def _means(dots: Sequence[tuple[Point, bool]]) -> list[Point]:
    """A point a level."""
    levels = sorted({calls for (calls, _), _ in dots})
    values = [[value for (at, value), _ in dots if at == calls] for calls in levels]
    return [(calls, sum(each) / len(each)) for calls, each in zip(levels, values, strict=True)]


def _steps(low: float, high: float | None = None) -> list[float]:
    """1, 2, 5, 10, ... from below `low` to above `high` (None: `low`)."""
    first = math.floor(math.log10(max(low, 1e-3))) - 1
    last = math.ceil(math.log10(max(high or low, 1e-3))) + 1
    return [digit * 10.0**power for power in range(first, last + 1) for digit in (1, 2, 5)]


def _ms(seconds: float) -> float:
    return max(seconds * 1000, 0.01)  # a logarithm's axis has no 0
