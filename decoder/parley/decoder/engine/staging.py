"""Results on their way through the stages behind decoding. Knows threads and order, not what a stage does.

A stage has a thread of its own, which takes all that waits for it in one call. A stream's finals come out of each stage
in the order in which they went in, so nobody has to sort them again.
"""

from __future__ import annotations

import concurrent.futures
import logging
import math
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

from parley.decoder.text.stage import Context, OnFault, Sees
from parley.decoder.values import Final

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from parley.decoder.engine.outlet import Outlet
    from parley.decoder.engine.work import Observer
    from parley.decoder.text.stage import Result, Stage

    Then: TypeAlias = Callable[[Result | None], None]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class Staged:
    """A result that waits for a stage. then: called on the stage's thread with what became of it, None if it is
    withheld. is_wanted: whether anybody still waits for it."""

    result: Result
    context: Context
    then: Then
    is_wanted: Callable[[], bool]
    since: float = field(default_factory=time.monotonic)


class _Late(Exception):
    """A stage has not returned in time."""


class StageWorker:
    """One stage at work, for all streams of a node. Its observer is told of it as of a device's work."""

    def __init__(self, stage: Stage, observer: Observer) -> None:
        self.stage = stage
        self._observer = observer
        self._lock = threading.Lock()  # guards what waits; nothing else is taken under it
        self._waiting: list[Staged] = []
        self._turns = ThreadPoolExecutor(1, f"stage-{stage.name}")
        # A stage with a deadline is called on another thread, of which the first waits no longer than that.
        self._calls = ThreadPoolExecutor(1, f"stage-{stage.name}-call")

    def sees(self, result: Result) -> bool:
        return (Sees.FINALS if isinstance(result, Final) else Sees.INTERIMS) in self.stage.traits.sees

    def put(self, staged: Staged) -> None:
        """On any thread, whatever lock it holds."""
        with self._lock:
            self._waiting.append(staged)
            if len(self._waiting) == 1:
                self._turns.submit(self._turn)

    def close(self) -> None:
        """Returns when all that waits has been through, or is late; nothing may come any more."""
        self._turns.shutdown()
        self._calls.shutdown(wait=False)

    def _turn(self) -> None:
        """Takes all that waits through the stage."""
        name = self.stage.name
        with self._lock:
            waiting, self._waiting = self._waiting, []
        batch = [staged for staged in waiting if staged.is_wanted()]
        for _ in range(len(waiting) - len(batch)):
            self._observer.dropped(name, "unbound")
        if not batch:
            return
        begun = time.monotonic()
        for staged in batch:
            self._observer.waited(name, begun - staged.since)
        results: Sequence[Result | None]
        try:
            results = self._applied(batch)
        except Exception as error:
            late = isinstance(error, _Late)
            logger.error("%s: a batch of %d %s", name, len(batch), "is late" if late else "failed", exc_info=not late)
            for _ in batch:
                self._observer.dropped(name, "late" if late else "failed")
            results = [self._without(staged.result) for staged in batch]
        audio_s = sum(staged.result.end_ms - staged.result.start_ms for staged in batch) / 1000
        self._observer.batch(name, len(batch), audio_s, time.monotonic() - begun)
        for staged, result in zip(batch, results, strict=True):
            staged.then(result)

    def _applied(self, batch: Sequence[Staged]) -> list[Result]:
        shown = [self._shown(staged.result) for staged in batch]
        found = self._call(shown, [staged.context for staged in batch], min(staged.since for staged in batch))
        if len(found) != len(batch):
            raise ValueError(f"{self.stage.name}: got {len(found)} results, expected {len(batch)}")
        return [self._completed(result, staged.result) for result, staged in zip(found, batch, strict=True)]

    def _call(self, results: Sequence[Result], contexts: Sequence[Context], since: float) -> Sequence[Result]:
        """Raises what the stage does, or _Late by the deadline of the result that waits since then."""
        stage = self.stage
        if stage.traits.deadline_s == math.inf:
            return stage.apply(results, contexts)
        call = self._calls.submit(stage.apply, results, contexts)
        concurrent.futures.wait([call], max(0.0, since + stage.traits.deadline_s - time.monotonic()))
        if not call.done():
            call.cancel()  # a call before it may not have returned yet
            raise _Late
        return call.result()

    def _shown(self, result: Result) -> Result:
        if isinstance(result, Final):
            sees = self.stage.traits.sees
            if Sees.ALTERNATIVES not in sees:
                result = replace(result, hypotheses=result.hypotheses[:1])
            if Sees.LATTICES not in sees:
                result = replace(result, lattice=None)
        return result

    def _completed(self, found: Result, result: Result) -> Result:
        """With what the stage was not shown."""
        if isinstance(found, Final) and isinstance(result, Final):
            if not found.hypotheses:
                raise ValueError(f"{self.stage.name}: got no hypothesis, expected one or more")
            sees = self.stage.traits.sees
            if Sees.ALTERNATIVES not in sees:
                found = replace(found, hypotheses=(found.hypotheses[0], *result.hypotheses[1:]))
            if Sees.LATTICES not in sees:
                found = replace(found, lattice=result.lattice)
        return found

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
