"""Lattices: what else may have been said, as a compact graph of words. Knows tokens and frames, not text and not k2."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from concurrent.futures import Future

    from numpy.typing import NDArray

    from parley.decoder.search.ctc import Path

SILENCE: tuple[int, ...] = ()  # the word of an arc on which nothing is said, before the first word
MOST_ARCS = 2_000  # they go over the wire


@dataclass(frozen=True, slots=True)
class LatticeConfig:
    """How wide a lattice search is. Beams are natural logarithms of probability."""

    search_beam: float = 8.0  # behind the best state of a frame
    output_beam: float = 8.0  # behind the best path of all
    min_active: int = 30  # states of a frame
    max_active: int = 500
    samples: int = 100  # paths that confidences and alternatives are taken from
    least_posterior: float = 1e-3  # of a lattice's words

    def __post_init__(self) -> None:
        for name, least in (("search_beam", 0.1), ("output_beam", 0.1), ("min_active", 0), ("max_active", 1)):
            if not getattr(self, name) >= least:
                raise ValueError(f"{name}={getattr(self, name)}: need {least} or more")
        if not 1 <= self.samples <= 1_000:
            raise ValueError(f"samples={self.samples}: need 1 to 1000")
        if not 0 <= self.least_posterior < 1:
            raise ValueError(f"least_posterior={self.least_posterior}: need 0 up to 1")


@dataclass(frozen=True, slots=True)
class LatticeOptions:
    """What a request wants. language_weight: of the graph's scores; word_bonus: added for every word; blank_penalty:
    taken off every blank, for a network that is too sure of silence."""

    n_best: int = 1
    language_weight: float = 0.5
    word_bonus: float = 0.0
    blank_penalty: float = 0.0
    lattice: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.n_best <= 100:
            raise ValueError(f"n_best={self.n_best}: need 1 to 100")
        for name in ("language_weight", "word_bonus", "blank_penalty"):
            if not math.isfinite(getattr(self, name)):
                raise ValueError(f"{name}={getattr(self, name)}: need a number")
        if self.language_weight < 0:
            raise ValueError(f"language_weight={self.language_weight}: need 0 or more")


@dataclass(frozen=True, slots=True, eq=False)
class Lattice:
    """Words between points. Points are numbered by time: 0 is the utterance's start, `states - 1` its end.

    Arc i goes from point `source[i]` to `target[i]` and says `words[word[i]]`, its tokens, in the frames
    [`start_frame[i]`, `end_frame[i]`). SILENCE is a word of no tokens. acoustic, language: natural logarithms, of the
    arc's best way; what lies behind the word up to the target is in them. posterior: the share of all the lattice's
    paths, by their probability, that go along here. Arcs are sorted by source, then target.
    """

    states: int
    words: tuple[tuple[int, ...], ...]
    source: NDArray[np.int32]
    target: NDArray[np.int32]
    word: NDArray[np.int32]
    start_frame: NDArray[np.int32]
    end_frame: NDArray[np.int32]
    acoustic: NDArray[np.float32]
    language: NDArray[np.float32]
    posterior: NDArray[np.float32]

    def as_dict(self) -> dict[str, Any]:
        """In lists and numbers, fit for JSON."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in values.items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Lattice:
        arrays: dict[str, NDArray[Any]] = {
            name: np.array(values[name], np.float32 if name in ("acoustic", "language", "posterior") else np.int32)
            for name in ARRAYS
        }
        return cls(int(values["states"]), tuple(tuple(word) for word in values["words"]), **arrays)


@dataclass(frozen=True, slots=True)
class LatticeResult:
    """An utterance's n-best, best first, and its lattice if asked for. No paths: the graph has nothing that fits."""

    paths: tuple[Path, ...] = ()
    lattice: Lattice | None = None


class Lattices(Protocol):
    """A lattice search; see parley.decoder.search.lattice.process and parley.decoder.search.lattice.k2."""

    def submit(
        self, log_probs: NDArray[np.float32], frames: Sequence[int], graph: str, options: LatticeOptions
    ) -> Future[list[LatticeResult]]:
        """A batch of whole utterances: see LatticeSearch.decode."""
        ...


ARRAYS = tuple(field.name for field in fields(Lattice) if field.name not in ("states", "words"))


@dataclass(frozen=True, slots=True, eq=False)
class FrameArcs:
    """One utterance's lattice as a search leaves it: every arc takes a frame, or none and leads into the last state.

    label: the frame's, -1 on arcs into the last state. token: said for the first time on this arc, or 0. score: what
    the search went by, of acoustic and language. States are numbered so that arcs lead to higher ones, and arcs are
    sorted by the state that they leave.
    """

    states: int
    source: NDArray[np.int32]
    target: NDArray[np.int32]
    label: NDArray[np.int32]
    token: NDArray[np.int32]
    frame: NDArray[np.int32]
    acoustic: NDArray[np.float32]
    language: NDArray[np.float32]
    score: NDArray[np.float64]


