"""A stream's state: frames in, jobs and events out. The device is a fake that answers when the test says so.

Here the second pass is alone; what the first pass adds stands in test_stream_first_pass.py.
"""

from __future__ import annotations

import gc
import itertools
import threading
import weakref
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import webrtcvad
from hypothesis import given
from hypothesis import strategies as st

from parley.decoder.engine.buffer import HELD_FRAMES
from parley.decoder.engine.decoder import Decoder
from parley.decoder.engine.finals import PENDING_FINALS, PENDING_SEGMENTS
from parley.decoder.engine.outlet import State
from parley.decoder.engine.work import BatchLimits, Work
from parley.decoder.engine.worker import DeviceWorker
from parley.decoder.errors import DeviceError
from parley.decoder.speech.endpoint import AFTER_SPEECH, BEFORE_SPEECH, Endpointer
from parley.decoder.speech.vad import FRAME, FRAME_MS, Vad
from parley.decoder.values import (
    Advanced,
    EndpointRules,
    Event,
    Failed,
    Final,
    Finished,
    Hypothesis,
    NoSpeech,
    Partial,
    Passes,
    Source,
    SpeechBegin,
    SpeechEnd,
    StreamOptions,
    Transcript,
    Word,
    WordTiming,
)
from tests.decoder.fakes import FakeWorker, SteppedModel, said, whole
from tests.decoder.streams import HANGOVER, INTERIM, RULES, SECOND, Call, Clock, Loudness, frames_of, talk
from tests.speech import pcm_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from parley.decoder.engine.work import Job

REAL_VAD = webrtcvad.Vad


pytestmark = pytest.mark.usefixtures("loud_is_speech")


def utterances(samples: NDArray[np.int16], rules: EndpointRules) -> list[tuple[int, int]]:
    """(start, end) frames of what a stream of these samples, then finished, must send to the device."""
    padded = np.concatenate([samples, np.zeros(-len(samples) % FRAME, np.int16)])
    frames = padded.reshape(-1, FRAME)
    energies = [float(np.square(frame, dtype=np.float32).sum()) for frame in frames]
    vad, endpointer = Vad(2), Endpointer(rules)
    found = []
    for frame in frames:
        [(speech, onset)] = vad.accept(frame.tobytes())
        _, closed = endpointer.accept(speech, onset, lambda start, end: energies[start:end])
        if closed:
            found.append(closed)
    if endpointer.open:
        found.append(endpointer.close())
    return [(each.start, each.end) for each in found if each.spoken >= 5]


# What the device gets.


runs = st.lists(st.one_of(st.integers(1, 12), st.integers(10, 130)), max_size=8)


@given(runs, st.integers(0, FRAME - 1), st.lists(st.integers(0), max_size=20), st.sampled_from([100, 300, 800]))
def test_the_device_gets_each_utterance_s_samples_whatever_the_pieces(
    lengths: list[int], tail: int, cuts: list[int], silence_ms: int
) -> None:
    rules = EndpointRules(silence_after_speech_ms=silence_ms, longest_utterance_ms=2_000)
    samples = np.concatenate([talk(*lengths, seed=len(cuts)) if lengths else talk(0), talk(0, 1)[:tail]])
    call = Call(StreamOptions(rules=rules))
    call.feed(samples, cuts)
    call.decoder.finish()
    expected = utterances(samples, rules)
    jobs = call.finals()
    assert len(jobs) == len(expected)
    for job, (start, end) in zip(jobs, expected, strict=True):
        np.testing.assert_array_equal(whole(job).samples, frames_of(samples, start, end))
    at_once = Call(StreamOptions(rules=rules))
    at_once.feed(samples)
    at_once.decoder.finish()
    assert call.events == at_once.events


