"""Utterances out of frames: which frames they hold, and when they end. A frame here is 20 ms."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley.decoder.speech.endpoint import (
    AFTER_SPEECH,
    BEFORE_SPEECH,
    SHORTEST_PAUSE,
    SMOOTHING,
    Endpointer,
    Step,
    Utterance,
    best_pause,
)
from parley.decoder.speech.vad import WINDOW
from parley.decoder.values import EndpointRules
from tests.decoder.fakes import judged

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

ONSET = 5  # frames of speech before the detector is sure


def even(start: int, end: int) -> list[float]:
    """Energies of frames that are all as loud."""
    return [1.0] * (end - start)


def fed(endpointer: Endpointer, speech: Sequence[bool], onset: int = ONSET) -> list[tuple[int, Step, Utterance | None]]:
    """(frames seen, step, what it closed) of every frame that did something."""
    done: list[tuple[int, Step, Utterance | None]] = []
    for at, each in enumerate(speech):
        ahead = [*speech[at : at + onset], True].index(True)  # as in the detector's window, onset grows up to speech
        step, closed = endpointer.accept(each, onset - ahead, even)
        if step is not Step.NOTHING:
            done.append((endpointer.frames, step, closed))
    return done


def told(utterance: Utterance | None) -> tuple[int, int, int, int]:
    """(start, end, speech_end, frames of speech)"""
    assert utterance is not None
    assert len(utterance.speech) == utterance.end - utterance.start
    return utterance.start, utterance.end, utterance.speech_end, sum(utterance.speech)


def talk(*lengths: int) -> list[bool]:
    """Frames of silence, speech, silence, ..."""
    return [bool(at % 2) for at, length in enumerate(lengths) for _ in range(length)]


# An utterance from begin to end.


def shape(closed: Utterance | None) -> tuple[int, int, int, int]:
    assert closed is not None
    return closed.start, closed.end, closed.speech_end, closed.spoken


def test_an_utterance_has_audio_before_and_after_its_speech() -> None:
    endpointer = Endpointer(EndpointRules(silence_after_speech_ms=800))
    done = fed(endpointer, talk(100, 50, 100))
    begun = 101 - ONSET
    assert [(at, step) for at, step, _ in done] == [(101, Step.BEGIN), (150 + 40, Step.END)]
    assert endpointer.speech_start == begun
    assert shape(done[1][2]) == (begun - BEFORE_SPEECH, 150 + AFTER_SPEECH, 150, 50 + ONSET - 1)


def test_at_the_very_start_there_is_nothing_before() -> None:
    endpointer = Endpointer(EndpointRules())
    for _ in range(3):
        endpointer.accept(False, 0, even)
    assert endpointer.accept(True, 3, even) == (Step.BEGIN, None)
    assert (endpointer.start, endpointer.speech_start) == (0, 1)


def test_the_next_utterance_takes_nothing_of_the_last_one() -> None:
    endpointer = Endpointer(EndpointRules(silence_after_speech_ms=100))
    done = fed(endpointer, talk(100, 50, 5, 50, 50), onset=WINDOW)
    first, second = (closed for _, _, closed in done if closed)
    assert first.end == second.start == 155
    assert sum(second.speech) == 50  # the onset was the first one's


def test_close_ends_where_it_stands() -> None:
    endpointer = Endpointer(EndpointRules())
    fed(endpointer, talk(0, 40))
    assert shape(endpointer.close()) == (0, 40, 40, 40)
    assert not endpointer.open
    assert endpointer.start == 40
    assert fed(endpointer, [True], onset=WINDOW) == [(41, Step.BEGIN, None)]
    assert shape(endpointer.close()) == (40, 41, 41, 1)


def test_close_in_the_silence_after_speech_keeps_only_what_belongs_to_it() -> None:
    endpointer = Endpointer(EndpointRules())
    fed(endpointer, talk(0, 40, 30))
    assert shape(endpointer.close()) == (0, 40 + AFTER_SPEECH, 40, 40)


@pytest.mark.parametrize(("rule_ms", "frames"), [(100, 5), (110, 6), (800, 40), (10_000, 500)])
def test_silence_after_speech(rule_ms: int, frames: int) -> None:
    endpointer = Endpointer(EndpointRules(silence_after_speech_ms=rule_ms, longest_utterance_ms=30_000))
    done = fed(endpointer, talk(0, 20, 600))
    assert (done[-1][0], done[-1][1]) == (20 + frames, Step.END)


# Silence before speech.


@pytest.mark.parametrize(("rule_ms", "frames"), [(1_000, 50), (1_010, 51), (10, 1)])
def test_no_speech_is_said_each_time_it_has_been_so_long(rule_ms: int, frames: int) -> None:
    endpointer = Endpointer(EndpointRules(silence_before_speech_ms=rule_ms))
    done = fed(endpointer, talk(frames * 3 + frames - 1))
    assert done == [(frames * k, Step.NO_SPEECH, None) for k in (1, 2, 3)]


def test_silence_before_speech_counts_from_the_last_utterance() -> None:
    endpointer = Endpointer(EndpointRules(silence_before_speech_ms=1_000, silence_after_speech_ms=100))
    done = fed(endpointer, talk(49, 30, 5 + 50))
    assert [(at, step) for at, step, _ in done] == [
        (50, Step.BEGIN),
        (84, Step.END),
        (84 + 50, Step.NO_SPEECH),
    ]


def test_without_the_rule_silence_is_never_told() -> None:
    assert fed(Endpointer(EndpointRules()), talk(10_000)) == []


# Long utterances.


def test_a_long_utterance_is_cut_at_its_pause_and_goes_on_from_there() -> None:
    endpointer = Endpointer(EndpointRules(longest_utterance_ms=3_000))
    done = fed(endpointer, talk(0, 70, 10, 90, 100), onset=1)
    assert [(at, step) for at, step, _ in done] == [(1, Step.BEGIN), (150, Step.CUT), (170 + 40, Step.END)]
    assert [shape(closed) for _, _, closed in done if closed] == [
        (0, 75, 75, 70),
        (75, 170 + AFTER_SPEECH, 170, 90),
    ]


def test_what_is_settled_goes_with_speech_and_a_little_beyond() -> None:
    endpointer = Endpointer(EndpointRules(silence_after_speech_ms=800))
    found = []
    for at, speech in enumerate(talk(0, 5, 30, 2, 39)):
        endpointer.accept(speech, min(at + 1, ONSET), even)
        assert endpointer.open
        found.append(endpointer.settled)
    last = 5 + 30 + 2
    assert found == [
        *range(1, 5 + AFTER_SPEECH + 1),
        *[5 + AFTER_SPEECH] * (30 - AFTER_SPEECH),
        *range(5 + 31, last + AFTER_SPEECH + 1),
        *[last + AFTER_SPEECH] * (39 - AFTER_SPEECH),
    ]


def test_without_a_pause_the_cuts_are_where_it_is_quietest() -> None:
    quiet = {*range(100, 100 + SMOOTHING), *range(180, 180 + SMOOTHING)}
    endpointer = Endpointer(EndpointRules(longest_utterance_ms=2_000))
    cuts = []

    def energies(start: int, end: int) -> list[float]:
        return [1.0 if at in quiet else 9.0 for at in range(start, end)]

    for at in range(220):
        step, closed = endpointer.accept(at >= 40, max(0, min(at - 40 + ONSET, WINDOW)), energies)
        if closed:
            cuts.append((endpointer.frames, step, closed.end))
    middle = SMOOTHING // 2
    start = 41 - ONSET - BEFORE_SPEECH
    assert cuts == [(start + 100, Step.CUT, 100 + middle), (200 + middle, Step.CUT, 180 + middle)]


def test_what_a_cut_leaves_may_be_silence() -> None:
    endpointer = Endpointer(EndpointRules(longest_utterance_ms=2_000))
    done = fed(endpointer, talk(0, 61, 41, 30, 100), onset=1)
    cut, empty, last = (closed for _, _, closed in done if closed)
    assert shape(cut) == (0, 81, 61, 61)
    assert shape(empty) == (81, 81, 61, 0)
    assert (last.start, sum(last.speech)) == (102 - BEFORE_SPEECH, 30)


@st.composite
def streams(draw: st.DrawFn) -> tuple[list[bool], list[float]]:
    """Frames voiced or not, in runs long enough for every rule, and their energies."""
    runs = draw(st.lists(st.tuples(st.booleans(), st.one_of(st.integers(1, 8), st.integers(1, 130))), max_size=14))
    voiced = [each for each, length in runs for _ in range(length)]
    few = draw(st.lists(st.sampled_from([0.0, 1.0, 5.0]), min_size=1, max_size=7))
    return voiced, list(itertools.islice(itertools.cycle(few), len(voiced)))


rules = st.builds(
    EndpointRules,
    silence_before_speech_ms=st.sampled_from([0, 500, 1_000]),
    silence_after_speech_ms=st.sampled_from([100, 300, 800, 2_500]),
    longest_utterance_ms=st.sampled_from([2_000, 2_500, 4_000]),
)


@given(streams(), rules, st.sets(st.integers(0, 1_500), max_size=4))
def test_every_frame_of_speech_is_in_one_utterance(
    stream: tuple[list[bool], list[float]], rule: EndpointRules, closes: set[int]
) -> None:
    frames = judged(stream[0])
    endpointer = Endpointer(rule)

    def energies(start: int, end: int) -> list[float]:
        assert endpointer.open
        assert (start, end) == (endpointer.start, endpointer.frames)  # no more is held
        return stream[1][start:end]

    closed: list[Utterance] = []
    start, earliest, cut = 0, 0, False
    settled = 0
    onset_from = begun = 0  # frames that were found to be speech afterwards
    for at, (speech, onset) in enumerate(frames):
        was_open = endpointer.open
        step, utterance = endpointer.accept(speech, onset, energies)
        assert (utterance is not None) == (step in (Step.END, Step.CUT))
        assert (step is Step.BEGIN) == (speech and not was_open)
        if step is Step.BEGIN:
            first_voiced = at + 1 - onset
            onset_from, begun = max(earliest, first_voiced), at
            assert endpointer.speech_start == max(earliest, first_voiced)
            assert endpointer.start == max(earliest, first_voiced - BEFORE_SPEECH)
        if utterance is None and at in closes and endpointer.open:
            utterance, step = endpointer.close(), Step.END
        if utterance is not None:
            assert utterance.start == start if cut else utterance.start >= earliest
            assert utterance.start <= utterance.end <= endpointer.frames
            assert utterance.end - utterance.start <= rule.longest_utterance_ms // 20
            assert utterance.speech_end <= utterance.end
            if step is not Step.CUT:
                assert utterance.end >= settled
            assert len(utterance.speech) == utterance.end - utterance.start
            for frame, told_speech in enumerate(utterance.speech, start=utterance.start):
                assert told_speech == (frames[frame][0] or onset_from <= frame < begun)
            closed.append(utterance)
            earliest, cut = utterance.end, step is Step.CUT
            assert endpointer.open == cut
        if endpointer.open:
            assert max(settled, endpointer.start) <= endpointer.settled <= endpointer.frames
            settled = endpointer.settled
        assert endpointer.start >= start  # what was given up does not come back
        start = endpointer.start
    held = [range(each.start, each.end) for each in closed]
    if endpointer.open:
        held.append(range(endpointer.start, endpointer.frames))
    for at, (speech, _) in enumerate(frames):
        assert sum(at in each for each in held) == 1 or not speech


# The best pause.


def marks(text: str) -> tuple[list[bool], Callable[[], list[float]]]:
    """'#' is speech; the energy is the same throughout."""
    return [mark == "#" for mark in text], lambda: [1.0] * len(text)


@pytest.mark.parametrize(
    ("text", "at"),
    [
        pytest.param("#" * 40 + "." * 10 + "#" * 50, 45, id="in the middle of the pause"),
        pytest.param("#" * 40 + "." * 9 + "#" * 51, 45, id="or just behind it"),
        pytest.param("#" * 50 + "." * 10 + "#" * 10 + "." * 12 + "#" * 18, 76, id="of the longest one"),
        pytest.param(
            "#" * 50 + "." * 10 + "#" * 10 + "." * 10 + "#" * 20, 75, id="of the later one of the same length"
        ),
        pytest.param("#" * 10 + "." * 20 + "#" * 20 + "." * 6 + "#" * 44, 53, id="not so early that little is left"),
        pytest.param("#" * 50 + ".." + "#" * 20 + "..." + "#" * 25, 74, id="two frames are no pause, three are"),
        pytest.param("#" * 30 + "." * 20 + "#" * 50, 45, id="of a pause that begins early, the later part"),
        pytest.param("#" * 80 + "." * 20, 90, id="the end is a pause"),
    ],
)
def test_best_pause(text: str, at: int) -> None:
    assert best_pause(*marks(text)) == at


def test_where_nobody_pauses_the_quietest_stretch_serves() -> None:
    energy = [float(9 + at % 2) for at in range(100)]
    energy[10:20] = [0.0] * 10  # quieter, but too early
    energy[63] = 0.0  # a single quiet frame in a loud place
    energy[60:63] = energy[64:67] = [30.0] * 3
    energy[70:75] = [2.0] * 5
    assert best_pause([True] * 100, lambda: energy) == 70 + SMOOTHING // 2


def test_the_quietest_stretch_may_be_the_last() -> None:
    energy = [9.0] * 95 + [1.0] * SMOOTHING
    assert best_pause([True] * 100, lambda: energy) == 95 + SMOOTHING // 2


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 9)), min_size=100, max_size=200))
def test_a_cut_is_in_the_longest_silence_of_the_last_part(frames: Sequence[tuple[bool, float]]) -> None:
    speech, energy = [s for s, _ in frames], [e for _, e in frames]
    at = best_pause(speech, lambda: energy)
    first = len(frames) * 2 // 5
    assert first < at < len(frames)
    runs: dict[int, int] = {}  # end -> length
    run = 0
    for frame in range(first, len(frames)):
        run = 0 if speech[frame] else run + 1
        runs[frame + 1] = run
    longest = max(runs.values())
    if longest >= SHORTEST_PAUSE:
        end = max(end for end, length in runs.items() if length == longest)
        assert at == end - longest // 2
    else:

        def quiet(k: int) -> float:
            return sum(energy[k : k + SMOOTHING])

        assert quiet(at - SMOOTHING // 2) == min(quiet(k) for k in range(first, len(frames) - SMOOTHING + 1))
