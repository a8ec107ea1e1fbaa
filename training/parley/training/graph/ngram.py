"""A back-off language model as a word acceptor. Knows n-grams, not tokens.

A state is a history; from it go the n-grams that continue it. Where a history backs off, k2 needs a word on every arc,
so what would be an arc without a word is walked in advance: an n-gram's arc leads into the longest history that its
words end with, and, with the back-offs on the way added, into each shorter one beside it. The score of a sentence is
that of its best way through, as with Kaldi's and icefall's graphs: an n-gram that scores less than backing off does
counts as that. A sum over ways, as a posterior is, has both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from parley.training.graph.words import GrammarError, WordFsa

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from parley.training.graph.arpa import Arpa

BEGIN, END, UNKNOWN = ("<s>", "<S>"), ("</s>", "</S>"), ("<unk>", "<UNK>")

EMPTY = 0  # the node of no words at all


def word_fsa(arpa: Arpa, known: NDArray[np.bool_] | None = None) -> WordFsa:
    """known: by word id, whether it may be said; n-grams with others are left out. Raises GrammarError."""
    words = arpa.words
    begin, end = _one(words, BEGIN), _one(words, END)
    if end is None:
        raise GrammarError("got a language model without </s>, expected one that knows how sentences end")
    may = np.ones(len(words), bool) if known is None else known.copy()
    for special in (*BEGIN, *END, *UNKNOWN):
        if special in words:
            may[words.index(special)] = False
    nodes = _Nodes(arpa)
    usable, continued = _histories(nodes, may, begin, end)
    state = np.cumsum(continued) - 1
    grams = np.flatnonzero(usable[nodes.prefix] & may[nodes.word] & np.isfinite(nodes.log_prob))
    grams = grams[grams != EMPTY]
    if not len(grams):
        raise GrammarError("got a language model without a word that may be said, expected one or more")
    gram, target, added = _backed_off(nodes, grams, continued)
    ends = np.flatnonzero((nodes.word == end) & usable[nodes.prefix] & np.isfinite(nodes.log_prob))
    ends = ends[ends != EMPTY]
    return WordFsa(
        words=words,
        states=int(continued.sum()),
        source=state[nodes.prefix[gram]],
        target=state[target],
        word=nodes.word[gram],
        score=nodes.log_prob[gram].astype(np.float64) + added,
        starts=_starts(nodes, begin, continued, state),
        finals=dict(zip(state[nodes.prefix[ends]].tolist(), nodes.log_prob[ends].tolist(), strict=True)),
    )


def _histories(
    nodes: _Nodes, may: NDArray[np.bool_], begin: int | None, end: int
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """By node: whether its words may be said, and whether something may be said behind them."""
    usable, continued = np.zeros(nodes.count, bool), np.zeros(nodes.count, bool)
    usable[EMPTY] = continued[EMPTY] = True
    inside, last = may.copy(), may.copy()
    if begin is not None:
        inside[begin] = True  # as the first word
    last[end] = True
    for rows in nodes.by_order:
        usable[rows] = usable[nodes.prefix[rows]] & inside[nodes.word[rows]]
        said = usable[nodes.prefix[rows]] & last[nodes.word[rows]] & np.isfinite(nodes.log_prob[rows])
        continued[nodes.prefix[rows[said]]] = True
        inside = may
    return usable, continued


def _backed_off(
    nodes: _Nodes, grams: NDArray[np.int64], continued: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """The n-grams' arcs: the n-gram, the history that it leads to, and what the way there costs. An n-gram leads to
    each end of its words that something may be said behind, the longest first."""
    here, before, which = grams, np.zeros(len(grams)), np.arange(len(grams))
    found: list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]] = []
    while len(here):
        history = continued[here]
        found.append((which[history], here[history], before[history]))
        before = before + nodes.backoff[here]
        left = here != EMPTY
        here, before, which = nodes.suffix[here[left]], before[left], which[left]
    gram, target, added = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return grams[gram], target, added


def _one(words: tuple[str, ...], names: tuple[str, ...]) -> int | None:
    return next((words.index(name) for name in names if name in words), None)


def _starts(
    nodes: _Nodes, begin: int | None, continued: NDArray[np.bool_], state: NDArray[np.int64]
) -> dict[int, float]:
    starts, score = dict[int, float](), 0.0
    node = EMPTY if begin is None else int(nodes.find(np.array([EMPTY]), np.array([begin]))[0])
    while True:
        if continued[node]:
            starts[int(state[node])] = score
        if node == EMPTY:
            return starts
        score += float(nodes.backoff[node])
        node = int(nodes.suffix[node])


class _Nodes:
    """Every n-gram a node, under the node of its words but the last (`prefix`); node 0 is no words at all.

    suffix: the node of the longest end of its words that the model has.
    """

    def __init__(self, arpa: Arpa) -> None:
        self._size = len(arpa.words)
        self.count = 1 + sum(len(grams.words) for grams in arpa.orders)
        self.prefix = np.zeros(self.count, np.int64)
        self.word = np.zeros(self.count, np.int64)
        self.log_prob = np.concatenate(([-np.inf], *(grams.log_prob for grams in arpa.orders)))
        self.backoff = np.concatenate(([0.0], *(grams.backoff for grams in arpa.orders))).astype(np.float64)
        self.suffix = np.zeros(self.count, np.int64)
        self.by_order: list[NDArray[np.int64]] = []
        self._keys, self._nodes = np.zeros(0, np.int64), np.zeros(0, np.int64)
        for order, grams in enumerate(arpa.orders, 1):
            first = 1 + sum(len(rows) for rows in self.by_order)
            rows = np.arange(first, first + len(grams.words))
            prefix = np.zeros(len(rows), np.int64)
            for column in range(order - 1):
                prefix = self.find(prefix, grams.words[:, column])
            if (prefix < 0).any():
                missing = grams.words[int(np.argmax(prefix < 0)), :-1]
                text = " ".join(arpa.words[word] for word in missing)
                raise GrammarError(
                    f"got a {order}-gram that begins with {text!r}, expected that among the shorter ones"
                )
            self.prefix[rows], self.word[rows] = prefix, grams.words[:, -1]
            keys = np.concatenate((self._keys, prefix * self._size + self.word[rows]))
            sort = np.argsort(keys, kind="stable")
            self._keys, self._nodes = keys[sort], np.concatenate((self._nodes, rows))[sort]
            if (self._keys[1:] == self._keys[:-1]).any():
                raise GrammarError(f"got a {order}-gram twice, expected every one once")
            self.by_order.append(rows)
            if order > 1:
                self.suffix[rows] = self._suffixes(rows)

    def find(self, prefix: NDArray[np.int64], word: NDArray[np.integer]) -> NDArray[np.int64]:
        """The node of a node's words and one more; -1 if there is none."""
        if not len(self._keys):
            return np.full(len(prefix), -1)
        key = prefix * self._size + word
        at = np.minimum(np.searchsorted(self._keys, key), len(self._keys) - 1)
        return np.where((self._keys[at] == key) & (prefix >= 0), self._nodes[at], -1)

    def _suffixes(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        shorter, found = self.prefix[rows], np.full(len(rows), -1)
        while (open_ := np.flatnonzero(found < 0)).size:
            # Without words left nothing matches but the unigram, and every word has one.
            shorter[open_] = self.suffix[shorter[open_]]
            found[open_] = self.find(shorter[open_], self.word[rows[open_]])
        return found
