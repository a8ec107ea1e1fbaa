"""Runs as a machine would give them that holds so many calls, for what judges and shows them."""

from __future__ import annotations

from parley.clients.capacity.level import Played, Run
from parley.clients.capacity.result import Result
from parley.clients.capacity.search import Outcome, Plan
from parley.clients.capacity.slo import Duration, FileLimit, Size, Slo
from parley.clients.simulator.figures import Spread

SLO = Slo(Duration(0.1), Duration(0.5), FileLimit.parse("30s:2s"), Size(1 << 30))


def made(calls: int, limit: int, outcome: Outcome | None = None) -> Run:
    """One run; `outcome` None: as the limit says."""
    outcome = outcome or (Outcome.HELD if calls <= limit else Outcome.BROKEN)
    final_s = 0.04 if calls <= limit else 0.4
    return Run(
        calls=calls,
        decoders=calls,
        outcome=outcome,
        reason="" if outcome is Outcome.HELD else "final after a call's last packet: p99 <400> ms",
        played=Played(
            final=Spread(100 + calls, final_s / 2, final_s, final_s + calls / 10_000, final_s * 2),
            partial=Spread(1_000, 0.1, 0.2, 0.3, 0.4),
            file=Spread(100, 0.5, 1.0, 1.9, 2.0),
            late=Spread(10_000, 0.001, 0.002, 0.004, 0.2),
        ),
        cores=calls / 50,
        memory_bytes=(600 + 4 * calls) << 20,
        wall_s=30.0,
    )


def result(*runs: Run, plan: Plan | None = None, slo: Slo = SLO, cores: int | None = 2) -> Result:
    return Result(slo, plan or Plan(4, 64, 3), runs, "parley serve --passes first", 0.8, cores=cores)
