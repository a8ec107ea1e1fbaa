"""The device's thread with chunks: which go together, what goes between, and that a slot holds one stream only."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from parley.decoder.engine.work import BatchLimits, Work
from parley.decoder.engine.worker import DeviceWorker
from parley.decoder.errors import DeviceError, OutOfMemory
from parley.decoder.values import Passes
from tests.decoder.bench import RATE, STEP, Bench, Noted, running
from tests.decoder.fakes import CHUNKS, WAIT_S, EchoModel

if TYPE_CHECKING:
    from collections.abc import Iterator

CHUNK, FINAL, CATCH_UP, FILE, PARTIAL = Work


@pytest.fixture
def bench() -> Iterator[Bench]:
    with running() as bench:
        yield bench


# Who goes first.


def test_rights() -> None:
    with running() as bench:
        bench.hold(99, CHUNK)
        for label, work in enumerate((PARTIAL, FILE, CATCH_UP, FINAL, CHUNK)):
            bench.submit(label, work, owner=bench.worker.bind(), slot=label)
        assert bench.worker.waiting() == dict.fromkeys(("chunk", "final", "catch_up", "file", "partial"), 1)
        bench.release()
        for label in (4, 3, 2, 1, 0):
            bench.next_batch(label)


@pytest.mark.parametrize("by", [Passes.FIRST, Passes.SECOND])
@pytest.mark.parametrize(
    ("present", "chunk"), [(FINAL, CHUNK), (FILE, CHUNK), (PARTIAL, CHUNK), (FILE, CATCH_UP), (PARTIAL, CATCH_UP)]
)
def test_a_chunk_goes_between_two_calls_for_a_batch_of_a_lower_right(
    bench: Bench, present: Work, chunk: Work, by: Passes
) -> None:
    bench.submit(1, present, by=by)
    for label in (2, 3):  # one between each two calls
        assert bench.model.entered() == [1]
        bench.chunks(label, work=chunk)
        bench.model.go([])
        bench.next_batch(label)
    bench.next_batch(1)


@pytest.mark.parametrize(
    ("present", "chunk"), [(CHUNK, CHUNK), (CATCH_UP, CATCH_UP), (CHUNK, CATCH_UP), (FINAL, CATCH_UP)]
)
def test_a_chunk_does_not_interrupt_its_like_or_better(bench: Bench, present: Work, chunk: Work) -> None:
    bench.hold(1, present)
    bench.chunks(2, work=chunk)
    bench.model.go([])
    bench.next_batch(1)
    bench.next_batch(2)


def test_the_rights_may_pile_up(bench: Bench) -> None:
    bench.hold(1, PARTIAL)
    for label, work in ((2, FILE), (3, CATCH_UP), (4, FINAL), (5, CHUNK)):
        bench.submit(label, work, owner=bench.worker.bind(), slot=label)
        bench.model.go([])
        assert bench.model.entered() == [label]
    bench.release(5)
    for label in (4, 3, 2, 1):
        bench.next_batch(label)


# Who goes together.


@pytest.mark.parametrize("work", CHUNKS)
def test_all_chunks_that_wait_go_together(bench: Bench, work: Work) -> None:
    bench.hold()
    bench.chunks(1, 2, 3, 4, 5, work=work)
    bench.release()
    bench.next_batch(1, 2, 3, 4, 5)
    assert bench.first.asked == [{"slots": [1, 2, 3, 4, 5]}]
    assert {bench.outcomes[label].batch_size for label in (1, 2, 3, 4, 5)} == {5}


def test_chunks_of_live_calls_and_of_those_in_a_hurry_never_go_together(bench: Bench) -> None:
    bench.hold()
    bench.chunks(1, 2, work=CATCH_UP)
    bench.chunks(3, 4)
    bench.release()
    bench.next_batch(3, 4)
    bench.next_batch(1, 2)


@pytest.mark.parametrize("work", CHUNKS)
def test_no_more_than_the_limit_the_oldest_first(work: Work) -> None:
    with running(chunks=3, jobs=1, live_s=0.1, file_s=0.1) as bench:  # of utterances: chunks have nothing to do with it
        bench.hold()
        bench.chunks(1, 2, 3, 4, 5, 6, 7, work=work)
        bench.release()
        bench.next_batch(1, 2, 3)
        bench.next_batch(4, 5, 6)
        bench.next_batch(7)


def test_what_is_urgent_goes_before_what_is_older() -> None:
    with running(chunks=3) as bench:
        bench.hold()
        bench.chunks(1, 2, 3)
        bench.chunks(4, 5, urgent=True)
        bench.release()
        assert sorted(bench.model.entered()) == [1, 4, 5]
        bench.model.go()
        bench.answered(1, 4, 5)
        bench.next_batch(2, 3)


def test_a_chunk_leaves_its_stream_s_partial_where_it_is(bench: Bench) -> None:
    bench.hold()
    bench.submit(1, PARTIAL)
    bench.submit(2, CHUNK)
    assert bench.worker.waiting()["partial"] == 1
    bench.release()
    bench.next_batch(2)
    bench.next_batch(1)


def test_the_observer_is_told_of_the_new_audio(bench: Bench) -> None:
    bench.chunks(1)
    bench.next_batch(1)
    bench.hold()
    bench.chunks(2, 3, 4, work=CATCH_UP)
    bench.release()
    bench.next_batch(2, 3, 4)
    bench.hold()  # so that the batch before is through
    assert bench.noted.batches == [
        ("chunk", 1, STEP / RATE),
        ("final", 1, 1.0),
        ("catch_up", 3, 3 * STEP / RATE),
    ]
    assert bench.noted.waits == ["chunk", "final", "catch_up", "catch_up", "catch_up", "final"]


# Faults.


@pytest.mark.parametrize("work", Work)
def test_an_error_in_the_place_of_words_fails_its_stream_alone(bench: Bench, work: Work) -> None:
    bench.hold(98, FILE)
    bench.model.unsound = bench.first.unsound = {2, 4}
    for label in (1, 2, 3, 4):
        bench.submit(label, work, owner=bench.worker.bind(), slot=label, by=Passes.FIRST)
    bench.release(98)
    assert bench.model.entered() == [1, 2, 3, 4]
    bench.model.go()
    if work is PARTIAL:  # its final is still to come
        bench.answered(1, 3)
        assert [bench.noted.drops.get_nowait() for _ in range(2)] == [("partial", "failed")] * 2
    else:
        answers = [bench.answer() for _ in range(4)]
        assert [str(answer) for _, answer in answers] == ["1", "2 is not finite", "3", "4 is not finite"]
        assert all(isinstance(answer, DeviceError) for _, answer in answers[1::2])
    bench.chunks(5)
    bench.next_batch(5)
    assert bench.answers.empty()
    assert bench.noted.batches[1][:2] == (work.name.lower(), 4)


def test_a_failing_batch_fails_all_its_streams_and_no_other(bench: Bench) -> None:
    bench.hold()
    bench.chunks(1, 2)
    bench.release()
    assert bench.model.entered() == [1, 2]
    bench.chunks(3)
    fault = RuntimeError("the model fell over")
    bench.model.fail(fault)
    assert [bench.answer() for _ in range(2)] == [(1, fault), (2, fault)]
    bench.next_batch(3)


@pytest.mark.parametrize("work", CHUNKS)
def test_without_memory_a_batch_is_halved_down_to_one(bench: Bench, work: Work) -> None:
    bench.hold()
    bench.chunks(1, 2, 3, 4, 5, work=work)
    bench.release()
    assert bench.model.entered() == [1, 2, 3, 4, 5]
    bench.chunks(6, work=work)  # waits till they are through
    bench.model.fail(OutOfMemory("5 GB"))
    assert bench.model.entered() == [1, 2]
    bench.model.fail(OutOfMemory("2 GB"))
    assert bench.model.entered() == [1]
    bench.model.fail(OutOfMemory("1 GB"))
    label, error = bench.answer()
    assert (label, type(error)) == (1, DeviceError)
    assert "1 GB" in str(error)
    bench.next_batch(2)
    bench.next_batch(3, 4, 5)
    bench.next_batch(6)
    assert bench.answers.empty()


# Lending.


def test_a_slot_is_wiped_before_its_next_chunk(bench: Bench) -> None:
    (old,) = bench.chunks(3)
    assert bench.model.entered() == [3]
    bench.worker.unbind(old, 3)
    bench.submit(4, CHUNK, owner=bench.worker.bind(), slot=3)
    bench.model.go()
    bench.next_batch(4)
    assert bench.noted.drops.get_nowait() == ("chunk", "unbound")
    assert bench.first.cleared == [(3, 1)]  # between the two
    assert bench.first.asked == [{"slots": [3]}] * 2


def test_an_idle_device_wipes_at_once(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    wiped = bench.answers
    monkeypatch.setattr(bench.first, "clear", lambda slot: wiped.put((slot, "wiped")))
    bench.worker.unbind(bench.worker.bind(), 7)
    assert bench.answer() == (7, "wiped")


def test_slots_are_wiped_between_two_calls(bench: Bench) -> None:
    bench.hold(9, FILE)
    for slot in (1, 2):
        bench.worker.unbind(bench.worker.bind(), slot)
    assert bench.first.cleared == []
    bench.model.go([])
    assert bench.model.entered() == [9]
    assert [slot for slot, _ in bench.first.cleared] == [1, 2]
    bench.release(9)


def test_a_chunk_of_the_old_stream_that_waits_never_runs(bench: Bench) -> None:
    bench.hold()
    old, _ = bench.chunks(1, 2)
    bench.worker.unbind(old, 1)
    bench.submit(3, CHUNK, owner=bench.worker.bind(), slot=1)
    bench.release()
    bench.next_batch(2, 3)
    assert bench.first.cleared == [(1, 0)]
    assert bench.noted.drops.empty()


def test_a_chunk_of_the_old_stream_in_the_other_half_never_runs(bench: Bench) -> None:
    bench.hold()
    owners = bench.chunks(1, 2, 3, 4)
    bench.release()
    assert bench.model.entered() == [1, 2, 3, 4]
    bench.model.fail(OutOfMemory("4 GB"))
    assert bench.model.entered() == [1, 2]
    bench.worker.unbind(owners[2], 3)
    bench.submit(5, CHUNK, owner=bench.worker.bind(), slot=3)
    bench.model.go()
    bench.answered(1, 2)
    bench.next_batch(4)
    bench.next_batch(5)
    assert bench.first.asked == [{"slots": slots} for slots in ([1, 2, 3, 4], [1, 2], [4], [3])]
    assert bench.first.cleared == [(3, 2)]
    assert bench.noted.drops.get_nowait() == ("chunk", "unbound")


def test_a_half_of_nobody_is_passed_over(bench: Bench) -> None:
    bench.hold()
    owners = bench.chunks(1, 2)
    bench.release()
    bench.model.entered()
    bench.model.fail(OutOfMemory("2 GB"))
    assert bench.model.entered() == [1]
    bench.worker.unbind(owners[1], 2)
    bench.model.go()
    bench.answered(1)
    bench.chunks(3)
    bench.next_batch(3)
    assert bench.answers.empty()


def test_a_device_without_a_first_pass_has_nothing_to_wipe() -> None:
    worker = DeviceWorker("second", {Passes.SECOND: EchoModel()}, RATE, BatchLimits(), Noted())
    worker.unbind(worker.bind(), 0)
    worker.close()
    worker._thread.join(WAIT_S)
    assert not worker._thread.is_alive()


def test_a_wipe_that_fails_leaves_nobody_waiting(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    (owner,) = bench.chunks(1)
    assert bench.model.entered() == [1]
    monkeypatch.setattr(bench.first, "clear", lambda slot: 1 // 0)
    bench.worker.unbind(owner, 1)
    bench.chunks(2, 3)
    bench.submit(4, FINAL)
    bench.model.go()
    answers = dict(bench.answer() for _ in range(3))
    assert answers.keys() == {2, 3, 4}
    assert all(isinstance(error, DeviceError) for error in answers.values())


def test_beside_other_work_chunks_wait_for_each_other() -> None:
    with running(chunks=3, collect_s=1_000.0) as bench:
        bench.hold(work=FILE)
        bench.chunks(1, 2)
        bench.submit(9, FINAL)
        bench.model.go([])
        bench.next_batch(9)  # goes before two chunks that may wait
        assert bench.model.entered() == [99]
        bench.chunks(3)
        bench.model.go([])
        bench.next_batch(1, 2, 3)  # a batch is full
        assert bench.model.entered() == [99]
        bench.chunks(4)
        bench.chunks(5, urgent=True)
        bench.model.go([])
        bench.next_batch(4, 5)  # somebody waits for his final
        assert bench.model.entered() == [99]
        bench.chunks(6)
        bench.release()
        bench.next_batch(6)  # there is nothing else to do


def test_chunks_do_not_wait_long() -> None:
    with running(chunks=3, collect_s=0.001) as bench:
        bench.hold(work=FILE)
        bench.chunks(1)
        while True:
            bench.model.go([])
            if bench.model.entered() == [1]:
                break
        bench.model.go()
        bench.answered(1)
        assert bench.model.entered() == [99]
        bench.release()