def test_over_minutes_no_sample_slips() -> None:
    rules = EndpointRules(silence_after_speech_ms=1_000, longest_utterance_ms=30_000)
    lengths = np.random.default_rng(5).integers(1, [300, 900] * 12)
    lengths[6], lengths[9] = 3_000, 4_000  # a minute of silence, and of speech: both are longer than is held
    samples = talk(*lengths)
    assert len(samples) > 5 * HELD_FRAMES * FRAME
    call = Call(StreamOptions(rules=rules))
    call.feed(samples, range(0, len(samples), 1_237))
    call.decoder.finish()
    expected = utterances(samples, rules)
    assert max(end - start for start, end in expected) > SECOND * 17
    assert len(expected) > 10
    for job, (start, end) in zip(call.finals(), expected, strict=True):
        np.testing.assert_array_equal(whole(job).samples, frames_of(samples, start, end))


def test_samples_given_away_are_not_written_again() -> None:
    call = Call()
    first = talk(20, 30, 20)
    call.feed(first)
    (job,) = call.finals()
    before = whole(job).samples.copy()
    call.feed(talk(HELD_FRAMES * 2, seed=1))
    np.testing.assert_array_equal(whole(job).samples, before)


@pytest.mark.parametrize("beam", [1, 4])
def test_a_final_is_asked_for_as_the_request_wants(beam: int) -> None:
    call = Call(StreamOptions(interim_results=True, max_alternatives=beam, word_times=beam == 1, rules=RULES))
    call.feed(talk(20, 30))
    call.feed(talk(20))
    (final,) = call.finals()
    assert (final.work, whole(final).beam, whole(final).word_times) == (Work.FINAL, beam, beam == 1)
    (partial,) = call.partials()
    assert (whole(partial).beam, whole(partial).word_times) == (1, False)


def test_a_recording_s_utterances_are_file_work() -> None:
    call = Call(recording=True)
    call.feed(talk(20, 30, 20))
    assert [job.work for job in call.finals()] == [Work.FILE]


def test_a_stream_far_ahead_of_the_clock_is_a_recording_in_a_hurry(clock: Clock) -> None:
    call = Call()
    utterance = talk(20, 30, 18)  # 1.36 s
    call.feed(utterance)
    call.feed(utterance)
    assert [job.work for job in call.finals()] == [Work.FINAL, Work.FILE]  # 1.36 s ahead, 2.72 s ahead
    clock.now += 2.2
    call.feed(utterance)  # 1.88 s ahead
    assert [job.work for job in call.finals()][2:] == [Work.FINAL]


def test_a_burst_is_forgiven(clock: Clock) -> None:
    call = Call()
    utterance = talk(20, 30, 18)  # 1.36 s
    for _ in range(5):
        call.feed(utterance)
    assert [job.work for job in call.finals()] == [Work.FINAL] + [Work.FILE] * 4
    call.device.jobs.clear()
    for _ in range(10):  # at the pace of speech, though as far ahead as before
        clock.now += 1.36
        call.feed(utterance)
    # A lead of 6.8 s, halved every 5 s, is 2.2 s after 8.2 s and 1.8 s after 9.5 s.
    assert [job.work for job in call.finals()] == [Work.FILE] * 6 + [Work.FINAL] * 4


# Events.


def test_events_of_an_utterance(clock: Clock) -> None:
    call = Call(StreamOptions(max_alternatives=2, rules=RULES), channel=3)
    call.feed(talk(50, 40, 50))
    end = 90 + HANGOVER
    assert call.events == [SpeechBegin(3, 50 * FRAME_MS), SpeechEnd(3, end * FRAME_MS)]
    (job,) = call.finals()
    clock.now += 0.25
    best = Hypothesis("he said", 0.9, (Word("he", 0, 200, 0.8), Word("said", 240, 900, 0.7)))
    other = Hypothesis("she said", 0.4)
    call.device.answer(job, Transcript((best, other)), queue_s=0.125, batch_size=7)
    start_ms = (50 - BEFORE_SPEECH) * FRAME_MS
    # In the stream's time, and without the silence that a word begins with; one that is all silence stays.
    shifted = (Word("he", start_ms, start_ms + 200, 0.8), Word("said", 50 * FRAME_MS, start_ms + 900, 0.7))
    final = Final(
        channel=3,
        segment=0,
        start_ms=start_ms,
        end_ms=(end + AFTER_SPEECH) * FRAME_MS,
        hypotheses=(replace(best, words=shifted), other),
        word_timing=WordTiming.ATTENTION,
        source=Source.SECOND,
        total_s=0.25,
        queue_s=0.125,
        batch_size=7,
    )
    assert call.events[2:] == [final, Advanced(3, call.decoder.final_ms)]


