"""Results on their way through the stages behind decoding. Knows threads and order, not what a stage does.

A stage has a thread of its own, which takes all that waits for it in one call. A stream's results come out of each
stage in the order in which they went in, so nobody has to sort them again; and every one comes out, whatever becomes of
the stage or of its neighbours.
"""

from __future__ import annotations

import concurrent.futures
import logging
import math
import threading
import time
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

from parley.decoder.text.stage import EVERYTHING, Context, OnFault, Sees, completed, shown
from parley.decoder.values import Final

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Future

    import numpy as np
    from numpy.typing import NDArray

    from parley.decoder.engine.outlet import Outlet
    from parley.decoder.engine.work import StageObserver
    from parley.decoder.text.stage import Result, Stage

    Then: TypeAlias = Callable[[Result | None], None]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class Staged:
    """A result that waits for a stage. then: called, mostly on the stage's thread, with what became of it, None if it
    is withheld. is_wanted: whether anybody still waits for it."""

    result: Result
    context: Context
    then: Then
    is_wanted: Callable[[], bool]
    since: float = field(default_factory=time.monotonic)


class _Late(Exception):
    """A stage has not returned in time."""


class StageWorker:
    """One stage at work, for all streams of a node."""

    def __init__(self, stage: Stage, observer: StageObserver) -> None:
        """Raises ValueError for a stage that withholds what it fails at and does not see everything."""
        traits = stage.traits
        if traits.on_fault is OnFault.WITHHOLD and traits.sees != EVERYTHING:
            raise ValueError(f"{stage.name} withholds: got {traits.sees}, expected {EVERYTHING}")
        self.stage = stage
        self._observer = observer
        self._arrived = threading.Condition()  # guards what waits; nothing else is taken under it
        self._waiting: list[Staged] = []
        self._closed = False
        self._call: Future[Sequence[Result]] | None = None  # the last with a deadline; it may never return
        self._thread = threading.Thread(target=self._run, name=f"stage-{stage.name}", daemon=True)
        self._thread.start()

    def sees(self, result: Result) -> bool:
        return (Sees.FINALS if isinstance(result, Final) else Sees.INTERIMS) in self.stage.traits.sees

    def put(self, staged: Staged) -> None:
        """On any thread, whatever lock it holds. Once closed, all goes past the stage, here and now."""
        with self._arrived:
            closed = self._closed
            if not closed:
                self._waiting.append(staged)
                self._arrived.notify()
        if closed:
            self._let_out(staged, self._without(staged.result), "closed")

    def close(self) -> None:
        """Returns when all that waits has been through, or is late."""
        with self._arrived:
            self._closed = True
            self._arrived.notify()
        self._thread.join()

    def _run(self) -> None:
        while waiting := self._take():
            self._turn(waiting)

    def _take(self) -> list[Staged]:
        """All that waits, once there is any; none when closed."""
        with self._arrived:
            self._arrived.wait_for(lambda: self._waiting or self._closed)
            waiting, self._waiting = self._waiting, []
        return waiting

    def _turn(self, waiting: Sequence[Staged]) -> None:
        """Takes through the stage those that can still be in time, behind those that cannot."""
        overdue = time.monotonic() - self.stage.traits.deadline_s
        batch: list[Staged] = []
        for staged in waiting:
            if not staged.is_wanted():
                self._let_out(staged, None, "unbound")
            elif staged.since <= overdue:
                self._let_out(staged, self._without(staged.result), "late")
            else:
                batch.append(staged)
        if batch:
            outcome, results = self._through(batch)
            for staged, result in zip(batch, results, strict=True):
                self._let_out(staged, result, outcome)

    def _let_out(self, staged: Staged, result: Result | None, outcome: str) -> None:
        """What goes wrong here is one stream's own."""
        try:
            staged.then(result)
            self._observer.staged(self.stage.name, outcome, time.monotonic() - staged.since)
        except Exception:
            logger.exception("%s: a result could not be delivered", self.stage.name)

    def _through(self, batch: Sequence[Staged]) -> tuple[str, Sequence[Result | None]]:
        """What becomes of a batch: how it went, and each result as it is to go on."""
        name = self.stage.name
        try:
            return "done", self._applied(batch)
        except _Late:
            outcome = "late"
            logger.error("%s: a batch of %d is late", name, len(batch))
        except Exception:
            outcome = "failed"
            logger.exception("%s: a batch of %d failed", name, len(batch))
        return outcome, [self._without(staged.result) for staged in batch]

    def _applied(self, batch: Sequence[Staged]) -> list[Result]:
        """Raises what the stage does, _Late by the first deadline in the batch, or ValueError for results that are not
        those of the batch."""
        sees = self.stage.traits.sees
        results, contexts = [shown(staged.result, sees) for staged in batch], [staged.context for staged in batch]
        if self.stage.traits.deadline_s == math.inf:
            found = self.stage.apply(results, contexts)
        else:
            found = self._in_time(results, contexts, min(staged.since for staged in batch))
        if len(found) != len(batch):
            raise ValueError(f"got {len(found)} results, expected {len(batch)}")
        return [completed(result, staged.result, sees) for result, staged in zip(found, batch, strict=True)]

    def _in_time(self, results: Sequence[Result], contexts: Sequence[Context], since: float) -> Sequence[Result]:
        """Calls the stage on a thread that is waited for until its deadline. While a call does not return, there is no
        other."""
        if self._call is not None and not self._call.done():
            raise _Late
        call: Future[Sequence[Result]] = concurrent.futures.Future()

        def apply() -> None:
            try:
                call.set_result(self.stage.apply(results, contexts))
            except BaseException as error:
                call.set_exception(error)

        self._call = call
        # Not an executor's: the process would not end before the call has.
        threading.Thread(target=apply, name=f"stage-{self.stage.name}-call", daemon=True).start()
        concurrent.futures.wait([call], max(0.0, since + self.stage.traits.deadline_s - time.monotonic()))
        if not call.done():
            raise _Late
        return call.result()

    def _without(self, result: Result) -> Result | None:
        """What becomes of a result for which the stage did nothing."""
        if self.stage.traits.on_fault is OnFault.WITHHOLD:
            return None
        return replace(result, passed=(*result.passed, self.stage.name)) if isinstance(result, Final) else result


