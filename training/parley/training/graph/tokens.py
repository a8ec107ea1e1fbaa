"""Words spelled: a word acceptor becomes one of tokens. Knows tokens as numbers, not frames.

The words that go from a state share their first tokens, as a tree; a word's score is given out along its tokens as
early as it is certain (the best score of the words below a node is spent on the way to it), so that a search knows
early what is unlikely. Which words were said is told by the tokens themselves: they mark where a word begins.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from parley.decoder.search.lattice.ctc_graph import TokenGraph

if TYPE_CHECKING:
    from collections.abc import Sequence

    from parley.training.graph.words import WordFsa


def spelled(fsa: WordFsa, spellings: Sequence[tuple[int, ...] | None]) -> TokenGraph:
    """spellings: by word, one token or more; a word without one must not be on any arc."""
    tree = _Tree(spellings)
    inner = tree.first[fsa.word + 1] - tree.first[fsa.word]  # nodes of each arc's word, its last not among them
    arc = np.repeat(np.arange(len(fsa.word)), inner)
    place = np.arange(len(arc)) - np.repeat(np.cumsum(inner) - inner, inner)
    node = tree.nodes[tree.first[fsa.word[arc]] + place]
    # A state of the new graph for every old one and, behind them, for every node of every old one's tree.
    keys, where = np.unique(fsa.source[arc] * tree.count + node, return_inverse=True)
    best = np.full(len(keys), -np.inf)
    np.maximum.at(best, where, fsa.score[arc])
    history, node = keys // tree.count, keys % tree.count
    above = np.searchsorted(keys, history * tree.count + tree.parent[node])
    deep = tree.parent[node] >= 0
    spent = best - np.where(deep, best[np.where(deep, above, 0)], 0.0)
    into_source = np.where(deep, fsa.states + above, history)
    last = np.zeros(len(fsa.word), np.int64)  # of each arc's word: the new state before its last token
    last[:] = fsa.source
    behind = np.flatnonzero(inner > 0)
    ends = np.cumsum(inner)[behind] - 1
    last[behind] = fsa.states + where.ravel()[ends]
    left = fsa.score.copy()
    left[behind] -= best[where.ravel()[ends]]
    return TokenGraph(
        states=fsa.states + len(keys),
        source=np.concatenate((into_source, last)),
        target=np.concatenate((fsa.states + np.arange(len(keys)), fsa.target)),
        token=np.concatenate((tree.token[node], tree.last[fsa.word])),
        score=np.concatenate((spent, left)),
        starts=dict(fsa.starts),
        finals=dict(fsa.finals),
    )


class _Tree:
    """All words' tokens but their last, as a tree. The nodes of word w are `nodes[first[w] : first[w + 1]]`."""

    def __init__(self, spellings: Sequence[tuple[int, ...] | None]) -> None:
        known: dict[tuple[int, int], int] = {}  # above and token -> node
        nodes, first, last = [], [0], []
        for spelling in spellings:
            at = -1
            for token in (spelling or ())[:-1]:
                at = known.setdefault((at, token), len(known))
                nodes.append(at)
            first.append(len(nodes))
            last.append(spelling[-1] if spelling else -1)
        self.count = max(1, len(known))
        self.nodes, self.first = np.array(nodes, np.int64), np.array(first, np.int64)
        self.last = np.array(last, np.int64)
        self.parent = np.array([above for above, _ in known], np.int64)
        self.token = np.array([token for _, token in known], np.int64)
