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


@compiled
def _built(text: NDArray[np.uint8], starts: NDArray[np.int64], boosts: NDArray[np.float64]) -> Automaton:
    most = len(text) + 1
    label = np.zeros(most, np.uint8)
    child, sibling, fail = np.zeros(most, np.int32), np.zeros(most, np.int32), np.zeros(most, np.int32)
    parent = np.zeros(most, np.int32)
    share, worth, held, earned = np.zeros(most), np.zeros(most), np.zeros(most), np.zeros(most)
    depth, ends = np.zeros(most, np.int32), np.zeros(most, np.bool_)
    used = 1
    for phrase in range(len(boosts)):
        state = 0
        for at in range(starts[phrase], starts[phrase + 1]):
            following = child[state]
            while following != 0 and label[following] != text[at]:
                following = sibling[following]
            if following == 0:
                following = used
                used += 1
                label[following], sibling[following], parent[following] = text[at], child[state], state
                child[state] = following
            state = following
            # The spaces round a phrase are anybody's.
            if at > starts[phrase] and at + 1 < starts[phrase + 1]:
                share[state] = max(share[state], boosts[phrase])
        ends[state] = True
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
            back = fail[state]
            if state != 0:
                found = _child(child, sibling, label, back, label[following])
                while found == 0 and back != 0:
                    back = fail[back]
                    found = _child(child, sibling, label, back, label[following])
                fail[following] = found
            depth[following] = depth[state] + 1
            worth[following] = worth[state] + share[following]
            if ends[following]:
                earned[following], worth[following] = worth[following], 0.0
            elif depth[following] >= SOONEST:
                held[following] = worth[following]
            earned[following] += earned[fail[following]]  # phrases that this one ends with
            following = sibling[following]
    # Copies: many phrases share their beginnings, and what they would have taken is free then.
    return Automaton(
        label[:used].copy(),
        child[:used].copy(),
        sibling[:used].copy(),
        fail[:used].copy(),
        held[:used].copy(),
        earned[:used].copy(),
    )


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
