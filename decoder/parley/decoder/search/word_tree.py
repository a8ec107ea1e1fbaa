"""The tree of a language model's words, byte by byte: a word can be judged before it is whole. Knows bytes, no n-grams.

Nodes are numbered breadth first, in the order of their bytes, 0 the root; arrays say the rest.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

LONGEST_WORD = 64  # bytes; a search finds no longer ones


def word_tree(
    words: Sequence[bytes], log_probs: NDArray[np.float64]
) -> tuple[NDArray[np.int32], NDArray[np.uint8], NDArray[np.int32], NDArray[np.float64]]:
    """The tree of all words but the first, <unk>: first, label, word, ahead. See language_model.Tables."""
    known = [at for at in range(1, len(words)) if len(words[at]) <= LONGEST_WORD]
    ids = np.array(sorted(known, key=words.__getitem__), np.int64)
    lengths = np.array([len(words[at]) for at in ids], np.int64)
    label, levels = _grown([words[at] for at in ids], lengths)
    word, ahead = np.full(len(label), -1, np.int32), np.full(len(label), -np.inf)
    parents = np.zeros(len(label), np.int64)
    for above, level in itertools.pairwise(levels):
        parents[level[level >= 0]] = above[level >= 0]
    for depth, level in enumerate(levels):
        ends, deep = lengths == depth, level >= 0
        word[level[ends]] = ids[ends]
        np.maximum.at(ahead, level[deep], log_probs[ids[deep]])
    ahead[0] = 0.0
    # A node's children lie together, behind those of the nodes before it.
    first = np.ones(len(label) + 1, np.int64)
    first[1:] += np.cumsum(np.bincount(parents[1:], minlength=len(label)))
    return first.astype(np.int32), label, word, ahead


def _grown(words: Sequence[bytes], lengths: NDArray[np.int64]) -> tuple[NDArray[np.uint8], list[NDArray[np.int64]]]:
    """Of sorted words the nodes' bytes, and for each number of bytes, from 0 on, each word's node there, -1 if it is
    shorter."""
    width = int(lengths.max(initial=0))
    spelled = np.array(words, f"S{max(width, 1)}").view(np.uint8).reshape(len(words), max(width, 1))
    # How many bytes a word shares with the one before it.
    same = np.ones((len(words), width + 1), bool)
    same[1:, 1:] = np.cumprod(spelled[1:, :width] == spelled[:-1, :width], 1)
    shared = same[:, 1:].sum(1)
    shared[:1] = 0
    labels, levels, nodes = [np.zeros(1, np.uint8)], [np.zeros(len(words), np.int64)], 1
    for depth in range(width):
        deep = lengths > depth
        opens = deep & (shared <= depth)  # a node that no word before has
        labels.append(spelled[opens, depth])
        levels.append(np.where(deep, nodes - 1 + np.cumsum(opens), -1))
        nodes += int(opens.sum())
    return np.concatenate(labels), levels
