"""What becomes a final's words of what either pass heard. Knows words and utterances, not how they were found.

The first pass knows when a word was said, to a frame; the second knows better which word it was. Where both have the
word, it gets the first's time; the words between keep their own, inside what is left to them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from parley.decoder.speech.vad import FRAME_MS
from parley.decoder.values import Passes, Source, WordTiming

if TYPE_CHECKING:
    from collections.abc import Sequence

    from parley.decoder.speech.endpoint import Utterance
    from parley.decoder.values import Hypothesis, Word

NEAR_MS = 500  # between the starts of what may be the same word: attention is near, not exact


@dataclass(frozen=True, slots=True)
class Decided:
    """Hypotheses, word times from the utterance's start, and where words and times are from."""

    hypotheses: tuple[Hypothesis, ...]
    timing: WordTiming
    source: Source


def decide(
    by: Passes | None,
    utterance: Utterance,
    chunked: Sequence[Hypothesis] | None,
    whole: Sequence[Hypothesis] | None,
) -> Decided:
    """chunked: what the first pass heard chunk by chunk; whole: what the pass `by` made of the whole utterance. One may
    be None: it is not wanted (of `by` neither), or did not come in time."""
    heard = tuple(_inside(one, utterance) for one in own(chunked or (), utterance))
    if whole is None:
        return Decided(heard, WordTiming.CTC, Source.FIRST if by is None else Source.FIRST_IN_TIME)
    if by is Passes.FIRST:
        return Decided(tuple(_inside(one, utterance) for one in whole), WordTiming.CTC, Source.FIRST)
    trimmed = tuple(_trimmed(hypothesis, utterance) for hypothesis in whole)
    if not (heard and trimmed):
        return Decided(trimmed, WordTiming.ATTENTION, Source.SECOND)
    words, timing = at_first_pass_times(trimmed[0].words, heard[0].words)
    return Decided((replace(trimmed[0], words=words), *trimmed[1:]), timing, Source.SECOND)


def own(hypotheses: Sequence[Hypothesis], utterance: Utterance) -> tuple[Hypothesis, ...]:
    """Without the words that belong to the next utterance: behind a cut the first pass has heard on."""
    if not utterance.cut:
        return tuple(hypotheses)
    end_ms = (utterance.end - utterance.start) * FRAME_MS
    kept: dict[str, Hypothesis] = {}  # by text: some differ only behind the cut
    for hypothesis in hypotheses:
        words = tuple(word for word in hypothesis.words if word.start_ms < end_ms)
        if len(words) == len(hypothesis.words):
            kept.setdefault(hypothesis.text, hypothesis)
        elif words:
            end = 0
            for word in words:
                end = hypothesis.text.index(word.text, end) + len(word.text)
            shorter = replace(hypothesis, text=hypothesis.text[:end], words=words)
            kept.setdefault(shorter.text, shorter)
    return tuple(kept.values())


def _inside(hypothesis: Hypothesis, utterance: Utterance) -> Hypothesis:
    """With words that end where the utterance does, if they were found behind it: a model may hear on in silence."""
    most_ms = (utterance.end - utterance.start) * FRAME_MS
    if not hypothesis.words or hypothesis.words[-1].end_ms <= most_ms:
        return hypothesis
    words = (replace(w, start_ms=min(w.start_ms, most_ms), end_ms=min(w.end_ms, most_ms)) for w in hypothesis.words)
    return replace(hypothesis, words=tuple(words))


def _trimmed(hypothesis: Hypothesis, utterance: Utterance) -> Hypothesis:
    """With words that do not begin or end in silence: attention is not so exact."""
    words = []
    for word in hypothesis.words:
        first = word.start_ms // FRAME_MS
        inside = utterance.speech[first : -(-word.end_ms // FRAME_MS)]
        speech = [frame for frame, is_speech in enumerate(inside) if is_speech]
        if speech:
            start_ms, end_ms = (first + speech[0]) * FRAME_MS, (first + speech[-1] + 1) * FRAME_MS
            word = replace(word, start_ms=max(word.start_ms, start_ms), end_ms=min(word.end_ms, end_ms))
        words.append(word)
    return replace(hypothesis, words=tuple(words))


def at_first_pass_times(second: Sequence[Word], first: Sequence[Word]) -> tuple[tuple[Word, ...], WordTiming]:
    """The second pass's words of an utterance, timed by the first pass's, and how the times were made."""
    timed = {
        ours: replace(second[ours], start_ms=first[theirs].start_ms, end_ms=first[theirs].end_ms)
        for ours, theirs in _same(second, first)
    }
    if not timed:
        return tuple(second), WordTiming.ATTENTION
    words: list[Word] = []
    next_ms = [0] * len(second)  # where the next word that both have begins
    following = max(word.end_ms for word in (*second, *first))
    for at in reversed(range(len(second))):
        next_ms[at] = following
        following = timed[at].start_ms if at in timed else following
    end_ms = 0
    for at, word in enumerate(second):
        if at not in timed:
            start_ms = min(max(word.start_ms, end_ms), next_ms[at])
            word = replace(word, start_ms=start_ms, end_ms=min(max(word.end_ms, start_ms), next_ms[at]))
        words.append(timed.get(at, word))
        end_ms = words[-1].end_ms
    return tuple(words), WordTiming.CTC if len(timed) == len(second) else WordTiming.MIXED


def _same(second: Sequence[Word], first: Sequence[Word]) -> list[tuple[int, int]]:
    """Places of the words that both have, in order: the most there are (longest common subsequence)."""
    ours, theirs = [_bare(word.text) for word in second], [_bare(word.text) for word in first]
    most = [[0] * (len(first) + 1) for _ in range(len(second) + 1)]  # of the words from here on

    def same(i: int, j: int) -> bool:
        return ours[i] == theirs[j] and abs(second[i].start_ms - first[j].start_ms) <= NEAR_MS

    for i in reversed(range(len(second))):
        for j in reversed(range(len(first))):
            most[i][j] = most[i + 1][j + 1] + 1 if same(i, j) else max(most[i + 1][j], most[i][j + 1])
    pairs, i, j = [], 0, 0
    while i < len(second) and j < len(first):
        if same(i, j):
            pairs.append((i, j))
            i, j = i + 1, j + 1
        elif most[i + 1][j] >= most[i][j + 1]:
            i += 1
        else:
            j += 1
    return pairs


def _bare(text: str) -> str:
    """A word as both passes write it: without case and punctuation."""
    return "".join(character for character in text.casefold() if character.isalnum() or character == "'")
