"""Phrases to be heard more readily, as an automaton over bytes. Knows text, not tokens, beams or who asked.

Aho and Corasick 1975 ("Efficient string matching"), with the boosts of contextual biasing: each byte that goes on with
a phrase earns its share at once, from its third letter on, so that the phrase survives in the beam; what a phrase that
is not finished has earned is taken back where the text leaves it. Phrases begin and end at a word's edges. Of phrases
that begin at the same word the longest counts, of those that begin at different words each.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from parley.decoder.search.compiled import compiled

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from parley.decoder.values import Phrase

BYTES_A_BOOST = 4  # of text that a boost is earned with
SOONEST = 4  # bytes of a phrase, its space among them, before it holds anything: most words begin as some phrase does
SPACE = 32


class Automaton(NamedTuple):
    """Arrays over its states, 0 the start. child, sibling: 0 for none. held: earned, and lost where the text leaves the
    phrase; earned: for good, at a phrase's end."""

    label: NDArray[np.uint8]
    child: NDArray[np.int32]
    sibling: NDArray[np.int32]
    fail: NDArray[np.int32]
    held: NDArray[np.float64]
    earned: NDArray[np.float64]


def automaton(phrases: Sequence[Phrase], lower: bool) -> Automaton:
    """lower: the model writes lower case only."""
    texts = [_spelled(phrase.text, lower) for phrase in phrases]
    starts = np.cumsum([0, *map(len, texts)], dtype=np.int64)
    boosts = np.array([phrase.boost / BYTES_A_BOOST for phrase in phrases], np.float64)
    return _built(np.frombuffer(b"".join(texts), np.uint8), starts, boosts)


def _spelled(text: str, lower: bool) -> bytes:
    words = (text.lower() if lower else text).split()
    return f" {' '.join(words)} ".encode()


class _Tree(NamedTuple):
    """The phrases' bytes, a state each; used: how many there are. share: what its byte is worth, by the best phrase;
    ends: whether a phrase does here."""

    used: int
    label: NDArray[np.uint8]
    child: NDArray[np.int32]
    sibling: NDArray[np.int32]
    share: NDArray[np.float64]
    ends: NDArray[np.bool_]


@compiled
def _built(text: NDArray[np.uint8], starts: NDArray[np.int64], boosts: NDArray[np.float64]) -> Automaton:
    tree = _tree(text, starts, boosts)
    fail, held, earned = _linked(tree)
    # Copies: many phrases share their beginnings, and what they would have taken is free then.
    used = tree.used
    return Automaton(tree.label[:used].copy(), tree.child[:used].copy(), tree.sibling[:used].copy(), fail, held, earned)


@compiled
def _tree(text: NDArray[np.uint8], starts: NDArray[np.int64], boosts: NDArray[np.float64]) -> _Tree:
    """Of the phrases text[starts[i]:starts[i + 1]]."""
    most = len(text) + 1
    label, ends, share = np.zeros(most, np.uint8), np.zeros(most, np.bool_), np.zeros(most)
    child, sibling = np.zeros(most, np.int32), np.zeros(most, np.int32)
    used = 1
    for phrase in range(len(boosts)):
        state = 0
        for at in range(starts[phrase], starts[phrase + 1]):
            following = _child(child, sibling, label, state, text[at])
            if following == 0:
                following = used
                used += 1
                label[following], sibling[following], child[state] = text[at], child[state], following
            state = following
            # The spaces round a phrase are anybody's.
            if at > starts[phrase] and at + 1 < starts[phrase + 1]:
                share[state] = max(share[state], boosts[phrase])
        ends[state] = True
    return _Tree(used, label, child, sibling, share, ends)


@compiled
def _linked(tree: _Tree) -> tuple[NDArray[np.int32], NDArray[np.float64], NDArray[np.float64]]:
    """Of every state: where it falls back to, what it holds and what is earned there. See Automaton."""
    used, label, child, sibling, share, ends = tree
    fail, depth = np.zeros(used, np.int32), np.zeros(used, np.int32)
    worth, held, earned = np.zeros(used), np.zeros(used), np.zeros(used)
    # Breadth first: a state's way back is shorter than the state.
    queue = np.zeros(used, np.int32)
    head, tail = 0, 1
    while head < tail:
        state = queue[head]
        head += 1
        following = child[state]
        while following != 0:
            queue[tail] = following
            tail += 1
            if state != 0:
                fail[following] = _fallen_back(tree, fail, fail[state], label[following])
            depth[following] = depth[state] + 1
            worth[following] = worth[state] + share[following]
            if ends[following]:
                earned[following], worth[following] = worth[following], 0.0
            elif depth[following] >= SOONEST:
                held[following] = worth[following]
            earned[following] += earned[fail[following]]  # phrases that this one ends with
            following = sibling[following]
    return fail, held, earned


@compiled
def _fallen_back(tree: _Tree, fail: NDArray[np.int32], back: int, byte: int) -> int:
    """The state of the longest end of what has been read that goes on with this byte; `back`: the longest without."""
    found = _child(tree.child, tree.sibling, tree.label, back, byte)
    while found == 0 and back != 0:
        back = fail[back]
        found = _child(tree.child, tree.sibling, tree.label, back, byte)
    return found


@compiled
def _child(
    child: NDArray[np.int32], sibling: NDArray[np.int32], label: NDArray[np.uint8], state: int, byte: int
) -> int:
    following = child[state]
    while following != 0 and label[following] != byte:
        following = sibling[following]
    return int(following)


@compiled
def step(phrases: Automaton, state: int, byte: int) -> tuple[int, float]:
    """The state behind a byte, and what was earned for good with it."""
    following = _child(phrases.child, phrases.sibling, phrases.label, state, byte)
    while following == 0 and state != 0:
        state = phrases.fail[state]
        following = _child(phrases.child, phrases.sibling, phrases.label, state, byte)
    return following, phrases.earned[following]
