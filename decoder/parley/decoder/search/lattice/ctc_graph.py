"""What may be said, as it lies in frames: the CTC topology over a graph of tokens. Knows no model and no k2.

In every frame one label: a token's frames follow each other, between tokens there may be blanks, and between two of the
same token there must be one (Graves et al. 2006). A state of the token graph becomes one for "a blank was last" and one
for every token that leads into it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from parley.decoder.search.lattice.graph import FINAL, Graph, fingerprint

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from parley.decoder.text.vocabulary import Vocabulary

START = 0


@dataclass(frozen=True, slots=True, eq=False)
class TokenGraph:
    """Arc i goes from `source[i]` to `target[i]`, says `token[i]` and adds `score[i]`. starts, finals: states with the
    scores of beginning and of ending there."""

    states: int
    source: NDArray[np.int64]
    target: NDArray[np.int64]
    token: NDArray[np.int64]
    score: NDArray[np.float64]
    starts: dict[int, float]
    finals: dict[int, float]


def loop(tokens: Sequence[int]) -> TokenGraph:
    """Any tokens in any order."""
    zeros = np.zeros(len(tokens), np.int64)
    return TokenGraph(1, zeros, zeros, np.array(tokens, np.int64), zeros.astype(np.float64), {0: 0.0}, {0: 0.0})


def token_loop(vocabulary: Vocabulary, *, blank: int = 0) -> Graph:
    """Whatever the model can say: without a language model."""
    said = [at for at, piece in enumerate(vocabulary.pieces) if at != blank and not vocabulary.is_special(piece)]
    return named(ctc_graph(loop(said), blank=blank), vocabulary, kind="tokens")


def named(graph: Graph, vocabulary: Vocabulary, **about: object) -> Graph:
    """With what it was made from, and the tokens that it is over."""
    facts: Sequence[tuple[str, str]] = [(name, str(value)) for name, value in about.items()]
    return Graph(graph.arcs, graph.scores, fingerprint(vocabulary), tuple(facts))


def ctc_graph(graph: TokenGraph, *, blank: int = 0) -> Graph:
    size = int(graph.token.max(initial=0)) + 1
    lasts, into = np.unique(graph.target * size + graph.token, return_inverse=True)
    at, token = lasts // size, lasts % size  # of every "this token was last": the token graph's state, the token
    blanks = 1 + np.arange(graph.states)  # "a blank was last"; before them the start
    spoken = 1 + graph.states + np.arange(len(at))
    final = 1 + graph.states + len(at)
    target = spoken[into.ravel()]
    # From a state go its arcs once for every way to be in it ...
    counts = np.bincount(at, minlength=graph.states)
    firsts = np.cumsum(counts) - counts  # `at` is sorted
    ways = counts[graph.source]
    arc = np.repeat(np.arange(len(graph.source)), ways)
    way = np.repeat(firsts[graph.source] - (np.cumsum(ways) - ways), ways) + np.arange(len(arc))
    apart = token[way] != graph.token[arc]  # ... but the same token again only behind a blank
    arc, way = arc[apart], way[apart]
    parts = [
        _arcs(blanks[graph.source], target, graph.token, graph.token, graph.score),
        _arcs(spoken[way], target[arc], graph.token[arc], graph.token[arc], graph.score[arc]),
        _arcs(blanks, blanks, blank),
        _arcs(spoken, spoken, token),
        _arcs(spoken, blanks[at], blank),
        _arcs(START, START, blank),
    ]
    finals = np.full(graph.states, -np.inf)
    for state, score in graph.finals.items():
        finals[state] = score
    ends = np.flatnonzero(np.isfinite(finals))
    parts.append(_arcs(blanks[ends], final, FINAL, score=finals[ends]))
    ends = np.flatnonzero(np.isfinite(finals[at]))
    parts.append(_arcs(spoken[ends], final, FINAL, score=finals[at[ends]]))
    for state, score in graph.starts.items():
        first = np.flatnonzero(graph.source == state)
        parts.append(_arcs(START, target[first], graph.token[first], graph.token[first], graph.score[first] + score))
        if np.isfinite(finals[state]):
            parts.append(_arcs(START, final, FINAL, score=finals[state] + score))
    return Graph.of(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def _arcs(
    source: NDArray[np.int64] | int,
    target: NDArray[np.int64] | int,
    label: NDArray[np.int64] | int,
    token: NDArray[np.int64] | int = 0,
    score: NDArray[np.float64] | float = 0.0,
) -> tuple[NDArray[Any], ...]:
    return tuple(np.atleast_1d(column) for column in np.broadcast_arrays(source, target, label, token, score))