@pytest.mark.parametrize(
    ("word", "placed"),
    [
        pytest.param((0, 400), (300, 400), id="not the silence before it"),
        pytest.param((1_000, 1_460), (1_000, 1_160), id="nor behind it"),
        pytest.param((310, 350), (310, 350), id="but all of the speech"),
        pytest.param((0, 1_460), (300, 1_160), id="of a single word"),
        pytest.param((0, 200), (0, 200), id="where there is none, as the model says"),
        pytest.param((290, 301), (300, 301), id="some of it"),
    ],
)
def test_a_word_is_where_speech_is(word: tuple[int, int], placed: tuple[int, int]) -> None:
    call = Call()
    call.feed(talk(50, 40, 50))
    call.device.answer(call.finals()[0], said("he", ("he", *word)))
    (final,) = call.of(Final)
    assert (final.start_ms, final.end_ms) == (700, 700 + 1_160 + 300)
    (found,) = final.hypotheses[0].words
    assert (found.start_ms - final.start_ms, found.end_ms - final.start_ms) == placed


def test_words_made_for_a_neighbour_in_the_batch_are_dropped() -> None:
    call = Call(StreamOptions(word_times=False, rules=RULES))
    call.feed(talk(50, 40, 50))
    call.device.answer(call.finals()[0], said("he", ("he", 0, 200)))
    (final,) = call.of(Final)
    assert [(each.text, each.words) for each in final.hypotheses] == [("he", ())]


def test_an_utterance_without_words_only_advances() -> None:
    call = Call()
    call.feed(talk(50, 40, 50))
    call.answer("")
    assert call.events[2:] == [Advanced(0, call.decoder.final_ms)]


def test_too_little_speech_is_no_utterance() -> None:
    call = Call()
    call.feed(talk(50, 40))
    call.decoder.finalize()  # the detector still hears speech ...
    call.answer("one")
    call.feed(talk(0, 4))  # ... so these frames begin an utterance
    call.decoder.finalize()
    assert call.finals() == []
    assert call.events[-3:] == [SpeechBegin(0, 1_800), SpeechEnd(0, 1_880), Advanced(0, 1_880)]
    call.feed(talk(0, 5))
    call.decoder.finalize()
    call.answer("two")
    assert [(final.segment, final.start_ms) for final in call.of(Final)] == [
        (0, (50 - BEFORE_SPEECH) * FRAME_MS),
        (1, 1_880),
    ]


def test_silence_is_told_when_asked_for() -> None:
    call = Call(StreamOptions(rules=EndpointRules(silence_before_speech_ms=1_000)))
    call.feed(talk(3 * SECOND - 1))
    assert call.events == [NoSpeech(0, 1_000), NoSpeech(0, 2_000)]
    assert call.state is State.SILENCE


def test_finals_come_in_order_whatever_the_device_does() -> None:
    call = Call()
    call.feed(talk(50, 40, 50, 40, 50, 40, 50))
    first, second, third = call.finals()
    call.device.answer(third, said("three"))
    call.device.answer(second, said(""))
    assert not call.of(Final) + call.of(Advanced)
    call.device.answer(first, said("one"))
    assert [type(event) for event in call.events[-5:]] == [Final, Advanced, Advanced, Final, Advanced]
    finals = call.of(Final)
    assert [(final.segment, final.hypotheses[0].text) for final in finals] == [(0, "one"), (2, "three")]
    assert finals[0].end_ms <= finals[1].start_ms


def test_a_cut_utterance_goes_on() -> None:
    call = Call()
    call.feed(talk(20, 60, 6, 60))
    assert call.state is State.UTTERANCE
    assert [type(event) for event in call.events] == [SpeechBegin]  # nobody fell silent
    call.decoder.finish()
    call.answer("one", "two")
    first, second = call.of(Final)
    assert first.end_ms == second.start_ms
    assert [type(event) for event in call.events[1:]] == [SpeechEnd, Final, Advanced, Final, Advanced, Finished]


