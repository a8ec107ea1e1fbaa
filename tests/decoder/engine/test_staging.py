"""Results on their way through stages: order, batches, what a stage is shown, and what its faults do to a stream."""

from __future__ import annotations

import itertools
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley.decoder.engine.outlet import State
from parley.decoder.engine.staging import Staged, StageWorker
from parley.decoder.engine.work import Whole
from parley.decoder.errors import DeviceError
from parley.decoder.speech.vad import FRAME
from parley.decoder.text.inverse_text import InverseText, covers
from parley.decoder.text.stage import EVERYTHING, Context, OnFault, Sees, Traits
from parley.decoder.values import (
    Advanced,
    Failed,
    Final,
    Finished,
    Hypothesis,
    LatticeArc,
    Partial,
    Passes,
    Source,
    SpeechBegin,
    SpeechEnd,
    StreamOptions,
    Transcript,
    Word,
    WordLattice,
    WordTiming,
)
from tests.decoder.bench import Noted
from tests.decoder.fakes import WAIT_S, said
from tests.decoder.streams import INTERIM, RULES, Call, frames_of, talk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from parley.decoder.text.stage import Result
    from parley.decoder.values import Event

pytestmark = pytest.mark.usefixtures("loud_is_speech")

FINALS = Traits(Sees.FINALS, OnFault.PASS)
FINALS_OR_NOTHING = Traits(EVERYTHING, OnFault.WITHHOLD)
ALL_OF_IT = (Sees.FINALS, Sees.INTERIMS, Sees.ALTERNATIVES, Sees.LATTICES)
LATE_S = 0.01  # enough for a stage to be late that never returns by itself


def changed(result: Result, change: Callable[[str], str]) -> Result:
    """With its texts changed."""
    if isinstance(result, Final):
        return replace(result, hypotheses=tuple(replace(one, text=change(one.text)) for one in result.hypotheses))
    return replace(result, hypothesis=replace(result.hypothesis, text=change(result.hypothesis.text)))


class Marks:
    """A stage that puts its mark behind each text. Held, it returns only when it is let go."""

    def __init__(self, name: str = "marks", traits: Traits = FINALS, *, held: bool = False) -> None:
        self.name, self.traits = name, traits
        self.seen: list[tuple[Result, Context]] = []
        self.calls: list[int] = []  # how many results each had
        self.faults: list[Exception] = []  # raised by the next calls
        self.entered, self._go = threading.Semaphore(0), threading.Semaphore(0)
        self._held = held

    def wanted(self, options: StreamOptions) -> bool:
        return True

    def begin(self) -> list[str]:
        return []

    def apply(self, results: Sequence[Result], contexts: Sequence[Context]) -> Sequence[Result]:
        self.calls.append(len(results))
        self.seen += zip(results, contexts, strict=True)
        self.entered.release()
        if self._held:
            assert self._go.acquire(timeout=WAIT_S)
        if self.faults:
            raise self.faults.pop(0)
        for result, context in zip(results, contexts, strict=True):
            cast("list[str]", context.state).append(texts([result])[0])
        return [changed(result, lambda text: f"{text} {self.name}") for result in results]

    def enter(self) -> None:
        """Waits until it is called."""
        assert self.entered.acquire(timeout=WAIT_S)

    def go(self) -> None:
        """Lets a call return."""
        self._go.release()


def texts(results: Sequence[Event]) -> list[str]:
    return [
        result.hypotheses[0].text if isinstance(result, Final) else result.hypothesis.text
        for result in results
        if isinstance(result, Final | Partial)
    ]


class Workers:
    """Stages at work. `through` waits for all that is there."""

    def __init__(self) -> None:
        self.noted = Noted()
        self._made: list[StageWorker] = []

    def of(self, *stages: Any) -> tuple[StageWorker, ...]:
        made = tuple(StageWorker(stage, self.noted) for stage in stages)
        self._made += made
        return made

    def through(self) -> None:
        for worker in self._made:
            worker.close()


@pytest.fixture
def workers() -> Iterator[Workers]:
    workers = Workers()
    yield workers
    workers.through()


def said_by(call: Call, *answers: str) -> None:
    """Speaks so many utterances, ends the stream, and has the device answer them."""
    call.feed(talk(20, *[40, 40] * len(answers)))
    call.decoder.finish()
    call.answer(*answers)


