"""Many reports in a few figures."""

from __future__ import annotations

from parley.clients.simulator.call import CallReport, Send
from parley.clients.simulator.figures import Figures, Spread, table


def test_spread_is_by_nearest_rank() -> None:
    assert Spread.of([]) is None
    assert Spread.of([3.0]) == Spread(1, 3.0, 3.0, 3.0, 3.0)
    assert Spread.of([float(number) for number in range(200, 0, -1)]) == Spread(200, 100.0, 190.0, 198.0, 200.0)


def report(late_s: float, error: str | None = None) -> CallReport:
    sends = tuple(Send(float(n), float(n), n + late_s, n + late_s) for n in range(1, 4))
    return CallReport("call", 0, {0: "words"}, 2, sends, (0.1, 0.3), (0.5,), 0.2, 0.3, None, error)


def test_simulator_knows_when_it_was_the_bottleneck() -> None:
    assert not Figures.of([report(0.001)] * 2).simulator_was_the_bottleneck
    assert Figures.of([report(0.001), report(0.1)]).simulator_was_the_bottleneck
    assert not Figures.of([]).simulator_was_the_bottleneck


def test_table_shows_what_was_measured_and_what_was_not() -> None:
    assert table(Figures.of([report(0.001), report(0.001, "UNAVAILABLE")])).splitlines() == [
        "milliseconds               count     p50     p95     p99    most",
        "partial lag                    4     100     300     300     300",
        "final lag                      2     500     500     500     500",
        "final after half-close         2     200     200     200     200",
        "simulator's own delay          6       1       1       1       1",
        "2 calls, 1 failed, 4 finals",
    ]
    assert "partial lag                    0" in table(Figures.of([]))