# Cursors.


def test_final_cursor() -> None:
    call = Call()
    decoder = call.decoder
    assert (decoder.processed_ms, decoder.final_ms) == (0, 0)
    call.feed(talk(100))
    assert (decoder.processed_ms, decoder.final_ms) == (2_000, (100 - BEFORE_SPEECH) * FRAME_MS)  # a word may begin
    call.feed(talk(0, 50))
    begin_ms = (100 - BEFORE_SPEECH) * FRAME_MS
    assert (decoder.processed_ms, decoder.final_ms) == (3_000, begin_ms)
    call.feed(talk(18))
    assert (call.state, decoder.final_ms) == (State.SILENCE, begin_ms)  # the device has it
    call.feed(talk(82, 50))
    assert decoder.final_ms == begin_ms
    call.answer("one")
    assert (call.state, decoder.final_ms) == (State.UTTERANCE, (250 - BEFORE_SPEECH) * FRAME_MS)
    decoder.finish()
    assert (call.state, decoder.final_ms) == (State.DRAINING, (250 - BEFORE_SPEECH) * FRAME_MS)
    call.answer("two")
    assert (call.state, decoder.final_ms) == (State.CLOSED, 6_000)


def test_a_sink_may_read_the_cursors() -> None:
    call = Call()
    seen: list[tuple[type[Event], int]] = []
    call.outlet.sink = lambda event: seen.append((type(event), call.decoder.final_ms))
    call.feed(talk(50, 40, 50, 40, 50))
    before = call.decoder.final_ms
    seen.clear()
    call.answer("one", "two")
    assert [kind for kind, _ in seen] == [Final, Advanced, Final, Advanced]
    assert seen[0][1] == before  # behind a final only when it is sent
    assert seen[1][1] == seen[2][1] > before


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("silence"), st.integers(1, 60)),
            st.tuples(st.just("speech"), st.integers(1, 60)),
            st.tuples(st.just("answer"), st.integers(0, 5)),
            st.tuples(st.just("finalize"), st.just(0)),
        ),
        max_size=30,
    )
)
def test_in_any_play_of_speech_and_device_results_keep_their_order(play: list[tuple[str, int]]) -> None:
    call = Call(INTERIM)
    cursors: list[int] = []
    floor = 0  # of the finals still to come
    random = np.random.default_rng(0)

    def check() -> None:
        nonlocal floor
        for event in call.events[len(cursors) :]:
            if isinstance(event, Final):
                assert event.start_ms >= floor
            cursors.append(floor)
        assert call.decoder.final_ms >= floor
        floor = call.decoder.final_ms
        assert floor <= call.decoder.processed_ms

    answered: list[Job] = []
    for move, n in play:
        if move in ("silence", "speech"):
            high = 20_000 if move == "speech" else 200
            call.decoder.accept(random.integers(-high, high + 1, n * FRAME).astype(np.int16))
        elif move == "finalize":
            call.decoder.finalize()
        elif call.device.jobs:
            job = call.device.jobs.pop(n % len(call.device.jobs))
            call.device.answer(job, said("words"))
            answered.append(job)
        check()
    call.decoder.finish()
    while call.device.jobs:
        call.device.answer(call.device.jobs.pop(), said("words"))
        check()
    assert call.events[-1] == Finished()
    assert call.decoder.final_ms == call.decoder.processed_ms

    finals = call.of(Final)
    assert [final.segment for final in finals] == list(range(len(finals)))
    assert all(before.end_ms <= after.start_ms for before, after in itertools.pairwise(finals))
    talking, done = False, -1
    for event in call.events:
        if isinstance(event, SpeechBegin | SpeechEnd):
            assert talking == isinstance(event, SpeechEnd)
            talking = not talking
        elif isinstance(event, Partial):
            assert talking
            assert event.segment > done
            assert event.end_ms > event.start_ms
        elif isinstance(event, Final):
            done = event.segment


# Partials.


