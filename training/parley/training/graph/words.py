"""A weighted acceptor of word sequences, what every grammar and language model comes to. Knows words, not tokens."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from parley.decoder.errors import ParleyError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

EPSILON = -1  # in the place of a word: an arc that says nothing


class GrammarError(ParleyError):
    """A grammar or a language model does not parse or is beyond the limits. Says where, what it found and expected."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Of a user's grammar: it is built while others wait."""

    characters: int = 1_000_000
    states: int = 20_000
    arcs: int = 200_000
    words: int = 20_000
    depth: int = 50  # of brackets and rules in each other

    def __post_init__(self) -> None:
        for name in self.__slots__:
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: need 1 or more")


@dataclass(frozen=True, slots=True, eq=False)
class WordFsa:
    """States are numbered from 0. Arc i goes from `source[i]` to `target[i]`, says `words[word[i]]` and adds
    `score[i]`, a natural logarithm. starts, finals: state -> score."""

    words: tuple[str, ...]
    states: int
    source: NDArray[np.int64]
    target: NDArray[np.int64]
    word: NDArray[np.int64]
    score: NDArray[np.float64]
    starts: dict[int, float] = field(default_factory=lambda: {0: 0.0})
    finals: dict[int, float] = field(default_factory=dict)


@dataclass(slots=True)
class Draft:
    """A word acceptor in the making, with arcs that say nothing. Scores are natural logarithms, 0 or less."""

    limits: Limits
    arcs: list[tuple[int, int, int, float]] = field(default_factory=list)  # from, to, word or EPSILON, score
    finals: dict[int, float] = field(default_factory=dict)
    states: int = 0
    words: dict[str, int] = field(default_factory=dict)

    def state(self) -> int:
        if self.states == self.limits.states:
            raise GrammarError(f"got a grammar of more than {self.states} states, expected {self.states} at most")
        self.states += 1
        return self.states - 1

    def arc(self, source: int, target: int, word: str | None = None, score: float = 0.0) -> None:
        """word None: it says nothing."""
        if len(self.arcs) == self.limits.arcs:
            raise GrammarError(f"got a grammar of more than {len(self.arcs)} arcs, expected {len(self.arcs)} at most")
        if word is not None and word not in self.words and len(self.words) == self.limits.words:
            known = len(self.words)
            raise GrammarError(f"got a grammar of more than {known} different words, expected {known} at most")
        label = EPSILON if word is None else self.words.setdefault(word, len(self.words))
        self.arcs.append((source, target, label, score))

    def final(self, state: int, score: float = 0.0) -> None:
        self.finals[state] = max(score, self.finals.get(state, score))

    def finish(self, start: int) -> WordFsa:
        """Without the arcs that say nothing and the states that no sentence goes through; the best score counts where
        several ways say the same.

        Raises GrammarError if no sentence is left.
        """
        arcs, finals = self._without_silence(start)
        alive = _reaching(finals, ((source, target) for source, target, _ in arcs))
        if start not in alive:
            raise GrammarError("got a grammar that accepts nothing, expected one sentence or more")
        number = {state: at for at, state in enumerate(sorted(alive, key=lambda state: (state != start, state)))}
        kept = sorted(
            (number[source], number[target], word, score)
            for (source, target, word), score in arcs.items()
            if source in alive and target in alive
        )
        said = sorted({word for _, _, word, _ in kept})
        again = {word: at for at, word in enumerate(said)}
        names = list(self.words)
        return WordFsa(
            words=tuple(names[word] for word in said),
            states=len(number),
            source=np.array([arc[0] for arc in kept], np.int64),
            target=np.array([arc[1] for arc in kept], np.int64),
            word=np.array([again[arc[2]] for arc in kept], np.int64),
            score=np.array([arc[3] for arc in kept], np.float64),
            finals={number[state]: score for state, score in finals.items() if state in alive},
        )

    def _without_silence(self, start: int) -> tuple[dict[tuple[int, int, int], float], dict[int, float]]:
        """The best scores of the arcs (from, to, word) that can be reached, and of ending in a state."""
        silent: dict[int, list[tuple[int, float]]] = {}
        spoken: dict[int, list[tuple[int, int, float]]] = {}
        for source, target, word, score in self.arcs:
            if word == EPSILON:
                silent.setdefault(source, []).append((target, score))
            else:
                spoken.setdefault(source, []).append((target, word, score))
        arcs: dict[tuple[int, int, int], float] = {}
        finals: dict[int, float] = {}
        seen, waiting = {start}, [start]
        while waiting:
            state = waiting.pop()
            for through, before in _closure(state, silent):
                if through in self.finals:
                    finals[state] = max(before + self.finals[through], finals.get(state, -np.inf))
                for target, word, score in spoken.get(through, ()):
                    arc = (state, target, word)
                    arcs[arc] = max(before + score, arcs.get(arc, -np.inf))
                    if target not in seen:
                        seen.add(target)
                        waiting.append(target)
                if len(arcs) > self.limits.arcs:
                    most = self.limits.arcs
                    raise GrammarError(f"got a grammar of more than {most} arcs, expected {most} at most")
        return arcs, finals


def _closure(state: int, silent: dict[int, list[tuple[int, float]]]) -> Iterator[tuple[int, float]]:
    """The states that can be reached without a word, each with the best score of a way there."""
    best, waiting = {state: 0.0}, [state]
    while waiting:  # ends: no score is above 0, so no way round raises one
        here = waiting.pop()
        for target, score in silent.get(here, ()):
            if best[here] + score > best.get(target, -np.inf):
                best[target] = best[here] + score
                waiting.append(target)
    return iter(best.items())


def _reaching(ends: Iterable[int], arcs: Iterable[tuple[int, int]]) -> set[int]:
    """The states from which one of the ends can be reached."""
    before: dict[int, list[int]] = {}
    for source, target in arcs:
        before.setdefault(target, []).append(source)
    found = set(ends)
    waiting = list(found)
    while waiting:
        for state in before.get(waiting.pop(), ()):
            if state not in found:
                found.add(state)
                waiting.append(state)
    return found