def end_of(call: Call) -> threading.Event:
    """Set when the call's last event has come."""
    over = threading.Event()

    def sink(event: Event) -> None:
        call.events.append(event)
        if isinstance(event, Finished | Failed):
            over.set()

    call.outlet.sink = sink
    return over


# Order.


def test_without_stages_a_final_is_sent_at_once_and_no_thread_begins() -> None:
    before = threading.active_count()
    call = Call()
    said_by(call, "one", "two")
    assert texts(call.events) == ["one", "two"]
    assert call.events[-1] == Finished()
    assert threading.active_count() == before


def test_finals_go_through_every_stage_in_order(workers: Workers) -> None:
    first, second = Marks("first"), Marks("second")
    call = Call(stages=workers.of(first, second))
    said_by(call, "one", "two", "three")
    workers.through()
    assert texts(call.of(Final)) == ["one first second", "two first second", "three first second"]
    assert [type(event) for event in call.events] == [
        *[SpeechBegin, SpeechEnd] * 3,
        *[Final, Advanced] * 3,
        Finished,
    ]
    assert second.seen[0][1].state == ["one first", "two first", "three first"]


def test_what_is_in_a_stage_is_not_final_yet(workers: Workers) -> None:
    stage = Marks(held=True)
    call = Call(stages=workers.of(stage))
    call.feed(talk(20, 40, 40))
    start_ms = call.decoder.final_ms
    call.decoder.finish()
    call.answer("one")
    stage.enter()
    assert (call.state, call.decoder.final_ms) == (State.DRAINING, start_ms)
    assert call.of(Final) + call.of(Advanced) == []
    stage.go()
    workers.through()
    (final,) = call.of(Final)
    assert final.total_s > 0
    assert (call.state, call.decoder.final_ms) == (State.CLOSED, call.decoder.processed_ms)
    assert call.events[-1] == Finished()


def test_an_utterance_without_words_waits_for_those_before_it(workers: Workers) -> None:
    stage = Marks(held=True)
    call = Call(stages=workers.of(stage))
    said_by(call, "one", "")
    stage.enter()
    assert call.of(Advanced) == []
    stage.go()
    workers.through()
    assert [type(event) for event in call.events[-4:]] == [Final, Advanced, Advanced, Finished]
    assert stage.calls == [1]  # and is nothing to a stage


def test_who_waits_for_a_stage_waits_for_the_client_too(workers: Workers) -> None:
    stage = Marks(held=True)
    call = Call(stages=workers.of(stage))
    call.feed(talk(20, 40, 40, 40, 40))
    call.answer("one", "two")
    stage.enter()
    assert not call.decoder.has_room
    stage.go()
    stage.go()
    workers.through()
    assert call.decoder.has_room
    assert isinstance(call.events[-1], Advanced)  # says so


class Played:
    """A stage whose every result the test lets out, first first."""

    def __init__(self) -> None:
        self.stage = Marks()
        self.inside: list[Staged] = []

    def sees(self, result: Result) -> bool:
        return isinstance(result, Final)

    def put(self, staged: Staged) -> None:
        self.inside.append(staged)

    def let_out(self) -> None:
        staged = self.inside.pop(0)
        staged.then(changed(staged.result, str.upper))

    @property
    def worker(self) -> StageWorker:
        return cast("StageWorker", self)


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("silence"), st.integers(1, 60)),
            st.tuples(st.just("speech"), st.integers(1, 60)),
            st.tuples(st.just("answer"), st.integers(0, 5)),
            st.tuples(st.just("finalize"), st.just(0)),
            st.tuples(st.sampled_from(["first stage", "second stage"]), st.just(0)),
        ),
        max_size=40,
    )
)
def test_in_any_play_of_speech_device_and_stages_results_keep_their_order(play: list[tuple[str, int]]) -> None:
    stages = [Played(), Played()]
    call = Call(INTERIM, stages=tuple(stage.worker for stage in stages))
    seen, floor = 0, 0  # of the finals still to come
    random = np.random.default_rng(0)

    def check() -> None:
        nonlocal floor, seen
        for event in call.events[seen:]:
            assert not isinstance(event, Final) or event.start_ms >= floor
        seen = len(call.events)
        assert floor <= call.decoder.final_ms <= call.decoder.processed_ms
        floor = call.decoder.final_ms

    for move, n in play:
        if move in ("silence", "speech"):
            high = 20_000 if move == "speech" else 200
            call.decoder.accept(random.integers(-high, high + 1, n * FRAME).astype(np.int16))
        elif move == "finalize":
            call.decoder.finalize()
        elif move == "answer" and call.device.jobs:
            job = call.device.jobs.pop(n % len(call.device.jobs))
            call.device.answer(job, said("words" if n % 3 else ""))
        elif move != "answer" and (stage := stages[move == "second stage"]).inside:
            stage.let_out()
        check()
    call.decoder.finish()
    while call.device.jobs:
        call.device.answer(call.device.jobs.pop(), said("words"))
        check()
    for stage in stages:
        while stage.inside:
            assert call.of(Finished) == []
            stage.let_out()
            check()
    assert call.events[-1] == Finished()
    assert call.decoder.final_ms == call.decoder.processed_ms
    finals = call.of(Final)
    assert set(texts(finals)) <= {"WORDS"}
    assert all(before.end_ms <= after.start_ms for before, after in itertools.pairwise(finals))


