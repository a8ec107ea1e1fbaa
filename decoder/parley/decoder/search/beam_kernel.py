"""Prefix beam search over CTC log-probabilities, the inner loop, compiled. Knows arrays; beam.py knows why.

Hannun et al. 2014 ("First-Pass Large Vocabulary Continuous Speech Recognition using Bi-Directional Recurrent DNNs"): a
hypothesis is a prefix of tokens with the probability of all alignments that end in a blank and of all that end in its
last token. Beside those sums each keeps its best alignment of either kind, as links back through its tokens, for times.

A word's language model score is added when its last token is known, which is when the next word begins; until then the
best unigram of the words that it may still become stands in its place.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from parley.decoder.search.compiled import compiled
from parley.decoder.search.hotwords import SPACE, Automaton, step
from parley.decoder.search.language_model import Tables, follow, word_score
from parley.decoder.values import MOST_CONTEXT

if TYPE_CHECKING:
    from numpy.typing import NDArray

NEVER = -1e30  # the logarithm of nothing, with room to subtract from
LISTED = -12.0  # log-probability of an unknown word that is a hotword: about a rare word's
START = 0  # of the words' tree: between words
SLACK = 1e-6  # for rounding, where a score is compared with what it may be at most
NO_WORD = -1  # in the words' tree: nothing that the language model knows begins so

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
WORD = np.dtype([("text", np.uint64), ("start", np.int32), ("end", np.int32)])  # text: a hash of its bytes
EMPTY = np.uint64(14695981039346656037)  # the hash of nothing


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
def _add(a: float, b: float) -> float:
    """log(exp(a) + exp(b))"""
    most, least = max(a, b), min(a, b)
    if least < most - 40:
        return most
    return float(most + np.log1p(np.exp(least - most)))


@compiled
def _hash(prefix: np.uint64, token: int) -> np.uint64:
    mixed: np.uint64 = (prefix ^ np.uint64(token + 1)) * np.uint64(1099511628211)
    mixed ^= mixed >> np.uint64(29)
    mixed *= np.uint64(0x9E3779B97F4A7C15)
    return mixed


@compiled
def _word_score(
    tables: Tables, weights: Weights, node: int, context: NDArray[np.int32], listed: bool
) -> tuple[float, int]:
    """The log-probability of the word that ends in `node`, and its id. listed: it is of a hotword phrase."""
    word = tables.word[node] if node > START else 0
    if word <= 0:
        return max(LISTED, weights.unknown) if listed else weights.unknown, 0
    return word_score(tables, context, word), word


@compiled
def _compact(beams: Beams, marks: NDArray[np.int32]) -> None:
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
def _close(beams: Beams, at: int) -> int:
    """A link to the last token of a hypothesis's best alignment that ends in it."""
    one, used = beams.hypotheses[at], beams.counts[1]
    link = beams.links[used]
    link.parent, link.token, link.start, link.end, link.peak = one.before, one.last, one.start, one.end, one.peak
    beams.counts[1] = used + 1
    return int(used)


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
def advance(
    beams: Beams, log_probs: NDArray[np.float32], pieces: Pieces, tables: Tables, hotwords: Automaton, weights: Weights
) -> None:
    """Takes an utterance's next frames (frames, tokens)."""
    hypotheses, contexts, counts = beams.hypotheses, beams.contexts, beams.counts
    beam = weights.beam
    new, new_contexts = np.empty_like(hypotheses), np.empty_like(contexts)
    marks = np.empty(len(beams.links), np.int32)
    near, values = np.empty(log_probs.shape[1], np.int32), np.empty(log_probs.shape[1], np.float32)
    room = beam * (2 + weights.tokens)
    tried = np.empty(room, hypotheses.dtype)
    source = np.empty(room, np.int32)  # hypothesis that it comes from
    via = np.empty(room, np.int8)  # what its best alignment ended in before: 0 unchanged, 1 a blank, 2 the token
    closing = np.empty(room, np.int8)  # whether the alignment that ends in a blank closes the last token now
    order = np.empty(beam, np.int32)
    scored = np.empty(beam, np.bool_)
    word_scores, word_ids = np.empty(beam), np.empty(beam, np.int32)
    links_of = np.empty(beam, np.int32)
    sums = np.empty(beam)  # of each hypothesis's two probabilities
    # What a longer one has beside its probability, at most: in its word, and with a new one but for what this begins
    # with. For a word has a probability, whose logarithm is not above 0, and begins no likelier than it can end.
    mosts = np.empty((beam, 2))
    is_last = np.zeros(log_probs.shape[1], np.bool_)  # by token: the last of some hypothesis
    leading = np.empty(beam)  # the best scores yet: below the last of them nothing is kept
    plain = len(hotwords.held) == 1  # no hotwords, so nothing to be earned

    for frame in range(len(log_probs)):
        row = log_probs[frame]
        blank = row[weights.blank] - weights.blank_penalty
        at = counts[2]
        if counts[1] + beam * 2 > len(beams.links):
            _compact(beams, marks)
            while counts[1] + beam * 2 > len(beams.links) and counts[0] > 1:
                counts[0] = counts[0] // 2  # they are sorted: the worse half goes
                _compact(beams, marks)
        count = counts[0]
        # First every prefix as it is, by a blank or by its last token again.
        best = NEVER
        leading[:] = NEVER
        for h in range(count):
            one = hypotheses[h]
            tried[h] = one
            stay = tried[h]
            source[h], via[h], closing[h], scored[h] = h, 0, 0, False
            sums[h] = _add(one.blank, one.token)
            stay.blank = sums[h] + blank
            if one.best_token > one.best_blank:
                stay.best_blank, closing[h] = one.best_token + blank, 1
            else:
                stay.best_blank = one.best_blank + blank
            if one.last >= 0:
                is_last[one.last] = True
                stay.token = one.token + row[one.last]
                stay.best_token = one.best_token + row[one.last]
                stay.end = at + 1
                stay.peak = max(one.peak, float(row[one.last]))
            stay.total = one.total - sums[h] + _add(stay.blank, stay.token)
            best = max(best, stay.total)
            _enter(leading, stay.total)
            bonus = weights.word * one.words + max(0.0, weights.word)
            mosts[h, 0] = bonus + weights.language * (one.language + max(one.ahead, weights.unknown))
            mosts[h, 1] = bonus + weights.language * one.language
        found = _likely(row, weights, near, values)
        total = count
        for c in range(found):
            token = near[c]
            log_prob = float(row[token])
            begins = pieces.begins[token]
            fresh = START  # where a word is that begins with it
            for position in range(pieces.starts[token], pieces.starts[token + 1]):
                fresh = follow(tables, fresh, pieces.text[position])
            fresh_ahead = weights.language * (tables.ahead[fresh] if fresh != NO_WORD else weights.unknown)
            for h in range(count):
                one = hypotheses[h]
                if token == one.last:
                    mass, path, from_token = one.blank + log_prob, one.best_blank + log_prob, False
                else:
                    mass = sums[h] + log_prob
                    from_token = one.best_token > one.best_blank
                    path = max(one.best_blank, one.best_token) + log_prob
                if mass < NEVER / 2:
                    continue
                prefix = _hash(one.prefix, token)
                same = -1
                if is_last[token]:
                    for other in range(count):
                        if hypotheses[other].prefix == prefix:
                            same = other
                if same >= 0:
                    stay = tried[same]
                    extra = stay.total - _add(stay.blank, stay.token)
                    stay.token = _add(stay.token, mass)
                    stay.total = extra + _add(stay.blank, stay.token)
                    if path > stay.best_token:
                        stay.best_token, stay.start, stay.end, stay.peak = path, at, at + 1, log_prob
                        source[same], via[same] = h, 2 if from_token else 1
                    best = max(best, stay.total)
                    continue
                most = mosts[h, 0] if one.node != START and not begins else mosts[h, 1] + fresh_ahead
                if plain and mass + most < max(leading[beam - 1], best - weights.score_beam) - SLACK:
                    continue
                language, ahead, node, words = one.language, one.ahead, one.node, one.words
                state, earned = one.state, one.earned
                if begins and node != START:  # a word ends here
                    state, gained = step(hotwords, state, SPACE)
                    earned += gained
                    if not scored[h]:
                        scored[h] = True
                        listed = gained > 0 or hotwords.held[state] > 0
                        word_scores[h], word_ids[h] = _word_score(tables, weights, node, contexts[h], listed)
                    language += word_scores[h]
                    node = START
                if node == START and pieces.starts[token] < pieces.starts[token + 1]:
                    words += 1  # and not with the mark that begins it, which may be a token of its own
                if node == START:
                    node = fresh
                else:
                    for position in range(pieces.starts[token], pieces.starts[token + 1]):
                        node = follow(tables, node, pieces.text[position])
                if not plain:
                    for position in range(pieces.starts[token], pieces.starts[token + 1]):
                        state, gained = step(hotwords, state, pieces.text[position])
                        earned += gained
                if node != NO_WORD:
                    ahead = tables.ahead[node]
                else:
                    ahead = max(LISTED, weights.unknown) if hotwords.held[state] > 0 else weights.unknown
                score = mass + weights.language * (language + ahead) + weights.word * words
                score += earned + hotwords.held[state]
                if score < max(leading[beam - 1], best - weights.score_beam):
                    continue
                best = max(best, score)
                _enter(leading, score)
                tried[total] = one
                ext = tried[total]
                ext.prefix, ext.last, ext.words = prefix, token, words
                ext.blank, ext.token, ext.best_blank, ext.best_token = NEVER, mass, NEVER, path
                ext.closed, ext.start, ext.end, ext.peak = -1, at, at + 1, log_prob
                ext.node, ext.state, ext.language, ext.ahead, ext.earned = node, state, language, ahead, earned
                ext.total = score
                source[total], via[total], closing[total] = h, 2 if from_token else 1, 0
                total += 1
        for h in range(count):
            if hypotheses[h].last >= 0:
                is_last[hypotheses[h].last] = False
        # The best of them, sorted.
        kept = 0
        for t in range(total):
            score = tried[t].total
            if score < best - weights.score_beam or (kept == beam and score <= tried[order[kept - 1]].total):
                continue
            place = kept if kept < beam else beam - 1
            while place > 0 and tried[order[place - 1]].total < score:
                order[place] = order[place - 1]
                place -= 1
            order[place] = t
            kept = min(kept + 1, beam)
        # Links of the old hypotheses, once each, before they go.
        links_of[:count] = -1
        for k in range(kept):
            t = order[k]
            h = source[t]
            new[k] = tried[t]
            one = new[k]
            if t >= count:
                new_contexts[k] = contexts[h]
                if pieces.begins[one.last] and hypotheses[h].node != START:
                    for deep in range(MOST_CONTEXT - 1, 0, -1):
                        new_contexts[k, deep] = new_contexts[k, deep - 1]
                    new_contexts[k, 0] = word_ids[h]
            else:
                new_contexts[k] = contexts[t]
                if closing[t]:
                    if links_of[t] < 0:
                        links_of[t] = _close(beams, t)
                    one.closed = links_of[t]
            if via[t] == 1:
                one.before = hypotheses[h].closed
            elif via[t] == 2:
                if links_of[h] < 0:
                    links_of[h] = _close(beams, h)
                one.before = links_of[h]
        hypotheses[:kept] = new[:kept]
        contexts[:kept] = new_contexts[:kept]
        counts[0] = kept
        counts[2] = at + 1


