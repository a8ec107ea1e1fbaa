"""One device's thread: takes the work that waits, batches what is alike, runs the model, hands out results.

Knows jobs and their rights, not streams or words. A job belongs to an id that was bound when its decoder was lent; the
result of a job whose id was unbound since is dropped and counted, so nothing reaches a stranger. Callbacks run on this
thread under the device's lock. The model is a generator that yields after each of its calls, and work of a higher
right goes in between.
"""

from __future__ import annotations

import enum
import itertools
import logging
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from decoder.errors import DeviceError
from decoder.second_pass import OutOfMemory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from decoder.second_pass import Transcript

logger = logging.getLogger(__name__)


class Work(enum.IntEnum):
    """Kinds of work, by right: a lower number goes first."""

    FINAL = 1  # an utterance of a live call
    FILE = 2  # a segment of a recording, or of a stream sent faster than real time
    PARTIAL = 3  # an open utterance, only when nothing else waits


class Model(Protocol):
    """What a worker runs; see SecondPass.decode."""

    def decode(
        self, batch: Sequence[NDArray[np.int16]], *, beam: int, word_times: bool
    ) -> Iterator[list[tuple[int, Transcript]]]: ...


class Observer(Protocol):
    """Who counts. Called on device threads: must be quick."""

    def batch(self, work: str, rows: int, audio_s: float, wall_s: float) -> None: ...
    def waited(self, work: str, wait_s: float) -> None: ...
    def dropped(self, work: str, reason: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Outcome:
    """A job's result. `queue_s`: waited for the device."""

    transcript: Transcript
    queue_s: float
    batch_size: int


@dataclass(slots=True, eq=False)
class Job:
    """samples: (n,) int16, n > 0. done or failed is called, once, on the device's thread under its lock."""

    owner: int
    work: Work
    samples: NDArray[np.int16]
    beam: int
    word_times: bool
    done: Callable[[Outcome], None]
    failed: Callable[[Exception], None]
    since: float = field(default_factory=time.monotonic)


@dataclass(slots=True, eq=False)
class _Batch:
    """Jobs in the model's hands. `open`: those without a result yet, by row."""

    work: Work
    jobs: list[Job]
    open: dict[int, Job]
    steps: Iterator[list[tuple[int, Transcript]]]
    started: float
    wall_s: float = 0.0  # in the model, without the time it stood aside


class DeviceWorker:
    def __init__(
        self, name: str, model: Model, sample_rate: int, max_batch: int, max_batch_s: float, observer: Observer
    ) -> None:
        """max_batch: jobs a batch. max_batch_s: seconds of audio a batch, padding counted; one job may be longer."""
        self.name = name
        self.lock = threading.RLock()  # guards callbacks and who is bound
        self._model = model
        self._rate = sample_rate
        self._max_batch, self._max_samples = max_batch, int(max_batch_s * sample_rate)
        self._observer = observer
        self._ids = itertools.count(1)
        self._bound: set[int] = set()
        self._arrived = threading.Condition()  # guards what waits
        self._waiting: dict[Work, list[Job]] = {work: [] for work in Work}
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name=f"device-{name}", daemon=True)
        self._thread.start()

    def bind(self) -> int:
        """A new id, under which results are delivered until it is unbound."""
        with self.lock:
            owner = next(self._ids)
            self._bound.add(owner)
            return owner

    def unbind(self, owner: int) -> None:
        """From here on nothing is delivered to `owner`; what of its work waits is forgotten."""
        with self.lock:
            self._bound.discard(owner)
        with self._arrived:
            for work, jobs in self._waiting.items():
                self._waiting[work] = [job for job in jobs if job.owner != owner]

    def submit(self, job: Job) -> None:
        """Puts a job into the queue. A partial takes the place of its owner's waiting one; a final removes it."""
        with self._arrived:
            if self._stopping:
                raise DeviceError(f"{self.name} has stopped")
            if job.work is not Work.FILE:
                partials = self._waiting[Work.PARTIAL]
                for at, old in enumerate(partials):
                    if old.owner == job.owner:
                        if job.work is Work.PARTIAL:
                            job.since = old.since
                            partials[at] = job
                            return
                        del partials[at]
                        break
            self._waiting[job.work].append(job)
            self._arrived.notify()

    def waiting(self) -> dict[str, int]:
        """Jobs that wait, by kind."""
        with self._arrived:
            return {work.name.lower(): len(jobs) for work, jobs in self._waiting.items()}

    def close(self) -> None:
        """Stops after the model's present call; every job still here fails."""
        with self._arrived:
            self._stopping = True
            self._arrived.notify()
        self._thread.join()

    def _run(self) -> None:
        running: list[_Batch] = []  # the last one is in the model, those before it stood aside
        while True:
            with self._arrived:
                while not (self._stopping or running or any(self._waiting.values())):
                    self._arrived.wait()
                if self._stopping:
                    break
                jobs = self._schedule(running[-1].work if running else None)
            if jobs:
                running.append(self._start(jobs))
            if not self._step(running[-1]):
                running.pop()
        stopped = DeviceError(f"{self.name} has stopped")
        left = [job for batch in running for job in batch.open.values()]
        for job in itertools.chain(left, *self._waiting.values()):
            self._deliver(job, job.failed, stopped)

    def _schedule(self, present: Work | None) -> list[Job]:
        """The next batch, if it outranks the present one: the oldest job of the first right and its like."""
        work = next((work for work in Work if self._waiting[work]), None)
        if work is None or (present is not None and work >= present):
            return []
        waiting = self._waiting[work]
        oldest = min(waiting, key=lambda job: job.since)
        alike = [job for job in waiting if job.beam == oldest.beam]
        alike.sort(key=lambda job: (job is not oldest, abs(len(job.samples) - len(oldest.samples))))
        chosen: list[Job] = []
        longest = 0
        for job in alike[: self._max_batch]:
            longest = max(longest, len(job.samples))
            if chosen and longest * (len(chosen) + 1) > self._max_samples:
                break
            chosen.append(job)
        taken = set(chosen)
        self._waiting[work] = [job for job in waiting if job not in taken]
        return sorted(chosen, key=lambda job: len(job.samples))

    def _start(self, jobs: list[Job]) -> _Batch:
        now = time.monotonic()
        work = jobs[0].work
        for job in jobs:
            self._observer.waited(work.name.lower(), now - job.since)
        steps = self._model.decode(
            [job.samples for job in jobs], beam=jobs[0].beam, word_times=any(job.word_times for job in jobs)
        )
        return _Batch(work, jobs, dict(enumerate(jobs)), steps, now)

    def _step(self, batch: _Batch) -> bool:
        """One call of the model and its results; False when the batch is through."""
        begun = time.monotonic()
        try:
            finished = next(batch.steps)
        except StopIteration:
            self._observer.batch(
                batch.work.name.lower(),
                len(batch.jobs),
                sum(len(job.samples) for job in batch.jobs) / self._rate,
                batch.wall_s,
            )
            return False
        except OutOfMemory as error:
            self._halve(batch, error)
            return False
        except Exception as error:
            logger.exception("%s: a batch of %d failed", self.name, len(batch.jobs))
            for job in batch.open.values():
                self._deliver(job, job.failed, error)
            return False
        batch.wall_s += time.monotonic() - begun
        for row, transcript in finished:
            job = batch.open.pop(row)
            self._deliver(job, job.done, Outcome(transcript, batch.started - job.since, len(batch.jobs)))
        return True

    def _halve(self, batch: _Batch, error: OutOfMemory) -> None:
        """Tries the unfinished jobs again in two halves, ahead of all others; one that does not fit alone fails."""
        jobs = list(batch.open.values())
        if len(jobs) == 1:
            too_long = DeviceError(f"{self.name} has no memory for this utterance: {error}")
            self._deliver(jobs[0], jobs[0].failed, too_long)
            return
        logger.warning("%s: no memory for a batch of %d, trying halves", self.name, len(jobs))
        half = len(jobs) // 2
        for part in (jobs[:half], jobs[half:]):
            again = self._start(part)
            while self._step(again):
                pass

    def _deliver(self, job: Job, callback: Callable[..., None], value: object) -> None:
        with self.lock:
            if job.owner not in self._bound:
                self._observer.dropped(job.work.name.lower(), "unbound")
                return
            try:
                callback(value)
            except Exception:
                # One stream's fault: its neighbours in the batch still get their words.
                logger.exception("%s: a result could not be delivered", self.name)
