"""Prefix beam search over CTC log-probabilities, the inner loop, compiled. Knows arrays; beam.py knows why.

Hannun et al. 2014 ("First-Pass Large Vocabulary Continuous Speech Recognition using Bi-Directional Recurrent DNNs"): a
hypothesis is a prefix of tokens with the probability of all alignments that end in a blank and of all that end in its
last token. A frame is taken in four parts: every hypothesis stays as it is, each grows by the likely tokens, the best
of all these candidates are chosen, and they become the hypotheses.

A word's language model score is added when its last token is known, which is when the next word begins; until then the
best unigram of the words that it may still become stands in its place.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from parley.decoder.search.beam_state import (
    HYPOTHESIS,
    LISTED,
    NEVER,
    NO_WORD,
    START,
    Beams,
    Guide,
    Pieces,
    Weights,
    add,
    close,
    compact,
    hashed,
    score_of_word,
    word_ended,
)
from parley.decoder.search.compiled import compiled
from parley.decoder.search.hotwords import Automaton, step
from parley.decoder.search.language_model import Tables, follow
from parley.decoder.values import MOST_CONTEXT

if TYPE_CHECKING:
    from typing import Any, TypeAlias

    from numpy.typing import NDArray

    Record: TypeAlias = Any  # an element of a structured array

SLACK = 1e-6  # for rounding, where a score is compared with what it may be at most
UNCHANGED, BY_BLANK, BY_TOKEN = 0, 1, 2  # what the best alignment that ends in the last token had before it

ORIGIN = np.dtype(
    [
        ("source", np.int32),  # hypothesis that a candidate comes from
        ("via", np.int8),  # UNCHANGED, BY_BLANK or BY_TOKEN
        ("closes", np.int8),  # whether the alignment that ends in a blank closes the last token now
    ]
)
ENDING = np.dtype(  # of a hypothesis, if its last word ends with it
    [
        ("known", np.int8),  # once somebody has asked
        ("word", np.int32),
        ("score", np.float64),
        ("state", np.int32),  # of the hotwords' automaton
        ("gained", np.float64),  # by hotwords
    ]
)


class Scratch(NamedTuple):
    """Room to work in, the same for every frame.

    candidates: every hypothesis as it stays, in its order, and behind them those that are a token longer; origins: of
    each. order: the best of them, sorted. leading: the best scores yet, sorted: below the last of them nothing is kept.

    Of the hypotheses: sums, of both probabilities; mosts (beam, 2), what a longer one has beside its probability, at
    most: in its word, and with a new one but for what this begins with. For a word has a probability, whose logarithm
    is not above 0, and begins no likelier than it can end. closed: the link to its last token, -1 until there is one.

    Of the tokens: near and values, those to be tried; is_last, whether some hypothesis ends in it.
    """

    candidates: NDArray[np.void]
    origins: NDArray[np.void]
    order: NDArray[np.int32]
    leading: NDArray[np.float64]
    sums: NDArray[np.float64]
    mosts: NDArray[np.float64]
    endings: NDArray[np.void]
    closed: NDArray[np.int32]
    near: NDArray[np.int32]
    values: NDArray[np.float32]
    is_last: NDArray[np.bool_]
    hypotheses: NDArray[np.void]  # the next ones,
    contexts: NDArray[np.int32]  # and theirs
    marks: NDArray[np.int32]  # of the links


@compiled
def advance_rows(
    beams: Beams,
    rows: NDArray[np.int64],
    slots: NDArray[np.int64],
    log_probs: NDArray[np.float32],
    frames: NDArray[np.int64],
    guide: Guide,
) -> None:
    """Takes the next frames of these rows' utterances, which want the same. slots, frames: by row; log_probs (rows,
    frames, tokens)."""
    scratch = _scratch(beams, log_probs.shape[2], guide.weights)
    for row in rows:
        slot = slots[row]
        one = Beams(beams.hypotheses[slot], beams.contexts[slot], beams.links[slot], beams.counts[slot])
        for frame in range(frames[row]):
            _advance(one, log_probs[row, frame], guide, scratch)


@compiled
def _scratch(beams: Beams, tokens: int, weights: Weights) -> Scratch:
    """For utterances that want the same, over so many tokens."""
    beam = weights.beam
    room = beam * (2 + weights.tokens)
    return Scratch(
        candidates=np.empty(room, HYPOTHESIS),
        origins=np.empty(room, ORIGIN),
        order=np.empty(beam, np.int32),
        leading=np.empty(beam),
        sums=np.empty(beam),
        mosts=np.empty((beam, 2)),
        endings=np.empty(beam, ENDING),
        closed=np.empty(beam, np.int32),
        near=np.empty(tokens, np.int32),
        values=np.empty(tokens, np.float32),
        is_last=np.zeros(tokens, np.bool_),
        hypotheses=np.empty(beams.hypotheses.shape[1], HYPOTHESIS),
        contexts=np.empty(beams.contexts.shape[1:], np.int32),
        marks=np.empty(beams.links.shape[1], np.int32),
    )


@compiled
def _advance(beams: Beams, row: NDArray[np.float32], guide: Guide, scratch: Scratch) -> None:
    """Takes an utterance's next frame (tokens,)."""
    weights = guide.weights
    _make_room(beams, weights.beam, scratch.marks)
    best = _stay(beams, row, weights, scratch)
    best, tried = _grow(beams, row, guide, scratch, best)
    kept = _choose(scratch.candidates, tried, best - weights.score_beam, scratch.order)
    _become(beams, guide.pieces, scratch, kept)


