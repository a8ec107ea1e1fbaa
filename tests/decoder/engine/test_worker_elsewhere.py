"""Utterances whose words somebody else is still at: the device goes on, and what comes finds its owner or nobody."""

from __future__ import annotations

import queue
import threading
import time
from concurrent.futures import Future
from typing import TYPE_CHECKING

import numpy as np
import pytest

from parley.decoder.engine.queue import MOST_ELSEWHERE
from parley.decoder.engine.work import BatchLimits, Job, Outcome, Whole, Work
from parley.decoder.engine.worker import DeviceWorker
from parley.decoder.errors import DeviceError, DeviceLost
from parley.decoder.values import Passes, Transcript
from tests.decoder.fakes import WAIT_S, EchoModel, said

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from parley.decoder.models.passes import ChunkModel

    Told = queue.Queue[tuple[str, object]]


class Elsewhere:
    """Gives a future for every utterance, and keeps it by the utterance's first sample."""

    def __init__(self) -> None:
        self.futures: queue.Queue[tuple[int, Future[Transcript]]] = queue.Queue()

    def decode(
        self, batch: Sequence[NDArray[np.int16]], *, beam: int, word_times: bool, wishes: Sequence[object] = ()
    ) -> Iterator[list[tuple[int, Future[Transcript]]]]:
        for row, samples in enumerate(batch):
            future: Future[Transcript] = Future()
            self.futures.put((int(samples[0]), future))
            yield [(row, future)]


class Counted:
    def __init__(self) -> None:
        self.lost: queue.Queue[tuple[str, str]] = queue.Queue()

    def batch(self, work: str, rows: int, audio_s: float, wall_s: float) -> None: ...
    def waited(self, work: str, wait_s: float) -> None: ...
    def dropped(self, work: str, reason: str) -> None:
        self.lost.put((work, reason))


class Device:
    def __init__(self, chunks: ChunkModel | None = None) -> None:
        self.model, self.counted = Elsewhere(), Counted()
        self.told: Told = queue.Queue()
        models, limits = {Passes.FIRST: self.model}, BatchLimits(jobs=1)
        self.worker = DeviceWorker("test", models, 16_000, limits, self.counted, chunks)

    def submit(self, owner: int, label: int, work: Work = Work.FILE, deadline_s: float | None = None) -> None:
        job = Job(
            owner,
            work,
            Whole(np.full(160, label, np.int16), Passes.FIRST),
            done=lambda outcome: self.told.put(("done", outcome)),
            failed=lambda error: self.told.put(("failed", error)),
            late=lambda: self.told.put(("late", label)),
        )
        if deadline_s is not None:
            job.deadline = time.monotonic() + deadline_s
        self.worker.submit(job)

    def future(self) -> tuple[int, Future[Transcript]]:
        return self.model.futures.get(timeout=WAIT_S)

    def hear(self) -> tuple[str, object]:
        return self.told.get(timeout=WAIT_S)


@pytest.fixture
def device() -> Iterator[Device]:
    device = Device()
    yield device
    device.worker.close()


def test_words_that_come_later_are_delivered_with_what_was_known(device: Device) -> None:
    owner = device.worker.bind()
    device.submit(owner, 1)
    device.submit(owner, 2)
    (_, first), (_, second) = device.future(), device.future()  # the device has not waited for the first
    second.set_result(said("two"))
    first.set_result(said("one"))
    outcomes = [device.hear()[1] for _ in range(2)]
    assert all(isinstance(outcome, Outcome) and outcome.batch_size == 1 for outcome in outcomes)
    assert [outcome.transcript for outcome in outcomes if isinstance(outcome, Outcome)] == [said("two"), said("one")]


@pytest.mark.parametrize("error", [DeviceError("its process died"), ValueError("a bug")])
def test_what_goes_wrong_elsewhere_is_a_device_error(device: Device, error: Exception) -> None:
    device.submit(device.worker.bind(), 1)
    device.future()[1].set_exception(error)
    kind, found = device.hear()
    assert kind == "failed"
    assert isinstance(found, DeviceError)
    assert str(error) in str(found)


def test_words_for_who_has_gone_reach_nobody(device: Device) -> None:
    gone, there = device.worker.bind(), device.worker.bind()
    device.submit(gone, 1)
    device.submit(there, 2)
    (_, first), (_, second) = device.future(), device.future()
    device.worker.unbind(gone, 0)
    first.set_result(said("of the one who has gone"))
    assert device.counted.lost.get(timeout=WAIT_S) == ("file", "unbound")
    second.set_result(said("of the other"))
    kind, outcome = device.hear()
    assert isinstance(outcome, Outcome)
    assert (kind, outcome.transcript) == ("done", said("of the other"))
    assert device.told.empty()


def test_a_deadline_passes_though_nothing_else_happens(device: Device) -> None:
    device.submit(device.worker.bind(), 7, Work.FINAL, deadline_s=0.05)
    _, future = device.future()
    assert device.hear() == ("late", 7)
    future.set_result(said("too late for its owner to want it"))
    assert device.hear()[0] == "done"  # whose business that is


def test_what_is_elsewhere_when_the_device_stops_fails(device: Device) -> None:
    device.submit(device.worker.bind(), 1)
    _, future = device.future()
    device.worker.close()
    kind, error = device.hear()
    assert (kind, type(error)) == ("failed", DeviceError)
    future.set_result(said("nobody is there"))
    assert device.told.empty()


def test_recordings_wait_while_much_of_theirs_is_elsewhere_and_finals_do_not(device: Device) -> None:
    owner = device.worker.bind()
    for label in range(MOST_ELSEWHERE + 2):
        device.submit(owner, label)
    begun = [device.future() for _ in range(MOST_ELSEWHERE)]
    device.submit(owner, 1_000, Work.FINAL)
    label, final = device.future()
    assert label == 1_000  # not the recording that came before it
    assert device.worker.waiting()["file"] == 2
    final.set_result(said("final"))
    for _, future in begun:
        future.set_result(said("segment"))
    for _ in range(2):
        device.future()[1].set_result(said("segment"))
    assert [device.hear()[0] for _ in range(MOST_ELSEWHERE + 3)] == ["done"] * (MOST_ELSEWHERE + 3)


class Wipes(EchoModel):
    """Takes its time with a slot: until the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.begun, self.go_on = threading.Event(), threading.Event()

    def clear(self, slot: int) -> None:
        self.begun.set()
        assert self.go_on.wait(WAIT_S)


def test_words_that_come_as_the_device_is_given_up_reach_nobody(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("parley.decoder.engine.watchdog.STUCK_LOOKS", 1)
    wipes = Wipes()
    device = Device(wipes)
    device.submit(device.worker.bind(), 1)
    _, future = device.future()
    with device.worker.lock, device.worker._arrived:  # so that the thread finds both at once
        device.worker.unbind(device.worker.bind(), 0)
        future.set_result(said("one"))
    assert wipes.begun.wait(WAIT_S)
    for _ in range(2):
        device.worker.look()
    kind, error = device.hear()
    assert (kind, type(error)) == ("failed", DeviceLost)
    wipes.go_on.set()
    device.worker._thread.join(WAIT_S)
    assert not device.worker._thread.is_alive()
    assert device.told.empty()
    assert [record.getMessage() for record in caplog.records] == [
        "test: lost: the model has not returned from a call"
    ]  # and the thread has not broken besides
