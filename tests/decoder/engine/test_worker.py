"""The device's thread: who goes first, who goes together, that every job is answered once. The models are scripted.

What is special about chunks stands in test_worker_chunks.py.
"""

from __future__ import annotations

import functools
import logging
import queue
import threading
import time
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley.decoder.engine.work import BatchLimits, Job, Whole, Work
from parley.decoder.engine.worker import DeviceWorker
from parley.decoder.errors import DeviceError, DeviceLost, OutOfMemory
from parley.decoder.values import Passes
from tests.decoder.bench import RATE, Bench, Noted, running
from tests.decoder.fakes import CHUNKS, WAIT_S, EchoModel, end_call_on_close

if TYPE_CHECKING:
    from collections.abc import Iterator

FINAL, FILE, PARTIAL = Work.FINAL, Work.FILE, Work.PARTIAL
FIRST, SECOND = Passes.FIRST, Passes.SECOND
NONE = dict.fromkeys(("chunk", "final", "catch_up", "file", "partial"), 0)  # that wait


@pytest.fixture
def bench() -> Iterator[Bench]:
    with running() as bench:
        yield bench


# Who goes first.


def test_finals_before_files_before_partials(bench: Bench) -> None:
    bench.hold()
    for label, work in enumerate((PARTIAL, FILE, FINAL)):
        bench.submit(label, work, owner=bench.worker.bind())
    assert bench.worker.waiting() == NONE | {"final": 1, "file": 1, "partial": 1}
    bench.release()
    bench.next_batch(2)
    bench.next_batch(1)
    bench.next_batch(0)
    assert bench.worker.waiting() == NONE


def test_a_higher_right_goes_between_two_calls_of_the_model(bench: Bench) -> None:
    bench.hold(1, PARTIAL)
    bench.submit(2, FILE)
    bench.model.go([])
    assert bench.model.entered() == [2]
    bench.submit(3, FINAL)
    bench.model.go([])
    bench.next_batch(3)
    bench.next_batch(2)
    bench.next_batch(1)


@pytest.mark.parametrize(("present", "late"), [(FINAL, FINAL), (FILE, FILE), (FILE, PARTIAL), (FINAL, FILE)])
def test_no_right_to_interrupt_one_s_like_or_better(bench: Bench, present: Work, late: Work) -> None:
    bench.hold(1, present)
    bench.submit(2, late)
    bench.model.go([])
    bench.next_batch(1)
    bench.next_batch(2)


def test_a_batch_that_stood_aside_has_kept_its_place(bench: Bench) -> None:
    bench.hold(1, FILE)
    bench.submit(2, FILE)
    bench.submit(3, FINAL)
    bench.model.go([])
    bench.next_batch(3)
    bench.next_batch(1)
    bench.next_batch(2)


# Partials.


def test_a_partial_takes_the_place_of_the_older_one(bench: Bench) -> None:
    other = bench.worker.bind()
    bench.hold()
    bench.submit(1, PARTIAL)
    bench.submit(2, PARTIAL, beam=2, owner=other)  # another beam: not in the same batch
    bench.submit(3, PARTIAL)
    assert bench.worker.waiting()["partial"] == 2
    bench.release()
    bench.next_batch(3)  # it has waited since the first one came
    bench.next_batch(2)


@pytest.mark.parametrize("work", [FINAL, FILE])
def test_a_final_removes_its_stream_s_partial_only(bench: Bench, work: Work) -> None:
    other = bench.worker.bind()
    bench.hold()
    bench.submit(1, PARTIAL)
    bench.submit(2, PARTIAL, owner=other)
    bench.submit(3, work)
    assert bench.worker.waiting()["partial"] == 1
    bench.release()
    bench.next_batch(3)
    bench.next_batch(2)


# Who goes together.


