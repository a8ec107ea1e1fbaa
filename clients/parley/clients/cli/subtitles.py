"""Words with times -> subtitles that can be read: at most two lines of 42 characters for at most 7 seconds.

Knows SRT and WebVTT. Cues are in order and never overlap, also when two channels speak at once: then one of them is
shown a little later than it was said.
"""

from __future__ import annotations

import html
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from parley.clients.results import Result

LINE = 42  # characters
LONGEST_MS = 7_000
SHORTEST_MS = 700  # less cannot be read
PAUSE_MS = 1_500  # after so much silence a new cue begins: no word is shown long before it is said
SENTENCE_ENDS, CLAUSE_ENDS = ".?!", ",;:"


@dataclass(frozen=True, slots=True)
class Cue:
    start_ms: int
    end_ms: int
    lines: tuple[str, ...]
    channel: int  # 0: no channels told apart


@dataclass(frozen=True, slots=True)
class _Word:
    text: str
    start_ms: int
    end_ms: int


def cues(results: Iterable[Result]) -> list[Cue]:
    """All results' words, cut into cues."""
    said = [
        Cue(group[0].start_ms, group[-1].end_ms, _lines(group, result.channel), result.channel)
        for result in results
        for group in _groups(_words(result), result.channel)
    ]
    return _one_after_another(sorted(said, key=lambda cue: cue.start_ms))


def srt(cues: Sequence[Cue]) -> str:
    def text(cue: Cue) -> str:
        # SRT has no way to escape its own arrow.
        return (_label(cue.channel) + "\n".join(cue.lines)).replace("-->", "->")

    return "\n".join(
        f"{number}\n{_clock(cue.start_ms, ',')} --> {_clock(cue.end_ms, ',')}\n{text(cue)}\n"
        for number, cue in enumerate(cues, start=1)
    )


def vtt(cues: Sequence[Cue]) -> str:
    def text(cue: Cue) -> str:
        voice = f"<v Channel {cue.channel}>" if cue.channel else ""
        return voice + "\n".join(html.escape(line, quote=False) for line in cue.lines)

    return "\n".join(
        [
            "WEBVTT\n",
            *(f"{_clock(cue.start_ms, '.')} --> {_clock(cue.end_ms, '.')}\n{text(cue)}\n" for cue in cues),
        ]
    )


def _words(result: Result) -> list[_Word]:
    """The result's words. Without times of their own they share the result's by their lengths."""
    if result.words:
        timed = [(word.text, word.start_s, word.end_s) for word in result.words]
    else:
        texts = result.text.split()
        ends = list(accumulate(map(len, texts), initial=0))
        a_letter_s = (result.end_s - result.start_s) / (ends[-1] or 1)
        timed = [
            (text, result.start_s + before * a_letter_s, result.start_s + after * a_letter_s)
            for text, (before, after) in zip(texts, pairwise(ends), strict=True)
        ]
    words: list[_Word] = []
    latest_ms = 0
    for text, start_s, end_s in timed:
        latest_ms = max(latest_ms, round(start_s * 1000))  # words stay in order whatever their times
        if text := " ".join(text.split()):
            words.append(_Word(text, latest_ms, max(latest_ms, round(end_s * 1000))))
    return words


def _groups(words: list[_Word], channel: int) -> Iterable[list[_Word]]:
    """One cue's words after the other."""
    run: list[_Word] = []
    for word in words:
        if run and word.start_ms - run[-1].end_ms > PAUSE_MS:
            yield from _cut(run, channel)
            run = []
        run.append(word)
    yield from _cut(run, channel)


def _cut(run: list[_Word], channel: int) -> list[list[_Word]]:
    """Words without a pause between them, in as many groups as they need."""
    groups: list[list[_Word]] = []
    group: list[_Word] = []
    for word in run:
        group.append(word)
        while not _fits(group, channel):
            cut = _best_cut(group)
            groups.append(group[:cut])
            group = group[cut:]
    if group:
        groups.append(group)
    if len(groups) > 1 and groups[-2][-1].text[-1] not in SENTENCE_ENDS + CLAUSE_ENDS:
        groups[-2:] = _evened(groups[-2] + groups[-1], channel)
    return groups


def _evened(words: list[_Word], channel: int) -> list[list[_Word]]:
    """Two groups as even as can be, so that no single word is left behind for the last one."""
    letters = list(accumulate(len(word.text) for word in words))
    cuts = [cut for cut in range(1, len(words)) if _fits(words[:cut], channel) and _fits(words[cut:], channel)]
    cut = min(cuts, key=lambda cut: abs(letters[-1] - 2 * letters[cut - 1]))
    return [words[:cut], words[cut:]]


def _fits(group: list[_Word], channel: int) -> bool:
    if len(group) == 1:
        return True
    if group[-1].end_ms - group[0].start_ms > LONGEST_MS:
        return False
    return max(map(len, _lines(group, channel))) + len(_label(channel)) <= LINE


def _best_cut(group: list[_Word]) -> int:
    """Where to cut a group that is a word too long: behind a sentence, or a clause, or else before that word."""
    for marks in (SENTENCE_ENDS, CLAUSE_ENDS):
        for cut in range(len(group) - 1, len(group) // 3, -1):
            if group[cut - 1].text[-1] in marks:
                return cut
    return len(group) - 1


def _lines(group: list[_Word], channel: int) -> tuple[str, ...]:
    """One line if that is enough, else two as even as can be."""
    texts = [word.text for word in group]
    whole = " ".join(texts)
    if len(whole) + len(_label(channel)) <= LINE or len(texts) == 1:
        return (whole,)
    pairs = [(" ".join(texts[:cut]), " ".join(texts[cut:])) for cut in range(1, len(texts))]
    return min(pairs, key=lambda pair: max(map(len, pair)))


def _one_after_another(said: list[Cue]) -> list[Cue]:
    starts: list[int] = []
    for cue in said:
        starts.append(max(cue.start_ms, starts[-1] + SHORTEST_MS) if starts else cue.start_ms)
    return [
        Cue(start, min(max(cue.end_ms, start + SHORTEST_MS), start + LONGEST_MS, after), cue.lines, cue.channel)
        for cue, start, after in zip(said, starts, [*starts[1:], 1 << 62], strict=False)
    ]


def _label(channel: int) -> str:
    return f"[{channel}] " if channel else ""


def _clock(milliseconds: int, point: str) -> str:
    seconds, milliseconds = divmod(milliseconds, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{seconds:02}{point}{milliseconds:03}"