class Staging:
    """One stream's way through its stages, of which each keeps its own state of the stream."""

    def __init__(self, stages: Sequence[StageWorker], language: str, lock: threading.RLock, outlet: Outlet) -> None:
        """lock: the device's."""
        self._stages = [(worker, worker.stage.begin()) for worker in stages]
        self._language, self._lock, self._outlet = language, lock, outlet

    def send(self, result: Result, audio: NDArray[np.int16] | None, then: Then) -> None:
        """Calls `then` with what becomes of a result, None if it is withheld: at once if no stage is to see it, else on
        a stage's thread, unless the stream is over. With the device's lock held, as `then` is called."""
        self._pass_on(0, audio, then, result)

    def _pass_on(self, first: int, audio: NDArray[np.int16] | None, then: Then, result: Result) -> None:
        for at, (worker, state) in enumerate(self._stages[first:], first):
            if worker.sees(result):
                context = Context(self._language, state, audio if worker.stage.traits.needs_audio else None)
                worker.put(Staged(result, context, partial(self._on_staged, at + 1, audio, then), self._is_wanted))
                return
        then(result)

    def _on_staged(self, at: int, audio: NDArray[np.int16] | None, then: Then, result: Result | None) -> None:
        """On a stage's thread. at: of the stage that is next."""
        with self._lock:
            if self._outlet.over:
                return
            try:
                if result is None:
                    then(None)
                else:
                    self._pass_on(at, audio, then, result)
            except Exception as error:
                logger.exception("a result could not be delivered")
                self._outlet.fail(error)

    def _is_wanted(self) -> bool:
        return not self._outlet.over
