"""What was found of a node's capacity: runs, the answer, what to set. As words, table, JSON and a config's line."""

from __future__ import annotations

import json
import re
import sys
from collections import defaultdict
from dataclasses import asdict, dataclass
from enum import Enum
from statistics import median
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.table import Table

from parley.clients.capacity.search import Answer, Outcome, Plan, Trial, answer

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from parley.clients.capacity.level import Run
    from parley.clients.capacity.slo import Slo
    from parley.clients.simulator.figures import Spread

_DECODERS = re.compile(r"^([ \t]*decoders[ \t]*=[ \t]*)[0-9_]+", re.MULTILINE)
_TABLE = re.compile(r"^[ \t]*\[", re.MULTILINE)
MARKS = {
    Outcome.HELD: "[green]held[/]",
    Outcome.BROKEN: "[red]broken[/]",
    Outcome.CALLERS_LATE: "[yellow]callers too slow[/]",
    Outcome.REFUSED: "[yellow]refused[/]",
}


@dataclass(frozen=True, slots=True)
class Result:
    """What was tried and what came of it.

    `decoders_a_call` and `devices`: what turns calls into the node's setting. `pool`: decoders of a node that runs
    elsewhere, if it says. `cores`: of this machine, if the node is on it. `headroom`: the share of what held that is
    recommended.
    """

    slo: Slo
    plan: Plan
    runs: tuple[Run, ...]
    node: str
    headroom: float
    decoders_a_call: int = 1
    devices: int = 1
    pool: int | None = None
    cores: int | None = None

    @property
    def trials(self) -> list[Trial]:
        return [Trial(run.calls, run.outcome) for run in self.runs]

    @property
    def answer(self) -> Answer:
        return answer(self.plan, self.trials)

    @property
    def calls(self) -> int:
        """Recommended; 0: none."""
        held = self.answer.held
        return max(1, int(self.headroom * held)) if held else 0

    @property
    def decoders(self) -> int:
        """Recommended for the node's setting, which counts for each device; 0: none."""
        return max(1, self.calls // self.devices) * self.decoders_a_call if self.calls else 0

    def decoders_for(self, calls: int) -> int:
        """The setting with which at least so many calls have their decoders; a call's are of one device."""
        return -(-calls // self.devices) * self.decoders_a_call

    def at(self, calls: int) -> list[Run]:
        return [run for run in self.runs if run.calls == calls]

    def headline(self) -> str:
        found = self.answer
        if found.held:
            return f"{found.held} calls at once: {self.slo}"
        return f"No number of calls held: {self.slo}" if self.runs else "Nothing was measured"

    def explanation(self) -> list[str]:
        """How sure the answer is, what it stops at, and what to set."""
        found = self.answer
        lines = []
        if found.held:
            alike, runs = found.held_runs
            lines.append(f"{found.held} calls held in {alike} of {runs} runs{self._finals(found.held)}.")
        if found.broken:
            alike, runs = found.broken_runs
            lines.append(f"{found.broken} calls did not in {alike} of {runs} runs: {self._reason(found.broken)}.")
            if found.limit is Outcome.CALLERS_LATE:
                lines.append(
                    "That is the callers' limit, not the node's, which may hold more: call it from another machine."
                )
            elif found.limit is Outcome.REFUSED:
                lines.append("That is the size of the node's pool: with more decoders it may hold more.")
        elif found.held:
            lines.append(f"More were not tried: {self._most()}." if found.held == self.plan.most else "More may hold.")
        if self.runs:
            lines.append(
                f"Confidence {found.confidence:.0%}: the chance that one more run on either side comes out as most did."
            )
        if found.against:
            lines.append(f"{found.against} of {len(self.runs)} runs contradict this: the machine is noisy.")
        if not found.settled:
            lines.append("The search was not finished: this is what was known by then.")
        if self.calls:
            lines.append(
                f"Recommended: decoders = {self.decoders}, {self.headroom:.0%} of what held. At the edge a busy minute "
                "breaks the promise; calls beyond the decoders are refused, so the promise to the others stands."
            )
        return lines

    def _most(self) -> str:
        if self.pool and self.pool // self.decoders_a_call == self.plan.most:
            return f"the node's pool has {self.pool} decoders"
        return f"--max {self.plan.most}"

    def _finals(self, calls: int) -> str:
        counts = [run.played.final.count for run in self.at(calls) if run.played.final]
        return f" ({min(counts)} finals or more behind each p99)" if counts else ""

    def _reason(self, calls: int) -> str:
        return next((run.reason for run in reversed(self.at(calls)) if run.reason), "")

    def as_json(self) -> str:
        """Everything, times in seconds and sizes in bytes."""
        found = self.answer
        answered = {**asdict(found), "confidence": found.confidence}
        everything = {
            **{name: value for name, value in asdict(self).items() if name != "runs"},
            "answer": answered,
            "recommended": {"calls": self.calls, "decoders": self.decoders},
            "headline": self.headline(),
            "explanation": self.explanation(),
            "runs": [asdict(run) for run in self.runs],
        }
        return json.dumps(everything, indent=1, default=_value)


def table(runs: Sequence[Run]) -> Table:
    """One line a run, as they were made."""
    shown = Table(title="delays in ms: p50/p99", title_justify="left", pad_edge=False, box=SIMPLE_HEAD)
    measured = delays(runs)
    shown.add_column("calls", justify="right", no_wrap=True)
    shown.add_column("", no_wrap=True)
    for name in (*measured, "count", "late", "cores", "MiB"):
        shown.add_column(name, justify="right", no_wrap=True)
    for number, run in enumerate(runs):
        times = [spreads[number] for spreads in measured.values()]
        shown.add_row(
            str(run.calls),
            MARKS[run.outcome],
            *(f"{spread.p50 * 1000:.0f}/{spread.p99 * 1000:.0f}" if spread else "" for spread in times),
            str(next((spread.count for spread in times if spread), 0)),
            f"{run.played.late.p99 * 1000:.0f}" if run.played.late else "",
            f"{run.cores:.2f}" if run.cores is not None else "",
            f"{run.memory_bytes / (1 << 20):.0f}" if run.memory_bytes else "",
        )
    return shown


def delays(runs: Sequence[Run]) -> dict[str, list[Spread | None]]:
    """What was measured, by its name: an entry a run."""
    columns = {
        "final": [run.played.final for run in runs],
        "interim": [run.played.partial for run in runs],
        "file": [run.played.file for run in runs],
    }
    return {name: spreads for name, spreads in columns.items() if any(spreads)}


def medians(runs: Sequence[Run], of: str, share: str) -> list[tuple[int, float]]:
    """By calls, the median over a level's runs of a figure such as "final", "p99"; without what was not measured."""
    levels: dict[int, list[float]] = defaultdict(list)
    for run in runs:
        spread: Spread | None = getattr(run.played, of)
        if spread:
            levels[run.calls].append(getattr(spread, share))
    return sorted((calls, median(values)) for calls, values in levels.items())


def with_decoders(toml: str, decoders: int) -> str:
    """The same file with `decoders` set, all else as it was. Raises ValueError where that cannot be."""
    before = tomllib.loads(toml)
    line = f"decoders = {decoders}"
    if "decoders" in before:
        after = _DECODERS.sub(rf"\g<1>{decoders}", toml, count=1)
    elif table_ := _TABLE.search(toml):  # a line behind it would be the table's
        after = f"{toml[: table_.start()]}{line}\n{toml[table_.start() :]}"
    else:
        after = f"{toml}{'' if not toml or toml.endswith(chr(10)) else chr(10)}{line}\n"
    try:
        safe = tomllib.loads(after) == before | {"decoders": decoders}
    except tomllib.TOMLDecodeError:
        safe = False
    if not safe:
        raise ValueError(
            f"got a file whose decoders cannot be set without changing more; write `{line}` there yourself"
        )
    return after


def check_config(path: Path) -> None:
    """Raises what `write_decoders` would for the file as it is, before any number is known: ValueError, OSError."""
    for decoders in (1, 2):  # one of them is not what it says already
        _edited(path, decoders)


def write_decoders(path: Path, decoders: int) -> None:
    """Sets it in a config file, which is made if need be. Raises ValueError, OSError."""
    new = _edited(path, decoders)
    # By rename: a node that starts meanwhile reads the one or the other.
    beside = path.with_name(f"{path.name}.new")
    beside.write_bytes(new)
    if path.exists():
        beside.chmod(path.stat().st_mode)
    beside.replace(path)


def _edited(path: Path, decoders: int) -> bytes:
    try:
        old = path.read_bytes().decode("utf-8") if path.exists() else ""
        return with_decoders(old, decoders).encode("utf-8")
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _value(value: object) -> object:
    assert isinstance(value, Enum)
    return value.value