@compiled
def _make_room(beams: Beams, beam: int, marks: NDArray[np.int32]) -> None:
    """For the links of a frame."""
    counts, room = beams.counts, len(beams.links) - beam * 2
    if counts[1] > room:
        compact(beams, marks)
        while counts[1] > room and counts[0] > 1:
            counts[0] = counts[0] // 2  # they are sorted: the worse half goes
            compact(beams, marks)


@compiled
def _stay(beams: Beams, row: NDArray[np.float32], weights: Weights, scratch: Scratch) -> float:
    """Tries every prefix as it is, by a blank or by its last token again; the best score."""
    blank, at = row[weights.blank] - weights.blank_penalty, beams.counts[2]
    best = NEVER
    scratch.leading[:] = NEVER
    for h in range(beams.counts[0]):
        one = beams.hypotheses[h]
        scratch.candidates[h] = one
        stay, origin = scratch.candidates[h], scratch.origins[h]
        origin.source, origin.via, origin.closes = h, UNCHANGED, one.best_token > one.best_blank
        both = add(one.blank, one.token)
        stay.blank, stay.best_blank = both + blank, max(one.best_blank, one.best_token) + blank
        if one.last >= 0:
            scratch.is_last[one.last] = True
            stay.token, stay.best_token = one.token + row[one.last], one.best_token + row[one.last]
            stay.end, stay.peak = at + 1, max(one.peak, float(row[one.last]))
        stay.total = one.total - both + add(stay.blank, stay.token)
        best = max(best, stay.total)
        _enter(scratch.leading, stay.total)
        bonus = weights.word * one.words + max(0.0, weights.word)
        scratch.mosts[h, 0] = bonus + weights.language * (one.language + max(one.ahead, weights.unknown))
        scratch.mosts[h, 1] = bonus + weights.language * one.language
        scratch.sums[h], scratch.closed[h], scratch.endings[h].known = both, -1, False
    return best


