"""The second pass's words at the first pass's times."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley.decoder.speech.endpoint import Utterance
from parley.decoder.text.merge import NEAR_MS, at_first_pass_times, decide
from parley.decoder.values import Hypothesis, Passes, Source, Word, WordTiming

if TYPE_CHECKING:
    from collections.abc import Sequence


def words(text: str, confidence: float = 0.5) -> tuple[Word, ...]:
    """ "he 0-200 said 240-900": texts, each with its time in milliseconds."""
    parts = text.split()
    times = [time.split("-") for time in parts[1::2]]
    return tuple(Word(each, int(a), int(b), confidence) for each, (a, b) in zip(parts[::2], times, strict=True))


def told(found: Sequence[Word]) -> str:
    return " ".join(f"{word.text} {word.start_ms}-{word.end_ms}" for word in found)


ATTENTION, MIXED, CTC = WordTiming.ATTENTION, WordTiming.MIXED, WordTiming.CTC


@pytest.mark.parametrize(
    ("second", "first", "expected", "timing"),
    [
        pytest.param("he 0-200 said 240-900", "he 80-160 said 320-680", "he 80-160 said 320-680", CTC, id="all"),
        pytest.param("He 0-200 said. 240-900", "HE 80-160 SAID 320-680", "He 80-160 said. 320-680", CTC, id="as spelt"),
        pytest.param(
            "he 0-200 said 240-900", "she 80-160 said 320-680", "he 0-200 said 320-680", MIXED, id="one of two"
        ),
        pytest.param("he 0-200 said 240-900", "a 80-160 dog 320-680", "he 0-200 said 240-900", ATTENTION, id="none"),
        pytest.param("he 0-200", "", "he 0-200", ATTENTION, id="the first has heard nothing"),
        pytest.param("", "he 0-200", "", ATTENTION, id="nor the second"),
        pytest.param(
            "he 0-200 has 200-400 said 400-900",
            "he 80-160 said 320-680",
            "he 80-160 has 200-320 said 320-680",
            MIXED,
            id="a word between ends where the next begins",
        ),
        pytest.param(
            "he 0-100 has 100-200 said 400-900",
            "he 80-160 said 320-680",
            "he 80-160 has 160-200 said 320-680",
            MIXED,
            id="and begins where the last one ended",
        ),
        pytest.param(
            "he 0-100 has 100-150 said 400-900",
            "he 80-320 said 320-680",
            "he 80-320 has 320-320 said 320-680",
            MIXED,
            id="or has no room at all",
        ),
        pytest.param(
            "no 0-100 no 200-300 no 400-500",
            "no 40-80 no 240-280 no 440-480",
            "no 40-80 no 240-280 no 440-480",
            CTC,
            id="repeated words, each its own",
        ),
        pytest.param(
            "no 1000-1100 no 2000-2100",
            "no 2040-2080",
            "no 1000-1100 no 2040-2080",
            MIXED,
            id="a repeated word that only one has twice is the near one",
        ),
        pytest.param("it's 0-200", "its 40-80", "it's 0-200", ATTENTION, id="an apostrophe makes another word"),
    ],
)
def test_times(second: str, first: str, expected: str, timing: WordTiming) -> None:
    found, how = at_first_pass_times(words(second), words(first))
    assert (told(found), how) == (expected, timing)


@pytest.mark.parametrize("early", [False, True])
@pytest.mark.parametrize(("apart", "timing"), [(NEAR_MS, CTC), (NEAR_MS + 1, ATTENTION)])
def test_near_in_time(apart: int, timing: WordTiming, early: bool) -> None:
    here, there = Word("he", 1_000, 1_200, 0.5), Word("he", 1_000 + apart, 1_200 + apart, 0.5)
    second, first = (there, here) if early else (here, there)
    found, how = at_first_pass_times([second], [first])
    assert how is timing
    assert found == ((first if timing is CTC else second),)


def test_confidence_and_spelling_are_the_second_pass_s() -> None:
    (word,), _ = at_first_pass_times(words("He, 0-200", 0.9), words("he 40-80", 0.1))
    assert word == Word("He,", 40, 80, 0.9)


@st.composite
def utterances(draw: st.DrawFn) -> tuple[Word, ...]:
    """Words in order, none over another."""
    found, at = [], 0
    for text, pause, length in draw(
        st.lists(
            st.tuples(st.sampled_from(["a", "b", "A.", "c"]), st.integers(0, 900), st.integers(0, 400)), max_size=8
        )
    ):
        found.append(Word(text, at + pause, at + pause + length, 0.5))
        at += pause + length
    return tuple(found)


def bare(word: Word) -> str:
    return word.text.lower().removesuffix(".")


def same(one: Word, other: Word) -> bool:
    return bare(one) == bare(other) and abs(one.start_ms - other.start_ms) <= NEAR_MS


def most_common(second: Sequence[Word], first: Sequence[Word]) -> int:
    """How many words both can have, in order: every choice tried."""
    if not second or not first:
        return 0
    best = most_common(second[1:], first)
    for at, word in enumerate(first):
        if same(second[0], word):
            best = max(best, 1 + most_common(second[1:], first[at + 1 :]))
    return best


@given(utterances(), utterances())
def test_words_stay_and_times_go_forward(second: tuple[Word, ...], first: tuple[Word, ...]) -> None:
    found, timing = at_first_pass_times(second, first)
    assert [(word.text, word.confidence) for word in found] == [(word.text, word.confidence) for word in second]
    assert all(word.start_ms <= word.end_ms for word in found)
    assert all(one.end_ms <= other.start_ms for one, other in itertools.pairwise(found))
    assert (timing is ATTENTION) == (most_common(second, first) == 0)
    if timing is ATTENTION:
        assert found == second
    last = max((word.end_ms for word in (*second, *first)), default=0)
    assert all(0 <= word.start_ms <= word.end_ms <= last for word in found)


@given(utterances(), utterances())
def test_as_many_as_can_be_have_the_first_pass_s_times(second: tuple[Word, ...], first: tuple[Word, ...]) -> None:
    found, timing = at_first_pass_times(second, first)
    most = most_common(second, first)
    assert (timing is CTC) == (most == len(second) > 0)
    times = {(bare(word), word.start_ms, word.end_ms) for word in first}
    exact = [
        (bare(word), word.start_ms, word.end_ms) in times and any(same(old, theirs) for theirs in first)
        for old, word in zip(second, found, strict=True)
    ]
    assert sum(exact) >= most


@given(utterances())
def test_the_same_words_have_the_same_times(both: tuple[Word, ...]) -> None:
    moved = tuple(Word(word.text.upper(), word.start_ms + 7, word.end_ms + 7, 0.1) for word in both)
    found, timing = at_first_pass_times(both, moved)
    assert [(word.start_ms, word.end_ms) for word in found] == [(word.start_ms, word.end_ms) for word in moved]
    assert timing is (CTC if both else ATTENTION)


@given(utterances(), utterances())
def test_words_far_in_time_are_not_the_same(second: tuple[Word, ...], first: tuple[Word, ...]) -> None:
    far = tuple(Word(word.text, word.start_ms + 100_000, word.end_ms + 100_000, 0.5) for word in first)
    assert at_first_pass_times(second, far) == (second, ATTENTION)


@pytest.mark.parametrize("cut", [True, False])
@pytest.mark.parametrize("by", [None, Passes.SECOND])
def test_words_behind_an_utterance_s_end_are_its_own_unless_it_was_cut(by: Passes | None, cut: bool) -> None:
    heard = words("yes 100-300 please 1040-1120 now 1200-1280")  # a model may hear on in the silence behind the end
    utterance = Utterance(10, 60, 60, (True,) * 50, cut)  # 1 s
    decided = decide(by, utterance, [Hypothesis("yes please now", 0.5, heard)], None)
    assert decided.source is (Source.FIRST if by is None else Source.FIRST_IN_TIME)
    (hypothesis,) = decided.hypotheses
    assert hypothesis.text == ("yes" if cut else "yes please now")
    assert told(hypothesis.words) == ("yes 100-300" if cut else "yes 100-300 please 1000-1000 now 1000-1000")


def test_a_text_is_cut_as_it_was_joined() -> None:
    heard = words("ab 0-100 a 200-300 ba 900-1000")
    utterance = Utterance(0, 25, 25, (True,) * 25, cut=True)
    for text, kept in (("ab a ba", "ab a"), ("ababa", "aba")):
        assert decide(None, utterance, [Hypothesis(text, 0.5, heard)], None).hypotheses[0].text == kept