# Batches.


def test_what_waits_goes_together(workers: Workers) -> None:
    stage = Marks(held=True)
    at_work = workers.of(stage)
    calls = [Call(stages=at_work) for _ in range(4)]
    for number, call in enumerate(calls):
        said_by(call, str(number))
        if not number:
            stage.enter()
    stage.go()
    stage.go()
    workers.through()
    assert stage.calls == [1, 3]
    assert [texts(call.of(Final)) for call in calls] == [[f"{number} marks"] for number in range(4)]
    assert workers.noted.outcomes == [("marks", "done")] * 4
    assert (workers.noted.batches, workers.noted.waits) == ([], [])  # those are a device's


NUMBERS = ("twenty five", "one hundred and six", "nineteen ninety nine", "no numbers", "seven thousand")


def test_many_streams_at_once_come_out_as_one_by_one(workers: Workers) -> None:
    """Through the stage that there is, and another that remembers what it has seen of a stream."""

    class Counts(Marks):
        def apply(self, results: Sequence[Result], contexts: Sequence[Context]) -> Sequence[Result]:
            return [self._counted(*each) for each in zip(results, contexts, strict=True)]

        def _counted(self, result: Result, context: Context) -> Result:
            past = cast("list[str]", context.state)
            past += texts([result])
            return changed(result, lambda text: f"{len(past)}: {text}")

    at_work = workers.of(InverseText(), Counts("counts"))

    def heard(number: int) -> list[str]:
        options = StreamOptions(rules=RULES, language="en", written=True)
        call = Call(options, stages=at_work)
        over = end_of(call)
        said_by(call, *(NUMBERS[(number + at) % len(NUMBERS)] for at in range(4)))
        assert over.wait(WAIT_S)
        assert isinstance(call.events[-1], Finished)
        call.decoder.reset()
        return texts(call.of(Final))

    alone = [heard(number) for number in range(64)]
    assert alone[0] == ["1: 25", "2: 106", "3: nineteen ninety nine", "4: no numbers"]
    with ThreadPoolExecutor(64) as pool:
        assert list(pool.map(heard, range(64))) == alone


# What a stage is shown.


LATTICE = WordLattice(2, (LatticeArc(0, 1, "one", 0, 100, -1.0, -1.0, 1.0),))
N_BEST = Transcript((Hypothesis("one", 0.9), Hypothesis("won", 0.4)), LATTICE)


@pytest.mark.parametrize("alternatives", [False, True])
@pytest.mark.parametrize("lattices", [False, True])
def test_what_a_stage_is_not_shown_goes_round_it(workers: Workers, alternatives: bool, lattices: bool) -> None:
    sees = Sees.FINALS
    sees |= Sees.ALTERNATIVES if alternatives else sees
    sees |= Sees.LATTICES if lattices else sees
    stage = Marks(traits=Traits(sees, OnFault.PASS))
    call = Call(StreamOptions(rules=RULES, max_alternatives=2), stages=workers.of(stage))
    call.feed(talk(20, 40, 40))
    call.device.answer(call.finals()[0], N_BEST)
    workers.through()
    ((shown, _),) = stage.seen
    assert isinstance(shown, Final)
    assert [one.text for one in shown.hypotheses] == (["one", "won"] if alternatives else ["one"])
    assert (shown.lattice is not None) == lattices
    (final,) = call.of(Final)
    assert [one.text for one in final.hypotheses] == ["one marks", "won marks" if alternatives else "won"]
    assert final.lattice is not None


