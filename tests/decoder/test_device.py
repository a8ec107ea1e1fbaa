"""The device's thread: who goes first, who goes together, that every job is answered once. The model is scripted."""

from __future__ import annotations

import contextlib
import functools
import logging
import queue
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from decoder.device import BatchLimits, DeviceWorker, Job, Outcome, Work
from decoder.errors import DeviceError
from decoder.second_pass import OutOfMemory
from tests.decoder.fakes import WAIT_S, EchoModel, SteppedModel, end_call_on_close

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

RATE = 16_000
FINAL, FILE, PARTIAL = Work.FINAL, Work.FILE, Work.PARTIAL


@dataclass
class Noted:
    """An observer that keeps what it is told."""

    batches: list[tuple[str, int, float]] = field(default_factory=list)
    waits: list[str] = field(default_factory=list)
    drops: queue.Queue[tuple[str, str]] = field(default_factory=queue.Queue)

    def batch(self, work: str, rows: int, audio_s: float, wall_s: float) -> None:
        assert wall_s > 0
        self.batches.append((work, rows, audio_s))

    def waited(self, work: str, wait_s: float) -> None:
        assert wait_s >= 0
        self.waits.append(work)

    def dropped(self, work: str, reason: str) -> None:
        self.drops.put((work, reason))


class Bench:
    """A worker with a scripted model, and the answers its jobs got: (label, text or error)."""

    def __init__(self, limits: BatchLimits) -> None:
        self.model = SteppedModel()
        self.noted = Noted()
        self.worker = DeviceWorker("bench", self.model, RATE, limits, self.noted)
        self.owner = self.worker.bind()
        self.answers: queue.Queue[tuple[int, str | Exception]] = queue.Queue()
        self.outcomes: dict[int, Outcome] = {}

    def submit(
        self,
        label: int,
        work: Work = FINAL,
        seconds: float = 1.0,
        *,
        owner: int | None = None,
        beam: int = 1,
        word_times: bool = False,
        then: Callable[[], None] = lambda: None,
    ) -> None:
        samples = np.zeros(int(seconds * RATE), np.int16)
        samples[0] = label

        def done(outcome: Outcome) -> None:
            assert threading.current_thread().name == "device-bench"
            then()
            self.outcomes[label] = outcome
            self.answers.put((label, outcome.transcript.hypotheses[0].text))

        self.worker.submit(
            Job(
                owner=self.owner if owner is None else owner,
                work=work,
                samples=samples,
                beam=beam,
                word_times=word_times,
                done=done,
                failed=lambda error: self.answers.put((label, error)),
            )
        )

    def hold(self, label: int = 99, work: Work = FINAL) -> None:
        """Gets the model busy, so that what comes next waits."""
        self.submit(label, work, owner=self.worker.bind())
        assert self.model.entered() == [label]

    def release(self, label: int = 99) -> None:
        self.model.go()
        assert self.answer() == (label, str(label))

    def answer(self) -> tuple[int, str | Exception]:
        return self.answers.get(timeout=WAIT_S)

    def answered(self, *labels: int) -> None:
        """The next answers are these jobs', in any order, each with its own text."""
        assert sorted(self.answer() for _ in labels) == [(label, str(label)) for label in sorted(labels)]

    def next_batch(self, *labels: int) -> None:
        """The next call of the model is for these rows; it finishes all of them."""
        assert self.model.entered() == list(labels)
        self.model.go()
        self.answered(*labels)


@contextlib.contextmanager
def running(jobs: int = 8, file_s: float = 100.0, live_s: float = 100.0) -> Iterator[Bench]:
    bench = Bench(BatchLimits(jobs, file_s, live_s))
    try:
        yield bench
    finally:
        bench.model.go()  # a test that failed may have left it waiting
        bench.worker.close()


@pytest.fixture
def bench() -> Iterator[Bench]:
    with running() as bench:
        yield bench


# Who goes first.


