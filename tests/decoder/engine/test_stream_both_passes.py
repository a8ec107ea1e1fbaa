"""A stream with both passes: whose words and whose times, the budget, what is late."""

from __future__ import annotations

import math

import pytest

from parley.decoder.engine.work import Work
from parley.decoder.errors import DeviceError
from parley.decoder.speech.endpoint import AFTER_SPEECH, BEFORE_SPEECH
from parley.decoder.speech.vad import FRAME_MS
from parley.decoder.values import (
    Advanced,
    Failed,
    Final,
    Finished,
    Passes,
    Source,
    SpeechBegin,
    SpeechEnd,
    StreamOptions,
    Transcript,
    WordTiming,
)
from tests.decoder.fakes import chunk, said, whole
from tests.decoder.streams import HANGOVER, RULES, Call, Clock, speak, talk

pytestmark = pytest.mark.usefixtures("loud_is_speech")

BOTH = Passes.BOTH


def ended(clock: Clock, *, budget_ms: int = 0, utterances: int = 1, options: StreamOptions | None = None) -> Call:
    """A call of both passes with utterances that have ended and that neither pass has answered."""
    call = Call(options, passes=BOTH, budget_ms=budget_ms)
    speak(call, clock, *[50, 40] * utterances, 50)
    assert [job.work for job in call.finals()] == [Work.FINAL] * utterances
    assert len(call.chunks()) == 1
    return call


def hear_utterance(call: Call, transcript: Transcript) -> None:
    """Answers the chunks of the oldest utterance that has any left."""
    while True:
        (job,) = call.chunks()
        last = chunk(job).length is not None
        call.hear(transcript)
        if last:
            return


HEARD = said("he said", ("he", 320, 400), ("said", 960, 1_040))
AGREED = said("He said.", ("He", 300, 420), ("said.", 900, 1_100))
PARTLY = said("She said.", ("She", 300, 420), ("said.", 900, 1_100))
OTHER = said("She did.", ("She", 300, 420), ("did.", 900, 1_100))


@pytest.mark.parametrize("first_first", [True, False])
@pytest.mark.parametrize(
    ("second", "timing", "times"),
    [
        (AGREED, WordTiming.CTC, [(320, 400), (960, 1_040)]),
        (PARTLY, WordTiming.MIXED, [(300, 420), (960, 1_040)]),
        (OTHER, WordTiming.ATTENTION, [(300, 420), (900, 1_100)]),
    ],
)
def test_with_both_the_second_s_words_come_at_the_first_s_times(
    clock: Clock, second: Transcript, timing: WordTiming, times: list[tuple[int, int]], first_first: bool
) -> None:
    call = ended(clock)
    (job,) = call.finals()
    if first_first:
        hear_utterance(call, HEARD)
        assert call.of(Final) == []
    call.device.answer(job, second, queue_s=0.25, batch_size=3)
    if not first_first:
        assert call.of(Final) == []
        hear_utterance(call, HEARD)
    (final,) = call.of(Final)
    assert (final.source, final.word_timing) == (Source.SECOND, timing)
    assert (final.queue_s, final.batch_size) == (0.25, 3)
    (hypothesis,) = final.hypotheses
    assert hypothesis.text == second.hypotheses[0].text
    assert [(w.start_ms - final.start_ms, w.end_ms - final.start_ms) for w in hypothesis.words] == times


def test_the_second_pass_is_asked_for_word_times_and_alternatives(clock: Clock) -> None:
    options = StreamOptions(max_alternatives=3, rules=RULES)
    call = ended(clock, options=options)
    (job,) = call.finals()
    assert (whole(job).by, whole(job).beam, whole(job).word_times) == (Passes.SECOND, 3, True)
    hear_utterance(call, HEARD)
    call.device.answer(job, Transcript((*AGREED.hypotheses, *OTHER.hypotheses)))
    (final,) = call.of(Final)
    best, other = final.hypotheses
    assert [word.start_ms - final.start_ms for word in best.words] == [320, 960]
    assert [word.start_ms - final.start_ms for word in other.words] == [300, 900]  # only the best is timed


def test_without_word_times_there_are_none(clock: Clock) -> None:
    call = ended(clock, options=StreamOptions(word_times=False, rules=RULES))
    hear_utterance(call, HEARD)
    call.device.answer(call.finals()[0], AGREED)
    (final,) = call.of(Final)
    assert [(each.text, each.words) for each in final.hypotheses] == [("He said.", ())]


def test_words_of_the_second_pass_do_not_lie_in_silence(clock: Clock) -> None:
    call = ended(clock)
    hear_utterance(call, said(""))
    call.device.answer(call.finals()[0], said("He", ("He", 0, 420)))
    (final,) = call.of(Final)
    assert final.word_timing is WordTiming.ATTENTION
    assert final.hypotheses[0].words[0].start_ms == final.start_ms + BEFORE_SPEECH * FRAME_MS