def test_a_stage_has_the_audio_that_it_needs_and_no_other(workers: Workers) -> None:
    hears, reads = Marks("hears", replace(FINALS, needs_audio=True)), Marks("reads")
    samples = talk(20, 40, 40, 40, 40)
    for passes in Passes:
        call = Call(StreamOptions(rules=RULES, language="en-GB"), passes=passes, stages=workers.of(hears, reads))
        call.feed(samples)
        call.hear_all(said("one"))
        call.answer(*["one"] * len(call.finals()))
        finals = call.events
        workers.through()
        assert len(call.of(Final)) == 2, finals
        for final, (_, context) in zip(call.of(Final), hears.seen, strict=True):
            assert context.audio is not None
            assert not context.audio.flags.writeable  # the model may be at it
            assert context.language == "en-GB"
            np.testing.assert_array_equal(context.audio, frames_of(samples, final.start_ms // 20, final.end_ms // 20))
        assert [context.audio for _, context in reads.seen] == [None, None]
        hears.seen.clear()
        reads.seen.clear()


def test_the_device_and_a_stage_share_the_audio(workers: Workers) -> None:
    stage = Marks(traits=replace(FINALS, needs_audio=True))
    call = Call(stages=workers.of(stage))
    call.feed(talk(20, 40, 40))
    (job,) = call.finals()
    call.answer("one")
    workers.through()
    ((_, context),) = stage.seen
    assert isinstance(job.task, Whole)
    assert context.audio is job.task.samples


def test_interims_are_shown_to_who_sees_them(workers: Workers) -> None:
    interims, finals = Marks("interims", Traits(Sees.INTERIMS, OnFault.PASS)), Marks("finals")
    call = Call(INTERIM, stages=workers.of(finals, interims), passes=Passes.FIRST)
    call.feed(talk(20, 60))
    call.hear(said("one"))
    workers.through()
    assert texts(call.events) == ["one interims"]
    assert finals.seen == []


def test_an_interim_that_comes_out_when_its_utterance_is_over_is_dropped(workers: Workers) -> None:
    stage = Marks(traits=Traits(Sees.INTERIMS, OnFault.PASS), held=True)
    call = Call(INTERIM, stages=workers.of(stage), passes=Passes.FIRST)
    call.feed(talk(20, 60))
    call.hear(said("one"))
    stage.enter()
    call.feed(talk(40))
    call.hear_all(said("one two"))
    stage.go()
    workers.through()
    assert texts(call.events) == ["one two"]
    assert [type(event) for event in call.events] == [SpeechBegin, SpeechEnd, Final, Advanced]


# Faults.


def none_left(results: Sequence[Result], contexts: Sequence[Context]) -> Sequence[Result]:
    return []


def emptied(results: Sequence[Result], contexts: Sequence[Context]) -> Sequence[Result]:
    return [replace(result, hypotheses=()) for result in results if isinstance(result, Final)]


def raising(results: Sequence[Result], contexts: Sequence[Context]) -> Sequence[Result]:
    raise ZeroDivisionError


def another_s(results: Sequence[Result], contexts: Sequence[Context]) -> Sequence[Result]:
    return [replace(result, segment=result.segment + 1) for result in results]


def of_another_time(results: Sequence[Result], contexts: Sequence[Context]) -> Sequence[Result]:
    return [replace(result, end_ms=result.end_ms + 20) for result in results]


def of_another_kind(results: Sequence[Result], contexts: Sequence[Context]) -> Sequence[Result]:
    return [
        Partial(result.channel, result.segment, result.start_ms, result.end_ms, result.hypotheses[0])
        for result in results
        if isinstance(result, Final)
    ]


@pytest.mark.parametrize("fault", [none_left, emptied, raising, another_s, of_another_time, of_another_kind])
@pytest.mark.parametrize("traits", [FINALS, FINALS_OR_NOTHING, replace(FINALS, deadline_s=WAIT_S)])
def test_what_a_stage_fails_at_passes_and_says_so_or_is_withheld(
    workers: Workers, traits: Traits, fault: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    stage, other = Marks(traits=traits), Marks("other")
    monkeypatch.setattr(stage, "apply", fault)
    call = Call(stages=workers.of(stage, other))
    said_by(call, "one")
    workers.through()
    assert workers.noted.outcomes[0] == ("marks", "failed")
    if traits.on_fault is OnFault.WITHHOLD:
        assert [type(event) for event in call.events] == [SpeechBegin, SpeechEnd, Advanced, Finished]
        assert other.seen == []
    else:
        assert [(texts([final]), final.passed) for final in call.of(Final)] == [(["one other"], ("marks",))]
        assert call.events[-1] == Finished()


def test_a_fault_is_that_of_its_batch_alone(workers: Workers) -> None:
    stage = Marks()
    stage.faults.append(ZeroDivisionError())
    at_work = workers.of(stage)
    for passed in (("marks",), ()):
        call = Call(stages=at_work)
        over = end_of(call)
        said_by(call, "one")
        assert over.wait(WAIT_S)
        assert [final.passed for final in call.of(Final)] == [passed]


@pytest.mark.parametrize("sees", [Sees.FINALS, *(EVERYTHING & ~seen for seen in ALL_OF_IT)])
def test_who_withholds_sees_everything(sees: Sees) -> None:
    with pytest.raises(ValueError, match="marks withholds: got"):
        StageWorker(Marks(traits=Traits(sees, OnFault.WITHHOLD)), Noted())


@pytest.mark.parametrize("on_fault", OnFault)
def test_who_is_late_is_not_waited_for(workers: Workers, on_fault: OnFault) -> None:
    stage = Marks(traits=Traits(EVERYTHING, on_fault, deadline_s=LATE_S), held=True)
    call = Call(stages=workers.of(stage))
    over = end_of(call)
    call.feed(talk(20, 40, 40, 40, 40))
    call.decoder.finish()
    first, second = call.finals()
    call.device.answer(first, said("one"))
    stage.enter()
    call.device.answer(second, said("two"))  # behind a call that has not returned: it is late, too
    assert over.wait(WAIT_S)
    sent = [(texts([final]), final.passed) for final in call.of(Final)]
    assert sent == ([] if on_fault is OnFault.WITHHOLD else [(["one"], ("marks",)), (["two"], ("marks",))])
    assert len(call.of(Advanced)) == 2
    assert workers.noted.outcomes == [("marks", "late")] * 2
    seen = len(call.events)
    stage.go()  # what it returns now is nobody's
    stage.go()
    workers.through()
    assert len(call.events) == seen
    assert len(stage.seen) == 1  # and it was never called for what was late before its turn came


class Inside:
    """A result put into a stage by the test, and what came out."""

    def __init__(self, text: str, since: float | None = None) -> None:
        final = Final(0, 0, 0, 20, (Hypothesis(text, 1.0),), WordTiming.CTC, Source.FIRST, 0.0, 0.0, 1)
        self.out: list[Event] = []
        self.came = threading.Event()
        context = Context("", [])
        self.staged = Staged(final, context, self._then, lambda: True)
        if since is not None:
            self.staged = replace(self.staged, since=since)

    def _then(self, result: Result | None) -> None:
        assert result is not None
        self.out.append(result)
        self.came.set()


def test_who_is_overdue_already_does_not_make_its_neighbours_late(workers: Workers) -> None:
    stage = Marks(traits=replace(FINALS, deadline_s=WAIT_S), held=True)
    (worker,) = workers.of(stage)
    now = time.monotonic()
    first, overdue, in_time = Inside("one"), Inside("two", since=now - 2 * WAIT_S), Inside("three")
    worker.put(first.staged)
    stage.enter()
    worker.put(overdue.staged)
    worker.put(in_time.staged)
    stage.go()
    stage.go()
    workers.through()
    assert texts([*first.out, *overdue.out, *in_time.out]) == ["one marks", "two", "three marks"]
    assert workers.noted.outcomes == [("marks", outcome) for outcome in ("done", "late", "done")]


def test_a_stage_that_does_not_return_is_called_again_when_it_has(workers: Workers) -> None:
    stage = Marks(traits=replace(FINALS, deadline_s=LATE_S), held=True)
    (worker,) = workers.of(stage)

    def sent(text: str, since: float | None = None) -> Inside:
        inside = Inside(text, since)
        worker.put(inside.staged)
        assert inside.came.wait(WAIT_S)
        return inside

    assert texts(sent("one").out) == ["one"]
    (call,) = (thread for thread in threading.enumerate() if thread.name == "stage-marks-call")
    assert call.daemon  # else the process would not end before it
    in_time = time.monotonic() + 10 * WAIT_S
    assert texts(sent("two", in_time).out) == ["two"]  # at once
    stage.go()
    call.join(WAIT_S)
    stage.go()
    assert texts(sent("three", in_time).out) == ["three marks"]
    assert stage.calls == [1, 1]


@pytest.mark.parametrize("traits", [FINALS, FINALS_OR_NOTHING])
def test_what_comes_to_a_stage_that_has_stopped_goes_past_it(workers: Workers, traits: Traits) -> None:
    stage = Marks(traits=traits)
    call = Call(stages=workers.of(stage))
    workers.through()
    said_by(call, "one")
    if traits is FINALS:
        assert [(texts([final]), final.passed) for final in call.of(Final)] == [(["one"], ("marks",))]
    else:
        assert call.of(Final) == []
    assert call.events[-1] == Finished()
    assert (stage.calls, workers.noted.outcomes) == ([], [("marks", "closed")])


def test_an_observer_that_breaks_keeps_no_result_back() -> None:
    class Broken(Noted):
        def staged(self, stage: str, outcome: str, took_s: float) -> None:
            raise ZeroDivisionError

    worker = StageWorker(Marks(), Broken())
    for _ in range(2):
        call = Call(stages=(worker,))
        over = end_of(call)
        said_by(call, "one", "two")
        assert over.wait(WAIT_S)
        assert texts(call.of(Final)) == ["one marks", "two marks"]
    worker.close()


def test_a_withheld_interim_is_not_sent(workers: Workers) -> None:
    stage = Marks(traits=FINALS_OR_NOTHING)
    stage.faults.append(ZeroDivisionError())
    call = Call(INTERIM, stages=workers.of(stage), passes=Passes.FIRST)
    call.feed(talk(20, 60))
    call.hear(said("one"))
    workers.through()
    assert call.of(Partial) == []


def test_a_sink_that_breaks_on_a_stage_s_thread_fails_its_stream(workers: Workers) -> None:
    call = Call(stages=workers.of(Marks()))
    error = ZeroDivisionError()

    def sink(event: Event) -> None:
        call.events.append(event)
        if isinstance(event, Final):
            raise error

    call.outlet.sink = sink
    said_by(call, "one")
    workers.through()
    assert call.events[-1] == Failed(error)
    assert call.state is State.FAILED


def test_a_sink_that_takes_nothing_takes_nothing_from_its_neighbours(workers: Workers) -> None:
    stage = Marks(held=True)
    at_work = workers.of(stage)
    calls = [Call(stages=at_work) for _ in range(3)]

    def sink(event: Event) -> None:
        raise ZeroDivisionError

    for number, call in enumerate(calls):
        said_by(call, str(number))
        if not number:
            stage.enter()
    calls[1].outlet.sink = sink
    stage.go()
    stage.go()
    workers.through()
    assert stage.calls == [1, 2]
    assert [texts(call.of(Final)) for call in calls] == [["0 marks"], [], ["2 marks"]]
    assert [call.state for call in calls] == [State.CLOSED, State.FAILED, State.CLOSED]


# A stream that fails.


def test_a_failure_comes_behind_the_words_that_were_there_before_it(workers: Workers) -> None:
    stage = Marks(held=True)
    call = Call(stages=workers.of(stage))
    call.feed(talk(20, *[40, 40] * 3))
    first, second, third = call.finals()
    error = DeviceError("lost")
    call.device.answer(first, said("one"))
    stage.enter()
    call.device.answer(third, said("three"))  # which is not decided before the second is
    call.device.fail(second, error)
    assert call.of(Failed) == []
    assert call.state is State.DRAINING  # it takes no more audio
    call.feed(talk(0, 40, 40))
    assert call.finals() == [first, second, third]
    call.device.fail(third, DeviceError("again"))
    stage.go()
    workers.through()
    assert [type(event) for event in call.events] == [*[SpeechBegin, SpeechEnd] * 3, Final, Advanced, Failed]
    assert texts(call.of(Final)) == ["one marks"]
    assert call.events[-1] == Failed(error)


def test_a_failure_in_an_utterance_comes_behind_the_words_of_those_before(workers: Workers) -> None:
    stage = Marks(held=True)
    call = Call(stages=workers.of(stage), passes=Passes.FIRST)
    call.feed(talk(20, 40, 40))
    call.hear_all(said("one"))
    stage.enter()
    call.feed(talk(0, 60))
    (job,) = call.chunks()
    error = DeviceError("lost")
    call.device.fail(job, error)
    assert (call.of(Failed), call.state) == ([], State.DRAINING)
    stage.go()
    workers.through()
    assert texts(call.of(Final)) == ["one marks"]
    assert call.events[-1] == Failed(error)


def test_without_a_stage_a_failure_comes_at_once() -> None:
    call = Call()
    call.feed(talk(20, *[40, 40] * 2))
    first, second = call.finals()
    error = DeviceError("lost")
    call.device.answer(second, said("two"))
    call.device.fail(first, error)
    assert call.events[-1] == Failed(error)
    assert call.of(Final) == []


# Who has gone.


def test_nothing_comes_out_of_a_stage_to_a_decoder_that_was_given_back(workers: Workers) -> None:
    stage = Marks(held=True)
    at_work = workers.of(stage)
    old = Call(stages=at_work)
    old.feed(talk(20, 40, 40, 40, 40))
    first, second = old.finals()
    old.device.answer(first, said("one"))
    stage.enter()
    old.device.answer(second, said("two"))
    seen = len(old.events)
    old.decoder.reset()
    old.device.jobs.clear()
    new = Call(decoder=old.decoder, device=old.device, stages=at_work)
    said_by(new, "three")
    stage.go()
    stage.go()
    workers.through()
    assert len(old.events) == seen
    assert texts(new.events) == ["three marks"]
    assert new.events[-1] == Finished()
    assert texts([result for result, _ in stage.seen]) == ["one", "three"]  # what waited was not even looked at
    assert workers.noted.outcomes == [("marks", "done"), ("marks", "unbound"), ("marks", "done")]


def test_a_failed_stream_s_results_stay_inside(workers: Workers) -> None:
    stage = Marks(held=True)
    call = Call(stages=workers.of(stage))
    said_by(call, "one")
    stage.enter()
    with call.device.lock:
        call.outlet.fail(ZeroDivisionError())  # as for a sink that breaks
    stage.go()
    workers.through()
    assert isinstance(call.events[-1], Failed)
    assert call.of(Final) == []


# The stage that there is.


def test_finals_in_written_form_keep_their_readings_apart(workers: Workers) -> None:
    options = StreamOptions(interim_results=True, rules=RULES, max_alternatives=3, language="en-US", written=True)
    call = Call(options, stages=workers.of(InverseText()), passes=Passes.FIRST)
    call.feed(talk(20, 60))
    call.hear(said("twenty five"))
    call.feed(talk(40))
    words = tuple(Word(text, at, at + 100, 0.5) for at, text in ((0, "twenty"), (200, "five")))
    readings = (Hypothesis("twenty five", 0.9, words), Hypothesis("twenty-five", 0.5), Hypothesis("plenty", 0.2))
    call.hear_all(Transcript(readings))
    workers.through()
    assert texts(call.of(Partial)) == ["twenty five"]  # as it was said
    (final,) = call.of(Final)
    assert [one.text for one in final.hypotheses] == ["25", "plenty"]
    (word,) = final.hypotheses[0].words
    assert (word.text, word.start_ms, word.end_ms) == ("25", final.start_ms, final.start_ms + 300)


@pytest.mark.parametrize(("language", "covered"), [("en", True), ("EN-gb", True), ("de", False), ("", False)])
def test_languages_that_have_a_written_form(language: str, covered: bool) -> None:
    assert covers(language) is covered


def test_a_plan_keeps_audio_only_for_who_needs_it(workers: Workers) -> None:
    plain, hears = workers.of(Marks(), Marks("hears", replace(FINALS, needs_audio=True)))
    for stages, keeps in (((), False), ((plain,), False), ((plain, hears), True)):
        assert Call(stages=stages).plan.keeps_audio is keeps
