"""Writes KenLM's binary format, version 5, with probing hash tables. Knows that format, not where a model came from.

All numbers little-endian. The header: a magic text and test values (SANITY), the parameters (order, buckets for each
entry, kind 0, words at the end, version 0) and the n-grams of each order, padded to 8 bytes. Then the vocabulary:
version 0, the number of words, and a table from a word's hash to its id; <unk> is 0 and not in the table.
Then unigrams by id, with one to spare; a table for each middle order; the table of the longest; last the words in the
order of their ids, each ended by a zero.

A table has buckets of a 64-bit key (0: empty) and a value. A key lies at `key % buckets` or behind, with no empty
bucket between, the first following the last. An n-gram's key comes from its ids, last word first.

The sign of a probability (all are 0 or below) says whether a longer n-gram ends with this one: it is off if so. A
back-off of +0.0 and not -0.0 says that a longer n-gram begins with this one. Readers stop where nothing longer is to
come, so these are not decoration.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import numpy.typing as npt

from parley.training.lm.errors import BadModel
from parley.training.lm.files import written_whole

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from parley.training.lm.model import Ints, NgramModel

SANITY = np.array(
    [(b"mmap lm http://kheafield.com/code format version 5\n", (0.0, 1.0, -0.5), (1, 0xFFFFFFFF, 0), 1)],
    np.dtype([("magic", "S56"), ("floats", "<f4", 3), ("words", "<u4", 3), ("one", "<u8")]),
)
PARAMETERS = np.dtype(
    {
        "names": ["order", "multiplier", "kind", "has_words", "version"],
        "formats": ["u1", "<f4", "<u4", "?", "<u4"],
        "offsets": [0, 4, 8, 12, 16],
        "itemsize": 20,
    }
)
VOCABULARY_HEADER = np.dtype([("version", "<u4"), ("bound", "<u4")])
VOCABULARY_ENTRY = np.dtype([("key", "<u8"), ("word", "<u4")])
UNIGRAM = np.dtype([("prob", "<f4"), ("backoff", "<f4")])
MIDDLE_ENTRY = np.dtype([("key", "<u8"), ("prob", "<f4"), ("backoff", "<f4")])
LONGEST_ENTRY = np.dtype([("key", "<u8"), ("prob", "<f4")])
SPARE = 1.5  # buckets for an entry, as KenLM has it

HASH_MULTIPLIER = np.uint64(8978948897894561157)
WORD_MULTIPLIER = np.uint64(17894857484156487943)
MURMUR_MULTIPLIER = np.uint64(0xC6A4A7935BD1E995)
MURMUR_SHIFT = np.uint64(47)

Keys = npt.NDArray[np.uint64]
Structs = npt.NDArray[Any]


def write_binary(model: NgramModel, path: Path, spare: float = SPARE) -> None:
    """Puts the file into place as a whole. `spare`: buckets for each entry of a table, more than 1."""
    if len(model.orders) < 2:
        raise BadModel("KenLM's format begins with order 2; this model has order 1")
    with written_whole(path) as partial, partial.open("wb") as file:
        _write(model, file, spare)


def binary_size(words: Sequence[str], counts: Sequence[int], spare: float = SPARE) -> int:
    """Bytes of the file that a model of these words and counts gives."""
    header = _padded(SANITY.nbytes + PARAMETERS.itemsize + 8 * len(counts))
    vocabulary = VOCABULARY_HEADER.itemsize + buckets(counts[0], spare) * VOCABULARY_ENTRY.itemsize
    unigrams = (counts[0] + 1) * UNIGRAM.itemsize
    middles = sum(buckets(count, spare) * MIDDLE_ENTRY.itemsize for count in counts[1:-1])
    longest = buckets(counts[-1], spare) * LONGEST_ENTRY.itemsize
    return header + vocabulary + unigrams + middles + longest + sum(len(word.encode()) + 1 for word in words)


def buckets(entries: int, spare: float) -> int:
    """In single precision, as readers compute it."""
    return max(entries + 1, int(np.float32(spare) * np.float32(entries)))


def word_hashes(words: Sequence[str]) -> Keys:
    """MurmurHash64A of the words' bytes with seed 0, all words of a length at once."""
    encoded = [word.encode() for word in words]
    lengths = np.fromiter(map(len, encoded), np.int64, len(encoded))
    hashes = np.zeros(len(words), np.uint64)
    for length in np.unique(lengths):
        chosen = np.flatnonzero(lengths == length)
        padded = np.zeros((len(chosen), (int(length) + 7) // 8 * 8), np.uint8)
        padded[:, :length] = np.frombuffer(b"".join(encoded[index] for index in chosen), np.uint8).reshape(
            padded.shape[0], length
        )
        blocks = padded.view("<u8")
        state = np.full(len(chosen), length, np.uint64) * MURMUR_MULTIPLIER
        for block in range(int(length) // 8):
            mixed = blocks[:, block] * MURMUR_MULTIPLIER
            mixed = (mixed ^ (mixed >> MURMUR_SHIFT)) * MURMUR_MULTIPLIER
            state = (state ^ mixed) * MURMUR_MULTIPLIER
        if length % 8:
            state = (state ^ blocks[:, -1]) * MURMUR_MULTIPLIER
        state = (state ^ (state >> MURMUR_SHIFT)) * MURMUR_MULTIPLIER
        hashes[chosen] = state ^ (state >> MURMUR_SHIFT)
    return hashes


def ngram_keys(rows: Ints) -> Keys:
    """(n-grams,) from (n-grams, order 2 or more) word ids, first word first."""
    ids = rows.astype(np.uint64)
    keys = ids[:, -1]
    for column in range(ids.shape[1] - 2, -1, -1):
        keys = (keys * HASH_MULTIPLIER) ^ ((ids[:, column] + np.uint64(1)) * WORD_MULTIPLIER)
    return keys


def probing_table(entries: Structs, size: int) -> Structs:
    """The entries, by their keys, in `size` buckets."""
    if np.any(entries["key"] == 0):
        raise BadModel("a key is 0, which marks an empty bucket: KenLM's format cannot hold this n-gram or word")
    ideal = (entries["key"] % np.uint64(size)).astype(np.int64)
    order = np.argsort(ideal, kind="stable")
    # Each lies where it should, or right behind the one before it.
    step = np.arange(len(order))
    places = step + np.maximum.accumulate(ideal[order] - step)
    table = np.zeros(size, entries.dtype)
    inside = places < size
    table[places[inside]] = entries[order[inside]]
    beyond = order[~inside]
    table[np.flatnonzero(table["key"] == 0)[: len(beyond)]] = entries[beyond]
    return table


def _write(model: NgramModel, file: BinaryIO, spare: float) -> None:
    counts = np.array(model.counts, "<u8")
    parameters = np.zeros(1, PARAMETERS)  # what lies between the fields is 0 too
    parameters[0] = (len(counts), spare, 0, True, 0)
    header = SANITY.tobytes() + parameters.tobytes() + counts.tobytes()
    file.write(header.ljust(_padded(len(header)), b"\0"))

    file.write(np.array([(0, len(model.words))], VOCABULARY_HEADER).tobytes())
    known = np.zeros(len(model.words) - 1, VOCABULARY_ENTRY)
    known["key"] = word_hashes(model.words[1:])
    known["word"] = np.arange(1, len(model.words))
    file.write(probing_table(known, buckets(len(model.words), spare)).tobytes())

    for index, ngrams in enumerate(model.orders):
        last = index == len(model.orders) - 1
        values = np.zeros(len(ngrams), UNIGRAM if index == 0 else LONGEST_ENTRY if last else MIDDLE_ENTRY)
        probs = np.minimum(ngrams.log10_probs, 0).astype("<f4")
        ends_longer = np.zeros(len(ngrams), bool)
        if not last:
            ends_longer[model.suffixes[index]] = True
            begins_longer = np.zeros(len(ngrams), bool)
            begins_longer[model.orders[index + 1].contexts] = True
            backoffs = ngrams.log10_backoffs.astype("<f4")
            values["backoff"] = np.where(backoffs == 0, np.where(begins_longer, 0.0, -0.0), backoffs)
        values["prob"] = np.copysign(probs, np.where(ends_longer, 1.0, -1.0))
        if index == 0:
            file.write(values.tobytes() + np.zeros(1, UNIGRAM).tobytes())
            continue
        values["key"] = ngram_keys(model.rows(index + 1))
        file.write(probing_table(values, buckets(len(ngrams), spare)).tobytes())
    file.write("".join(f"{word}\0" for word in model.words).encode())


def _padded(size: int) -> int:
    return (size + 7) // 8 * 8
