"""Counts the n-grams of sentences. Knows words and ids, not where the sentences come from and not what smoothing is.

Sentences go to a temporary file of ids first: the vocabulary is chosen when all of them have been seen. Memory goes
with the number of different n-grams, not with the length of the text.
"""

from __future__ import annotations

import tempfile
from array import array
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from parley.training.lm.errors import BadModel
from parley.training.lm.model import SENTENCE_END, SENTENCE_START, UNKNOWN, Ints, row_codes

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

UNKNOWN_ID, START_ID, END_ID = 0, 1, 2
SPECIAL = (UNKNOWN, SENTENCE_START, SENTENCE_END)
BATCH = 1 << 21  # tokens counted at once

Ids = npt.NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class Table:
    """N-grams of one order, sorted: (n-grams, order) word ids, first word first, and how often each came."""

    ids: Ids
    counts: Ints


@dataclass(frozen=True, eq=False)
class Counts:
    """`tables[-1]` has the longest n-grams as they came. `tables[n - 1]` below it has n-grams as Kneser and Ney count
    them: after how many different words each came. Nothing stands before those that begin a sentence: they are counted
    as they came."""

    words: tuple[str, ...]
    tables: tuple[Table, ...]
    sentences: int
    tokens: int
    unknown: int


def count_ngrams(
    sentences: Iterable[list[str]], order: int, min_count: int = 1, max_words: int | None = None
) -> Counts:
    """Words that came less than `min_count` times are <unk>, and so are the rarest beyond `max_words`."""
    with tempfile.TemporaryFile() as file:
        seen, spelled, lines = _spool(sentences, file)
        words, renumbered = _vocabulary(seen, spelled, min_count, max_words)
        pending = {length: _Merged() for length in range(2, order + 1)}
        for tokens in _batches(file, renumbered):
            _count(tokens, pending)
    tables = [pending[order].table()]
    if not len(tables[0].ids):
        raise BadModel(f"no sentence has {order - 2} words or more, which order {order} needs")
    for length in range(order - 1, 1, -1):
        tables.append(_adjusted(tables[-1], pending[length].table()))
    tables.append(_predecessors(tables[-1], len(words)))
    total = int(seen.sum())
    return Counts(words, tuple(tables[::-1]), lines, total, total - int(seen[renumbered[3:] != UNKNOWN_ID].sum()))


def _spool(sentences: Iterable[list[str]], file: IO[bytes]) -> tuple[Ints, list[str], int]:
    """Writes <s> words </s> for each, ids in the order of first sight. Returns how often each word came, and how it is
    spelled."""
    ids = {word: index for index, word in enumerate(SPECIAL)}
    batch = array("i")
    totals = np.zeros(0, np.int64)
    lines = 0
    for words in sentences:
        lines += 1
        batch.append(START_ID)
        batch.extend([ids.setdefault(word, len(ids)) for word in words])
        batch.append(END_ID)
        if len(batch) >= BATCH:
            totals = _written(batch, file, totals, len(ids))
            batch = array("i")
    if not lines:
        raise BadModel("the text has no sentence: expected one a line")
    totals = _written(batch, file, totals, len(ids))
    return totals[3:], list(ids)[3:], lines


def _written(batch: array[int], file: IO[bytes], totals: Ints, words: int) -> Ints:
    file.write(batch.tobytes())
    sums = np.bincount(np.frombuffer(batch, np.int32), minlength=words)
    sums[: len(totals)] += totals
    return sums


def _vocabulary(seen: Ints, spelled: list[str], min_count: int, max_words: int | None) -> tuple[tuple[str, ...], Ids]:
    """The words by falling count, and for each first id its last."""
    order = np.argsort(-seen, kind="stable")
    order = order[seen[order] >= min_count][:max_words]
    renumbered = np.zeros(len(seen) + 3, np.int32)
    renumbered[:3] = np.arange(3)
    renumbered[order + 3] = np.arange(3, len(order) + 3)
    return (*SPECIAL, *(spelled[index] for index in order)), renumbered


def _batches(file: IO[bytes], renumbered: Ids) -> Iterator[Ids]:
    """Whole sentences, as the vocabulary has them."""
    file.seek(0)
    rest = np.zeros(0, np.int32)
    while data := file.read(BATCH * 4):
        tokens = np.concatenate([rest, renumbered[np.frombuffer(data, np.int32)]])
        end = int(np.flatnonzero(tokens == END_ID)[-1]) + 1 if np.any(tokens == END_ID) else 0
        yield tokens[:end]
        rest = tokens[end:]


def _count(tokens: Ids, pending: dict[int, _Merged]) -> None:
    """The n-grams of the highest order, and of the orders below (from the second on) those that begin a sentence."""
    places = np.arange(len(tokens))
    into = places - np.maximum.accumulate(np.where(tokens == START_ID, places, 0))
    highest = max(pending)
    for order, merged in pending.items():
        ends = np.flatnonzero(into >= order - 1 if order == highest else into == order - 1)
        rows = np.stack([tokens[ends - back] for back in range(order - 1, -1, -1)], axis=1)
        merged.add(rows, np.ones(len(rows), np.int64))


class _Merged:
    """Adds up rows. Parts wait until they are as large as what is merged already, so each row is merged few times."""

    def __init__(self) -> None:
        self._parts: list[Table] = []

    def add(self, ids: Ids, counts: Ints) -> None:
        self._parts.append(_summed(ids, counts))
        while len(self._parts) > 1 and 2 * len(self._parts[-1].ids) >= len(self._parts[-2].ids):
            self._join()

    def table(self) -> Table:
        while len(self._parts) > 1:
            self._join()
        return self._parts[0]

    def _join(self) -> None:
        last, before = self._parts.pop(), self._parts.pop()
        self._parts.append(
            _summed(np.concatenate([before.ids, last.ids]), np.concatenate([before.counts, last.counts]))
        )


def _summed(ids: Ids, counts: Ints) -> Table:
    _, first, place = np.unique(row_codes(ids), return_index=True, return_inverse=True)
    return Table(ids[first], np.bincount(place.reshape(-1), counts, len(first)).astype(np.int64))


def _adjusted(longer: Table, at_start: Table) -> Table:
    """Each row of `longer` stands for another word before its suffix."""
    suffixes = longer.ids[:, 1:]
    both = np.concatenate([suffixes, at_start.ids])
    return _summed(both, np.concatenate([np.ones(len(suffixes), np.int64), at_start.counts]))


def _predecessors(bigrams: Table, vocabulary: int) -> Table:
    """Of every word, after how many different ones it came."""
    counts = np.bincount(bigrams.ids[:, 1], minlength=vocabulary)
    return Table(np.arange(vocabulary, dtype=np.int32)[:, None], counts)
