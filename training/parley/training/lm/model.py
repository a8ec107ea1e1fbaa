"""A back-off n-gram model in memory, as arrays. Knows ids and log10 probabilities, no file and no smoothing.

Each order is sorted by (context, word), where the context is the index of the n-gram without its last word in the order
below. Every n-gram's context and suffix (the n-gram without its first word) are in the model: one that a file left out
comes in with the probability that backing off gives, which changes no probability at all.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Sequence

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

UNKNOWN, SENTENCE_START, SENTENCE_END = "<unk>", "<s>", "</s>"
WORD_BITS = 32
UNSEEN_LOG10 = -100.0  # <unk> where a file has none, as KenLM has it


@dataclass(frozen=True, eq=False)
class Ngrams:
    """All n-grams of one order. In the first, contexts are 0 and words count up from 0."""

    contexts: Ints
    words: Ints
    log10_probs: Floats
    log10_backoffs: Floats

    def __len__(self) -> int:
        return len(self.words)

    @cached_property
    def keys(self) -> Ints:
        """Context and word in one number, ascending."""
        return (self.contexts << WORD_BITS) | self.words

    def find(self, contexts: Ints, words: Ints) -> Ints:
        """Their indices here, -1 for those that are not."""
        wanted = (contexts << WORD_BITS) | words
        places = np.minimum(np.searchsorted(self.keys, wanted), len(self) - 1)
        return np.where(self.keys[places] == wanted, places, -1) if len(self) else np.full(len(wanted), -1)


@dataclass(frozen=True, eq=False)
class NgramModel:
    """Word 0 is <unk>; `orders[0]` has every word."""

    words: tuple[str, ...]
    orders: tuple[Ngrams, ...]

    @property
    def counts(self) -> tuple[int, ...]:
        return tuple(map(len, self.orders))

    @cached_property
    def ids(self) -> dict[str, int]:
        return {word: index for index, word in enumerate(self.words)}

    @cached_property
    def suffixes(self) -> tuple[Ints, ...]:
        """For each order from the second on, the index of the n-gram without its first word in the order below."""
        found = [self.orders[1].words]
        for lower, ngrams in zip(self.orders[1:], self.orders[2:], strict=False):
            found.append(lower.find(found[-1][ngrams.contexts], ngrams.words))
        return tuple(found)

    def rows(self, order: int) -> Ints:
        """(n-grams, order) word ids, first word first."""
        columns: list[Ints] = []
        index = np.arange(len(self.orders[order - 1]))
        for ngrams in reversed(self.orders[:order]):
            columns.append(ngrams.words[index])
            index = ngrams.contexts[index]
        return np.stack(columns[::-1], axis=1)

    def lower_log10_probs(self, order: int) -> Floats:
        """What backing off would begin with: the probability of each n-gram's suffix."""
        return self.orders[order - 2].log10_probs[self.suffixes[order - 2]]


@dataclass(frozen=True, eq=False)
class Rows:
    """N-grams of one order as a file or a count has them: in any order, (n-grams, order) word ids."""

    ids: Ints
    log10_probs: Floats
    log10_backoffs: Floats


def assemble(words: Sequence[str], orders: Sequence[Rows]) -> NgramModel:
    """Makes <unk> word 0, sorts, puts in the contexts and suffixes that are missing, and links them.

    `orders[0]` has every word, and no row comes twice.
    """
    words, orders = _unknown_first(words, orders)
    tables = _completed(list(orders))
    unigrams = tables[0]
    built = [Ngrams(np.zeros(len(words), np.int64), unigrams.ids[:, 0], unigrams.log10_probs, unigrams.log10_backoffs)]
    for lower, table in pairwise(tables):
        contexts = row_places(lower.ids, table.ids[:, :-1])
        ngrams = Ngrams(contexts, table.ids[:, -1], table.log10_probs.copy(), table.log10_backoffs)
        built.append(ngrams)
        missing = np.isnan(ngrams.log10_probs)
        suffixes = row_places(lower.ids, table.ids[missing, 1:])
        below = built[-2]
        ngrams.log10_probs[missing] = below.log10_backoffs[contexts[missing]] + below.log10_probs[suffixes]
    return NgramModel(tuple(words), tuple(built))


def row_codes(ids: npt.NDArray[np.integer]) -> Ints:
    """A number for each row: equal for equal rows, ascending as the rows are."""
    codes = ids[:, 0].astype(np.int64)
    width = limit = int(ids.max(initial=0)) + 1
    for column in range(1, ids.shape[1]):
        if limit * width > np.iinfo(np.int64).max:
            distinct, codes = np.unique(codes, return_inverse=True)
            codes, limit = codes.reshape(-1).astype(np.int64), len(distinct)
        codes = codes * width + ids[:, column]
        limit *= width
    return codes


def row_places(table: npt.NDArray[np.integer], rows: npt.NDArray[np.integer]) -> Ints:
    """Where each row stands in the table, which is sorted and has them all."""
    codes = row_codes(np.concatenate([table, rows]))
    return np.searchsorted(codes[: len(table)], codes[len(table) :])


def _unknown_first(words: Sequence[str], orders: Sequence[Rows]) -> tuple[Sequence[str], Sequence[Rows]]:
    if words[0] == UNKNOWN:
        return words, orders
    # Some tools write it in capitals.
    found = next((index for index, word in enumerate(words) if word.lower() == UNKNOWN), None)
    others = [index for index in range(len(words)) if index != found]
    renumbered = np.zeros(len(words), np.int64)
    renumbered[others] = np.arange(1, len(others) + 1)
    tables = [Rows(renumbered[rows.ids], rows.log10_probs, rows.log10_backoffs) for rows in orders]
    if found is None:
        first = tables[0]
        tables[0] = Rows(
            np.concatenate([np.zeros((1, 1), np.int64), first.ids]),
            np.concatenate([[UNSEEN_LOG10], first.log10_probs]),
            np.concatenate([[0.0], first.log10_backoffs]),
        )
    return [UNKNOWN, *(words[index] for index in others)], tables


def _completed(tables: list[Rows]) -> list[Rows]:
    """Sorted, with rows of NaN for contexts and suffixes that were missing."""
    for above in range(len(tables) - 1, 1, -1):
        lower = tables[above - 1]
        longer = tables[above].ids
        needed = np.concatenate([longer[:, :-1], longer[:, 1:]])
        codes = row_codes(np.concatenate([lower.ids, needed]))
        known, wanted = codes[: len(lower.ids)], codes[len(lower.ids) :]
        distinct, first = np.unique(wanted, return_index=True)
        absent = first[~np.isin(distinct, known)]
        tables[above - 1] = Rows(
            np.concatenate([lower.ids, needed[absent]]),
            np.concatenate([lower.log10_probs, np.full(len(absent), np.nan)]),
            np.concatenate([lower.log10_backoffs, np.zeros(len(absent))]),
        )
    return [_sorted(table) for table in tables]


def _sorted(table: Rows) -> Rows:
    order = np.argsort(row_codes(table.ids), kind="stable")
    return Rows(table.ids[order], table.log10_probs[order], table.log10_backoffs[order])
