"""Cues that can be read: in order, apart, short enough, and with every word."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TYPE_CHECKING

from hypothesis import example, given
from hypothesis import strategies as st

from parley.clients import Result, Word
from parley.clients.cli.subtitles import LINE, LONGEST_MS, SHORTEST_MS, Cue, cues, srt, vtt

if TYPE_CHECKING:
    from collections.abc import Sequence

TIME = re.compile(r"(\d\d+):(\d\d):(\d\d)[.,](\d\d\d) --> (\d\d+):(\d\d):(\d\d)[.,](\d\d\d)")


def result(text: str, start_s: float, end_s: float, words: Sequence[Word] = (), channel: int = 0) -> Result:
    return Result(text, True, start_s, end_s, channel, 0, 0.0, 0.9, tuple(words), (), "en", "attention", "second", None)


def said(text: str, start_s: float = 0.0, a_word_s: float = 0.5, channel: int = 0) -> Result:
    """Each word right behind the one before it."""
    words = [
        Word(word, start_s + number * a_word_s, start_s + (number + 1) * a_word_s, 0.9)
        for number, word in enumerate(text.split())
    ]
    return result(text, start_s, start_s + len(words) * a_word_s, words, channel)


def shown(cues: list[Cue]) -> list[str]:
    return [" / ".join(cue.lines) for cue in cues]


texts = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=50)


@st.composite
def results(draw: st.DrawFn) -> Result:
    """Whatever a server may send, however senseless its times."""
    times = st.floats(0, 100)
    words = draw(st.lists(st.builds(Word, texts, times, times, st.just(0.5)), max_size=30))
    text = " ".join(word.text for word in words) if words else " ".join(draw(st.lists(texts, max_size=30)))
    return result(text, draw(times), draw(times), words, draw(st.integers(0, 2)))


@given(st.lists(results(), max_size=6))
def test_cues_are_ordered_apart_short_and_whole(all_results: list[Result]) -> None:
    made = cues(all_results)
    for cue in made:
        assert 0 < cue.end_ms - cue.start_ms <= LONGEST_MS
        assert len(cue.lines) <= 2
        label = len(f"[{cue.channel}] ") if cue.channel else 0
        for line in cue.lines:
            assert len(line) + label <= LINE or " " not in line
    for one, next_one in pairwise(made):
        assert one.end_ms <= next_one.start_ms
    for channel in (0, 1, 2):
        words = [word for each in all_results if each.channel == channel for word in each.text.split()]
        in_cues = [word for cue in made if cue.channel == channel for line in cue.lines for word in line.split()]
        assert sorted(in_cues) == sorted(words)


@given(results())
def test_words_of_a_result_stay_in_order(one: Result) -> None:
    assert [word for cue in cues([one]) for line in cue.lines for word in line.split()] == one.text.split()


@given(st.lists(results(), max_size=4))
@example([result("a --> b", 0.0, 1.0)])
def test_files_are_well_formed(all_results: list[Result]) -> None:
    made = cues(all_results)
    blocks = srt(made).split("\n\n") if made else []
    assert len(blocks) == len(made)
    for number, block in enumerate(blocks, start=1):
        lines = block.strip("\n").split("\n")
        assert lines[0] == str(number)
        assert TIME.fullmatch(lines[1])
        assert "-->" not in "".join(lines[2:])
        assert 1 <= len(lines[2:]) <= 2
    head, *blocks = vtt(made).split("\n\n")
    assert head.strip() == "WEBVTT"
    for block in blocks:
        lines = block.strip("\n").split("\n")
        assert TIME.fullmatch(lines[0])
        assert "-->" not in "".join(lines[1:])
        assert not re.search(r"<(?!v Channel \d>)|&(?!amp;|lt;|gt;)", "".join(lines[1:]))


def test_long_segment_is_cut_behind_its_sentences() -> None:
    text = "It was the best of times, they said. And nobody who was there had ever seen the like of it before."
    assert shown(cues([said(text, a_word_s=0.3)])) == [
        "It was the best of times, they said.",
        "And nobody who was there had / ever seen the like of it before.",
    ]


def test_no_word_is_left_behind_alone() -> None:
    text = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen"
    assert shown(cues([said(text, a_word_s=0.2)])) == [
        "one two three four five six / seven eight nine ten eleven",
        "twelve thirteen fourteen / fifteen sixteen seventeen",
    ]


def test_cue_ends_before_a_pause() -> None:
    words = [Word("before", 0.0, 0.5, 0.9), Word("after", 3.0, 3.5, 0.9)]
    made = cues([result("before after", 0.0, 3.5, words)])
    assert [(cue.start_ms, cue.end_ms, cue.lines) for cue in made] == [
        (0, SHORTEST_MS, ("before",)),
        (3000, 3000 + SHORTEST_MS, ("after",)),
    ]


def test_slow_speech_makes_cues_of_seven_seconds_at_most() -> None:
    made = cues([said("a b c d e f g h", a_word_s=2.0)])
    assert [cue.end_ms - cue.start_ms <= LONGEST_MS for cue in made] == [True] * len(made)
    assert len(made) == 3


def test_result_without_word_times_shares_its_own() -> None:
    made = cues([result("one three " * 10, 10.0, 20.0)])
    assert made[0].start_ms == 10_000
    assert made[-1].end_ms == 20_000
    assert len(made) == 2


def test_two_who_speak_at_once_are_shown_one_after_the_other() -> None:
    made = cues([said("yes of course", 1.0, channel=1), said("no never", 1.2, channel=2)])
    assert [(cue.channel, cue.start_ms, cue.end_ms) for cue in made] == [(1, 1000, 1700), (2, 1700, 2400)]
    assert srt(made) == (
        "1\n00:00:01,000 --> 00:00:01,700\n[1] yes of course\n\n2\n00:00:01,700 --> 00:00:02,400\n[2] no never\n"
    )
    assert vtt(made) == (
        "WEBVTT\n\n00:00:01.000 --> 00:00:01.700\n<v Channel 1>yes of course\n\n"
        "00:00:01.700 --> 00:00:02.400\n<v Channel 2>no never\n"
    )


def test_markup_is_escaped_in_vtt() -> None:
    assert "a &lt;b&gt; &amp; c" in vtt(cues([said("a <b> & c")]))


def test_nothing_said_is_a_file_without_cues() -> None:
    assert srt(cues([])) == ""
    assert vtt(cues([])) == "WEBVTT\n"
