"""The comparison's figures as a table, as JSON and as sentences. Knows how ratios are taken, nothing of measuring."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from rich.table import Table

from parley.clients.capacity import search

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from scripts.peers.measure import Files, Trial
    from scripts.scoring import WordErrors

LIMITS_S = (0.1, 0.5)  # of p99 of the final after half-close
OURS = "Parley"  # names of our own rows begin so
STREAMS_GOAL = 4.0  # times the best peer's
FILES_GOAL = 5.0  # times faster-whisper's


@dataclass
class Row:
    """All that was measured of one system."""

    name: str
    what: str
    held: dict[float, int] = field(default_factory=dict)  # by limit in seconds; empty: no streams
    trials: list[Trial] = field(default_factory=list)
    files: list[Files] = field(default_factory=list)
    errors: dict[str, WordErrors] = field(default_factory=dict)  # by set and RPC; empty: not its language

    @property
    def within(self) -> dict[str, list[search.Trial]]:
        """The trials as each limit judges them, by the limit's name, the widest first."""
        return {
            f"{limit_s:g}": [search.Trial.by_delay(trial.calls, trial.delay_s, limit_s) for trial in self.trials]
            for limit_s in sorted(LIMITS_S, reverse=True)
        }

    def take(self, plan: search.Plan) -> None:
        """What the trials so far say of the calls that are held."""
        self.held = {float(limit): search.answer(plan, trials).held for limit, trials in self.within.items()}

    @property
    def ours(self) -> bool:
        return self.name.startswith(OURS)

    @property
    def fastest(self) -> Files | None:
        """Of the rounds of recordings: whatever else the machine does only slows."""
        return max(self.files, key=lambda it: it.audio_s_per_s, default=None)

    @property
    def audio_s_per_s(self) -> float | None:
        """On recordings."""
        return None if self.fastest is None else self.fastest.audio_s_per_s

    @property
    def at_most(self) -> Trial | None:
        """The trial of the most calls held within the wider limit: its best, where there were several."""
        most = self.held.get(max(LIMITS_S), 0)
        return min((trial for trial in self.trials if trial.calls == most), key=lambda it: it.delay_s, default=None)

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "what": self.what,
            "held": {f"{limit_s:g}": count for limit_s, count in self.held.items()},
            "audio_s_per_s": self.audio_s_per_s,
            "trials": [asdict(trial) for trial in self.trials],
            "files": [asdict(each) for each in self.files],
            "wer": {name: errors.rate for name, errors in self.errors.items()},
        }


def best_peer(rows: Sequence[Row], value: Callable[[Row], float | None]) -> float | None:
    """The largest of the peers' values."""
    return max((it for row in rows if not row.ours and (it := value(row)) is not None), default=None)


def table(rows: Sequence[Row]) -> Table:
    """Ratios stand in brackets: to the best peer's."""
    sets = list(dict.fromkeys(name for row in rows for name in row.errors))
    shown = Table(title="the same audio on the same cores; in brackets: times the best peer", title_justify="left")
    shown.add_column("")
    for heading in (
        *(f"calls held, p99 {limit_s * 1000:g} ms" for limit_s in LIMITS_S),
        "files, audio-s/s",
        *(f"{what}, {of}" for what in ("CPU s/audio h", "MiB") for of in ("files", "calls")),
        *(f"WER, {name}" for name in sets),
    ):
        shown.add_column(heading, justify="right")
    for row in rows:
        at_most, fastest = row.at_most, row.fastest
        shown.add_row(
            row.name,
            *(_beside(rows, row, _held(limit_s), "{:.0f}") for limit_s in LIMITS_S),
            _beside(rows, row, lambda it: it.audio_s_per_s, "{:.1f}"),
            _figure(None if fastest is None else fastest.cpu_s_per_audio_h),
            _figure(None if at_most is None else at_most.cpu_s_per_audio_h),
            _figure(None if fastest is None else fastest.peak_mib),
            _figure(None if at_most is None else at_most.peak_mib),
            *(f"{row.errors[name].rate:.1%}" if name in row.errors else "" for name in sets),
        )
    return shown


def goals(rows: Sequence[Row]) -> list[str]:
    """What was asked for, and what came out."""
    ours = [row for row in rows if row.ours]
    said = []
    for limit_s in LIMITS_S:
        peer = best_peer(rows, _held(limit_s))
        said += [
            f"{row.name}: {row.held[limit_s]} calls at {limit_s * 1000:g} ms, best peer {peer or 0:g}: "
            f"{_times(row.held[limit_s], peer)} (goal {STREAMS_GOAL:g})"
            for row in ours
            if row.held
        ]
    whisper = best_peer([row for row in rows if "faster-whisper" in row.name], lambda it: it.audio_s_per_s)
    said += [
        f"{row.name}: {speed:.1f} audio-s/s on files, faster-whisper at its best {whisper or 0:.1f}: "
        f"{_times(speed, whisper)} (goal {FILES_GOAL:g})"
        for row in ours
        if (speed := row.audio_s_per_s) is not None
    ]
    return said


def to_json(rows: Sequence[Row], facts: Mapping[str, object]) -> dict[str, object]:
    return {**facts, "rows": [row.to_json() for row in rows], "goals": goals(rows)}


def _held(limit_s: float) -> Callable[[Row], float | None]:
    return lambda row: row.held.get(limit_s)


def _beside(rows: Sequence[Row], row: Row, value: Callable[[Row], float | None], form: str) -> str:
    own = value(row)
    return "" if own is None else f"{form.format(own)} ({_times(own, best_peer(rows, value))})"


def _times(own: float, peer: float | None) -> str:
    return f"{own / peer:.2f}x" if peer else "no peer has any"


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.0f}"
