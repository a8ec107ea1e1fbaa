"""A word n-gram language model in KenLM's probing format, mapped into memory. Knows words, not tokens or beams.

The file stays where it is: what is read of it is the system's page cache, shared by all decoders and processes. What is
made of it at loading is a tree of its words' bytes, so that a search can judge a word before it is whole.

An n-gram's key is a hash of its words, the last word first.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from parley.decoder.search import kenlm
from parley.decoder.search.compiled import compiled
from parley.decoder.search.word_tree import word_tree
from parley.decoder.values import MOST_CONTEXT

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

LN_10 = math.log(10)


class Tables(NamedTuple):
    """What compiled code sees. unigrams: by word id. two, three, four: n-grams of those orders below the highest,
    longest: those of the highest; hash tables all. Of the words' tree, breadth first: the children of node n are
    first[n] to first[n + 1], a byte each; word: id of the word that ends there, -1 none; ahead: the log-probability,
    alone, of the likeliest word to come from there."""

    order: int
    unigrams: NDArray[np.void]
    two: NDArray[np.void]
    three: NDArray[np.void]
    four: NDArray[np.void]
    longest: NDArray[np.void]
    first: NDArray[np.int32]
    label: NDArray[np.uint8]
    word: NDArray[np.int32]
    ahead: NDArray[np.float64]


class LanguageModel:
    """Read-only; its memory is free when the last who holds it lets go."""

    def __init__(self, tables: Tables, counts: tuple[int, ...], lower: bool, file_bytes: int = 0) -> None:
        self.tables, self.counts, self.lower, self.file_bytes = tables, counts, lower, file_bytes
        self.start = self.index("<s>")

    @classmethod
    def read(cls, path: Path) -> LanguageModel:
        """Maps a file. Raises ModelError."""
        file = kenlm.read(path)
        two, three, four = file.middles
        tree = word_tree(file.words, LN_10 * -np.abs(file.unigrams["prob"][: len(file.words)].astype(np.float64)))
        lower = not any(word != word.lower() for word in file.words[1:])
        tables = Tables(file.order, file.unigrams, two, three, four, file.longest, *tree)
        return cls(tables, file.counts, lower, file.size)

    @property
    def order(self) -> int:
        return self.tables.order

    def index(self, word: str) -> int:
        """The word's id; 0: not known."""
        return index(self.tables, np.frombuffer(word.encode(), np.uint8))

    def ids(self, words: Sequence[str]) -> list[int]:
        """Of words as a network writes them."""
        return [self.index(word.lower() if self.lower else word) for word in words]

    def context(self, words: Sequence[str]) -> NDArray[np.int32]:
        """What a search goes on from behind these words: ids, the last first. No words: a sentence's start."""
        ids = self.ids(words[-MOST_CONTEXT:])
        ids = ids[::-1] if len(ids) >= self.order - 1 else [*ids[::-1], self.start]
        return np.array(ids[: self.order - 1], np.int32)


def no_language_model() -> LanguageModel:
    """One that knows no words, for a search without."""
    none = kenlm.no_table(kenlm.MIDDLE)
    unigrams, longest = kenlm.no_table(kenlm.UNIGRAM), kenlm.no_table(kenlm.LONGEST)
    return LanguageModel(Tables(0, unigrams, none, none, none, longest, *word_tree([], np.zeros(0))), (), lower=True)


@compiled
def follow(tables: Tables, node: int, byte: int) -> int:
    """The words' tree one byte on; -1: no word goes on so."""
    if node < 0:
        return -1
    for child in range(tables.first[node], tables.first[node + 1]):
        if tables.label[child] == byte:
            return child
    return -1


@compiled
def index(tables: Tables, word: NDArray[np.uint8]) -> int:
    """The id of a word of these bytes; 0: not known."""
    node = 0
    for byte in word:
        node = follow(tables, node, byte)
    return max(0, tables.word[node]) if node >= 0 else 0


@compiled
def _combine(key: int, word: int) -> np.uint64:
    mixed: np.uint64 = np.uint64(key) * np.uint64(8978948897894561157)
    mixed ^= np.uint64(1 + word) * np.uint64(17894857484156487943)
    return mixed


@compiled
def _find(table: NDArray[np.void], key: np.uint64) -> int:
    """The place of a key; -1: not there."""
    at: int = np.int64(key % np.uint64(len(table)))  # a plain number here would make floats of the rest
    for _ in range(len(table)):  # of a damaged file it may be full
        if table[at].key == key:
            return at
        if table[at].key == 0:
            return -1
        at = at + 1 if at + 1 < len(table) else 0
    return -1


@compiled
def _middle(tables: Tables, order: int, key: np.uint64) -> tuple[bool, float, float]:
    """Whether there is an n-gram of an order below the highest; its probability and back-off, log10."""
    if order == 2:
        at = _find(tables.two, key)
        return at >= 0, tables.two[at].prob, tables.two[at].backoff
    if order == 3:
        at = _find(tables.three, key)
        return at >= 0, tables.three[at].prob, tables.three[at].backoff
    at = _find(tables.four, key)
    return at >= 0, tables.four[at].prob, tables.four[at].backoff


@compiled
def word_score(tables: Tables, context: NDArray[np.int32], word: int) -> float:
    """The natural logarithm of a word's probability behind `context`: word ids, the last first, -1 for none."""
    prob = -abs(tables.unigrams[word].prob)
    matched, key = 0, np.uint64(word)
    while matched < tables.order - 1 and context[matched] >= 0:
        key = _combine(key, context[matched])
        if matched + 2 == tables.order:
            at = _find(tables.longest, key)
            if at < 0:
                break
            prob = -abs(tables.longest[at].prob)
        else:
            found, its_prob, _ = _middle(tables, matched + 2, key)
            if not found:
                break
            prob = -abs(its_prob)
        matched += 1
    # What was longer than the longest n-gram found costs its back-off.
    key = np.uint64(0)
    for length in range(1, tables.order):
        if context[length - 1] < 0:
            break
        if length == 1:
            key, backoff = np.uint64(context[0]), tables.unigrams[context[0]].backoff
        else:
            key = _combine(key, context[length - 1])
            found, _, backoff = _middle(tables, length, key)
            if not found:
                break
        if length > matched:
            prob += backoff
    return float(prob * LN_10)