def test_partials_come_at_most_every_interval() -> None:
    call = Call(INTERIM, partial_interval_ms=300)
    samples = talk(20, 60)
    call.feed(samples, range(0, len(samples), 100))
    starts = {whole(job).samples[:FRAME].tobytes() for job in call.partials()}
    assert starts == {samples[5 * FRAME : 6 * FRAME].tobytes()}  # always the whole utterance so far
    ends = [5 + len(whole(job).samples) // FRAME for job in call.partials()]
    begun = 25  # five frames make speech
    assert ends == [begun + 15, begun + 30, begun + 45]
    call.device.answer(call.partials()[1], said("so far"))
    assert call.events[1:] == [
        Partial(0, 0, start_ms=100, end_ms=(begun + 30) * FRAME_MS, hypothesis=Hypothesis("so far", 0.5))
    ]


def test_a_large_piece_brings_one_partial_of_all_of_it() -> None:
    call = Call(INTERIM)
    call.feed(talk(20, 70))
    assert [len(whole(job).samples) // FRAME for job in call.partials()] == [BEFORE_SPEECH + 70]


@pytest.mark.parametrize(
    ("options", "interval_ms"), [(StreamOptions(rules=RULES), 300), (INTERIM, 0)], ids=["not asked for", "not offered"]
)
def test_no_partials(options: StreamOptions, interval_ms: int) -> None:
    call = Call(options, partial_interval_ms=interval_ms)
    samples = talk(20, 90)
    call.feed(samples, range(0, len(samples), 1000))
    assert call.partials() == []


def test_a_partial_without_words_is_not_sent() -> None:
    call = Call(INTERIM)
    call.feed(talk(20, 60))
    call.device.answer(call.partials()[0], said(""))
    assert call.of(Partial) == []


def test_a_partial_that_comes_after_its_utterance_is_dropped() -> None:
    call = Call(INTERIM)
    call.feed(talk(20, 60))
    late = call.partials()[0]
    call.feed(talk(20))
    call.device.answer(late, said("late"))
    call.feed(talk(20, 60))
    call.device.answer(late, said("late"))
    assert call.state is State.UTTERANCE
    assert call.of(Partial) == []


def test_a_cut_s_partial_is_not_the_next_one_s() -> None:
    call = Call(INTERIM)
    call.feed(talk(20, 60))
    late = call.partials()[0]
    call.feed(talk(0, 40))
    assert len(call.finals()) == 1
    assert call.state is State.UTTERANCE
    call.device.answer(late, said("late"))
    assert call.of(Partial) == []


def test_a_partial_of_too_little_speech_is_not_the_next_one_s() -> None:
    call = Call(INTERIM, partial_interval_ms=20)
    call.feed(talk(50, 40))
    call.decoder.finalize()
    call.device.jobs.clear()
    call.feed(talk(0, 4))
    late = call.partials()[0]
    call.decoder.finalize()
    call.feed(talk(0, 4))
    call.device.answer(late, said("late"))
    assert call.state is State.UTTERANCE
    assert call.of(Partial) == []


def test_with_an_utterance_the_interval_begins_anew() -> None:
    call = Call(INTERIM)
    samples = talk(20, 40, 18, 19)
    call.feed(samples, range(0, len(samples), FRAME))
    assert [len(whole(job).samples) // FRAME for job in call.partials()] == [35, 50, 65]
    call.feed(talk(0, 1))
    assert [len(whole(job).samples) // FRAME for job in call.partials()] == [35, 50, 65, 20]


def test_with_a_cut_the_interval_begins_anew() -> None:
    call = Call(INTERIM)
    samples = talk(20, 101)
    call.feed(samples, range(0, len(samples), FRAME))
    assert [job.work for job in call.device.jobs] == [Work.PARTIAL] * 5 + [
        Work.FILE,
        Work.PARTIAL,
    ]  # all at once: a recording in a hurry
    last = whole(call.partials()[-1]).samples
    np.testing.assert_array_equal(last, samples[: 120 * FRAME][-len(last) :])  # the cut came with frame 105


# The end.


def test_finish_sends_the_frame_begun_and_closes_when_all_is_sent() -> None:
    call = Call()
    samples = np.concatenate([talk(20, 30), talk(0, 1, seed=2)[:123]])
    call.feed(samples)
    assert call.decoder.processed_ms == 1_000
    call.decoder.finish()
    assert call.decoder.processed_ms == 1_020
    (job,) = call.finals()
    np.testing.assert_array_equal(whole(job).samples, frames_of(samples, 5, 51))
    assert whole(job).samples[-1] == 0
    assert whole(job).samples[-FRAME + 122] == samples[-1]
    assert call.of(Finished) == []
    call.answer("end")
    assert [type(event) for event in call.events] == [SpeechBegin, SpeechEnd, Final, Advanced, Finished]
    assert call.state is State.CLOSED


def test_a_last_frame_may_end_the_utterance_itself() -> None:
    call = Call()
    call.feed(talk(20, 30, 14))
    call.feed(talk(1)[:-1])
    assert call.finals() == []
    call.decoder.finish()
    call.answer("end")
    assert call.events[-1] == Finished()


def test_finish_of_nothing() -> None:
    call = Call()
    call.decoder.finish()
    assert call.events == [Finished()]


def test_finalize_leaves_a_frame_begun_to_the_next_utterance() -> None:
    call = Call()
    samples = talk(20, 60)
    call.feed(samples[: 40 * FRAME + 200])
    call.decoder.finalize()
    call.feed(samples[40 * FRAME + 200 :])
    call.decoder.finish()
    first, second = call.finals()
    np.testing.assert_array_equal(np.concatenate([whole(first).samples, whole(second).samples]), samples[5 * FRAME :])


# A single utterance.


SINGLE = StreamOptions(single_utterance=True, rules=RULES)


def test_a_single_utterance_ends_the_stream() -> None:
    call = Call(SINGLE)
    call.feed(talk(20, 30, 20, 30, 20))
    assert call.state is State.DRAINING
    processed_ms = call.decoder.processed_ms
    assert processed_ms == (20 + 30 + HANGOVER + 15) * FRAME_MS
    call.decoder.finish()
    call.answer("one")
    assert [type(event) for event in call.events] == [SpeechBegin, SpeechEnd, Final, Advanced, Finished]
    call.feed(talk(20, 30, 20))
    assert call.decoder.final_ms == call.decoder.processed_ms == processed_ms


def test_a_cut_does_not_end_a_single_utterance() -> None:
    call = Call(SINGLE)
    call.feed(talk(20, 110))
    call.answer("so far")
    assert call.state is State.UTTERANCE
    call.decoder.finalize()
    call.answer("to here")
    assert [type(event) for event in call.events[-4:]] == [SpeechEnd, Final, Advanced, Finished]


def test_silence_for_too_long_ends_a_single_utterance_s_stream() -> None:
    rules = EndpointRules(silence_before_speech_ms=1_000)
    call = Call(StreamOptions(single_utterance=True, rules=rules))
    call.feed(talk(50, 30, 20))
    assert call.events == [NoSpeech(0, 1_000), Finished()]
    in_finish = Call(StreamOptions(single_utterance=True, rules=rules))
    in_finish.feed(talk(50)[:-7])
    assert in_finish.events == []
    in_finish.decoder.finish()
    assert in_finish.events == [NoSpeech(0, 1_000), Finished()]


# States.


def reach(state: State) -> Call:
    """A call in that state."""
    device = FakeWorker()
    if state is State.AWAITING_CONFIG:
        call = Call(device=device)
        call.decoder.reset()
        call.decoder.reset()  # again: nothing
        call.decoder.bind()
        return call
    call = Call(INTERIM, device=device)
    if state is not State.SILENCE:
        call.feed(talk(20, 60)[:-7])
    if state in (State.DRAINING, State.CLOSED):
        call.decoder.finish()
    if state is State.CLOSED:
        call.answer("closed")
    if state is State.FAILED:
        call.device.fail(call.partials()[0], DeviceError("broken"))
    return call


@pytest.mark.parametrize("state", State)
def test_every_state_is_reached(state: State) -> None:
    assert reach(state).state == state


SAME = None
TABLE = {
    # state: after (silence, speech, finalize, finish, the device's answer, the device's fault)
    State.AWAITING_CONFIG: (SAME, SAME, SAME, SAME, SAME, SAME),
    State.SILENCE: (SAME, State.UTTERANCE, SAME, State.CLOSED, SAME, SAME),
    State.UTTERANCE: (State.SILENCE, SAME, State.SILENCE, State.DRAINING, SAME, State.FAILED),
    State.DRAINING: (SAME, SAME, SAME, SAME, State.CLOSED, State.FAILED),
    State.CLOSED: (SAME, SAME, SAME, SAME, SAME, SAME),
    State.FAILED: (SAME, SAME, SAME, SAME, SAME, SAME),
}
MOVES = ("silence", "speech", "finalize", "finish", "answer", "fault")


@pytest.mark.parametrize(
    ("state", "move", "becomes"),
    [(state, move, after) for state, row in TABLE.items() for move, after in zip(MOVES, row, strict=True)],
)
def test_state_table(state: State, move: str, becomes: State | None) -> None:
    call = reach(state)
    events, jobs = len(call.events), list(call.device.jobs)
    if move == "silence":
        call.feed(talk(20))
    elif move == "speech":
        call.feed(talk(0, 8))
    elif move == "finalize":
        call.decoder.finalize()
    elif move == "finish":
        call.decoder.finish()
    else:
        for job in list(call.device.jobs):
            if move == "answer":
                call.device.answer(job, said("words"))
            else:
                call.device.fail(job, DeviceError("broken"))
    assert call.state is (becomes or state)
    if state in (State.AWAITING_CONFIG, State.CLOSED, State.FAILED):
        assert len(call.events) == events
        assert call.device.jobs == jobs


def test_after_a_fault_nothing_comes() -> None:
    call = Call(INTERIM)
    call.feed(talk(50, 40, 50, 60))
    error = DeviceError("broken")
    first, second = call.finals()[0], call.partials()[0]
    call.device.fail(first, error)
    assert call.events[-1] == Failed(error)
    before = len(call.events)
    call.device.fail(second, DeviceError("again"))
    call.device.answer(first, said("late"))
    call.device.answer(second, said("late"))
    call.feed(talk(50, 40, 50))
    call.decoder.finish()
    assert len(call.events) == before


def test_a_device_that_stopped_fails_the_stream_that_brings_it_work() -> None:
    worker = DeviceWorker("stopped", {Passes.SECOND: SteppedModel()}, 16_000, BatchLimits(), Unobserving())
    worker.close()
    call = Call(decoder=Decoder(worker, 0, 2))
    call.feed(talk(20, 60))
    call.decoder.finish()
    assert [type(event) for event in call.events] == [SpeechBegin, SpeechEnd, Failed]
    assert call.state is State.FAILED


def test_a_frame_that_comes_while_the_device_fails_is_passed_over() -> None:
    """As in a race: the fault comes between the look at the state and the frame."""
    call = Call()
    call.feed(talk(20))
    accept = call.decoder._vad.accept

    def failing(frames: bytes) -> list[tuple[bool, int]]:
        call.outlet.fail(DeviceError("now"))
        return accept(frames)

    call.decoder._vad.accept = failing  # type: ignore[method-assign]
    call.feed(talk(0, 10))
    assert [type(event) for event in call.events] == [Failed]
    assert call.decoder.processed_ms == 400


def test_events_of_the_feeding_thread_come_under_the_device_s_lock() -> None:
    call = Call(StreamOptions(rules=EndpointRules(silence_before_speech_ms=100, silence_after_speech_ms=300)))
    free: list[bool] = []

    def sink(event: Event) -> None:
        thread = threading.Thread(target=lambda: free.append(call.device.lock.acquire(blocking=False)))
        thread.start()
        thread.join()
        call.events.append(event)

    call.outlet.sink = sink
    call.feed(talk(6, 30, 20))
    call.answer("")
    call.feed(talk(0, 30))
    call.decoder.finalize()
    call.answer("")
    call.decoder.finish()
    assert {type(event) for event in call.events} == {NoSpeech, SpeechBegin, SpeechEnd, Advanced, Finished}
    assert not any(free)


# Room.


@pytest.mark.parametrize(("recording", "most"), [(False, PENDING_FINALS), (True, PENDING_SEGMENTS)])
def test_room_until_enough_utterances_wait(recording: bool, most: int) -> None:
    call = Call(recording=recording)
    for waiting in range(most):
        assert call.decoder.has_room
        call.feed(talk(20, 20, 20))
        assert len(call.finals()) == waiting + 1
    assert not call.decoder.has_room
    job = call.finals()[0]
    call.device.answer(job, said("one"))
    assert call.decoder.has_room


# Lending again.


@pytest.mark.parametrize("state", State)
def test_a_reset_decoder_is_as_new(state: State) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("webrtcvad.Vad", REAL_VAD)
        speech = np.frombuffer(pcm_of("austen_3.flac"), np.int16)
        samples = np.concatenate([np.zeros(700, np.int16), speech, talk(50), speech[: len(speech) // 2]])
        options = StreamOptions(interim_results=True, max_alternatives=3)
        plays = []
        for used in (False, True):
            device = FakeWorker()
            decoder = Decoder(device.worker, 0, 2)
            if used:
                patch.setattr("webrtcvad.Vad", Loudness)
                left = reach(state)
                patch.setattr("webrtcvad.Vad", REAL_VAD)
                decoder, device = left.decoder, left.device
                decoder.reset()
                assert device.bound == set()
                device.jobs.clear()
            assert decoder.state is State.AWAITING_CONFIG
            assert (decoder.processed_ms, decoder.final_ms, decoder.has_room) == (0, 0, True)
            call = Call(options, decoder=decoder, device=device)
            call.feed(samples, range(0, len(samples), 1_111))
            decoder.finish()
            jobs = list(device.jobs)
            for job in jobs:
                device.answer(job, said("words", ("words", 0, 100)))
            events = [replace(e, total_s=0.0) if isinstance(e, Final) else e for e in call.events]
            plays.append((events, [(job.work, whole(job).beam, whole(job).samples.tobytes()) for job in jobs]))
        assert len(plays[0][1]) > 5
        assert plays[0] == plays[1]


def test_nothing_of_an_old_lending_reaches_the_new_one() -> None:
    model = SteppedModel()
    worker = DeviceWorker("real", {Passes.SECOND: model}, 16_000, BatchLimits(), observer := Unobserving())
    decoder = Decoder(worker, 0, 2)
    old = Call(decoder=decoder)
    old.feed(talk(20, 60))
    decoder.finalize()
    model.entered()
    old.feed(talk(0, 30))
    decoder.finalize()  # waits behind it
    seen = len(old.events)
    decoder.reset()
    new = Call(decoder=decoder)
    new.feed(talk(20, 60, seed=1))
    decoder.finish()
    model.go()
    model.entered()
    model.go()
    worker.close()
    assert len(old.events) == seen
    assert [type(event) for event in new.events] == [SpeechBegin, SpeechEnd, Final, Advanced, Finished]
    assert observer.drops == ["final"]


class Unobserving:
    def __init__(self) -> None:
        self.drops: list[str] = []

    def batch(self, work: str, rows: int, audio_s: float, wall_s: float) -> None: ...
    def waited(self, work: str, wait_s: float) -> None: ...
    def dropped(self, work: str, reason: str) -> None:
        self.drops.append(work)


def test_a_decoder_that_is_dropped_is_free_at_once() -> None:
    """Without a collection: a node leaves out of it what it has loaded."""
    device = FakeWorker()
    decoder = Decoder(device.worker, 0, 2)
    call = Call(decoder=decoder)
    call.feed(talk(20, 60, 50))
    decoder.reset()
    device.jobs.clear()  # as a device forgets those of an owner who was unbound
    gone = weakref.ref(decoder)
    gc.disable()
    try:
        del decoder, call
        assert gone() is None
    finally:
        gc.enable()
