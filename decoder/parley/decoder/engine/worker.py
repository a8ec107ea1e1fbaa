"""One device's thread: takes the work that waits, batches what is alike, runs the models, hands out results.

Knows jobs and their rights, not streams or words. A job belongs to an id that was bound when its decoder was lent; the
result of a job whose id was unbound since is dropped and counted, so nothing reaches a stranger. Callbacks run on this
thread under the device's lock. A model is a generator that yields after each of its calls, and work of a higher right
goes in between. A row's result may be a future: then somebody else is still at it, and the device goes on.

A device whose model does not return is given up by another thread, and its model may return at that very moment. So a
job is answered by who takes it out of what is open, elsewhere, late or waiting, and nobody else.
"""

from __future__ import annotations

import functools
import itertools
import logging
import math
import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from parley.decoder.device_errors import lost_by
from parley.decoder.engine.work import BatchLimits, Job, Observer, Outcome, Whole, Work
from parley.decoder.errors import DeviceError, DeviceLost, OutOfMemory
from parley.decoder.models.acoustic import Chunk
from parley.decoder.values import Transcript

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from parley.decoder.models.passes import ChunkModel, Result, Steps, WholeModel
    from parley.decoder.values import Passes


logger = logging.getLogger(__name__)
NOTHING = Transcript(())
MOST_ELSEWHERE = 16  # utterances that somebody else is at, while more of recordings may follow
STUCK_LOOKS = 60  # at one step of the model, which takes seconds at worst


@dataclass(slots=True, eq=False)
class _Batch:
    """Jobs in a model's hands, once it has begun. `open`: those without a result yet, by row."""

    work: Work
    jobs: list[Job]
    open: dict[int, Job]
    started: float
    steps: Steps | None = None
    wall_s: float = 0.0  # in the model, without the time it stood aside


