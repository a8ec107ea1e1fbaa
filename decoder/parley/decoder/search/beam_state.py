"""What a beam search remembers of an utterance, and what all that it is compiled of does with it. Knows arrays.

Beside its sums each hypothesis keeps its best alignment of either kind as links back through its tokens, for times.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from parley.decoder.search.compiled import compiled
from parley.decoder.search.hotwords import SPACE, Automaton, step
from parley.decoder.search.language_model import Tables, word_score
from parley.decoder.values import MOST_CONTEXT

if TYPE_CHECKING:
    from numpy.typing import NDArray

NEVER = -1e30  # the logarithm of nothing, with room to subtract from
LISTED = -12.0  # log-probability of an unknown word that is a hotword: about a rare word's
START = 0  # of the words' tree: between words
NO_WORD = -1  # in the words' tree: nothing that the language model knows begins so
EMPTY = np.uint64(14695981039346656037)  # the hash of nothing

HYPOTHESIS = np.dtype(
    [
        ("prefix", np.uint64),  # a hash of the tokens
        ("last", np.int32),  # token, -1: none yet
        ("words", np.int32),
        ("blank", np.float64),  # log-probability of all alignments that end in a blank,
        ("token", np.float64),  # and of all that end in the last token
        ("best_blank", np.float64),  # the same of the best alignment alone
        ("best_token", np.float64),
        ("closed", np.int32),  # link to the last token, in the best alignment that ends in a blank
        ("before", np.int32),  # link to the token before the last, in the best alignment that ends in the last,
        ("start", np.int32),  # which has the last token in these frames [start, end)
        ("end", np.int32),
        ("peak", np.float64),  # and this log-probability at best
        ("node", np.int32),  # of the words' tree, where the last word is
        ("state", np.int32),  # of the hotwords' automaton
        ("language", np.float64),  # log-probability of the whole words
        ("ahead", np.float64),  # of the last word, as far as it is known
        ("earned", np.float64),  # by hotwords
        ("total", np.float64),
    ]
)
LINK = np.dtype(
    [
        ("parent", np.int32),  # -1: none
        ("token", np.int32),
        ("start", np.int32),
        ("end", np.int32),
        ("peak", np.float64),
    ]
)


class Pieces(NamedTuple):
    """The vocabulary's bytes: of token t text[starts[t]:starts[t + 1]], its space left out if `begins[t]`: a word."""

    text: NDArray[np.uint8]
    starts: NDArray[np.int64]
    begins: NDArray[np.bool_]


class Beams(NamedTuple):
    """One utterance's state, or with a dimension more in front that of every slot. hypotheses (beam,), contexts (beam,
    MOST_CONTEXT) word ids, the last word first, -1 none; links; counts: hypotheses, links and frames in use."""

    hypotheses: NDArray[np.void]
    contexts: NDArray[np.int32]
    links: NDArray[np.void]
    counts: NDArray[np.int64]


class Weights(NamedTuple):
    """What counts how much; see parley.decoder.search.settings.BeamSettings."""

    blank: int
    beam: int
    blank_penalty: float
    language: float
    word: float
    unknown: float
    token_beam: float
    score_beam: float
    tokens: int


class Guide(NamedTuple):
    """What utterances that want the same are searched by."""

    pieces: Pieces
    tables: Tables
    hotwords: Automaton
    weights: Weights


@compiled
def begin(beams: Beams, context: NDArray[np.int32], hotwords: Automaton) -> None:
    """An utterance: one empty hypothesis behind these words, the last first."""
    beams.counts[0], beams.counts[1], beams.counts[2] = 1, 0, 0
    first = beams.hypotheses[0]
    first.prefix, first.last, first.words = EMPTY, -1, 0
    first.blank, first.token, first.best_blank, first.best_token = 0.0, NEVER, 0.0, NEVER
    first.closed, first.before, first.start, first.end, first.peak = -1, -1, 0, 0, NEVER
    first.node, first.state = START, step(hotwords, 0, SPACE)[0]
    first.language, first.ahead, first.earned, first.total = 0.0, 0.0, 0.0, 0.0
    beams.contexts[0] = -1
    for at in range(min(len(context), MOST_CONTEXT)):
        beams.contexts[0, at] = context[at]