@dataclass(slots=True)
class _Word:
    """Ways along one word that have come as far as one state: all in one sum, times and scores of the best."""

    total: float
    best: float
    start: int
    end: int
    acoustic: float
    language: float

    def longer(self, arcs: FrameArcs, arc: int) -> _Word:
        score, label = float(arcs.score[arc]), arcs.label[arc]
        return _Word(
            self.total + score,
            self.best + score,
            self.start,
            int(arcs.frame[arc]) + 1 if label > 0 else self.end,
            self.acoustic + float(arcs.acoustic[arc]),
            self.language + float(arcs.language[arc]),
        )


def word_lattice(arcs: FrameArcs, begins: Sequence[bool], least: float = 1e-3) -> Lattice:
    """The lattice of words. begins: by token, whether a word begins with it. least: the posterior below which words are
    left out; of more than MOST_ARCS arcs the least likely are, too.

    A point is where a word may begin: a state of the search that some word's first token leaves.
    """
    forward, backward = _forward(arcs), _backward(arcs)
    total = backward[0]
    floor = math.log(least) if least else -math.inf
    begin = np.array([token > 0 and begins[token] for token in arcs.token.tolist()], bool)
    first = np.searchsorted(arcs.source, np.arange(arcs.states + 1))
    # By state: the log-sum over what goes on with a new word from here.
    anew = np.full(arcs.states, -np.inf)
    np.logaddexp.at(anew, arcs.source[begin], arcs.score[begin] + backward[arcs.target[begin]])
    # By state: the words under way, by the point that they left and their tokens so far.
    open_: list[dict[tuple[int, tuple[int, ...]], _Word]] = [{} for _ in range(arcs.states)]
    open_[0][0, SILENCE] = _Word(0.0, 0.0, 0, 0, 0.0, 0.0)
    found: list[tuple[int, int, tuple[int, ...], _Word, float]] = []
    last = arcs.states - 1
    for state in range(arcs.states):
        here, open_[state] = open_[state], {}
        sure = {
            key: word for key, word in here.items() if forward[key[0]] + word.total + backward[state] - total >= floor
        }
        if state == last or np.isfinite(anew[state]):
            onward = 0.0 if state == last else anew[state]
            for (point, tokens), word in sure.items():
                share = forward[point] + word.total + onward - total
                if share >= floor and (tokens or state):
                    found.append((point, state, tokens, word, share))
        for arc in range(first[state], first[state + 1]):
            token, target = int(arcs.token[arc]), open_[arcs.target[arc]]
            if begin[arc]:
                at = int(arcs.frame[arc])
                _merge(target, (state, (token,)), _Word(0.0, 0.0, at, at + 1, 0.0, 0.0).longer(arcs, arc))
                continue
            for (point, tokens), word in sure.items():
                more = word.longer(arcs, arc)
                if token and not tokens:
                    more.start = int(arcs.frame[arc])
                _merge(target, (point, (*tokens, token) if token else tokens), more)
    if len(found) > MOST_ARCS:
        found = sorted(found, key=lambda one: -one[4])[:MOST_ARCS]
    return _numbered(found, last)


def _merge(words: dict[tuple[int, tuple[int, ...]], _Word], key: tuple[int, tuple[int, ...]], word: _Word) -> None:
    other = words.get(key)
    if other is None:
        words[key] = word
        return
    better = word if word.best > other.best else other
    better.total = float(np.logaddexp(word.total, other.total))
    words[key] = better


def _numbered(found: list[tuple[int, int, tuple[int, ...], _Word, float]], last: int) -> Lattice:
    points = sorted({0, last, *(arc[0] for arc in found), *(arc[1] for arc in found)})
    number = {state: at for at, state in enumerate(points)}
    words: dict[tuple[int, ...], int] = {}
    rows = sorted(
        (number[source], number[target], tokens, word, share) for source, target, tokens, word, share in found
    )
    ids = [words.setdefault(tokens, len(words)) for _, _, tokens, _, _ in rows]
    return Lattice(
        len(points),
        tuple(words),
        np.array([row[0] for row in rows], np.int32),
        np.array([row[1] for row in rows], np.int32),
        np.array(ids, np.int32),
        np.array([row[3].start for row in rows], np.int32),
        np.array([row[3].end for row in rows], np.int32),
        np.array([row[3].acoustic for row in rows], np.float32),
        np.array([row[3].language for row in rows], np.float32),
        np.exp([min(0.0, row[4]) for row in rows]).astype(np.float32),
    )


def _forward(arcs: FrameArcs) -> NDArray[np.float64]:
    """By state: the log-sum of all ways from the start."""
    sums = np.full(arcs.states, -np.inf)
    sums[0] = 0.0
    for source, target, score in zip(arcs.source.tolist(), arcs.target.tolist(), arcs.score.tolist(), strict=True):
        sums[target] = np.logaddexp(sums[target], sums[source] + score)
    return sums


def _backward(arcs: FrameArcs) -> NDArray[np.float64]:
    """By state: the log-sum of all ways to the end."""
    sums = np.full(arcs.states, -np.inf)
    sums[-1] = 0.0
    rows = zip(arcs.source[::-1].tolist(), arcs.target[::-1].tolist(), arcs.score[::-1].tolist(), strict=True)
    for source, target, score in rows:
        sums[source] = np.logaddexp(sums[source], sums[target] + score)
    return sums
