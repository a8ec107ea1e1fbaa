"""Who may hear of a device's results, and telling them. Knows ids and callbacks, not what runs.

A job belongs to an id that was bound when its decoder was lent. What is for an id that was unbound since is dropped and
counted, so nothing reaches a stranger. Callbacks run under the device's lock, and what they raise harms nobody else.
"""

from __future__ import annotations

import itertools
import logging
import threading
from typing import TYPE_CHECKING

from parley.decoder.engine.work import Work

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from parley.decoder.engine.work import DeviceObserver, Job, Outcome

logger = logging.getLogger(__name__)


class Owners:
    def __init__(self, name: str, observer: DeviceObserver) -> None:
        """name: of the device, for the log."""
        self.lock = threading.RLock()  # guards callbacks and who is bound
        self._name = name
        self._observer = observer
        self._ids = itertools.count(1)
        self._bound: set[int] = set()

    def bind(self) -> int:
        """A new id, to which results are delivered until it is unbound."""
        with self.lock:
            owner = next(self._ids)
            self._bound.add(owner)
            return owner

    def unbind(self, owner: int) -> None:
        with self.lock:
            self._bound.discard(owner)

    def there(self, jobs: Iterable[Job]) -> list[Job]:
        """Those whose owners have not gone; the others are dropped."""
        there = []
        for job in jobs:
            if job.owner in self._bound:
                there.append(job)
            else:
                self._drop(job, "unbound")
        return there

    def finish(self, job: Job, outcome: Outcome) -> None:
        fault = self._call(job, job.done, outcome)
        if fault is not None:  # one stream's own: its neighbours in the batch still get their words
            self.fail(job, fault)

    def fail(self, job: Job, error: Exception) -> None:
        if job.work is Work.PARTIAL:
            self._drop(job, "failed")  # expendable: its final is still to come
        else:
            self._call(job, job.failed, error)

    def tell_late(self, job: Job) -> None:
        self._drop(job, "late")
        with self.lock:
            if job.late is not None and job.owner in self._bound:
                try:
                    job.late()
                except Exception as error:
                    logger.exception("%s: what is late could not be told", self._name)
                    self.fail(job, error)

    def _call(self, job: Job, callback: Callable[..., None], value: object) -> Exception | None:
        """What the callback raised, if it did."""
        with self.lock:
            if job.owner not in self._bound:
                self._drop(job, "unbound")
                return None
            try:
                callback(value)
            except Exception as error:
                logger.exception("%s: a result could not be delivered", self._name)
                return error
            return None

    def _drop(self, job: Job, reason: str) -> None:
        self._observer.dropped(job.work.name.lower(), reason)