@compiled
def add(a: float, b: float) -> float:
    """log(exp(a) + exp(b))"""
    most, least = max(a, b), min(a, b)
    if least < most - 40:
        return most
    return float(most + np.log1p(np.exp(least - most)))


@compiled
def hashed(prefix: np.uint64, token: int) -> np.uint64:
    mixed: np.uint64 = (prefix ^ np.uint64(token + 1)) * np.uint64(1099511628211)
    mixed ^= mixed >> np.uint64(29)
    mixed *= np.uint64(0x9E3779B97F4A7C15)
    return mixed


@compiled
def word_ended(state: int, hotwords: Automaton) -> tuple[int, float, bool]:
    """Where a word's end leads in the hotwords' automaton, what is gained by it, whether the word is of a phrase."""
    behind, gained = step(hotwords, state, SPACE)
    return behind, gained, gained > 0 or hotwords.held[behind] > 0


@compiled
def score_of_word(
    tables: Tables, weights: Weights, node: int, context: NDArray[np.int32], listed: bool
) -> tuple[float, int]:
    """The log-probability of the word that ends in `node`, and its id. listed: it is of a hotword phrase."""
    word = tables.word[node] if node > START else 0
    if word <= 0:
        return max(LISTED, weights.unknown) if listed else weights.unknown, 0
    return word_score(tables, context, word), word


@compiled
def compact(beams: Beams, marks: NDArray[np.int32]) -> None:
    """Keeps the links that a hypothesis still leads to. A link's parent lies before it."""
    hypotheses, links, counts = beams.hypotheses, beams.links, beams.counts
    used = counts[1]
    marks[:used] = 0
    for at in range(counts[0]):
        if hypotheses[at].closed >= 0:
            marks[hypotheses[at].closed] = 1
        if hypotheses[at].before >= 0:
            marks[hypotheses[at].before] = 1
    for at in range(used - 1, -1, -1):
        if marks[at] and links[at].parent >= 0:
            marks[links[at].parent] = 1
    kept = 0
    for at in range(used):
        if marks[at]:
            links[kept] = links[at]
            if links[kept].parent >= 0:
                links[kept].parent = marks[links[kept].parent] - 1
            kept += 1
            marks[at] = kept
    for at in range(counts[0]):
        if hypotheses[at].closed >= 0:
            hypotheses[at].closed = marks[hypotheses[at].closed] - 1
        if hypotheses[at].before >= 0:
            hypotheses[at].before = marks[hypotheses[at].before] - 1
    counts[1] = kept


@compiled
def close(beams: Beams, at: int) -> int:
    """A link to the last token of a hypothesis's best alignment that ends in it."""
    one, used = beams.hypotheses[at], beams.counts[1]
    link = beams.links[used]
    link.parent, link.token, link.start, link.end, link.peak = one.before, one.last, one.start, one.end, one.peak
    beams.counts[1] = used + 1
    return int(used)


@compiled
def trace(beams: Beams, at: int, path: NDArray[np.void]) -> int:
    """Writes a hypothesis's tokens into `path` as links, from its end on; how many they are."""
    one = beams.hypotheses[at]
    if one.last < 0:
        return 0
    count = 0
    if one.best_token > one.best_blank:
        link = path[count]
        link.parent, link.token, link.start, link.end, link.peak = 0, one.last, one.start, one.end, one.peak
        count, following = 1, one.before
    else:
        following = one.closed
    while following >= 0 and count < len(path):
        path[count] = beams.links[following]
        following = beams.links[following].parent
        count += 1
    return count
