"""Runs batches on a device's models, a step at a time, and hands out what comes of it. Knows no thread.

A model is a generator that yields after each of its calls; a row's result may be a future: then somebody else is still
at it. A batch is not chosen here (queue.py), and a result is not delivered here (owners.py).
"""

from __future__ import annotations

import functools
import logging
import time
from concurrent.futures import Future
from dataclasses import replace
from typing import TYPE_CHECKING

from parley.decoder.device_errors import lost_by
from parley.decoder.engine.work import Outcome, Whole
from parley.decoder.errors import DeviceError, OutOfMemory
from parley.decoder.values import Transcript

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from parley.decoder.engine.owners import Owners
    from parley.decoder.engine.queue import Batch, Queue
    from parley.decoder.engine.work import DeviceObserver, Job
    from parley.decoder.models.passes import ChunkModel, RowResult, Steps, WholeModel
    from parley.decoder.values import Passes

logger = logging.getLogger(__name__)
NOTHING = Transcript(())


class Runner:
    """Takes jobs out of the queue's batches under the owners' lock, and answers those that it took."""

    def __init__(
        self,
        name: str,
        models: Mapping[Passes, WholeModel],
        chunks: ChunkModel | None,
        sample_rate: int,
        queue: Queue,
        owners: Owners,
        observer: DeviceObserver,
        on_came: Callable[[Job, Future[Transcript]], None],
    ) -> None:
        """on_came: told, on whatever thread, when words that were a future are there; they are for `take_in`."""
        self._name = name
        self._models = models
        self._chunks = chunks
        self._rate = sample_rate
        self._queue = queue
        self._owners = owners
        self._observer = observer
        self._on_came = on_came

    def note_waits(self, batch: Batch) -> None:
        """Of a batch that has just begun: how long its jobs have waited."""
        work = batch.work.name.lower()
        for job in batch.jobs:
            self._observer.waited(work, batch.started - job.since)

    def step(self, batch: Batch) -> None:
        """One call of the model and its results; a batch that goes no further leaves. Raises what loses the device."""
        begun = time.monotonic()
        try:
            if batch.steps is None:
                batch.steps = self._steps(batch)
            finished = next(batch.steps, None)
        except OutOfMemory as error:
            self._halve(batch, error)
        except Exception as error:
            if lost_by(error) is not None:
                raise
            logger.exception("%s: a batch of %d failed", self._name, len(batch.jobs))
            self._fail(batch, error)
        else:
            batch.wall_s += time.monotonic() - begun
            if finished is None:
                self._fail(batch, DeviceError(f"{self._name}: the model ended without a result"))
            else:
                self._take(batch, finished)

    def take_in(self, job: Job, future: Future[Transcript]) -> None:
        """Words that were elsewhere."""
        with self._owners.lock:
            outcome = self._queue.fetch(job)
        if outcome is None:
            return  # the device was given up, and the job answered so
        error = future.exception()
        if error is None:
            self._owners.finish(job, replace(outcome, transcript=future.result()))
        else:
            fault = error if isinstance(error, DeviceError) else DeviceError(f"{self._name}: {error}")
            self._owners.fail(job, fault)

    def _steps(self, batch: Batch) -> Steps:
        """The model at work on a batch. Who has gone in the meantime is left out."""
        with self._owners.lock:
            batch.keep(self._owners.there(batch.open.values()))
        chunks = [job.task for job in batch.jobs if not isinstance(job.task, Whole)]
        if chunks:
            assert self._chunks is not None
            return self._chunks.advance(chunks)
        wholes = [job.task for job in batch.jobs if isinstance(job.task, Whole)]
        if not wholes:
            return iter(())
        return self._models[wholes[0].by].decode(
            [task.samples for task in wholes],
            beam=wholes[0].beam,
            word_times=any(task.word_times for task in wholes),
            wishes=[task.wishes for task in wholes],
        )

    def _take(self, batch: Batch, finished: Sequence[tuple[int, RowResult]]) -> None:
        """A step's results, by row."""
        for row, result in finished:
            self._hand_out(batch, row, result)
        if not batch.open:
            self._leave(batch)
            self._observer.batch(batch.work.name.lower(), len(batch.jobs), self._audio_s(batch), batch.wall_s)
            self._queue.learn(batch, time.monotonic())

    def _hand_out(self, batch: Batch, row: int, result: RowResult) -> None:
        with self._owners.lock:
            job = batch.open.pop(row, None)
            if job is None:
                return  # the device was given up, and the job answered so
            queue_s, rows = batch.started - job.since, len(batch.jobs)
            if isinstance(result, DeviceError):
                self._owners.fail(job, result)
            elif isinstance(result, Future):
                self._queue.send_away(job, Outcome(NOTHING, queue_s, rows))
                result.add_done_callback(functools.partial(self._on_came, job))
            else:
                self._owners.finish(job, Outcome(result, queue_s, rows))

    def _audio_s(self, batch: Batch) -> float:
        """Seconds of new audio in it."""
        step = 0 if self._chunks is None else self._chunks.step
        samples = (len(job.task.samples) if isinstance(job.task, Whole) else step for job in batch.jobs)
        return sum(samples) / self._rate

    def _halve(self, batch: Batch, error: OutOfMemory) -> None:
        """Lets the unfinished jobs begin anew in two halves; one that does not fit alone fails."""
        with self._owners.lock:
            halves = self._queue.halve(batch, time.monotonic())
        if halves:
            logger.warning("%s: no memory for a batch of %d, trying halves", self._name, len(batch.open))
            for half in halves:
                self.note_waits(half)
        else:
            too_long = DeviceError(f"{self._name} has no memory for this utterance: {error}")
            too_long.__cause__ = error
            self._fail(batch, too_long)

    def _fail(self, batch: Batch, error: Exception) -> None:
        for job in self._leave(batch):
            self._owners.fail(job, error)

    def _leave(self, batch: Batch) -> list[Job]:
        with self._owners.lock:
            return self._queue.leave(batch)
