"""What a graph says of a sentence. Knows tokens and scores, no frames: k2 is what searches."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from parley.decoder.search.lattice.graph import FINAL, Graph

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


def score_of(graph: Graph, tokens: Sequence[int]) -> float | None:
    """Of these tokens in a graph, by their best way; None if it does not accept them."""
    first = np.searchsorted(graph.arcs[:, 0], np.arange(graph.states + 1))
    found = {0: 0.0}
    for token in (*tokens, FINAL):
        after: dict[int, float] = {}
        for state, score in _silently(graph, found, first).items():
            for arc in range(first[state], first[state + 1]):
                _, target, label, said = graph.arcs[arc].tolist()
                if label == FINAL if token == FINAL else said == token:
                    after[target] = max(score + float(graph.scores[arc]), after.get(target, -np.inf))
        found = after
    return max(found.values(), default=None)


def _silently(graph: Graph, found: dict[int, float], first: NDArray[np.int64]) -> dict[int, float]:
    """With the states that can be reached from these without a token."""
    best, waiting = dict(found), list(found)
    while waiting:
        state = waiting.pop()
        for arc in range(first[state], first[state + 1]):
            _, target, label, said = graph.arcs[arc].tolist()
            if label != FINAL and not said and best[state] > best.get(target, -np.inf):
                best[target] = best[state]  # such arcs score nothing
                waiting.append(target)
    return best