@compiled
def _grow(beams: Beams, row: NDArray[np.float32], guide: Guide, scratch: Scratch, best: float) -> tuple[float, int]:
    """Tries every prefix with each likely token behind it; the best score of all, and how many candidates there are."""
    pieces, tables, hotwords, weights = guide
    hypotheses, count, at = beams.hypotheses, beams.counts[0], beams.counts[2]
    tried = count
    plain = len(hotwords.held) == 1  # no hotwords, so nothing to be earned
    for place in range(_likely(row, weights, scratch.near, scratch.values)):
        token = scratch.near[place]
        log_prob, begins = float(row[token]), pieces.begins[token]
        text = pieces.text[pieces.starts[token] : pieces.starts[token + 1]]
        fresh = _spelled(START, text, tables)  # where a word is that begins with it
        fresh_ahead = weights.language * (tables.ahead[fresh] if fresh != NO_WORD else weights.unknown)
        for h in range(count):
            one = hypotheses[h]
            mass, path, via = _longer(one, scratch.sums[h], token, log_prob)
            if mass < NEVER / 2:
                continue
            same = _same(hypotheses, count, hashed(one.prefix, token)) if scratch.is_last[token] else -1
            if same >= 0:
                if _join(scratch.candidates[same], mass, path, at, log_prob):
                    scratch.origins[same].source, scratch.origins[same].via = h, via
                best = max(best, scratch.candidates[same].total)
                continue
            inside, ends = one.node != START and not begins, one.node != START and begins  # of the last word
            most = scratch.mosts[h, 0] if inside else scratch.mosts[h, 1] + fresh_ahead
            least = max(scratch.leading[-1], best - weights.score_beam)
            if plain and mass + most < least - SLACK:
                continue
            ending = scratch.endings[h]
            if ends and not ending.known:
                ending.state, ending.gained, listed = word_ended(one.state, hotwords)
                ending.score, ending.word = score_of_word(tables, weights, one.node, beams.contexts[h], listed)
                ending.known = True
            language = one.language + ending.score if ends else one.language
            node = _spelled(one.node, text, tables) if inside else fresh
            # A word is counted with its first byte, not with the mark that begins it: that may be a token of its own.
            words = one.words if inside or len(text) == 0 else one.words + 1
            state, earned = (ending.state, one.earned + ending.gained) if ends else (one.state, one.earned)
            if not plain:
                state, earned = _heard(state, earned, text, hotwords)
            held = hotwords.held[state]
            ahead = _ahead(node, held > 0, tables, weights)
            score = mass + weights.language * (language + ahead) + weights.word * words
            score += earned + held
            if score < least:
                continue
            best = max(best, score)
            _enter(scratch.leading, score)
            scratch.candidates[tried] = one
            longer, origin = scratch.candidates[tried], scratch.origins[tried]
            _extend(longer, token, mass, path, at, log_prob)
            longer.words, longer.node, longer.state = words, node, state
            longer.language, longer.ahead, longer.earned, longer.total = language, ahead, earned, score
            origin.source, origin.via, origin.closes = h, via, False
            tried += 1
    return best, tried


@compiled
def _likely(row: NDArray[np.float32], weights: Weights, near: NDArray[np.int32], values: NDArray[np.float32]) -> int:
    """Writes the tokens to be tried into `near`, in order of their ids; how many they are. near, values: room for all
    tokens."""
    best = row[weights.blank] - weights.blank_penalty
    for token in range(len(row)):
        if row[token] > best and token != weights.blank:
            best = row[token]
    least = best - weights.token_beam
    found = 0
    for token in range(len(row)):
        if row[token] >= least and token != weights.blank:
            near[found], values[found] = token, row[token]
            found += 1
    room = weights.tokens + 1  # the likeliest, of which blank may be one
    if found <= room:
        return found
    ranked = np.sort(values[:found])
    least = ranked[-room]
    if row[weights.blank] > least:
        least = min(row[weights.blank], ranked[1 - room])
    for at in range(found):
        if values[at] > least:
            room -= 1
    kept = 0
    for at in range(found):
        if values[at] < least:
            continue
        if values[at] == least:
            if room == 0:  # many may be as likely as the last
                continue
            room -= 1
        near[kept] = near[at]
        kept += 1
    return kept


@compiled
def _enter(leading: NDArray[np.float64], score: float) -> None:
    """Puts a score into its place among the best, which are sorted; the last goes."""
    place = len(leading) - 1
    if score <= leading[place]:
        return
    while place > 0 and leading[place - 1] < score:
        leading[place] = leading[place - 1]
        place -= 1
    leading[place] = score


@compiled
def _spelled(node: int, text: NDArray[np.uint8], tables: Tables) -> int:
    """Where in the words' tree these bytes lead."""
    for byte in text:
        node = follow(tables, node, byte)
    return node


@compiled
def _heard(state: int, earned: float, text: NDArray[np.uint8], hotwords: Automaton) -> tuple[int, float]:
    """Where in the hotwords' automaton these bytes lead, and what is earned by then."""
    for byte in text:
        state, gained = step(hotwords, state, byte)
        earned += gained
    return state, earned