class DeviceWorker:
    def __init__(
        self,
        name: str,
        models: Mapping[Passes, WholeModel],
        sample_rate: int,
        limits: BatchLimits,
        observer: Observer,
        chunks: ChunkModel | None = None,
        on_lost: Callable[[str], None] = lambda name: None,
    ) -> None:
        """models: what decodes whole utterances, by pass. chunks: what takes chunks. on_lost: called once, on whatever
        thread, when the device takes no more work though nobody has closed it."""
        self.name = name
        self.lock = threading.RLock()  # guards callbacks and who is bound; may be held where `_arrived` is taken
        self._models = models
        self._chunks = chunks
        self._rate = sample_rate
        self._limits = limits
        self._observer = observer
        self._ids, self._step_numbers = itertools.count(1), itertools.count(1)
        self._bound: set[int] = set()
        self._arrived = threading.Condition()  # guards what waits
        self._waiting: dict[Work, list[Job]] = {work: [] for work in Work}
        self._left: list[int] = []  # slots to wipe
        # Jobs in hand. The thread changes them under `lock` or `_arrived`, who gives it up under both.
        self._running: list[_Batch] = []  # the last is in the model, those before it stood aside
        self._elsewhere: dict[Job, Outcome] = {}  # whose words are a future, and what else is known
        self._late: list[Job] = []  # to be told so
        self._came: list[tuple[Job, Future[Transcript]]] = []  # those that are there
        self._final_s = 0.0  # that a batch of finals takes, a running mean
        self._on_lost = on_lost
        self._stopping = self._lost = self._given_up = False
        self._over = threading.Event()  # every job that was here has its answer
        self._step_number: int | None = None  # of the step it is at; None while it waits for work
        self._looked_at: tuple[int | None, int] = (None, 0)  # step, and how often it was found there
        self._thread = threading.Thread(target=self._run, name=f"device-{name}", daemon=True)
        self._thread.start()

    def bind(self) -> int:
        """A new id, under which results are delivered until it is unbound."""
        with self.lock:
            owner = next(self._ids)
            self._bound.add(owner)
            return owner

    def unbind(self, owner: int, slot: int) -> None:
        """From here on nothing is delivered to `owner`; what of its work waits is forgotten, and its slot is wiped
        before anything else happens on the device."""
        with self.lock:
            self._bound.discard(owner)
        with self._arrived:
            for work, jobs in self._waiting.items():
                self._waiting[work] = [job for job in jobs if job.owner != owner]
            if self._chunks is not None:
                self._left.append(slot)
                self._arrived.notify()

    def submit(self, job: Job) -> None:
        """Puts a job into the queue. A partial takes the place of its owner's waiting one; a final removes it.

        With the worker stopped, the job fails here and now, on the caller's thread.
        """
        with self._arrived:
            stopped = self._stopping
            if not stopped:
                self._put(job)
                self._arrived.notify()
        if stopped:
            self._fail(job, self._stopped())

    def _put(self, job: Job) -> None:
        if isinstance(job.task, Whole):
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

    def finish(self, slot: int, count: int) -> Transcript:
        """The n-best of the slot's utterance. On any thread, with the lock held: no chunk of the slot may be here."""
        assert self._chunks is not None
        return self._chunks.finish(slot, count)

    def waiting(self) -> dict[str, int]:
        """Jobs that wait, by kind."""
        with self._arrived:
            return {work.name.lower(): len(jobs) for work, jobs in self._waiting.items()}

    def close(self) -> None:
        """Stops after the model's present call, or when that is given up; every job still here fails."""
        with self._arrived:
            self._stopping = True
            self._arrived.notify()
        self._over.wait()
        if not self._given_up:
            self._thread.join()

    def look(self) -> None:
        """To be called about once a second, on any thread: a model that is found in one and the same call STUCK_LOOKS
        times does not return, and its device is lost. Looks are counted and no clock is read: a process that was
        stopped for a while does not hang."""
        present, (step, looks) = self._step_number, self._looked_at
        if self._lost:
            return
        self._looked_at = present, looks + 1 if present is not None and present == step else 0
        if self._looked_at[1] >= STUCK_LOOKS:
            logger.critical("%s: lost: the model has not returned from a call", self.name)
            self._given_up = True
            self._lose()

    def _run(self) -> None:
        try:
            while self._turn():
                pass
        except Exception as error:
            logger.critical("%s: lost: %s", self.name, lost_by(error) or "its thread broke", exc_info=True)
            self._lose()
        else:
            self._end()

    def _lose(self) -> None:
        """On the device's thread, on that which gives it up, or on both: a call that was given up may yet fail."""
        with self.lock:
            known, self._lost = self._lost, True
        if not known:
            self._on_lost(self.name)  # first: who is told of it now may call again at once
            self._end()

    def _end(self) -> None:
        """Takes no more work; every job still here fails."""
        with self.lock, self._arrived:
            self._stopping = True
            jobs = [job for batch in self._running for job in batch.open.values()]
            jobs += (*self._elsewhere, *self._late, *(job for waiting in self._waiting.values() for job in waiting))
            for batch in self._running:
                batch.open.clear()
            self._elsewhere.clear()
            self._late.clear()
            self._waiting = {work: [] for work in Work}
        for job in dict.fromkeys(jobs):  # what is late may be open, too
            self._fail(job, self._stopped())
        self._over.set()

    def _turn(self) -> bool:
        """Waits for work and takes one step of the first in right; False when stopped."""
        with self._arrived:
            self._step_number = None
            while not (self._stopping or self._running or self._left or self._came or self._ready()):
                self._arrived.wait(self._patience_s())
                if self._overdue_elsewhere(time.monotonic()):
                    break
            if self._stopping:
                return False
            self._step_number = next(self._step_numbers)
            left, self._left = self._left, []
            came, self._came = self._came, []
            now = time.monotonic()
            self._late += self._overdue(now)
            jobs = self._schedule(self._running[-1].work if self._running else None, now)
            if jobs:
                self._begin(jobs)  # at once: whatever happens now, they are known
        if self._chunks is not None:
            for slot in left:
                self._chunks.clear(slot)
        for job, future in came:
            self._take_in(job, future)
        with self.lock:
            while self._late:
                self._tell(self._late.pop(0))
        if self._running:
            self._step(self._running[-1])
        return True

    def _overdue(self, now: float) -> list[Job]:
        """The jobs whose deadline has passed; those that wait and cannot keep theirs any more leave the queue."""
        finals, done = self._waiting[Work.FINAL], now + self._final_s
        late = [job for job in finals if job.deadline <= done]
        if late:
            self._waiting[Work.FINAL] = [job for job in finals if job.deadline > done]
            if any(job.deadline > now for job in late):
                self._final_s *= 0.9  # so that a slow time does not keep finals out for good
        for batch in self._running:
            late += [job for job in batch.open.values() if job.deadline <= now]
        return late + self._overdue_elsewhere(now)

    def _overdue_elsewhere(self, now: float) -> list[Job]:
        return [job for job in self._elsewhere if job.deadline <= now]

    def _patience_s(self) -> float | None:
        """How long nothing can happen that nobody tells of; None: for ever."""
        deadline = min((job.deadline for job in self._elsewhere), default=math.inf)
        return None if deadline == math.inf else max(0.0, deadline - time.monotonic())

    def _tell(self, job: Job) -> None:
        job.deadline = math.inf
        self._observer.dropped(job.work.name.lower(), "late")
        with self.lock:
            if job.late is not None and job.owner in self._bound:
                try:
                    job.late()
                except Exception as error:
                    logger.exception("%s: what is late could not be told", self.name)
                    self._fail(job, error)

    def _schedule(self, present: Work | None, now: float) -> list[Job]:
        """The next batch, if it outranks the present one: the oldest job of the first right and its like."""
        works = self._ready()
        if Work.CHUNK in works and (len(works) > 1 or present is not None) and self._may_collect(now):
            works.remove(Work.CHUNK)
        work = works[0] if works else None
        if work is None or (present is not None and work >= present):
            return []
        waiting = self._waiting[work]
        oldest = min(waiting, key=lambda job: (not job.urgent, job.since))
        chosen = (
            self._chunk_batch(waiting) if isinstance(oldest.task, Chunk) else self._whole_batch(oldest, oldest.task)
        )
        taken = set(chosen)
        self._waiting[work] = [job for job in waiting if job not in taken]
        return chosen

    def _ready(self) -> list[Work]:
        """What waits and may begin. Recordings wait while much of theirs is elsewhere: nothing else holds them back."""
        held = len(self._elsewhere) >= MOST_ELSEWHERE
        return [work for work in Work if self._waiting[work] and not (held and work is Work.FILE)]

    def _may_collect(self, now: float) -> bool:
        """Whether chunks may wait for more of them. Each alone costs so much that other work would never have its turn;
        with nothing else to do there is nothing to wait for."""
        chunks = self._waiting[Work.CHUNK]
        return len(chunks) < self._limits.chunks and all(
            not job.urgent and now - job.since < self._limits.collect_s for job in chunks
        )

    def _chunk_batch(self, waiting: list[Job]) -> list[Job]:
        if len(waiting) > self._limits.chunks:
            waiting = sorted(waiting, key=lambda job: (not job.urgent, job.since))
        return waiting[: self._limits.chunks]

    def _whole_batch(self, oldest: Job, task: Whole) -> list[Job]:
        alike = [
            (job, job.task)
            for job in self._waiting[oldest.work]
            if isinstance(job.task, Whole) and (job.task.by, job.task.beam) == (task.by, task.beam)
        ]
        alike.sort(key=lambda one: (one[0] is not oldest, abs(len(one[1].samples) - len(task.samples))))
        most = (self._limits.file_s if oldest.work is Work.FILE else self._limits.live_s) * self._rate
        chosen: list[tuple[Job, Whole]] = []
        longest = 0
        for job, whole in alike[: self._limits.jobs]:
            longest = max(longest, len(whole.samples))
            if chosen and longest * (len(chosen) + 1) > most:
                break
            chosen.append((job, whole))
        return [job for job, _ in sorted(chosen, key=lambda one: len(one[1].samples))]

    def _begin(self, jobs: list[Job]) -> None:
        now = time.monotonic()
        work = jobs[0].work
        self._running.append(_Batch(work, jobs, dict(enumerate(jobs)), now))
        for job in jobs:
            self._observer.waited(work.name.lower(), now - job.since)

    def _steps(self, batch: _Batch) -> Steps:
        """The model at work on a batch. Who has gone in the meantime is left out."""
        with self.lock:
            gone = [job for job in batch.open.values() if job.owner not in self._bound]
            batch.jobs = [job for job in batch.open.values() if job.owner in self._bound]
            batch.open = dict(enumerate(batch.jobs))
        for job in gone:
            self._observer.dropped(job.work.name.lower(), "unbound")
        tasks = [job.task for job in batch.jobs]
        chunks = [task for task in tasks if isinstance(task, Chunk)]
        if chunks:
            assert self._chunks is not None
            return self._chunks.advance(chunks)
        wholes = [task for task in tasks if isinstance(task, Whole)]
        if not wholes:
            return iter(())
        word_times = any(task.word_times for task in wholes)
        return self._models[wholes[0].by].decode(
            [task.samples for task in wholes],
            beam=wholes[0].beam,
            word_times=word_times,
            wishes=[task.wishes for task in wholes],
        )

    def _step(self, batch: _Batch) -> None:
        """One call of the model and its results; the batch that is through leaves."""
        begun = time.monotonic()
        try:
            if batch.steps is None:
                batch.steps = self._steps(batch)
            finished = next(batch.steps, None)
        except OutOfMemory as error:
            with self.lock:
                self._halve(self._leave(batch), error)
            return
        except Exception as error:
            if lost_by(error) is not None:
                raise
            logger.exception("%s: a batch of %d failed", self.name, len(batch.jobs))
            for job in self._leave(batch):
                self._fail(job, error)
            return
        if finished is None:
            for job in self._leave(batch):
                self._fail(job, DeviceError(f"{self.name}: the model ended without a result"))
            return
        batch.wall_s += time.monotonic() - begun
        for row, result in finished:
            self._hand_out(batch, row, result)
        if not batch.open:
            self._leave(batch)
            audio_s = sum(self._length(job.task) for job in batch.jobs) / self._rate
            self._observer.batch(batch.work.name.lower(), len(batch.jobs), audio_s, batch.wall_s)
            if batch.work is Work.FINAL:
                self._final_s += (time.monotonic() - batch.started - self._final_s) / 8

    def _leave(self, batch: _Batch) -> list[Job]:
        """The model is through with the batch; those of its jobs that are still open."""
        with self.lock:
            self._running.remove(batch)
            return list(batch.open.values())

    def _hand_out(self, batch: _Batch, row: int, result: Result) -> None:
        with self.lock:
            job = batch.open.pop(row, None)
            if job is None:
                return  # the device was given up, and the job answered so
            queue_s, rows = batch.started - job.since, len(batch.jobs)
            if isinstance(result, DeviceError):
                self._fail(job, result)
            elif isinstance(result, Future):
                self._elsewhere[job] = Outcome(NOTHING, queue_s, rows)
                result.add_done_callback(functools.partial(self._on_came, job))
            else:
                self._finish(job, Outcome(result, queue_s, rows))

    def _finish(self, job: Job, outcome: Outcome) -> None:
        fault = self._deliver(job, job.done, outcome)
        if fault is not None:  # one stream's own: its neighbours in the batch still get their words
            self._fail(job, fault)

    def _on_came(self, job: Job, future: Future[Transcript]) -> None:
        """On whatever thread has finished it."""
        with self._arrived:
            self._came.append((job, future))
            self._arrived.notify()

    def _take_in(self, job: Job, future: Future[Transcript]) -> None:
        with self.lock:
            outcome = self._elsewhere.pop(job, None)
        if outcome is None:
            return
        error = future.exception()
        if error is None:
            self._finish(job, replace(outcome, transcript=future.result()))
        else:
            self._fail(job, error if isinstance(error, DeviceError) else DeviceError(f"{self.name}: {error}"))

    def _length(self, task: Whole | Chunk) -> int:
        """Samples of new audio in it."""
        return self._chunks.step if isinstance(task, Chunk) and self._chunks is not None else len(task.samples)

    def _halve(self, jobs: list[Job], error: OutOfMemory) -> None:
        """Puts the unfinished jobs back in two halves, first in their right; one that does not fit alone fails."""
        if len(jobs) == 1:
            too_long = DeviceError(f"{self.name} has no memory for this utterance: {error}")
            too_long.__cause__ = error
            self._fail(jobs[0], too_long)
            return
        logger.warning("%s: no memory for a batch of %d, trying halves", self.name, len(jobs))
        half = len(jobs) // 2
        self._begin(jobs[half:])
        self._begin(jobs[:half])  # the last begun is the next in the model

    def _stopped(self) -> DeviceError:
        return DeviceLost(self.name) if self._lost else DeviceError(f"{self.name} has stopped")

    def _fail(self, job: Job, error: Exception) -> None:
        if job.work is Work.PARTIAL:
            self._observer.dropped("partial", "failed")  # expendable: its final is still to come
        else:
            self._deliver(job, job.failed, error)

    def _deliver(self, job: Job, callback: Callable[..., None], value: object) -> Exception | None:
        """Calls back; what the callback raised, if it did."""
        with self.lock:
            if job.owner not in self._bound:
                self._observer.dropped(job.work.name.lower(), "unbound")
                return None
            try:
                callback(value)
            except Exception as error:
                logger.exception("%s: a result could not be delivered", self.name)
                return error
            return None
