"""Reads the binary models of pocketsphinx ("Trie Language Model"). Knows that format, not what becomes of the model.

Little-endian, in this order: the magic text; the order, one byte; n-grams of each order, uint32. Four bytes nobody
uses, then tables of 2**16 float32 values: probabilities and back-offs of each middle order, probabilities of the
longest. Unigrams with one more at the end: float32 probability, float32 back-off, uint32 first child. Each middle
order with one more at the end: word, back-off, probability (both as places in their tables) and first child, packed to
the bit; the longest the same with word and probability only. Last a uint32 length and the words, each ended by a zero.

The trie is reversed: a child stands one word further left than its parent. Values are logarithms to the base 1.0001.
"""

from __future__ import annotations

import importlib.util
import math
import struct
from pathlib import Path

import numpy as np
import numpy.typing as npt

from parley.training.lm.errors import BadModel
from parley.training.lm.model import Ints, NgramModel, Rows, assemble

MAGIC = b"Trie Language Model"
BASE_LOG10 = math.log10(1.0001)
QUANTUM_BITS = 16
TABLE = 1 << QUANTUM_BITS
PADDING = 8  # bytes behind each packed array, so that its last word may be read as a whole
UNIGRAM = np.dtype([("prob", "<f4"), ("backoff", "<f4"), ("child", "<u4")])

Bytes = npt.NDArray[np.uint8]


def installed_model() -> Path:
    """The English model that the pocketsphinx package carries, found without importing the package."""
    found = importlib.util.find_spec("pocketsphinx")
    if found is None or found.origin is None:
        raise BadModel(
            "pocketsphinx is not installed, whose wheel carries the English model: pip install 'parley-asr[train]'"
        )
    return Path(found.origin).parent / "model" / "en-us" / "en-us.lm.bin"


def read_sphinx(path: Path) -> NgramModel:
    """The whole model, with <unk> as word 0."""
    data = np.fromfile(path, np.uint8)
    if data[: len(MAGIC)].tobytes() != MAGIC:
        raise BadModel(f"{path}: begins with {data[: len(MAGIC)].tobytes()!r}, a pocketsphinx model with {MAGIC!r}")
    try:
        return _read(data)
    except (struct.error, IndexError, ValueError) as error:
        raise BadModel(f"{path}: {len(data)} bytes, cut short or damaged ({error})") from error


def _read(data: Bytes) -> NgramModel:
    place = len(MAGIC)
    order = int(data[place])
    counts = struct.unpack_from(f"<{order}I", data.data, place + 1)
    if order < 2:
        raise BadModel(f"order {order}, need 2 or more")
    place += 1 + 4 * order + 4
    tables = []
    for _ in range(2 * (order - 2) + 1):
        tables.append(np.frombuffer(data, "<f4", TABLE, place) * BASE_LOG10)
        place += 4 * TABLE
    unigrams = np.frombuffer(data, UNIGRAM, counts[0] + 1, place)
    place += unigrams.nbytes

    ends = np.arange(counts[0], dtype=np.int64)[:, None]
    rows = [Rows(ends, unigrams["prob"][:-1] * BASE_LOG10, unigrams["backoff"][:-1] * BASE_LOG10)]
    first_child = unigrams["child"].astype(np.int64)
    word_bits = counts[0].bit_length()
    for index, count in enumerate(counts[1:], start=1):
        longest = index == order - 1
        widths = [word_bits, QUANTUM_BITS]
        if not longest:
            widths += [QUANTUM_BITS, counts[index + 1].bit_length()]
        fields, size = _unpack(data[place:], count + 1, widths)
        place += size
        # The parents' words follow the child's: reading order is left to right, the trie's right to left.
        parents = np.repeat(np.arange(len(ends)), np.diff(first_child))
        # The counts may be a little high: they are taken before n-grams are put in to reach others by.
        fields = [field[: len(parents) + 1] for field in fields]
        ends = np.concatenate([fields[0][:-1, None], ends[parents]], axis=1)
        if longest:
            rows.append(Rows(ends, tables[-1][fields[1][:-1]], np.zeros(len(ends))))
        else:
            probs, backoffs = tables[2 * index - 2], tables[2 * index - 1]
            rows.append(Rows(ends, probs[fields[2][:-1]], backoffs[fields[1][:-1]]))
            first_child = fields[3]
    (length,) = struct.unpack_from("<I", data.data, place)
    words = data[place + 4 : place + 4 + length].tobytes().decode("utf8").split("\0")[:-1]
    if len(words) != counts[0]:
        raise ValueError(f"{len(words)} words for {counts[0]} unigrams")
    return assemble(words, rows)


def _unpack(data: Bytes, entries: int, widths: list[int]) -> tuple[list[Ints], int]:
    """The fields of bit-packed entries, and how many bytes they take."""
    total = sum(widths)
    size = (entries * total + 7) // 8 + PADDING
    if len(data) < size:
        raise ValueError(f"{len(data)} bytes left where {size} are needed")
    fields = []
    start = np.arange(entries, dtype=np.int64) * total
    for width in widths:
        window = data[(start >> 3)[:, None] + np.arange(8)].view("<u8")[:, 0]
        value = (window >> (start & 7).astype(np.uint64)) & np.uint64((1 << width) - 1)
        fields.append(value.astype(np.int64))
        start = start + width
    return fields, size
