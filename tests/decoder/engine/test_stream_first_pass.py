"""A stream with the first pass, alone or beside the second: chunks out, partials and finals in."""

from __future__ import annotations

import itertools
import math
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parley.decoder.engine.buffer import BLOCK_FRAMES, HELD_FRAMES, LAG_FRAMES
from parley.decoder.engine.decoder import Decoder
from parley.decoder.engine.outlet import State
from parley.decoder.engine.pace import LEAD_HALVED_S
from parley.decoder.engine.work import BatchLimits, Work
from parley.decoder.engine.worker import DeviceWorker
from parley.decoder.errors import DeviceError
from parley.decoder.policy import plan_of
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
from tests.decoder.bench import Noted
from tests.decoder.fakes import WAIT_S, FakeWorker, SteppedModel, chunk, said, whole
from tests.decoder.streams import (
    HANGOVER,
    INTERIM,
    RULES,
    SECOND,
    SHAPE,
    STEP,
    Call,
    Clock,
    FirstPassShape,
    frames_of,
    speak,
    talk,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from parley.decoder.engine.work import Job
    from parley.decoder.models.acoustic import Chunk
    from parley.decoder.search.ctc import Wishes
    from parley.decoder.speech.endpoint import Utterance

pytestmark = pytest.mark.usefixtures("loud_is_speech")

FIRST, BOTH = Passes.FIRST, Passes.BOTH
LONG = EndpointRules(silence_after_speech_ms=300, longest_utterance_ms=30_000)
LONG_INTERIM = StreamOptions(interim_results=True, rules=LONG)
WINDOW_FRAMES = -(-(SHAPE.step + SHAPE.after) // FRAME)  # of an utterance, until its first chunk is due


def closed_utterances(samples: NDArray[np.int16], rules: EndpointRules) -> list[Utterance]:
    """What a stream of these samples, then finished, holds; also those with too little speech."""
    padded = np.concatenate([samples, np.zeros(-len(samples) % FRAME, np.int16)])
    frames = padded.reshape(-1, FRAME)
    energies = [float(np.square(frame, dtype=np.float32).sum()) for frame in frames]
    vad, endpointer = Vad(2), Endpointer(rules)
    found = []
    for frame in frames:
        [(speech, onset)] = vad.accept(frame.tobytes())
        _, closed = endpointer.accept(speech, onset, lambda start, end: energies[start:end])
        found += [closed] if closed else []
    return [*found, endpointer.close()] if endpointer.open else found


def windows(samples: NDArray[np.int16], count: int) -> list[bytes]:
    """The chunks of an utterance of these samples."""
    padded = np.concatenate([np.zeros(SHAPE.before, np.int16), samples, np.zeros(SHAPE.window, np.int16)])
    return [padded[at * SHAPE.step :][: SHAPE.window].tobytes() for at in range(count)]


# What the device gets.


@given(
    st.lists(st.one_of(st.integers(1, 12), st.integers(10, 90)), max_size=7),
    st.integers(0, FRAME - 1),
    st.lists(st.tuples(st.integers(0, 40 * FRAME), st.integers(0, 4)), max_size=40),
    st.sampled_from([FIRST, BOTH]),
)
def test_the_device_gets_each_utterance_chunk_by_chunk_whatever_the_pieces(
    lengths: list[int], tail: int, pieces: list[tuple[int, int]], passes: Passes
) -> None:
    samples = np.concatenate([talk(*lengths) if lengths else talk(0), talk(0, 1)[:tail]])
    call = Call(StreamOptions(rules=LONG), passes=passes)
    got: list[Chunk] = []

    def hear(most: int) -> None:
        for _ in range(most):
            if call.chunks():
                assert len(call.chunks()) == 1
                got.append(chunk(call.hear(said("words"))))

    at = 0
    for size, answers in pieces:
        call.decoder.accept(samples[at : at + size])
        at += size
        hear(answers)
    call.decoder.accept(samples[at:])
    hear(1)
    call.decoder.finish()
    hear(len(samples))
    spoken = [one for one in closed_utterances(samples, LONG) if one.spoken >= 5]
    count = FirstPassShape().chunks
    expected = [
        (index, window)
        for one in spoken
        for index, window in enumerate(
            windows(frames_of(samples, one.start, one.end), count((one.end - one.start) * FRAME))
        )
    ]
    assert [(each.index, each.samples.tobytes()) for each in got] == expected
    assert [(whole(job).by, whole(job).samples.tobytes()) for job in call.finals()] == (
        [(Passes.SECOND, frames_of(samples, one.start, one.end).tobytes()) for one in spoken] if passes is BOTH else []
    )
    call.answer(*["words"] * len(call.finals()))
    assert call.state is State.CLOSED


def test_over_minutes_no_sample_slips() -> None:
    """Longer than is held, with cuts, the device behind now and then."""
    rules = EndpointRules(silence_after_speech_ms=1_000, longest_utterance_ms=10_000)
    random = np.random.default_rng(5)
    lengths = random.integers(1, [300, 900] * 12)
    lengths[6], lengths[9] = 3_000, 4_000  # a minute of silence, and of speech: both are longer than is held
    samples = talk(*lengths)
    assert len(samples) > 5 * HELD_FRAMES * FRAME
    call = Call(StreamOptions(rules=rules), passes=FIRST)
    got: list[Chunk] = []
    for start in range(0, len(samples), 5 * FRAME):
        call.feed(samples[start : start + 5 * FRAME])
        while call.chunks() and (not call.decoder.has_room or random.random() < 0.4):
            got.append(chunk(call.hear(said("words"))))
    call.decoder.finish()
    while call.chunks():
        got.append(chunk(call.hear(said("words"))))
    padded = np.concatenate([samples, np.zeros(SHAPE.window, np.int16)])

    def is_of(each: Chunk, one: Utterance) -> bool:
        before = SHAPE.before if each.index else 0  # of its first chunk an utterance has nothing
        window = each.samples[SHAPE.before - before :]
        if each.length is not None:
            window = window[: each.length - each.index * SHAPE.step + before]
        at = one.start * FRAME + each.index * SHAPE.step - before
        return np.array_equal(window, padded[at : at + len(window)])

    utterances = closed_utterances(samples, rules)
    left = iter(utterances)
    one = None
    for each in got:
        if each.index == 0:
            one = next(one for one in left if one.spoken >= 5 or is_of(each, one))
        assert one is not None
        assert is_of(each, one)
    assert not any(one.spoken >= 5 for one in left)
    assert sum(one.end == other.start for one, other in itertools.pairwise(utterances)) >= 5  # cuts
    assert len(call.of(Final)) == sum(one.spoken >= 5 for one in utterances) > 15


def test_chunks_go_as_soon_as_they_are_due() -> None:
    call = Call(LONG_INTERIM, passes=FIRST)
    samples = talk(50, 100)
    begun = 50 - BEFORE_SPEECH
    for at, frame in enumerate(samples.reshape(-1, FRAME), start=1):
        call.feed(frame)
        due = at >= max(55, begun + WINDOW_FRAMES)  # five frames make speech
        assert bool(call.chunks()) == due
        if due:
            break
    call.hear(said("one"))
    assert not call.chunks()
    call.feed(samples[: STEP * FRAME])
    assert [chunk(job).index for job in call.chunks()] == [1]


def test_the_silence_that_an_endpoint_waits_for_costs_nothing() -> None:
    call = Call(StreamOptions(rules=EndpointRules(silence_after_speech_ms=10_000)), passes=FIRST)
    call.feed(talk(50, 40))
    call.hear_all(said("words"))
    call.feed(talk(400))
    heard = call.hear_all(said("words"))
    most = (BEFORE_SPEECH + 40 + HANGOVER + AFTER_SPEECH) // STEP
    assert heard[-1] <= most
    call.feed(talk(30))
    assert call.chunks() == []
    call.decoder.finalize()
    assert call.hear_all(said("words")) == [heard[-1] + 1]
    assert len(call.of(Final)) == 1


def test_silence_costs_nothing() -> None:
    call = Call(INTERIM, passes=BOTH)
    call.feed(talk(3 * SECOND))
    call.decoder.finish()
    assert call.device.jobs == []
    assert call.events == [Finished()]


@pytest.mark.parametrize("passes", [FIRST, BOTH])
def test_a_recording_is_decoded_whole_by_one_pass(passes: Passes) -> None:
    call = Call(passes=passes, recording=True)
    call.feed(talk(50, 40, 50))
    (job,) = call.device.jobs
    assert (job.work, whole(job).by) == (Work.FILE, FIRST if passes is FIRST else Passes.SECOND)
    assert (job.late, job.deadline) == (job.late, math.inf)
    call.answer("words")
    (final,) = call.of(Final)
    assert (final.source, final.word_timing) == (
        (Source.FIRST, WordTiming.CTC) if passes is FIRST else (Source.SECOND, WordTiming.ATTENTION)
    )


def test_the_request_s_passes_go_before_the_node_s() -> None:
    for asked, node in itertools.product((*Passes, None), (FIRST, BOTH)):
        call = Call(StreamOptions(rules=RULES, passes=asked), passes=node)
        call.feed(talk(50, 40, 50))
        does = asked or node
        assert bool(call.chunks()) == (does is not Passes.SECOND)
        assert bool(call.finals()) == (does is not FIRST)


def test_chunks_of_a_stream_in_a_hurry_give_way_until_its_lead_has_faded(clock: Clock) -> None:
    call = Call(LONG_INTERIM, passes=FIRST)
    call.feed(talk(0, 4 * SECOND))  # 4 s ahead: halved every 5 s
    works = []
    for _ in range(3 * SECOND):  # at the pace of speech, though as far ahead as before
        clock.now += 4 * FRAME_MS / 1000
        call.feed(talk(0, 4))
        works += [call.hear(said("words")).work for _ in call.chunks()]
    behind = sum(work is Work.CATCH_UP for work in works)
    assert works == [Work.CATCH_UP] * behind + [Work.CHUNK] * (len(works) - behind)
    faded_s = LEAD_HALVED_S  # from 4 s to 2 s, however often it was asked
    assert behind * SHAPE.step / 16_000 == pytest.approx(faded_s + 4 - LAG_FRAMES / SECOND, abs=3)
    assert Work.CHUNK in works


def test_a_chunk_that_a_final_waits_for_is_urgent(clock: Clock) -> None:
    call = Call(passes=FIRST)
    speak(call, clock, 20, 40)
    assert not call.chunks()[0].urgent
    call.decoder.finalize()
    (early,) = call.chunks()
    call.hear(said("words"))
    (later,) = call.chunks()
    assert (early.urgent, later.urgent) == (False, True)
    assert later.work is Work.CHUNK


# Partials.


def test_partials_come_with_new_words_and_say_how_far_they_go() -> None:
    call = Call(LONG_INTERIM, passes=FIRST, channel=2)
    call.feed(talk(50, 100))
    start_ms = (50 - BEFORE_SPEECH) * FRAME_MS
    for transcript in (
        said(""),
        said("he", ("he", 320, 400)),
        said("he", ("he", 320, 400)),
        said("he said", ("he", 320, 400), ("said", 960, 1_200)),
    ):
        call.hear(transcript)
    first = Word("he", start_ms + 320, start_ms + 400, 0.5)
    second = Word("said", start_ms + 960, start_ms + 1_200, 0.5)
    chunk_ms = STEP * FRAME_MS
    assert call.events[1:] == [
        Partial(2, 0, start_ms, start_ms + 2 * chunk_ms, Hypothesis("he", 0.5, (first,))),
        Partial(2, 0, start_ms, start_ms + 4 * chunk_ms, Hypothesis("he said", 0.5, (first, second))),
    ]


@pytest.mark.parametrize(
    ("options", "interval_ms"),
    [(StreamOptions(rules=LONG), 300), (LONG_INTERIM, 0)],
    ids=["not asked for", "not offered"],
)
@pytest.mark.parametrize("passes", [FIRST, BOTH])
def test_no_partials(options: StreamOptions, interval_ms: int, passes: Passes) -> None:
    call = Call(options, passes=passes, partial_interval_ms=interval_ms)
    call.feed(talk(20, 90))
    call.hear_all(said("words"))
    assert call.of(Partial) == []
    assert call.partials() == []


def test_partials_without_word_times() -> None:
    call = Call(replace(LONG_INTERIM, word_times=False), passes=FIRST)
    call.feed(talk(20, 90))
    call.hear(said("he", ("he", 0, 200)))
    (partial,) = call.of(Partial)
    assert partial.hypothesis == Hypothesis("he", 0.5)


def test_with_both_partials_are_the_first_pass_s() -> None:
    call = Call(LONG_INTERIM, passes=BOTH)
    call.feed(talk(20, 90), range(0, 110 * FRAME, 1_000))
    assert call.partials() == []
    call.hear(said("he"))
    assert len(call.of(Partial)) == 1


def test_no_partial_of_an_utterance_that_is_over() -> None:
    call = Call(LONG_INTERIM, passes=FIRST)
    call.feed(talk(20, 60, 40))
    call.hear_all(said("words"))
    assert [type(event) for event in call.events] == [SpeechBegin, SpeechEnd, Final, Advanced]


def test_an_utterance_s_partials_begin_anew() -> None:
    call = Call(LONG_INTERIM, passes=FIRST)
    call.feed(talk(20, 60))
    call.hear(said("words"))
    call.feed(talk(40))
    call.hear_all(said("words"))
    call.feed(talk(20, 60))
    call.hear(said("words"))
    assert [partial.segment for partial in call.of(Partial)] == [0, 1]


# Finals of the first pass alone.


def test_a_final_of_the_first_pass(clock: Clock) -> None:
    call = Call(passes=FIRST, channel=3)
    speak(call, clock, 50, 40)
    call.hear_all(said("he", ("he", 320, 400)))
    speak(call, clock, 50)
    assert call.events == [SpeechBegin(3, 50 * FRAME_MS), SpeechEnd(3, (90 + HANGOVER) * FRAME_MS)]
    while True:
        (job,) = call.chunks()
        call.device.jobs.remove(job)
        words = said("he said", ("he", 320, 400), ("said", 960, 1_200))
        call.device.answer(job, words, queue_s=0.125, batch_size=7)
        if call.of(Final):
            break
    start_ms = (50 - BEFORE_SPEECH) * FRAME_MS
    waited_s = (50 - AFTER_SPEECH - HANGOVER) * FRAME_MS / 1000  # since its end was decided
    placed = (Word("he", start_ms + 320, start_ms + 400, 0.5), Word("said", start_ms + 960, start_ms + 1_200, 0.5))
    final = Final(
        channel=3,
        segment=0,
        start_ms=start_ms,
        end_ms=(90 + HANGOVER + AFTER_SPEECH) * FRAME_MS,
        hypotheses=(Hypothesis("he said", 0.5, placed),),
        word_timing=WordTiming.CTC,
        source=Source.FIRST,
        total_s=waited_s,
        queue_s=0.125,
        batch_size=7,
    )
    (found,) = call.of(Final)
    assert found.total_s == pytest.approx(waited_s)
    assert call.events[2:] == [replace(final, total_s=found.total_s), Advanced(3, call.decoder.final_ms)]
    assert chunk(job).length == final.end_ms * 16 - final.start_ms * 16


def test_an_utterance_without_words_only_advances() -> None:
    call = Call(passes=FIRST)
    call.feed(talk(50, 40, 50))
    call.hear_all(said(""))
    assert call.events[2:] == [Advanced(0, call.decoder.final_ms)]


def test_words_of_one_utterance_are_not_the_next_one_s() -> None:
    call = Call(passes=FIRST)
    call.feed(talk(50, 40, 50, 40, 50))
    texts = iter(["one", "one", "one", "one", "one", "", "", "", "", ""])
    while call.chunks():
        call.hear(said(next(texts)))
    assert [(final.segment, final.hypotheses[0].text) for final in call.of(Final)] == [(0, "one")]
    assert next(texts, None) is None
    assert call.decoder.final_ms == (230 - BEFORE_SPEECH) * FRAME_MS


def test_finalize_flushes_what_is_known() -> None:
    call = Call(LONG_INTERIM, passes=FIRST)
    samples = talk(20, 60)
    call.feed(samples[: 40 * FRAME + 200])
    call.decoder.finalize()
    assert call.hear_all(said("one")) == [0, 1, 2]  # 5 + 35 frames
    assert [final.end_ms for final in call.of(Final)] == [800]
    call.feed(samples[40 * FRAME + 200 :])
    (job,) = call.chunks()
    np.testing.assert_array_equal(chunk(job).samples[: SHAPE.before], 0)
    np.testing.assert_array_equal(
        chunk(job).samples[SHAPE.before :], frames_of(samples, 40, 57)[: SHAPE.window - SHAPE.before]
    )
    call.decoder.finish()
    call.hear_all(said("two"))
    assert [final.hypotheses[0].text for final in call.of(Final)] == ["one", "two"]
    assert call.events[-1] == Finished()


@pytest.mark.parametrize("passes", [FIRST, BOTH])
def test_a_single_utterance_ends_the_stream(passes: Passes) -> None:
    call = Call(StreamOptions(single_utterance=True, rules=RULES), passes=passes)
    call.feed(talk(20, 30, 20, 30, 20))
    assert call.state is State.DRAINING
    call.decoder.finish()
    call.hear_all(said("one"))
    if passes is BOTH:
        assert call.of(Finished) == []
        call.answer("one")
    assert [type(event) for event in call.events] == [SpeechBegin, SpeechEnd, Final, Advanced, Finished]
    call.feed(talk(20, 30, 20))
    assert call.device.jobs == []


def click(call: Call, silence: int) -> None:
    """Right after `finalize`, while the detector still hears speech: an utterance with so little of it that it is
    none, and frames of silence."""
    for frame in talk(0, 1, silence).reshape(-1, FRAME):
        call.feed(frame)


def test_a_click_with_a_chunk_on_the_device() -> None:
    call = Call(LONG_INTERIM, passes=FIRST)
    call.feed(talk(50, 40))
    call.decoder.finalize()
    call.hear_all(said("one"))
    click(call, AFTER_SPEECH + HANGOVER)
    assert call.state is State.SILENCE
    assert [type(event) for event in call.events[-3:]] == [SpeechBegin, SpeechEnd, Advanced]
    assert [chunk(job).index for job in call.chunks()] == [0]
    seen = len(call.events)
    call.hear(said("click"))
    assert call.chunks() == []
    assert len(call.events) == seen
    call.feed(talk(50, 40))
    call.hear(said(""))
    call.hear_all(said("two"))
    call.decoder.finish()
    call.hear_all(said("two"))
    assert [final.hypotheses[0].text for final in call.of(Final)] == ["one", "two"]
    assert [final.segment for final in call.of(Final)] == [0, 1]


def test_the_click_s_chunk_is_answered_in_the_next_utterance() -> None:
    call = Call(LONG_INTERIM, passes=FIRST)
    call.feed(talk(50, 40))
    call.decoder.finalize()
    call.hear_all(said("one"))
    click(call, AFTER_SPEECH + HANGOVER)
    call.feed(talk(50, 100))
    assert [chunk(job).index for job in call.chunks()] == [0]
    call.hear(said("click"))
    assert call.of(Partial) == []
    (job,) = call.chunks()
    assert chunk(job).index == 0  # of the next one
    call.hear(said("two"))
    assert [partial.hypothesis.text for partial in call.of(Partial)] == ["two"]


def test_the_words_of_a_click_are_not_taken_for_shown() -> None:
    call = Call(LONG_INTERIM, passes=FIRST)
    call.feed(talk(50, 40))
    call.decoder.finalize()
    call.hear_all(said("one"))
    click(call, AFTER_SPEECH + 2)
    call.hear(said("two"))
    call.feed(talk(20))
    assert call.state is State.SILENCE
    assert call.chunks() == []
    call.feed(talk(50, 40))
    call.hear(said("two"))
    assert [(partial.segment, partial.hypothesis.text) for partial in call.of(Partial)] == [(1, "two")] * 2


# Cuts.


def after_cut(passes: Passes, *, options: StreamOptions | None = None) -> tuple[Call, NDArray[np.int16], Utterance]:
    """Speech with a pause in it, too long for one utterance: the call, its samples and the part that was cut off."""
    samples = talk(20, 60, 9, 60)
    call = Call(options, passes=passes)
    call.feed(samples)
    assert call.state is State.UTTERANCE
    (closed, _) = closed_utterances(samples, RULES)
    assert 5 + 60 < closed.end < 5 + 100  # in its pause
    return call, samples, closed


def test_words_at_a_cut_are_neither_lost_nor_doubled() -> None:
    call, _, closed = after_cut(FIRST)
    cut_ms = (closed.end - closed.start) * FRAME_MS
    words = (("one", 0, 200), ("two", cut_ms - 20, cut_ms + 40), ("three", cut_ms, cut_ms + 100))
    while not call.of(Final):
        call.hear(said("one two three", *words))  # it was fed beyond the cut, and has heard the next one's word
    call.decoder.finish()
    call.hear_all(said("three", ("three", 0, 400)))
    first, second = call.of(Final)
    assert (first.hypotheses[0].text, second.hypotheses[0].text) == ("one two", "three")
    assert first.start_ms + cut_ms == second.hypotheses[0].words[0].start_ms
    assert call.events[-1] == Finished()


def test_at_a_cut_the_second_pass_s_words_get_the_times_of_the_same_utterance_s() -> None:
    call, _, closed = after_cut(BOTH)
    cut_ms = (closed.end - closed.start) * FRAME_MS
    call.device.answer(call.finals()[0], said("One no", ("One", 30, 210), ("no", cut_ms - 60, cut_ms - 40)))
    while not call.of(Final):
        call.hear(said("one no", ("one", 0, 200), ("no", cut_ms, cut_ms + 100)))  # another "no"
    (final,) = call.of(Final)
    assert (final.source, final.word_timing) == (Source.SECOND, WordTiming.MIXED)
    assert [word.start_ms - final.start_ms for word in final.hypotheses[0].words] == [0, cut_ms - 60]


def test_a_hypothesis_of_the_next_utterance_s_words_alone_is_none() -> None:
    call, _, closed = after_cut(FIRST)
    cut_ms = (closed.end - closed.start) * FRAME_MS
    call.hear_all(said("three", ("three", cut_ms, cut_ms + 100)))
    assert call.of(Final) == []
    assert call.of(Advanced)[0].final_ms == closed.start * FRAME_MS
    assert call.decoder.final_ms == closed.end * FRAME_MS


def test_the_next_utterance_is_fed_from_the_cut_on() -> None:
    call, samples, closed = after_cut(FIRST)
    indexes: list[int] = []
    while True:
        job = call.hear(said("words"))
        if indexes and chunk(job).index == 0:
            break
        indexes.append(chunk(job).index)
    assert indexes == list(range((closed.end - closed.start + STEP) // STEP))
    np.testing.assert_array_equal(chunk(job).samples[: SHAPE.before], 0)
    np.testing.assert_array_equal(
        chunk(job).samples[SHAPE.before :],
        samples[closed.end * FRAME :][: SHAPE.window - SHAPE.before],
    )


def test_partials_of_a_cut_utterance_s_next_part() -> None:
    call, _, closed = after_cut(FIRST, options=INTERIM)
    call.hear_all(said("words", ("words", 0, 200)))
    (final,) = call.of(Final)
    (partial,) = call.of(Partial)
    assert (final.segment, partial.segment) == (0, 1)
    assert partial.start_ms == closed.end * FRAME_MS == final.end_ms


def test_a_cut_with_too_little_speech_before_it_is_dropped() -> None:
    rules = EndpointRules(silence_after_speech_ms=5_000, longest_utterance_ms=2_000)
    call = Call(StreamOptions(interim_results=True, rules=rules), passes=FIRST)
    call.feed(talk(50, 40))
    call.decoder.finalize()
    call.hear_all(said("one"))
    click(call, 100)
    assert call.state is State.UTTERANCE
    assert isinstance(call.events[-1], Advanced)
    call.hear(said("click"))
    call.feed(talk(0, 60))
    call.hear_all(said("two"))
    call.decoder.finish()
    call.hear_all(said("two"))
    assert [(final.segment, final.hypotheses[0].text) for final in call.of(Final)] == [(0, "one"), (1, "two")]
    assert {partial.hypothesis.text for partial in call.of(Partial)} == {"two"}
    assert {partial.segment for partial in call.of(Partial)} == {1}


# Faults.


def test_a_chunk_that_fails_fails_the_stream() -> None:
    call = Call(LONG_INTERIM, passes=FIRST)
    call.feed(talk(50, 40))
    (job,) = call.chunks()
    error = DeviceError("not finite")
    call.device.fail(job, error)
    assert call.events[-1] == Failed(error)
    call.device.jobs.clear()
    seen = len(call.events)
    call.feed(talk(50, 40, 50))
    call.decoder.finish()
    call.device.answer(job, said("late"))
    assert call.device.jobs == []
    assert len(call.events) == seen


@pytest.mark.parametrize("passes", [FIRST, BOTH])
def test_a_device_that_stopped_fails_the_stream_that_brings_it_work(passes: Passes) -> None:
    model = SteppedModel()
    worker = DeviceWorker("stopped", {Passes.SECOND: model}, 16_000, BatchLimits(), Noted(), model)
    worker.close()
    call = Call(passes=passes, decoder=Decoder(worker, 0, 2, FirstPassShape().model))
    call.feed(talk(20, 60))
    call.feed(talk(20, 60))
    call.decoder.finish()
    assert [type(event) for event in call.events] == [SpeechBegin, Failed]


# Room.


def test_a_client_is_held_back_while_much_audio_waits() -> None:
    call = Call(LONG_INTERIM, passes=FIRST)
    fed = 0
    call.feed(talk(20))
    while call.decoder.has_room:
        call.feed(talk(0, 1, seed=fed))
        fed += 1
    assert LAG_FRAMES < fed + BEFORE_SPEECH - STEP <= LAG_FRAMES + 1
    seen = len(call.events)
    call.hear(said(""))
    assert call.decoder.has_room
    assert call.events[seen:] == [Advanced(0, call.decoder.final_ms)]
    call.hear(said(""))  # there was room before
    assert len(call.events) == seen + 1


def test_a_client_is_held_back_while_the_device_stands_still_through_a_silence() -> None:
    call = Call(LONG_INTERIM, passes=FIRST)
    call.feed(talk(20, 20, 20))
    fed = 60
    while call.decoder.has_room:
        call.feed(talk(BLOCK_FRAMES))  # as much as may come then
        fed += BLOCK_FRAMES
        assert fed < 2 * HELD_FRAMES
    seen = len(call.events)
    call.hear_all(said("words"))
    assert call.decoder.has_room
    assert Advanced in {type(event) for event in call.events[seen:]}
    call.feed(talk(HELD_FRAMES))


def test_more_than_there_is_room_for_is_refused() -> None:
    call = Call(LONG_INTERIM, passes=FIRST)
    call.feed(talk(20, 40, 20))
    with pytest.raises(BufferError, match="audio came although has_room is False"):
        call.feed(talk(HELD_FRAMES))


def test_nothing_comes_after_the_last_event_though_there_is_room_again() -> None:
    call = Call(LONG_INTERIM, passes=FIRST)
    call.feed(talk(20, 20, 20))
    while chunk(call.chunks()[0]).length is None:
        call.hear(said("words"))
    while call.decoder.has_room:
        call.feed(talk(BLOCK_FRAMES))
    call.decoder.finish()
    call.hear(said("words"))
    assert call.decoder.has_room
    assert isinstance(call.events[-1], Finished)


def test_nothing_comes_after_a_fault_though_there_is_room_again() -> None:
    call = Call(LONG_INTERIM, passes=FIRST)
    call.feed(talk(20, 110))
    assert not call.decoder.has_room
    call.device.submit = lambda job: job.failed(DeviceError("stopped"))  # type: ignore[method-assign]
    call.hear(said("words"))
    assert call.decoder.has_room
    assert isinstance(call.events[-1], Failed)


def test_what_the_device_reads_is_moved_under_its_lock() -> None:
    call = Call(LONG_INTERIM, passes=FIRST)
    owned: list[bool] = []

    class Watched(np.ndarray):
        def __setitem__(self, key: Any, value: Any) -> None:
            if not key.start:
                owned.append(call.device.lock._is_owned())  # type: ignore[attr-defined]
            super().__setitem__(key, value)

    call.decoder._audio.samples = call.decoder._audio.samples.view(Watched)
    call.feed(talk(3 * HELD_FRAMES))
    assert owned[0] is False  # the very first frame: nobody can want it yet
    assert len(owned) > 2
    assert all(owned[1:])


# Lending again.


def reach(state: State, passes: Passes) -> Call:
    """A call in that state, with a chunk on the device wherever there can be one."""
    call = Call(INTERIM, passes=passes, budget_ms=400)
    if state is State.AWAITING_CONFIG:
        call.decoder.reset()
        call.decoder.bind()
        return call
    if state is State.SILENCE:
        call.feed(talk(20, 60, 40)[:-7])
    else:
        call.feed(talk(20, 60)[:-7])
        call.hear(said("words"))
        assert call.of(Partial)
    if state in (State.DRAINING, State.CLOSED):
        call.decoder.finish()
    if state is State.CLOSED:
        call.hear_all(said("closed"))
        call.answer(*["closed"] * len(call.finals()))
    elif state is State.FAILED:
        call.device.fail(call.chunks()[0], DeviceError("broken"))
    else:
        assert call.chunks()
    assert call.state is state
    return call


@pytest.mark.parametrize("passes", [FIRST, BOTH])
@pytest.mark.parametrize("state", State)
def test_a_reset_decoder_is_as_new(state: State, passes: Passes) -> None:
    def play(call: Call, old: Sequence[Job]) -> tuple[list[Event], list[tuple[int, bytes]]]:
        assert (call.decoder.processed_ms, call.decoder.final_ms, call.decoder.has_room) == (0, 0, True)
        got: list[tuple[int, bytes]] = []
        for at, frame in enumerate(talk(30, 50, 40, 130, seed=3).reshape(-1, FRAME)):
            call.feed(frame)
            for job in old:
                call.device.answer(job, said("old"))
            if at % 10 == 0 and call.chunks():
                job = call.hear(said("words", ("words", 0, 100)))
                got.append((chunk(job).index, chunk(job).samples.tobytes()))
        call.decoder.finish()
        call.hear_all(said("words", ("words", 0, 100)))
        call.answer(*["words"] * len(call.finals()))
        return [replace(event, total_s=0.0) if isinstance(event, Final) else event for event in call.events], got

    left = reach(state, passes)
    seen, old = list(left.events), list(left.device.jobs)
    left.decoder.reset()
    assert left.device.wiped[-1] == left.decoder.slot
    left.device.jobs.clear()
    again = play(Call(INTERIM, passes=passes, decoder=left.decoder, device=left.device), old)
    assert again == play(Call(INTERIM, passes=passes), [])
    assert isinstance(again[0][-1], Finished)
    assert len(again[1]) > 5
    assert left.events == seen


@pytest.mark.parametrize("passes", [FIRST, BOTH])
def test_a_decoder_lent_again_goes_by_its_new_stream_s_passes(passes: Passes) -> None:
    old = Call(INTERIM, passes=passes)
    old.feed(talk(20, 60))
    old.decoder.reset()
    old.device.jobs.clear()
    call = Call(StreamOptions(rules=RULES, passes=Passes.SECOND), passes=passes, decoder=old.decoder, device=old.device)
    call.feed(talk(20, 60, 40))
    assert call.chunks() == []
    call.answer("words")
    (final,) = call.of(Final)
    assert (final.source, final.word_timing) == (Source.SECOND, WordTiming.ATTENTION)


moves = st.lists(
    st.one_of(
        st.tuples(st.just("silence"), st.integers(1, 60)),
        st.tuples(st.just("speech"), st.integers(1, 60)),
        st.tuples(st.sampled_from(["hear", "hear", "hear", "answer", "late", "fail"]), st.integers(0, 5)),
        st.tuples(st.sampled_from(["finalize", "finish", "lend again", "answer an old one"]), st.integers(0, 9)),
    ),
    max_size=40,
)


@given(moves, st.sampled_from([FIRST, BOTH]))
@settings(max_examples=200)
def test_in_any_play_everything_reaches_its_own_stream_in_order(play: list[tuple[str, int]], passes: Passes) -> None:
    """Accept, answer, reset, lend again, in any order: a stream's words say which stream they are."""
    device = FakeWorker()
    calls: list[Call] = []
    whose: dict[int, int] = {}  # owner -> stream
    old: list[Job] = []  # of streams that are over
    done: set[int] = set()  # ids of second passes that were told late or answered
    decoder = Decoder(device.worker, 0, 2, FirstPassShape().model)
    random = np.random.default_rng(0)

    def lend() -> None:
        calls.append(Call(INTERIM, passes=passes, budget_ms=400, decoder=decoder, device=device))
        whose[max(device.bound)] = len(calls) - 1

    def words(job: Job) -> Transcript:
        n = whose[job.owner]
        return said(f"s{n} words", (f"s{n}", 0, 100), ("words", 1_900, 2_000))

    def check() -> None:
        call = calls[-1]
        assert len(call.chunks()) <= 1
        for n, each in enumerate(calls):
            for event in each.events:
                if isinstance(event, Partial):
                    assert event.hypothesis.text.startswith(f"s{n}")
                elif isinstance(event, Final):
                    assert event.hypotheses[0].text.startswith(f"s{n}")
            finals = each.of(Final)
            assert [final.segment for final in finals] == sorted({final.segment for final in finals})
            lasts = [isinstance(event, Finished | Failed) for event in each.events]
            assert not any(lasts[:-1])
        assert call.decoder.final_ms <= call.decoder.processed_ms

    lend()
    for move, n in play:
        call = calls[-1]
        before = [len(each.events) for each in calls[:-1]]
        if move in ("silence", "speech"):
            if decoder.has_room:
                high = 20_000 if move == "speech" else 200
                call.feed(random.integers(-high, high + 1, min(n, BLOCK_FRAMES) * FRAME).astype(np.int16))
        elif move == "hear" and call.chunks():
            (job,) = call.chunks()
            call.hear(words(job))
        elif move in ("answer", "late") and call.finals():
            job = call.finals()[n % len(call.finals())]
            if move == "late" and job.deadline < math.inf and id(job) not in done:
                done.add(id(job))
                device.late(job)
            else:
                device.jobs.remove(job)
                device.answer(job, words(job))
        elif move == "fail" and device.jobs and n == 0:
            job = device.jobs.pop(n % len(device.jobs))
            device.fail(job, DeviceError("broken"))
        elif move == "finalize":
            decoder.finalize()
        elif move == "finish" and n < 2:
            decoder.finish()
        elif move == "lend again" and n < 4:
            old += device.jobs
            device.jobs.clear()
            decoder.reset()
            lend()
        elif move == "answer an old one" and old:
            job = old[n % len(old)]
            device.answer(job, words(job))
        check()
        assert [len(each.events) for each in calls[: len(before)]] == before
    call = calls[-1]
    decoder.finish()
    while device.jobs and call.state is not State.FAILED:
        job = device.jobs.pop()
        device.answer(job, words(job))
        check()
    assert isinstance(call.events[-1], Finished | Failed)
    if call.state is State.CLOSED:
        assert decoder.final_ms == decoder.processed_ms


# On a real device's thread.


class Scribe:
    """A first pass whose words are the chunks it got: whoever gets another's chunk, or one twice, says other words."""

    step = SHAPE.step

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self._said: dict[int, list[str]] = {}

    def clear(self, slot: int) -> None:
        self._said.pop(slot, None)

    def advance(self, chunks: Sequence[Chunk]) -> Iterator[list[tuple[int, Transcript | DeviceError]]]:
        self.sizes.append(len(chunks))
        assert len({each.slot for each in chunks}) == len(chunks)
        for each in chunks:
            said_before = self._said.setdefault(each.slot, [])
            if each.index == 0:
                said_before.clear()
            assert each.index == len(said_before)
            said_before.append(f"{zlib.crc32(each.samples.tobytes()):08x}{each.length or ''}")
        yield [(row, self._words(each.slot)) for row, each in enumerate(chunks)]

    def finish(self, slot: int, count: int) -> Transcript:
        return Transcript(self._words(slot).hypotheses[:count])

    def _words(self, slot: int) -> Transcript:
        texts = self._said[slot]
        return said(" ".join(texts), *((text, 320 * at, 320 * at + 100) for at, text in enumerate(texts)))

    def decode(
        self,
        batch: Sequence[NDArray[np.int16]],
        *,
        beam: int,
        word_times: bool,
        wishes: Sequence[Wishes | None] = (),
    ) -> Iterator[list[tuple[int, Transcript | DeviceError]]]:
        raise AssertionError("nothing is decoded whole here")


def test_many_streams_at_once_on_a_real_device_are_heard_as_one_by_one() -> None:
    scribe = Scribe()
    worker = DeviceWorker("real", {}, 16_000, BatchLimits(chunks=5), Noted(), scribe)
    decoders = [Decoder(worker, slot, 2, FirstPassShape().model) for slot in range(8)]

    def stream(decoder: Decoder, number: int, piece: int) -> list[object]:
        """The texts of a stream's last partials and finals, with their times."""
        events: list[Event] = []
        over, moved = threading.Event(), threading.Event()

        def sink(event: Event) -> None:
            events.append(event)
            moved.set()
            if isinstance(event, Finished | Failed):
                over.set()

        decoder.bind()
        decoder.open(0, plan_of(FIRST, LONG_INTERIM, partial_interval_ms=300, final_budget_ms=0), sink)
        samples = talk(30, 70, 40, 150, 30, seed=number)
        for start in range(0, len(samples), piece):
            moved.clear()
            while not decoder.has_room:
                assert moved.wait(WAIT_S)
                moved.clear()
            decoder.accept(samples[start : start + piece])
        decoder.finish()
        assert over.wait(WAIT_S)
        decoder.reset()
        assert isinstance(events[-1], Finished)
        return [(e.segment, e.start_ms, e.end_ms, e.hypotheses) for e in events if isinstance(e, Final)]

    def broken_off(decoder: Decoder, number: int) -> None:
        decoder.bind()
        decoder.open(0, plan_of(FIRST, LONG_INTERIM, partial_interval_ms=300, final_budget_ms=0), lambda _: None)
        decoder.accept(talk(0, 40 + number, seed=99))
        decoder.reset()

    try:
        alone = [stream(decoders[0], number, 16_000) for number in range(8)]
        assert all(len(finals) == 2 for finals in alone)
        assert len({str(finals) for finals in alone}) == 8

        def client(slot: int) -> None:
            for turn in range(4):
                number = (slot + turn) % 8
                assert stream(decoders[slot], number, 700 + 900 * slot) == alone[number]
                broken_off(decoders[slot], number)

        with ThreadPoolExecutor(8) as clients:
            list(clients.map(client, range(8)))
    finally:
        worker.close()
    assert max(scribe.sizes) > 1


@pytest.mark.parametrize("passes", [FIRST, BOTH])
def test_words_that_cannot_be_passed_on_fail_the_stream(passes: Passes, monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("parley.decoder.engine.finals.decide", breaks)
    call = Call(passes=passes)
    call.feed(talk(20, 40))
    call.decoder.finish()
    answered = []

    def answer_all() -> None:
        while True:
            answered.append((call.chunks() or call.finals())[0])
            call.device.jobs.remove(answered[-1])
            call.device.answer(answered[-1], said("one", ("one", 0, 100)))

    with pytest.raises(ZeroDivisionError):  # the device's thread catches it ...
        answer_all()
    call.device.fail(answered[-1], ZeroDivisionError())  # ... and fails the job with it
    assert isinstance(call.events[-1], Failed)
    assert call.state is State.FAILED