@compiled
def _ahead(node: int, listed: bool, tables: Tables, weights: Weights) -> float:
    """The log-probability of a word that is open, as far as it is known. listed: it may be of a hotword phrase."""
    if node != NO_WORD:
        return float(tables.ahead[node])
    return max(LISTED, weights.unknown) if listed else weights.unknown


@compiled
def _longer(one: Record, both: float, token: int, log_prob: float) -> tuple[float, float, int]:
    """Of a hypothesis with a token behind it: its probability, that of its best alignment, and by what this came."""
    if token == one.last:  # without a blank between them it would be the same token still
        return one.blank + log_prob, one.best_blank + log_prob, BY_BLANK
    via = BY_TOKEN if one.best_token > one.best_blank else BY_BLANK
    return both + log_prob, max(one.best_blank, one.best_token) + log_prob, via


@compiled
def _same(hypotheses: NDArray[np.void], count: int, prefix: np.uint64) -> int:
    """Which of the first hypotheses has this prefix; -1: none."""
    same = -1
    for other in range(count):
        if hypotheses[other].prefix == prefix:
            same = other
    return same


@compiled
def _join(stay: Record, mass: float, path: float, at: int, log_prob: float) -> bool:
    """Adds to a candidate what says the same by another way; whether that has the best alignment now."""
    extra = stay.total - add(stay.blank, stay.token)
    stay.token = add(stay.token, mass)
    stay.total = extra + add(stay.blank, stay.token)
    better: bool = path > stay.best_token
    if better:
        stay.best_token, stay.start, stay.end, stay.peak = path, at, at + 1, log_prob
    return better


@compiled
def _extend(longer: Record, token: int, mass: float, path: float, at: int, log_prob: float) -> None:
    """Puts a token behind a copy of a hypothesis."""
    longer.prefix, longer.last = hashed(longer.prefix, token), token
    longer.blank, longer.token, longer.best_blank, longer.best_token = NEVER, mass, NEVER, path
    longer.closed, longer.start, longer.end, longer.peak = -1, at, at + 1, log_prob


@compiled
def _choose(candidates: NDArray[np.void], tried: int, least: float, order: NDArray[np.int32]) -> int:
    """Sorts the best candidates into `order`, those of `least` or more; how many they are."""
    kept, beam = 0, len(order)
    for candidate in range(tried):
        score = candidates[candidate].total
        if score < least or (kept == beam and score <= candidates[order[kept - 1]].total):
            continue
        place = kept if kept < beam else beam - 1
        while place > 0 and candidates[order[place - 1]].total < score:
            order[place] = order[place - 1]
            place -= 1
        order[place] = candidate
        kept = min(kept + 1, beam)
    return kept


@compiled
def _become(beams: Beams, pieces: Pieces, scratch: Scratch, kept: int) -> None:
    """Makes the chosen candidates the hypotheses, with the words before them and the links that they need."""
    hypotheses, count = beams.hypotheses, beams.counts[0]
    for h in range(count):
        if hypotheses[h].last >= 0:
            scratch.is_last[hypotheses[h].last] = False
    for k in range(kept):
        candidate = scratch.order[k]
        origin = scratch.origins[candidate]
        h = origin.source
        scratch.hypotheses[k] = scratch.candidates[candidate]
        one, context = scratch.hypotheses[k], scratch.contexts[k]
        if candidate < count:
            context[:] = beams.contexts[candidate]
        else:
            context[:] = beams.contexts[h]
            if pieces.begins[one.last] and hypotheses[h].node != START:
                for deep in range(MOST_CONTEXT - 1, 0, -1):
                    context[deep] = context[deep - 1]
                context[0] = scratch.endings[h].word
        if origin.closes:
            one.closed = _link_to_last(beams, candidate, scratch.closed)
        if origin.via == BY_BLANK:
            one.before = hypotheses[h].closed
        elif origin.via == BY_TOKEN:
            one.before = _link_to_last(beams, h, scratch.closed)
    hypotheses[:kept] = scratch.hypotheses[:kept]
    beams.contexts[:kept] = scratch.contexts[:kept]
    beams.counts[0] = kept
    beams.counts[2] += 1


@compiled
def _link_to_last(beams: Beams, h: int, closed: NDArray[np.int32]) -> int:
    """The link to an old hypothesis's last token, made once."""
    if closed[h] < 0:
        closed[h] = close(beams, h)
    return int(closed[h])