def test_those_nearest_in_length_to_the_oldest_go_together() -> None:
    with running(jobs=3) as bench:
        bench.hold()
        for label, seconds in enumerate((2.0, 9.0, 2.1, 5.0, 1.9)):
            bench.submit(label, seconds=seconds)
        bench.release()
        bench.next_batch(4, 0, 2)  # by length
        bench.next_batch(3, 1)
        assert bench.model.asked[1]["lengths"] == [30_400, 32_000, 33_600]


@pytest.mark.parametrize("work", [FINAL, FILE])
def test_a_batch_holds_so_many_seconds_with_its_padding(work: Work) -> None:
    with running(file_s=10.0 if work is FILE else 99.0, live_s=99.0 if work is FILE else 10.0) as bench:
        bench.hold()
        for label, seconds in enumerate((4.0, 1.0, 5.0, 4.0, 20.0)):
            bench.submit(label, work, seconds=seconds)
        bench.release()
        bench.next_batch(0, 3)  # with the 5 s it would be 15
        bench.next_batch(1, 2)  # 10 with padding
        bench.next_batch(4)  # longer than a batch, but alone


def test_a_batch_of_partials_is_live_too() -> None:
    with running(live_s=2.0) as bench:
        bench.hold()
        for label in range(3):
            bench.submit(label, PARTIAL, owner=bench.worker.bind())
        bench.release()
        bench.next_batch(0, 1)
        bench.next_batch(2)


def test_only_equal_beams_go_together(bench: Bench) -> None:
    bench.hold()
    for label, beam in enumerate((1, 5, 1, 5)):
        bench.submit(label, beam=beam, word_times=label == 3)
    bench.release()
    bench.next_batch(0, 2)
    bench.next_batch(1, 3)
    assert [(asked["beam"], asked["word_times"]) for asked in bench.model.asked[1:]] == [(1, False), (5, True)]


@pytest.mark.parametrize("work", [FINAL, FILE, PARTIAL])
def test_utterances_of_different_passes_never_go_together(bench: Bench, work: Work) -> None:
    bench.hold()
    for label, by in enumerate((FIRST, SECOND, FIRST, SECOND)):
        bench.submit(label, work, owner=bench.worker.bind(), by=by)
    bench.release()
    bench.next_batch(0, 2)
    bench.next_batch(1, 3)
    assert len(bench.first.asked) == 1
    assert len(bench.model.asked) == 2  # one to hold it


