"""KenLM's probing format, mapped into memory: what stands where in a file. Knows n-grams' keys as numbers, no words'.

`build_binary probing` writes it, version 5 (Heafield 2011, "KenLM: Faster and Smaller Language Model Queries"), and so
does `parley lm build`: a head, a table of the words' hashes, one of the unigrams, hash tables of the longer n-grams,
and the words themselves.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from parley.decoder.errors import ModelError
from parley.decoder.values import MOST_ORDER

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

MAGIC = b"mmap lm http://kheafield.com/code format version 5\n"
SANITY = struct.pack("<56s3fIIIQ", MAGIC, 0.0, 1.0, -0.5, 1, 0xFFFFFFFF, 0, 1)  # what KenLM checks a machine by
PARAMETERS = struct.Struct("<BxxxfI?xxxI")  # order, multiplier, type, whether words are there, search version
TYPES = ("probing", "rest probing", "trie", "quantized trie", "array trie", "quantized array trie")
WORD_ENTRY = np.dtype([("key", "<u8"), ("word", "<u4")])
UNIGRAM = np.dtype([("prob", "<f4"), ("backoff", "<f4")])
MIDDLE = np.dtype([("key", "<u8"), ("prob", "<f4"), ("backoff", "<f4")])
LONGEST = np.dtype([("key", "<u8"), ("prob", "<f4")])


@dataclass(frozen=True, slots=True, eq=False)
class File:
    """counts: n-grams of each order. middles: hash tables of the orders between, from two on, as many as the highest
    order of all would have; longest: of the highest order. words: by id, the first for those that are not known."""

    counts: tuple[int, ...]
    unigrams: NDArray[np.void]
    middles: tuple[NDArray[np.void], ...]
    longest: NDArray[np.void]
    words: list[bytes]
    size: int

    @property
    def order(self) -> int:
        return len(self.counts)


def read(path: Path) -> File:
    """Maps a file. Raises ModelError."""
    try:
        data = np.memmap(path, np.uint8, "r")
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: not a readable language model: {error}") from None
    order, multiplier = _head(path, data[: len(SANITY) + PARAMETERS.size].tobytes())
    at = len(SANITY) + PARAMETERS.size
    if len(data) < at + 8 * order:
        raise ModelError(f"{path}: got {len(data)} bytes, which end in the header")
    counts = tuple(int(count) for count in np.frombuffer(data[at : at + 8 * order].tobytes(), "<u8"))
    at = -(-(at + 8 * order) // 8) * 8 + 8  # behind the vocabulary's version and bound

    def table(kind: np.dtype[np.void], entries: int) -> NDArray[np.void]:
        nonlocal at
        start, at = at, at + kind.itemsize * entries
        if at > len(data):
            raise ModelError(f"{path}: got {len(data)} bytes, expected {at} and more for {counts} n-grams")
        return data[start:at].view(np.ndarray).view(kind)

    def hashed(kind: np.dtype[np.void], entries: int) -> NDArray[np.void]:
        return table(kind, max(entries + 1, int(np.float32(multiplier) * np.float32(entries))))

    hashed(WORD_ENTRY, counts[0])  # KenLM's way to a word's id; ours is the tree
    unigrams = table(UNIGRAM, counts[0] + 1)
    middles = [hashed(MIDDLE, count) for count in counts[1:-1]]
    middles += [no_table(MIDDLE)] * (MOST_ORDER - 2 - len(middles))
    longest = hashed(LONGEST, counts[-1])
    words = data[at:].tobytes().split(b"\0")[:-1]
    if len(words) != counts[0]:
        raise ModelError(f"{path}: got {len(words)} words, expected {counts[0]}")
    return File(counts, unigrams, tuple(middles), longest, words, len(data))


def no_table(kind: np.dtype[np.void]) -> NDArray[np.void]:
    """An empty one, not writable, as a mapped file's are: compiled code is compiled for one type only."""
    array = np.zeros(1, kind)
    array.flags.writeable = False
    return array


def _head(path: Path, head: bytes) -> tuple[int, float]:
    """The order, and how many buckets there are for each n-gram. Raises ModelError if it is another file's."""
    if not head.startswith(MAGIC):
        found = ascii(bytes(head[:16]))
        raise ModelError(f"{path}: got a file that begins with {found}, expected KenLM's binary (`parley lm build`)")
    if len(head) < len(SANITY) + PARAMETERS.size or not head.startswith(SANITY):
        raise ModelError(f"{path}: got a KenLM file of another kind of machine, or a part of one")
    order, multiplier, kind, has_words, _ = PARAMETERS.unpack(head[len(SANITY) :])
    if kind != 0 or not has_words:
        found = TYPES[kind] if kind < len(TYPES) else str(kind)
        found += "" if has_words else " without its words"
        raise ModelError(f"{path}: got a KenLM file of type {found}, expected probing with its words")
    if not 1 < multiplier < math.inf:
        raise ModelError(f"{path}: got {multiplier:g} buckets for each n-gram, expected more than 1")
    if not 2 <= order <= MOST_ORDER:
        raise ModelError(f"{path}: got a model of order {order}, expected 2 to {MOST_ORDER}")
    return order, multiplier