@compiled
def advance_rows(
    beams: Beams,
    rows: NDArray[np.int64],
    slots: NDArray[np.int64],
    log_probs: NDArray[np.float32],
    frames: NDArray[np.int64],
    pieces: Pieces,
    tables: Tables,
    hotwords: Automaton,
    weights: Weights,
) -> None:
    """Takes the next frames of these rows' utterances, which want the same. slots, frames: by row; log_probs (rows,
    frames, tokens)."""
    for row in rows:
        slot = slots[row]
        one = Beams(beams.hypotheses[slot], beams.contexts[slot], beams.links[slot], beams.counts[slot])
        advance(one, log_probs[row][: frames[row]], pieces, tables, hotwords, weights)


@compiled
def finished(beams: Beams, tables: Tables, hotwords: Automaton, weights: Weights, scores: NDArray[np.float64]) -> None:
    """Each hypothesis's scores with its last word taken as whole: scores (beam, 3): acoustic, language, hotwords."""
    for h in range(beams.counts[0]):
        one = beams.hypotheses[h]
        language = one.language
        gained = 0.0
        if one.node != START:
            state, gained = step(hotwords, one.state, SPACE)
            listed = gained > 0 or hotwords.held[state] > 0
            language += _word_score(tables, weights, one.node, beams.contexts[h], listed)[0]
        scores[h, 0] = _add(one.blank, one.token)
        scores[h, 1] = weights.language * language + weights.word * one.words
        scores[h, 2] = one.earned + gained  # a phrase that is not finished has earned nothing


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
            words[count - 1].text = _hash(words[count - 1].text, pieces.text[position])
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
            text = _hash(text ^ words[word].text, 0)
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