@given(
    st.lists(
        st.tuples(st.sampled_from(Work), st.integers(1, 40), st.sampled_from([1, 3]), st.sampled_from([FIRST, SECOND])),
        max_size=12,
    ),
    st.integers(1, 5),
    st.integers(1, 5),
    st.integers(1, 60),
)
def test_every_job_is_decoded_once_in_a_batch_of_its_like(
    jobs: list[tuple[Work, int, int, Passes]], max_chunks: int, max_batch: int, max_s: int
) -> None:
    with running(max_chunks, max_batch, max_s / 10, max_s / 10) as bench:
        bench.hold()
        for label, (work, tenths, beam, by) in enumerate(jobs):
            bench.submit(label, work, tenths / 10, owner=bench.worker.bind(), slot=label, by=by, beam=beam)
        bench.release()
        left = dict(enumerate(jobs))
        while left:
            batch = bench.model.entered()
            best = min(work for work, *_ in left.values())
            waiting = [label for label, (work, *_) in left.items() if work is best]
            rows = [left.pop(label) for label in batch]
            if best in CHUNKS:
                assert batch == waiting[:max_chunks]
                assert bench.first.asked[-1] == {"slots": batch}
            else:
                oldest = jobs[min(waiting)]
                assert min(waiting) in batch
                assert 1 <= len(batch) <= max_batch
                assert {(work, beam, by) for work, _, beam, by in rows} == {(best, *oldest[2:])}
                lengths = [tenths for _, tenths, _, _ in rows]
                assert lengths == sorted(lengths)
                assert len(batch) == 1 or lengths[-1] * len(batch) <= max_s
                model = bench.first if oldest[3] is FIRST else bench.model
                assert model.asked[-1]["lengths"] == [tenths * RATE // 10 for tenths in lengths]
            bench.model.go()
            bench.answered(*batch)


def test_outcomes_and_observer_are_told_of_the_batch(bench: Bench) -> None:
    bench.hold()
    for label in range(3):
        bench.submit(label, FILE, seconds=1.0 + label)
    bench.release()
    assert bench.model.entered() == [0, 1, 2]
    bench.model.go([2])
    bench.answered(2)
    assert bench.model.entered() == [0, 1, 2]
    bench.model.go()
    bench.answered(0, 1)
    bench.submit(5)
    bench.next_batch(5)  # so that the batch before is through
    assert [outcome.batch_size for outcome in bench.outcomes.values()] == [1, 3, 3, 3, 1]
    assert all(outcome.queue_s >= 0 for outcome in bench.outcomes.values())
    assert bench.noted.batches[:2] == [("final", 1, 1.0), ("file", 3, 6.0)]
    assert bench.noted.waits == ["final", "file", "file", "file", "final"]
    assert bench.noted.drops.empty()


# Faults.


def test_a_failing_batch_fails_all_its_waiters_and_no_other(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.hold()
    for label in range(3):
        bench.submit(label)
    bench.release()
    assert bench.model.entered() == [0, 1, 2]
    bench.submit(3)
    bench.model.go([1])
    bench.answered(1)
    assert bench.model.entered() == [0, 1, 2]
    fault = RuntimeError("the model fell over")
    bench.model.fail(fault)
    assert [bench.answer() for _ in range(2)] == [(0, fault), (2, fault)]
    bench.next_batch(3)
    assert [record.exc_info and record.exc_info[1] for record in caplog.records] == [fault]


def test_without_memory_a_batch_is_halved(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.hold()
    for label in range(6):
        bench.submit(label)
    bench.release()
    assert bench.model.entered() == [0, 1, 2, 3, 4, 5]
    bench.submit(6)
    bench.model.go([0])
    bench.answered(0)
    bench.model.entered()
    bench.model.fail(OutOfMemory("6 GB"))
    assert bench.model.entered() == [1, 2]
    bench.model.fail(OutOfMemory("2 GB"))
    bench.next_batch(1)
    assert bench.model.entered() == [2]
    bench.model.fail(OutOfMemory("1 GB"))
    label, error = bench.answer()
    assert label == 2
    assert isinstance(error, DeviceError)
    assert str(error) == "bench has no memory for this utterance: 1 GB"
    assert isinstance(error.__cause__, OutOfMemory)
    bench.next_batch(3, 4, 5)
    bench.next_batch(6)
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 2


def test_a_callback_that_raises_harms_nobody_else(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    fault = ValueError("a stream's own")

    def bad() -> None:
        raise fault

    bench.hold()
    bench.submit(1)
    bench.submit(2, then=bad)
    bench.submit(3)
    bench.release()
    assert bench.model.entered() == [1, 2, 3]
    bench.model.go()
    assert sorted((bench.answer() for _ in range(3)), key=lambda answer: answer[0]) == [(1, "1"), (2, fault), (3, "3")]
    bench.submit(4)
    bench.next_batch(4)
    assert [record.exc_info and record.exc_info[1] for record in caplog.records] == [fault]


def test_one_that_cannot_even_be_told_harms_nobody_else(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    def bad(_: object) -> None:
        raise ValueError("a stream's own")

    def worse(_: object) -> None:
        raise ValueError("cannot be told")

    bench.hold()
    bench.worker.submit(Job(bench.owner, FINAL, Whole(np.ones(RATE, np.int16), SECOND), done=bad, failed=worse))
    bench.submit(2)
    bench.release()
    bench.model.entered()
    bench.model.go()
    bench.answered(2)
    bench.submit(3)
    bench.next_batch(3)
    assert len(caplog.records) == 2


def test_a_partial_that_fails_is_only_dropped(bench: Bench) -> None:
    for fault in (RuntimeError("the model fell over"), OutOfMemory("1 GB")):
        bench.submit(1, PARTIAL)
        bench.model.entered()
        bench.model.fail(fault)
        assert bench.noted.drops.get(timeout=WAIT_S) == ("partial", "failed")
    bench.submit(2)
    bench.next_batch(2)
    assert bench.answers.empty()


def test_a_final_goes_before_the_halves_of_files(bench: Bench) -> None:
    bench.hold(9, FILE)
    bench.submit(1, FILE)
    bench.submit(2, FILE)
    bench.release(9)
    assert bench.model.entered() == [1, 2]
    bench.model.fail(OutOfMemory("2 GB"))
    assert bench.model.entered() == [1]
    bench.submit(3)
    bench.model.go([])
    bench.next_batch(3)
    bench.next_batch(1)
    bench.next_batch(2)


def test_a_model_that_ends_early_leaves_nobody_waiting(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench.model, "decode", lambda batch, **_: iter([[]]))
    bench.submit(1)
    label, error = bench.answer()
    assert (label, str(error)) == (1, "bench: the model ended without a result")
    assert isinstance(error, DeviceError)


@pytest.mark.parametrize("call", ["waited", "batch"])
def test_a_thread_that_breaks_leaves_nobody_waiting(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, call: str
) -> None:
    fault = ValueError("an observer's own")

    def bad(*_: object) -> None:
        raise fault

    bench.hold()
    bench.submit(1)
    bench.submit(2, FILE)
    monkeypatch.setattr(bench.noted, call, bad)
    bench.model.go()
    answers = [bench.answer() for _ in range(3)]
    bench.submit(3)
    answers.append(bench.answer())
    told = {label: str(answer) for label, answer in answers}
    assert told == {99: "99", **dict.fromkeys((1, 2, 3), "bench is lost, with all that it was at: call again")}
    assert [record.exc_info and record.exc_info[1] for record in caplog.records] == [fault]


# Lending.


def test_ids_are_never_given_twice(bench: Bench) -> None:
    first = bench.worker.bind()
    bench.worker.unbind(first, 0)
    assert bench.worker.bind() > first


@pytest.mark.parametrize("fails", [False, True])
def test_nothing_reaches_an_id_that_was_unbound(bench: Bench, fails: bool) -> None:
    leaver = bench.worker.bind()
    bench.hold()
    bench.submit(1, owner=leaver)
    bench.submit(2)
    bench.release()
    assert bench.model.entered() == [1, 2]
    bench.worker.unbind(leaver, 0)
    if fails:
        bench.model.fail(RuntimeError())
        assert bench.answer()[0] == 2
    else:
        bench.model.go()
        bench.answered(2)
    assert bench.noted.drops.get(timeout=WAIT_S) == ("final", "unbound")
    bench.submit(3)
    bench.next_batch(3)


def test_an_unbound_id_s_waiting_work_is_forgotten(bench: Bench) -> None:
    leaver = bench.worker.bind()
    bench.hold()
    for label, work in enumerate(Work):
        bench.submit(label, work, owner=leaver)
    bench.submit(9)
    bench.worker.unbind(leaver, 0)
    assert bench.worker.waiting() == NONE | {"final": 1}
    bench.release()
    bench.next_batch(9)
    assert bench.noted.drops.empty()


def test_callbacks_run_under_the_lock(bench: Bench) -> None:
    free = queue.Queue[bool]()

    def probe() -> None:
        other = threading.Thread(target=lambda: free.put(bench.worker.lock.acquire(blocking=False)))
        other.start()
        other.join()

    bench.submit(1, then=probe)
    bench.next_batch(1)
    assert free.get() is False


# Deadlines.


class Clock:
    """The device's clock, which the test can put forward."""

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def monotonic(self) -> float:
        return time.monotonic() + self.ahead_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    for module in ("worker", "runner"):
        monkeypatch.setattr(f"parley.decoder.engine.{module}.time", clock)
    return clock


def test_what_waits_at_its_deadline_is_told_so_once_and_forgotten(bench: Bench, clock: Clock) -> None:
    bench.hold()
    in_time = clock.monotonic() + 500
    for label, deadline in enumerate((in_time, in_time - 400, in_time, in_time - 400)):
        bench.submit(label, deadline=deadline)
    clock.ahead_s = 200
    assert bench.worker.waiting() == NONE | {"final": 4}
    bench.release()
    assert [bench.answer() for _ in range(2)] == [(1, "late"), (3, "late")]
    bench.next_batch(0, 2)
    assert [bench.noted.drops.get_nowait() for _ in range(2)] == [("final", "late")] * 2
    assert bench.noted.drops.empty()
    assert bench.answers.empty()


def test_what_cannot_keep_its_deadline_any_more_is_told_so_before_it(bench: Bench, clock: Clock) -> None:
    bench.submit(0)
    assert bench.model.entered() == [0]
    clock.ahead_s = 800  # so long a batch takes: of a running mean an eighth, 100 s
    bench.model.go()
    bench.answered(0)
    bench.hold(work=FILE)
    bench.submit(1, deadline=clock.monotonic() + 80)
    bench.submit(2, deadline=clock.monotonic() + 120)
    bench.release()
    assert bench.answer() == (1, "late")
    bench.next_batch(2)


def test_a_slow_time_does_not_keep_finals_out_for_good(bench: Bench, clock: Clock) -> None:
    bench.submit(0)
    assert bench.model.entered() == [0]
    clock.ahead_s = 800
    bench.model.go()
    bench.answered(0)
    given_up = 0
    bench.hold(work=FILE)
    while True:
        bench.submit(1, deadline=clock.monotonic() + 20)
        bench.model.go([])
        if bench.model.entered() == [1]:
            break
        assert bench.answer() == (1, "late")
        given_up += 1
    assert given_up > 0
    bench.model.go()
    bench.answered(1)
    assert bench.model.entered() == [99]
    bench.release()


def test_what_runs_at_its_deadline_is_told_so_once_and_has_its_result(bench: Bench, clock: Clock) -> None:
    bench.hold()
    for label in (1, 2):
        bench.submit(label, deadline=clock.monotonic() + 100 * label)
    bench.release()
    assert bench.model.entered() == [1, 2]
    clock.ahead_s = 150
    for _ in range(3):
        bench.model.go([])
        assert bench.model.entered() == [1, 2]
    assert bench.answer() == (1, "late")
    assert bench.answers.empty()
    bench.model.go()
    bench.answered(1, 2)
    assert bench.noted.drops.get_nowait() == ("final", "late")
    assert bench.noted.drops.empty()


def test_what_stands_aside_at_its_deadline_is_told_so(bench: Bench, clock: Clock) -> None:
    bench.submit(1, deadline=clock.monotonic() + 100)
    assert bench.model.entered() == [1]
    bench.chunks(2, 3)
    bench.model.go([])
    assert bench.model.entered() == [2, 3]
    bench.model.fail(OutOfMemory("2 GB"))
    assert bench.model.entered() == [2]
    clock.ahead_s = 150
    bench.model.go()
    bench.answered(2)
    assert bench.answer() == (1, "late")
    bench.next_batch(3)
    bench.next_batch(1)


def test_a_result_in_time_is_not_late(bench: Bench, clock: Clock) -> None:
    bench.submit(1, deadline=clock.monotonic() + 100)
    assert bench.model.entered() == [1]
    clock.ahead_s = 150
    bench.model.go()
    bench.answered(1)
    bench.submit(2)
    bench.next_batch(2)
    assert bench.noted.drops.empty()


def test_nobody_is_told_late_who_was_unbound(bench: Bench, clock: Clock) -> None:
    leaver = bench.worker.bind()
    bench.submit(1, deadline=clock.monotonic() + 100, owner=leaver)
    assert bench.model.entered() == [1]
    bench.worker.unbind(leaver, 0)
    clock.ahead_s = 150
    bench.model.go([])
    assert bench.model.entered() == [1]
    bench.model.go()
    bench.submit(2)
    bench.next_batch(2)
    assert bench.answers.empty()


def test_one_that_cannot_be_told_late_fails_alone(bench: Bench, clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    fault = ValueError("a stream's own")

    def bad() -> None:
        raise fault

    bench.hold()
    bench.submit(1, deadline=clock.monotonic() + 100, late=bad)
    bench.submit(2)
    clock.ahead_s = 150
    bench.release()
    assert bench.answer() == (1, fault)
    bench.next_batch(2)
    assert [record.exc_info and record.exc_info[1] for record in caplog.records] == [fault]


# The end.


def test_close_fails_what_is_left_and_what_still_comes(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = bench.worker.bind()
    bench.submit(0, FILE, owner=gone)
    assert bench.model.entered() == [0]
    bench.submit(2, FINAL)
    bench.model.go([])
    assert bench.model.entered() == [2]
    bench.worker.unbind(gone, 0)
    for label, work in ((3, FINAL), (4, FILE), (5, PARTIAL)):
        bench.submit(label, work, owner=bench.worker.bind())
    end_call_on_close(bench.worker, bench.model, monkeypatch)
    bench.worker.close()
    bench.answered(2)
    failed = [bench.answer() for _ in range(2)]
    assert [label for label, _ in failed] == [3, 4]  # the partial is dropped
    assert {str(error) for _, error in failed} == {"bench has stopped"}
    assert all(isinstance(error, DeviceError) for _, error in failed)
    assert sorted(bench.noted.drops.get_nowait() for _ in range(2)) == [("file", "unbound"), ("partial", "failed")]
    bench.submit(7)
    label, error = bench.answers.get_nowait()
    assert label == 7
    assert isinstance(error, DeviceError)
    bench.worker.close()  # again: nothing


def test_a_call_that_returns_as_it_is_given_up_is_answered_once(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    lost: list[str] = []

    def return_after_all(name: str) -> None:
        lost.append(name)
        bench.model.go()
        assert bench.model.entered() == [2]

    monkeypatch.setattr("parley.decoder.engine.watchdog.STUCK_LOOKS", 1)
    monkeypatch.setattr(bench.worker._watchdog, "_on_lost", return_after_all)
    bench.hold(1)
    bench.submit(2)
    for _ in range(2):
        bench.worker.look()
    bench.answered(1)
    label, error = bench.answer()
    assert (label, type(error)) == (2, DeviceLost)
    bench.model.fail(RuntimeError("CUDA error: the launch timed out and was terminated"))
    bench.worker._thread.join(WAIT_S)
    assert not bench.worker._thread.is_alive()
    assert bench.answers.empty()
    assert lost == ["bench"]


def test_close_of_an_idle_worker_ends_its_thread(bench: Bench) -> None:
    bench.worker.close()
    assert not bench.worker._thread.is_alive()
    bench.submit(1)
    assert bench.answer()[0] == 1
    assert not any(bench.worker.waiting().values())


def test_many_threads_get_each_answer_once() -> None:
    worker = DeviceWorker("busy", {SECOND: EchoModel()}, RATE, BatchLimits(jobs=4), Noted())
    answers: queue.Queue[tuple[int, str]] = queue.Queue()
    errors: list[Exception] = []

    def client(number: int) -> None:
        owner = worker.bind()
        for k in range(50):
            label = number * 50 + k
            done = functools.partial(
                lambda label, outcome: answers.put((label, outcome.transcript.hypotheses[0].text)), label
            )
            utterance = Whole(np.full(1 + k, label, np.int16), SECOND)
            worker.submit(Job(owner, (FINAL, FILE)[k % 2], utterance, done, failed=errors.append))

    threads = [threading.Thread(target=client, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    found = [answers.get(timeout=WAIT_S) for _ in range(400)]
    for thread in threads:
        thread.join()
    worker.close()
    assert sorted(found) == [(label, str(label)) for label in range(400)]
    assert answers.empty()
    assert not errors
