"""One device's thread: waits for work and takes it a step at a time.

Joins the parts of a device, each with a reason of its own: the queue says what runs next, the runner runs it, the
owners are told, the watchdog finds a device lost. Callbacks run on this thread under the device's lock. Work of a
higher right goes in between two calls of a model.

A device whose model does not return is given up by another thread, and its model may return at that very moment. So a
job is answered by who takes it out of the queue, and nobody else.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from typing import TYPE_CHECKING

from parley.decoder.device_errors import lost_by
from parley.decoder.engine.owners import Owners
from parley.decoder.engine.queue import Queue
from parley.decoder.engine.runner import Runner
from parley.decoder.engine.watchdog import Watchdog
from parley.decoder.errors import DeviceError, DeviceLost

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from concurrent.futures import Future

    from parley.decoder.engine.work import BatchLimits, DeviceObserver, Job
    from parley.decoder.models.passes import ChunkModel, WholeModel
    from parley.decoder.values import Passes, Transcript

logger = logging.getLogger(__name__)


class DeviceWorker:
    def __init__(
        self,
        name: str,
        models: Mapping[Passes, WholeModel],
        sample_rate: int,
        limits: BatchLimits,
        observer: DeviceObserver,
        chunks: ChunkModel | None = None,
        on_lost: Callable[[str], None] = lambda name: None,
    ) -> None:
        """models: what decodes whole utterances, by pass. chunks: what takes chunks. on_lost: called once, on whatever
        thread, when the device takes no more work though nobody has closed it."""
        self.name = name
        self._owners = Owners(name, observer)
        self.lock = self._owners.lock  # guards callbacks and who is bound; may be held where `_arrived` is taken
        # `_arrived` guards what waits. Batches, what is elsewhere and what is late the thread changes under `lock` or
        # `_arrived`, and whoever gives it up under both.
        self._queue = Queue(limits, sample_rate)
        self._arrived = threading.Condition()
        self._chunks = chunks
        self._runner = Runner(name, models, chunks, sample_rate, self._queue, self._owners, observer, self._on_came)
        self._left: list[int] = []  # slots to wipe
        self._came: list[tuple[Job, Future[Transcript]]] = []  # words that were elsewhere
        self._stopping = False
        self._over = threading.Event()  # every job that was here has its answer
        self._watchdog = Watchdog(name, on_lost, self._end)
        self._thread = threading.Thread(target=self._run, name=f"device-{name}", daemon=True)
        self._thread.start()

    def bind(self) -> int:
        """A new id, under which results are delivered until it is unbound."""
        return self._owners.bind()

    def unbind(self, owner: int, slot: int) -> None:
        """From here on nothing is delivered to `owner`; what of its work waits is forgotten, and its slot is wiped
        before anything else happens on the device."""
        self._owners.unbind(owner)
        with self._arrived:
            self._queue.forget(owner)
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
                self._queue.put(job)
                self._arrived.notify()
        if stopped:
            self._owners.fail(job, self._stopped())

    def finish(self, slot: int, count: int) -> Transcript:
        """The n-best of the slot's utterance. On any thread, with the lock held: no chunk of the slot may be here."""
        assert self._chunks is not None
        return self._chunks.finish(slot, count)

    def waiting(self) -> dict[str, int]:
        """Jobs that wait, by kind."""
        with self._arrived:
            return self._queue.waiting()

    def close(self) -> None:
        """Stops after the model's present call, or when that is given up; every job still here fails."""
        with self._arrived:
            self._stopping = True
            self._arrived.notify()
        self._over.wait()
        if not self._watchdog.given_up:
            self._thread.join()

    def look(self) -> None:
        """To be called about once a second, on any thread: a model that does not return loses the device."""
        self._watchdog.look()

    def _run(self) -> None:
        try:
            while self._turn():
                pass
        except Exception as error:
            logger.critical("%s: lost: %s", self.name, lost_by(error) or "its thread broke", exc_info=True)
            self._watchdog.lose()
        else:
            self._end()

    def _end(self) -> None:
        """Takes no more work; every job still here fails."""
        with self.lock, self._arrived:
            self._stopping = True
            jobs = self._queue.drain()
        for job in jobs:
            self._owners.fail(job, self._stopped())
        self._over.set()

    def _stopped(self) -> DeviceError:
        return DeviceLost(self.name) if self._watchdog.lost else DeviceError(f"{self.name} has stopped")

    def _turn(self) -> bool:
        """Waits for work and takes one step of the first in right; False when stopped."""
        with self._arrived:
            self._wait()
            if self._stopping:
                return False
            self._watchdog.begin()
            left, self._left = self._left, []
            came, self._came = self._came, []
            begun = self._queue.turn(time.monotonic())
        if begun is not None:
            self._runner.note_waits(begun)
        if self._chunks is not None:
            for slot in left:
                self._chunks.clear(slot)
        for job, future in came:
            self._runner.take_in(job, future)
        with self.lock:
            while (late := self._queue.take_late()) is not None:
                self._owners.tell_late(late)
        if (present := self._queue.present) is not None:
            self._runner.step(present)
        return True

    def _wait(self) -> None:
        """Until there is something to do."""
        self._watchdog.rest()
        while not (self._stopping or self._left or self._came or self._queue.has_work()):
            deadline = self._queue.next_deadline()
            if deadline == math.inf:
                self._arrived.wait()
            elif (patience_s := deadline - time.monotonic()) > 0:
                self._arrived.wait(patience_s)
            else:
                return

    def _on_came(self, job: Job, future: Future[Transcript]) -> None:
        """On whatever thread has finished it."""
        with self._arrived:
            self._came.append((job, future))
            self._arrived.notify()
