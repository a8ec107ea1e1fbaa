"""Stand-ins for the device and the model: they do what the test says, when it says so."""

from __future__ import annotations

import itertools
import queue
import threading
from typing import TYPE_CHECKING, Any, cast

import pytest

from parley.decoder.engine.work import Job, Outcome, Whole, Work
from parley.decoder.errors import DeviceError
from parley.decoder.models.acoustic import Chunk
from parley.decoder.speech.vad import FRAME, Vad
from parley.decoder.values import Hypothesis, Transcript, Word

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from parley.decoder.engine.worker import DeviceWorker
    from parley.decoder.search.ctc import Wishes

WAIT_S = 20.0  # of anything that must come: only a failing test waits so long
CHUNKS = (Work.CHUNK, Work.CATCH_UP)


def whole(job: Job) -> Whole:
    """What a job that is no chunk is about."""
    assert isinstance(job.task, Whole)
    return job.task


def chunk(job: Job) -> Chunk:
    assert isinstance(job.task, Chunk)
    return job.task


def said(text: str, *words: tuple[str, int, int]) -> Transcript:
    """A transcript; "" holds no words."""
    if not text:
        return Transcript(())
    return Transcript((Hypothesis(text, 0.5, tuple(Word(word, start, end, 0.5) for word, start, end in words)),))


class Votes:
    """webrtcvad.Vad with given votes, True for a voiced frame."""

    def __init__(self, votes: Sequence[bool]) -> None:
        self._left = list(votes)

    def is_speech(self, frame: bytes, rate: int) -> bool:
        assert (len(frame), rate) == (640, 16_000)  # 20 ms
        return self._left.pop(0)


