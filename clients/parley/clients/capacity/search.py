"""Which number of calls to try next, and what the tries say in the end. Knows no node, no delay's cause and no clock.

Trials are noisy: a machine that holds 40 calls fails at 38 now and then. So the search grows until a level does not
hold, halves the gap down to a step, and then repeats the two levels at the edge until each has been tried often enough;
a level's majority counts, and one that turns over sends the search back to where it then stands. A miss that says
little (late callers, or a limit that was only just missed) is tried again at once, before anything is built on it.

Any measurement of "most calls" is this loop:

    while (level := next_level(plan, trials)) is not None:
        trials.append(Trial(level, Outcome.HELD if holds(level) else Outcome.BROKEN))
    most = answer(plan, trials).held

and one within several limits at once, each run of a level judged by all of them, is this:

    trials = {name: [] for name in limits}  # the widest first
    while (level := next_level_of_any(plan, trials)) is not None:
        delay_s = play(level)
        for name, limit_s in limits.items():
            trials[name].append(Trial.by_delay(level, delay_s, limit_s))
    most = {name: answer(plan, trials[name]).held for name in limits}
"""

from __future__ import annotations

import enum
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MAJORITY = 3  # runs in which one is outvoted
NARROW = 2  # times a limit: what is over it by less may be one bad second of the machine


class Outcome(enum.Enum):
    """What came of a level. Only HELD counts for it; the others say whose limit was met."""

    HELD = "held"
    BROKEN = "broken"
    CALLERS_LATE = "callers too slow"  # says nothing about the node
    REFUSED = "refused"  # by a pool that is full


@dataclass(frozen=True, slots=True)
class Trial:
    """One run of a level. `narrow`: the limit was only just missed."""

    level: int  # calls at once
    outcome: Outcome
    narrow: bool = False

    @classmethod
    def by_delay(cls, level: int, delay_s: float, limit_s: float) -> Trial:
        """A run that is judged by one delay; infinite for calls that were not held at any limit."""
        if delay_s <= limit_s:
            return cls(level, Outcome.HELD)
        return cls(level, Outcome.BROKEN, narrow=delay_s <= NARROW * limit_s)

    @property
    def doubtful(self) -> bool:
        """Whether this is a miss that one more run may well turn over."""
        return self.narrow or self.outcome is Outcome.CALLERS_LATE


@dataclass(frozen=True, slots=True)
class Plan:
    """Where the search begins, how fast it grows, how far it goes, and how exact and how sure its answer is to be.

    `growth`: from a level that held to the next. `parts`: the edge is as fine as one in so many calls; noise is seldom
    smaller. `repeats`: how often the levels at the edge are tried.
    """

    first: int = 4
    most: int = 1024
    repeats: int = 3
    growth: float = 2.0
    parts: int = 16

    def __post_init__(self) -> None:
        if not 1 <= self.first <= self.most:
            raise ValueError(
                f"got levels from {self.first} to {self.most}, expected 1 or more, the first not above the last"
            )
        if self.repeats < 1 or self.repeats % 2 == 0:
            raise ValueError(f"repeats: got {self.repeats}, expected 1, 3, 5, ..., so that there is a majority")
        if not self.growth > 1:
            raise ValueError(f"growth: got {self.growth:g}, expected more than 1")
        if self.parts < 1:
            raise ValueError(f"parts: got {self.parts}, expected 1 or more")

    def step(self, good: int) -> int:
        """The widest gap, above a level that held, that is not halved any more."""
        return max(1, good // self.parts)


@dataclass(frozen=True, slots=True)
class Answer:
    """What is known after some trials.

    `held`: the most calls that held, by the majority of their runs and with no lower level that did not; 0: none did.
    `broken`: the fewest that did not, if any; `limit`: what that was. `against`: trials that contradict this.
    `settled`: the edge is narrow and was tried as often as the plan says.
    """

    held: int
    held_runs: tuple[int, int]  # that held, of how many
    broken: int | None
    broken_runs: tuple[int, int]  # that did not hold, of how many
    limit: Outcome | None
    against: int
    settled: bool

    @property
    def confidence(self) -> float:
        """The chance that one more run at either side of the edge comes out as most have, by the rule of succession:
        with k of n runs alike (k+1)/(n+2). Three of three are 0.8: more runs, more confidence."""
        sides = [self.held_runs if self.held else None, self.broken_runs if self.broken else None]
        return min((alike + 1) / (runs + 2) for alike, runs in (side for side in sides if side)) if any(sides) else 0.5


def next_level(plan: Plan, trials: Sequence[Trial]) -> int | None:
    """The level to try after these; None: the answer stands."""
    good, bad = _edge(trials)
    if bad and _unclear(trials, bad):
        return bad  # perhaps a moment of the machine's, and not worth a search below it
    if bad is None:
        if good < plan.most:
            grown = max(good + 1, int(plan.growth * good)) if good else plan.first
            return min(max(plan.first, grown), plan.most)
    elif bad - good > plan.step(good):
        return (good + bad) // 2
    tries = Counter(trial.level for trial in trials)
    short = [level for level in (good, bad) if level and tries[level] < plan.repeats]
    return min(short, key=lambda level: tries[level], default=None)


def next_level_of_any(plan: Plan, trials: Mapping[str, Sequence[Trial]]) -> int | None:
    """The level to try next within several limits, by name the trials of each: the first limit whose answer does not
    stand yet says it. Every run is a trial within every limit; None: all answers stand."""
    levels = (next_level(plan, of_limit) for of_limit in trials.values())
    return next((level for level in levels if level is not None), None)


def answer(plan: Plan, trials: Sequence[Trial]) -> Answer:
    """What these trials say, finished or not."""
    good, bad = _edge(trials)
    at_bad = [trial.outcome for trial in trials if trial.level == bad and trial.outcome is not Outcome.HELD]
    return Answer(
        held=good,
        held_runs=_runs(trials, good, held=True),
        broken=bad,
        broken_runs=_runs(trials, bad, held=False),
        limit=Counter(at_bad).most_common(1)[0][0] if at_bad else None,
        against=sum(
            (trial.outcome is Outcome.HELD) != (trial.level <= good)
            for trial in trials
            if trial.level <= good or (bad is not None and trial.level >= bad)
        ),
        settled=next_level(plan, trials) is None,
    )


def _edge(trials: Sequence[Trial]) -> tuple[int, int | None]:
    """The highest level that held below the lowest that did not; 0 and None where there is none."""
    votes: Counter[int] = Counter()
    for trial in trials:
        votes[trial.level] += 1 if trial.outcome is Outcome.HELD else -1
    # A tie has not held: what is recommended has to hold more often than not.
    bad = min((level for level, vote in votes.items() if vote <= 0), default=None)
    good = max((level for level, vote in votes.items() if vote > 0 and (bad is None or level < bad)), default=0)
    return good, bad


def _unclear(trials: Sequence[Trial], level: int) -> bool:
    """Whether one doubtful run is all that speaks against a level, and a few more may tell."""
    runs = [trial for trial in trials if trial.level == level]
    against = [trial for trial in runs if trial.outcome is not Outcome.HELD]
    return len(against) == 1 and against[0].doubtful and len(runs) < MAJORITY


def _runs(trials: Sequence[Trial], level: int | None, *, held: bool) -> tuple[int, int]:
    at = [trial.outcome is Outcome.HELD for trial in trials if trial.level == level]
    return at.count(held), len(at)
