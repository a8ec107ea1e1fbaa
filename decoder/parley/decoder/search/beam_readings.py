"""What a beam search has found, read from its hypotheses: scores, words, n-best, shares. Compiled; knows arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from parley.decoder.search.beam_state import (
    EMPTY,
    START,
    Beams,
    Pieces,
    Weights,
    add,
    hashed,
    score_of_word,
    trace,
    word_ended,
)
from parley.decoder.search.compiled import compiled

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from parley.decoder.search.hotwords import Automaton
    from parley.decoder.search.language_model import Tables

WORD = np.dtype([("text", np.uint64), ("start", np.int32), ("end", np.int32)])  # text: a hash of its bytes


@compiled
def finished(beams: Beams, tables: Tables, hotwords: Automaton, weights: Weights, scores: NDArray[np.float64]) -> None:
    """Each hypothesis's scores with its last word taken as whole: scores (beam, 3): acoustic, language, hotwords."""
    for h in range(beams.counts[0]):
        one = beams.hypotheses[h]
        language = one.language
        gained = 0.0
        if one.node != START:
            _, gained, listed = word_ended(one.state, hotwords)
            language += score_of_word(tables, weights, one.node, beams.contexts[h], listed)[0]
        scores[h, 0] = add(one.blank, one.token)
        scores[h, 1] = weights.language * language + weights.word * one.words
        scores[h, 2] = one.earned + gained  # a phrase that is not finished has earned nothing


@compiled
def words_of(beams: Beams, at: int, pieces: Pieces, words: NDArray[np.void]) -> int:
    """Writes a hypothesis's words, in order: a hash of the text, first frame, frame behind the last; how many."""
    path = np.empty(int(beams.counts[2]) + 1, beams.links.dtype)
    tokens = trace(beams, at, path)
    count = 0
    for back in range(tokens - 1, -1, -1):
        link = path[back]
        start, end = pieces.starts[link.token], pieces.starts[link.token + 1]
        if pieces.begins[link.token]:
            if count == 0 or words[count - 1].text != EMPTY:  # a space alone is no word
                count += 1
            words[count - 1].text, words[count - 1].start = EMPTY, link.start
        elif start == end:
            continue
        elif count == 0:
            words[count].text, words[count].start = EMPTY, link.start
            count = 1
        for position in range(start, end):
            words[count - 1].text = hashed(words[count - 1].text, pieces.text[position])
        words[count - 1].end = link.end
    return count - 1 if count and words[count - 1].text == EMPTY else count


@compiled
def readings(
    beams: Beams, pieces: Pieces, scores: NDArray[np.float64], order: NDArray[np.int64], shares: NDArray[np.float64]
) -> tuple[int, int]:
    """Sorts the hypotheses by their total scores into `order`, leaving out those of the same words as a better one.
    shares: of each word of the best one, the share of all that have it too at about that time, by their probability
    (Wessel et al. 2001, "Confidence Measures for Large Vocabulary Continuous Speech Recognition"). How many of both.
    """
    count = beams.counts[0]
    totals = scores[:, 0] + scores[:, 1] + scores[:, 2]
    ranked = np.argsort(-totals, kind="mergesort")
    texts = np.empty(count, np.uint64)
    best, words = np.empty(len(shares), WORD), np.empty(len(shares), WORD)
    found = words_of(beams, ranked[0], pieces, best)
    shares[:found] = 0.0
    kept, whole = 0, 0.0
    for rank in range(count):
        at = ranked[rank]
        number = words_of(beams, at, pieces, words)
        text = EMPTY
        for word in range(number):
            text = hashed(text ^ words[word].text, 0)
        is_new = True
        for other in range(kept):
            if texts[other] == text:
                is_new = False
        if not is_new:
            continue
        order[kept], texts[kept] = at, text
        kept += 1
        share = np.exp(totals[at] - totals[ranked[0]])
        whole += share
        first = 0
        for word in range(found):
            while first < number and words[first].end <= best[word].start:
                first += 1
            there = first
            while there < number and words[there].start < best[word].end:
                if words[there].text == best[word].text:
                    shares[word] += share
                    break
                there += 1
    shares[:found] /= whole
    return kept, found