def judged(votes: Sequence[bool]) -> list[tuple[bool, int]]:
    """What Vad makes of such votes: (speech, onset) a frame."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("webrtcvad.Vad", lambda aggressiveness: Votes(votes))
        detector = Vad()
        return [heard for _ in votes for heard in detector.accept(bytes(2 * FRAME))]


class FakeWorker:
    """A device that keeps the jobs it gets until the test answers them."""

    def __init__(self, name: str = "fake") -> None:
        self.name = name
        self.lock = threading.RLock()
        self.jobs: list[Job] = []
        self.bound: set[int] = set()
        self.wiped: list[int] = []  # slots
        self.heard: dict[int, Transcript] = {}  # by slot: what its last chunk was answered with
        self._ids = itertools.count(1)

    def bind(self) -> int:
        owner = next(self._ids)
        self.bound.add(owner)
        return owner

    def unbind(self, owner: int, slot: int) -> None:
        with self.lock:
            self.bound.remove(owner)
            self.wiped.append(slot)

    def submit(self, job: Job) -> None:
        self.jobs.append(job)

    def finish(self, slot: int, count: int) -> Transcript:
        assert all(job.task.slot != slot for job in self.jobs if isinstance(job.task, Chunk))
        return Transcript(self.heard[slot].hypotheses[:count])

    def of(self, *kinds: Work) -> list[Job]:
        return [job for job in self.jobs if job.work in (kinds or tuple(Work))]

    def answer(self, job: Job, transcript: Transcript, queue_s: float = 0.0, batch_size: int = 1) -> None:
        """As a device: under its lock, and only to those who are bound."""
        with self.lock:
            if isinstance(job.task, Chunk):
                self.heard[job.task.slot] = transcript
            if job.owner in self.bound:
                job.done(Outcome(transcript, queue_s, batch_size))

    def fail(self, job: Job, error: Exception) -> None:
        with self.lock:
            if job.owner in self.bound:
                job.failed(error)

    def late(self, job: Job) -> None:
        """The job's deadline passes. Whether it is still answered is the test's to say."""
        with self.lock:
            if job.owner in self.bound:
                assert job.late is not None
                job.late()

    @property
    def worker(self) -> DeviceWorker:
        return cast("DeviceWorker", self)


class SteppedModel:
    """A model of either pass whose every call waits for the test. A row is told by its first sample: that number is
    its text."""

    def __init__(self, step: int = 5_120, like: SteppedModel | None = None) -> None:
        """like: another model of the same device, whose calls the test sees and answers as if they were this one's."""
        self.step = step
        self.asked: list[dict[str, Any]] = []  # a batch
        self.unsound: set[int] = set()  # rows that have an error in the place of their words
        self.cleared: list[tuple[int, int]] = []  # (slot, batches asked before)
        self._heard: dict[int, Transcript] = {}  # by slot: what was made of its last chunk
        self._entered: queue.Queue[list[int]] = like._entered if like else queue.Queue()
        self._go: queue.Queue[Exception | list[int] | None] = like._go if like else queue.Queue()

    def decode(
        self,
        batch: Sequence[NDArray[np.int16]],
        *,
        beam: int,
        word_times: bool,
        wishes: Sequence[Wishes | None] = (),
    ) -> Iterator[list[tuple[int, Transcript | DeviceError]]]:
        self.asked.append({"beam": beam, "word_times": word_times, "lengths": [len(samples) for samples in batch]})
        return self._steps([int(samples[0]) for samples in batch])

    def advance(self, chunks: Sequence[Chunk]) -> Iterator[list[tuple[int, Transcript | DeviceError]]]:
        self.asked.append({"slots": [chunk.slot for chunk in chunks]})
        return self._remembered(chunks, self._steps([int(chunk.samples[0]) for chunk in chunks]))

    def _remembered(
        self, chunks: Sequence[Chunk], steps: Iterator[list[tuple[int, Transcript | DeviceError]]]
    ) -> Iterator[list[tuple[int, Transcript | DeviceError]]]:
        for step in steps:
            for row, words in step:
                if isinstance(words, Transcript):
                    self._heard[chunks[row].slot] = words
            yield step

    def finish(self, slot: int, count: int) -> Transcript:
        return Transcript(self._heard[slot].hypotheses[:count])

    def clear(self, slot: int) -> None:
        self.cleared.append((slot, len(self.asked)))

    def _steps(self, rows: list[int]) -> Iterator[list[tuple[int, Transcript | DeviceError]]]:
        left = dict(enumerate(rows))
        while left:
            self._entered.put(rows)
            order = self._go.get(timeout=WAIT_S)
            if isinstance(order, Exception):
                raise order
            done = list(left) if order is None else [row for row, label in left.items() if label in order]
            yield [(row, self._words(left.pop(row))) for row in done]

    def _words(self, label: int) -> Transcript | DeviceError:
        return DeviceError(f"{label} is not finite") if label in self.unsound else said(str(label))

    def entered(self) -> list[int]:
        """Waits until the model is called; the rows it is called for."""
        return self._entered.get(timeout=WAIT_S)

    def go(self, finish: Sequence[int] | None = None) -> None:
        """Lets the present call return, with these rows finished; None: all that are left."""
        self._go.put(None if finish is None else list(finish))

    def fail(self, error: Exception) -> None:
        """Lets the present call raise."""
        self._go.put(error)


def end_call_on_close(worker: DeviceWorker, model: SteppedModel, patch: pytest.MonkeyPatch) -> None:
    """Lets close() find the model in a call, which then returns."""
    wait = worker._over.wait

    def go_and_wait() -> bool:
        model.go()
        return wait()

    patch.setattr(worker._over, "wait", go_and_wait)  # close() has told the thread to stop before it waits


class EchoModel:
    """Answers at once: an utterance with its first sample, a chunk with its index."""

    step = 5_120

    def __init__(self) -> None:
        self._heard: dict[int, Transcript] = {}  # by slot: what was made of its last chunk

    def decode(
        self,
        batch: Sequence[NDArray[np.int16]],
        *,
        beam: int,
        word_times: bool,
        wishes: Sequence[Wishes | None] = (),
    ) -> Iterator[list[tuple[int, Transcript]]]:
        yield []
        yield [(row, said(str(samples[0]))) for row, samples in enumerate(batch)]

    def advance(self, chunks: Sequence[Chunk]) -> Iterator[list[tuple[int, Transcript | DeviceError]]]:
        self._heard |= {chunk.slot: said(str(chunk.index)) for chunk in chunks}
        yield [(row, self._heard[chunk.slot]) for row, chunk in enumerate(chunks)]

    def finish(self, slot: int, count: int) -> Transcript:
        return Transcript(self._heard[slot].hypotheses[:count])

    def clear(self, slot: int) -> None:
        pass
