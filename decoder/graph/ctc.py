"""What may be said, as it lies in frames: the CTC topology over a graph of tokens. Knows no model and no k2.

In every frame one label: a token's frames follow each other, between tokens there may be blanks, and between two of the
same token there must be one (Graves et al. 2006). A state of the token graph becomes one for "a blank was last" and one
for every token that leads into it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from decoder.graph.graph import FINAL, Graph

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from decoder.graph.tokens import TokenGraph

START = 0


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
