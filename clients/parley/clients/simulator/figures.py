"""Many simulated calls' reports in a few figures, and those as a table. Knows whether the simulator itself was late."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from parley.clients.simulator.call import CallReport

TOO_LATE_S = 0.02  # with one of a hundred messages: then the simulator is the bottleneck


@dataclass(frozen=True, slots=True)
class Spread:
    """How a measured time is spread over calls or messages, in seconds."""

    count: int
    p50: float
    p95: float
    p99: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread | None:
        """None: nothing was measured."""
        ordered = sorted(values)
        if not ordered:
            return None

        def rank(share: float) -> float:
            return ordered[max(0, math.ceil(share * len(ordered)) - 1)]

        return cls(len(ordered), rank(0.5), rank(0.95), rank(0.99), ordered[-1])


@dataclass(frozen=True, slots=True)
class Figures:
    """All reports in one."""

    calls: int
    failed: int
    finals: int
    partial_lag: Spread | None
    final_lag: Spread | None
    half_close_to_last_final: Spread | None
    simulator_late: Spread | None

    @classmethod
    def of(cls, reports: Sequence[CallReport]) -> Figures:
        closes = [report.half_close_to_last_final_s for report in reports]
        return cls(
            calls=len(reports),
            failed=sum(report.error is not None for report in reports),
            finals=sum(report.finals for report in reports),
            partial_lag=Spread.of([lag for report in reports for lag in report.partial_lags_s]),
            final_lag=Spread.of([lag for report in reports for lag in report.final_lags_s]),
            half_close_to_last_final=Spread.of([close for close in closes if close is not None]),
            simulator_late=Spread.of([late for report in reports for late in report.late_s]),
        )

    @property
    def simulator_was_the_bottleneck(self) -> bool:
        return self.simulator_late is not None and self.simulator_late.p99 > TOO_LATE_S


def table(figures: Figures) -> str:
    rows = {
        "partial lag": figures.partial_lag,
        "final lag": figures.final_lag,
        "final after half-close": figures.half_close_to_last_final,
        "simulator's own delay": figures.simulator_late,
    }
    lines = [f"{'milliseconds':24}{'count':>8}{'p50':>8}{'p95':>8}{'p99':>8}{'most':>8}"]
    for name, spread in rows.items():
        if spread is None:
            lines.append(f"{name:24}{0:>8}")
        else:
            times = (spread.p50, spread.p95, spread.p99, spread.most)
            lines.append(f"{name:24}{spread.count:>8}" + "".join(f"{time_s * 1000:>8.0f}" for time_s in times))
    lines.append(f"{figures.calls} calls, {figures.failed} failed, {figures.finals} finals")
    return "\n".join(lines)