def test_an_utterance_in_which_the_second_pass_has_no_words_gives_no_final(clock: Clock) -> None:
    call = ended(clock)
    hear_utterance(call, HEARD)
    call.answer("")
    assert call.of(Final) == []
    assert call.events[-1] == Advanced(0, call.decoder.final_ms)


@pytest.mark.parametrize("budget_ms", [0, 400])
def test_the_deadline_is_the_budget_s(clock: Clock, budget_ms: int) -> None:
    call = Call(passes=BOTH, budget_ms=budget_ms)
    speak(call, clock, 50, 40, HANGOVER + AFTER_SPEECH)
    (job,) = call.finals()
    assert job.deadline == (pytest.approx(clock.now + 0.4) if budget_ms else math.inf)
    assert job.late is not None


def test_what_a_stream_in_a_hurry_sends_has_all_the_time(clock: Clock) -> None:
    call = Call(passes=BOTH, budget_ms=400)
    call.feed(talk(50, 40, 50, 40, 50))
    assert [(job.work, job.deadline) for job in call.finals()] == [(Work.FILE, math.inf)] * 2


def test_what_the_second_pass_cannot_give_in_time_is_the_first_s(clock: Clock) -> None:
    call = ended(clock, budget_ms=400)
    (job,) = call.finals()
    hear_utterance(call, HEARD)
    assert call.of(Final) == []
    call.device.late(job)
    (final,) = call.of(Final)
    assert (final.source, final.word_timing) == (Source.FIRST_IN_TIME, WordTiming.CTC)
    assert final.hypotheses[0].text == "he said"
    assert [word.start_ms - final.start_ms for word in final.hypotheses[0].words] == [320, 960]
    seen = len(call.events)
    call.device.answer(job, AGREED)  # it was running: its result is nobody's now
    assert len(call.events) == seen
    call.decoder.finish()
    assert call.events[-1] == Finished()


def test_a_second_pass_that_fails_is_late(clock: Clock) -> None:
    call = ended(clock)
    call.device.fail(call.finals()[0], DeviceError("no memory"))
    hear_utterance(call, HEARD)
    (final,) = call.of(Final)
    assert final.source is Source.FIRST_IN_TIME
    assert call.of(Failed) == []


def test_a_late_utterance_waits_for_the_first_pass(clock: Clock) -> None:
    call = ended(clock, budget_ms=400)
    call.device.late(call.finals()[0])
    assert call.of(Final) == []
    hear_utterance(call, HEARD)
    assert [final.source for final in call.of(Final)] == [Source.FIRST_IN_TIME]


def test_a_late_result_that_comes_before_the_first_pass_s_is_taken(clock: Clock) -> None:
    call = ended(clock, budget_ms=400)
    (job,) = call.finals()
    call.device.late(job)
    call.device.answer(job, AGREED)
    hear_utterance(call, HEARD)
    assert [final.source for final in call.of(Final)] == [Source.SECOND]


def test_a_late_utterance_without_words_in_the_first_pass_gives_no_final(clock: Clock) -> None:
    call = ended(clock, budget_ms=400)
    hear_utterance(call, said(""))
    call.device.late(call.finals()[0])
    assert [type(event) for event in call.events] == [SpeechBegin, SpeechEnd, Advanced]


def test_finals_keep_their_order_though_one_is_late(clock: Clock) -> None:
    call = ended(clock, budget_ms=400, utterances=3)
    first, second, third = call.finals()
    for _ in range(3):
        hear_utterance(call, HEARD)
    call.device.answer(third, said("three"))
    call.device.late(second)
    assert call.of(Final) == []
    call.device.answer(first, said("one"))
    assert [(final.segment, final.hypotheses[0].text, final.source) for final in call.of(Final)] == [
        (0, "one", Source.SECOND),
        (1, "he said", Source.FIRST_IN_TIME),
        (2, "three", Source.SECOND),
    ]
    call.device.answer(second, said("two"))
    assert len(call.of(Final)) == 3


def test_a_late_first_utterance_lets_the_others_go(clock: Clock) -> None:
    call = ended(clock, budget_ms=400, utterances=2)
    first, second = call.finals()
    for _ in range(2):
        hear_utterance(call, HEARD)
    call.device.answer(second, said("two"))
    call.device.late(first)
    assert [final.source for final in call.of(Final)] == [Source.FIRST_IN_TIME, Source.SECOND]


def test_a_chunk_answered_after_the_stream_failed(clock: Clock) -> None:
    call = ended(clock, utterances=2)
    (job,) = call.chunks()
    call.outlet.fail(DeviceError("elsewhere"))
    seen = len(call.events)
    call.device.answer(job, HEARD)
    assert len(call.events) == seen
    assert len(call.chunks()) == 1  # the one answered
