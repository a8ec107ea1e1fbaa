"""A word n-gram language model in KenLM's probing format, mapped into memory. Knows words, not tokens or beams.

The file stays where it is: what is read of it is the system's page cache, shared by all decoders and processes. What is
made of it at loading is a tree of its words' bytes, so that a search can judge a word before it is whole.

The format is KenLM's own (`build_binary probing`, version 5; Heafield 2011, "KenLM: Faster and Smaller Language Model
Queries"); `parley lm build` writes it. An n-gram's key is a hash of its words, the last word first.
"""

from __future__ import annotations

import math
import struct
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from parley.decoder.errors import ModelError
from parley.decoder.search.compiled import compiled
from parley.decoder.values import MOST_CONTEXT, MOST_ORDER

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

MAGIC = b"mmap lm http://kheafield.com/code format version 5\n"
SANITY = struct.pack("<56s3fIIIQ", MAGIC, 0.0, 1.0, -0.5, 1, 0xFFFFFFFF, 0, 1)  # what KenLM checks a machine by
PARAMETERS = struct.Struct("<BxxxfI?xxxI")  # order, multiplier, type, whether words are there, search version
TYPES = ("probing", "rest probing", "trie", "quantized trie", "array trie", "quantized array trie")
LN_10 = math.log(10)
LONGEST_WORD = 64  # bytes; a search finds no longer ones
WORD_ENTRY = np.dtype([("key", "<u8"), ("word", "<u4")])
UNIGRAM = np.dtype([("prob", "<f4"), ("backoff", "<f4")])
MIDDLE = np.dtype([("key", "<u8"), ("prob", "<f4"), ("backoff", "<f4")])
LONGEST = np.dtype([("key", "<u8"), ("prob", "<f4")])


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
        try:
            data = np.memmap(path, np.uint8, "r")
        except (OSError, ValueError) as error:
            raise ModelError(f"{path}: not a readable language model: {error}") from None
        head = data[: len(SANITY) + PARAMETERS.size].tobytes()
        if not head.startswith(MAGIC):
            found = ascii(bytes(head[:16]))
            raise ModelError(
                f"{path}: got a file that begins with {found}, expected KenLM's binary (`parley lm build`)"
            )
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
        middles += [_frozen(np.zeros(1, MIDDLE))] * (MOST_ORDER - 2 - len(middles))
        longest = hashed(LONGEST, counts[-1])
        words = data[at:].tobytes().split(b"\0")[:-1]
        if len(words) != counts[0]:
            raise ModelError(f"{path}: got {len(words)} words, expected {counts[0]}")
        tree = _tree(words, LN_10 * -np.abs(unigrams["prob"][: counts[0]].astype(np.float64)))
        lower = not any(word != word.lower() for word in words[1:])
        two, three, four = middles
        return cls(Tables(order, unigrams, two, three, four, longest, *tree), counts, lower, len(data))

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
    words = _tree([], np.zeros(0))
    none = _frozen(np.zeros(1, MIDDLE))
    unigrams, longest = _frozen(np.zeros(1, UNIGRAM)), _frozen(np.zeros(1, LONGEST))
    return LanguageModel(Tables(0, unigrams, none, none, none, longest, *words), (), lower=True)


def _frozen(array: NDArray[np.void]) -> NDArray[np.void]:
    """As a mapped file's arrays are: compiled code is compiled for one type only."""
    array.flags.writeable = False
    return array


def _tree(
    words: Sequence[bytes], log_probs: NDArray[np.float64]
) -> tuple[NDArray[np.int32], NDArray[np.uint8], NDArray[np.int32], NDArray[np.float64]]:
    """The tree of all words but the first, <unk>: first, label, word, ahead. See Tables."""
    ids = np.array(sorted(range(1, len(words)), key=words.__getitem__), np.int64)
    sorted_words = [words[at] for at in ids if len(words[at]) <= LONGEST_WORD]
    ids = np.array([at for at in ids if len(words[at]) <= LONGEST_WORD], np.int64)
    lengths = np.array([len(word) for word in sorted_words], np.int64)
    width = int(lengths.max(initial=0))
    spelled = np.array(sorted_words, f"S{max(width, 1)}").view(np.uint8).reshape(len(ids), max(width, 1))
    # How many bytes a word shares with the one before it.
    same = np.ones((len(ids), width + 1), bool)
    same[1:, 1:] = np.cumprod(spelled[1:, :width] == spelled[:-1, :width], 1)
    shared = same[:, 1:].sum(1)
    shared[:1] = 0
    levels, nodes = [np.zeros(len(ids), np.int64)], 1
    first_children, labels = [np.zeros(0, np.int64)], [np.zeros(1, np.uint8)]
    for depth in range(width):
        deep = lengths > depth
        opens = deep & (shared <= depth)  # a node that no word before has
        here = np.where(deep, nodes - 1 + np.cumsum(opens), -1)
        labels.append(spelled[opens, depth])
        first_children.append(np.repeat(0, 0))
        levels.append(here)
        nodes += int(opens.sum())
    word = np.full(nodes, -1, np.int32)
    ahead = np.full(nodes, -np.inf)
    parents = np.zeros(nodes, np.int64)
    for depth in range(width):
        deep = levels[depth + 1] >= 0
        parents[levels[depth + 1][deep]] = levels[depth][deep]
    for depth, level in enumerate(levels):
        deep = (lengths >= depth) if depth == 0 else level >= 0
        ends = deep & (lengths == depth)
        word[level[ends]] = ids[ends]
        np.maximum.at(ahead, level[deep], log_probs[ids[deep]])
    ahead[0] = 0.0
    # Breadth first, in order: a node's children lie together, behind those of the nodes before it.
    first = np.ones(nodes + 1, np.int64)
    first[1:] += np.cumsum(np.bincount(parents[1:], minlength=nodes))
    return first.astype(np.int32), np.concatenate(labels), word, ahead


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