def test_finals_before_files_before_partials(bench: Bench) -> None:
    bench.hold()
    for label, work in enumerate((PARTIAL, FILE, FINAL)):
        bench.submit(label, work, owner=bench.worker.bind())
    assert bench.worker.waiting() == {"final": 1, "file": 1, "partial": 1}
    bench.release()
    bench.next_batch(2)
    bench.next_batch(1)
    bench.next_batch(0)
    assert bench.worker.waiting() == {"final": 0, "file": 0, "partial": 0}


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


@given(
    st.lists(st.tuples(st.sampled_from(Work), st.integers(1, 40), st.sampled_from([1, 3])), max_size=12),
    st.integers(1, 5),
    st.integers(1, 60),
)
def test_every_job_is_decoded_once_in_a_batch_of_its_like(
    jobs: list[tuple[Work, int, int]], max_batch: int, max_s: int
) -> None:
    with running(max_batch, max_s / 10, max_s / 10) as bench:
        bench.hold()
        for label, (work, tenths, beam) in enumerate(jobs):
            bench.submit(label, work, tenths / 10, owner=bench.worker.bind(), beam=beam)
        bench.release()
        left = dict(enumerate(jobs))
        while left:
            batch = bench.model.entered()
            assert 1 <= len(batch) <= max_batch
            best = min(work for work, _, _ in left.values())
            oldest = min(label for label, (work, _, _) in left.items() if work is best)
            assert oldest in batch
            rows = [left.pop(label) for label in batch]
            assert {(work, beam) for work, _, beam in rows} == {(best, jobs[oldest][2])}
            lengths = [tenths for _, tenths, _ in rows]
            assert lengths == sorted(lengths)
            assert len(batch) == 1 or lengths[-1] * len(batch) <= max_s
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
    bench.worker.submit(Job(bench.owner, FINAL, np.ones(RATE, np.int16), 1, False, done=bad, failed=worse))
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
    monkeypatch.setattr(bench.model, "decode", lambda batch, beam, word_times: iter([[]]))
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
    assert told == {99: "99", **dict.fromkeys((1, 2, 3), "bench has stopped")}
    assert [record.exc_info and record.exc_info[1] for record in caplog.records] == [fault]


# Lending.


def test_ids_are_never_given_twice(bench: Bench) -> None:
    first = bench.worker.bind()
    bench.worker.unbind(first)
    assert bench.worker.bind() > first


@pytest.mark.parametrize("fails", [False, True])
def test_nothing_reaches_an_id_that_was_unbound(bench: Bench, fails: bool) -> None:
    leaver = bench.worker.bind()
    bench.hold()
    bench.submit(1, owner=leaver)
    bench.submit(2)
    bench.release()
    assert bench.model.entered() == [1, 2]
    bench.worker.unbind(leaver)
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
    bench.worker.unbind(leaver)
    assert bench.worker.waiting() == {"final": 1, "file": 0, "partial": 0}
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


# The end.


def test_close_fails_what_is_left_and_what_still_comes(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = bench.worker.bind()
    bench.submit(0, FILE, owner=gone)
    assert bench.model.entered() == [0]
    bench.submit(2, FINAL)
    bench.model.go([])
    assert bench.model.entered() == [2]
    bench.worker.unbind(gone)
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


def test_close_of_an_idle_worker_ends_its_thread(bench: Bench) -> None:
    bench.worker.close()
    assert not bench.worker._thread.is_alive()
    bench.submit(1)
    assert bench.answer()[0] == 1
    assert not any(bench.worker.waiting().values())


def test_many_threads_get_each_answer_once() -> None:
    worker = DeviceWorker("busy", EchoModel(), RATE, BatchLimits(4), Noted())
    answers: queue.Queue[tuple[int, str]] = queue.Queue()
    errors: list[Exception] = []

    def client(number: int) -> None:
        owner = worker.bind()
        for k in range(50):
            label = number * 50 + k
            done = functools.partial(
                lambda label, outcome: answers.put((label, outcome.transcript.hypotheses[0].text)), label
            )
            samples = np.full(1 + k, label, np.int16)
            worker.submit(Job(owner, (FINAL, FILE)[k % 2], samples, 1, False, done, failed=errors.append))

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
