"""A device's worker played through drawn schedules on one thread and a clock of their own, and what it did, in order.

A schedule is drawn from its number alone: limits, and who sends what when, leaves, looks or closes. It is played while
the model computes and while the worker waits, which is when other threads would come. So what a worker does is a
function of the number, and can be kept: `python -m tests.decoder.schedules` writes what today's does into RECORDED.
"""

from __future__ import annotations

import functools
import hashlib
import heapq
import itertools
import json
import logging
import math
import random
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from parley.decoder.engine.work import BatchLimits, Job, Outcome, Whole, Work
from parley.decoder.engine.worker import DeviceWorker
from parley.decoder.errors import DeviceError, OutOfMemory
from parley.decoder.models.acoustic import Chunk
from parley.decoder.values import Passes, Transcript
from tests.decoder.fakes import CHUNKS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

RECORDED = Path(__file__).parent / "engine" / "data" / "schedules.json"
IN_FULL = range(12)  # those whose record can be read
BY_DIGEST = range(200)
RATE = 100  # samples a second: few, for nobody listens
NOTHING = Transcript(())
LOOKS = 61  # of a watchdog, while one call lasts: then the device is given up


class Draw:
    """Only random() is drawn from: the one method whose numbers are the same with every Python."""

    def __init__(self, number: int) -> None:
        self._random = random.Random(number).random

    def between(self, low: float, high: float) -> float:
        return low + (high - low) * self._random()

    def whole(self, low: int, high: int) -> int:
        return low + int((high - low + 1) * self._random())

    def chance(self, share: float) -> bool:
        return self._random() < share

    def one(self, *these: Any) -> Any:
        return these[int(len(these) * self._random())]


@dataclass(frozen=True)
class Fate:
    """What becomes of a job once it is in a model's hands. elsewhere_s: that somebody else takes for its words."""

    elsewhere_s: float | None = None
    poison: Exception | str | None = None  # of its whole batch; a text: the model ends without a result
    unsound: bool = False
    raises: bool = False  # its owner's callback, when it is told the result
    again_s: float | None = None  # after its result its owner sends the next chunk


def draw_fate(draw: Draw, trouble: float, elsewhere: float) -> Fate:
    """trouble, elsewhere: how likely that is."""
    if draw.chance(0.15 * trouble):
        return Fate(poison=draw.one(RuntimeError("fell over"), RuntimeError("fell over"), "ended"))
    if draw.chance(0.002 * trouble):
        return Fate(poison=RuntimeError("CUDA error: unspecified launch failure"))
    return Fate(
        elsewhere_s=draw.between(0.01, 2.5) if draw.chance(elsewhere) else None,
        unsound=draw.chance(0.1 * trouble),
        raises=draw.chance(0.1 * trouble),
        again_s=draw.one(0.0, 0.0, 0.05) if draw.chance(0.6) else None,
    )


class Play:
    """One schedule against one worker; `told` is what happened."""

    def __init__(self, number: int) -> None:
        self.told: list[str] = []
        self.now = 100.0
        draw = self._draw = Draw(number)
        self._coming: list[tuple[float, int, Callable[[], object]]] = []  # a heap: when, which first, what
        self._order = itertools.count()
        self._labels = itertools.count(1)
        self._fates: dict[int, Fate] = {}
        self._trouble, self._elsewhere = draw.one(0.0, 0.2, 1.0), draw.one(0.0, 0.2, 0.9)
        self._most_rows, self._slowness = draw.one(2, 5, 100, 100), draw.one(0.3, 1.0, 3.0)
        limits = BatchLimits(
            draw.whole(2, 8), draw.one(0.0, 0.03, 0.2), draw.whole(1, 6), draw.whole(5, 60), draw.whole(3, 20)
        )
        self._worker = self._made(limits)
        owners = draw.one(3, 8, 20)
        self._bound = [self._worker.bind() for _ in range(owners)]  # by slot
        self._arrange(draw.whole(30, 160), draw.one(0.002, 0.01, 0.05))

    def _made(self, limits: BatchLimits) -> DeviceWorker:
        """A worker whose thread is this one, and which waits by letting time pass."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("threading.Thread", lambda **_: NoThread())
            worker = DeviceWorker(
                "played",
                {Passes.FIRST: PlayedModel(self, "first"), Passes.SECOND: PlayedModel(self, "second")},
                RATE,
                limits,
                self,
                PlayedModel(self, "chunks"),
                lambda name: self.told.append("lost"),
            )
        patch.setattr(worker._arrived, "wait", self._wait)
        patch.setattr(worker._over, "wait", lambda: True)
        return worker

    def _arrange(self, events: int, apart_s: float) -> None:
        """apart_s: how far the events lie apart in the mean."""
        draw, at, many = self._draw, self.now, self._draw.one(*Work)
        for _ in range(events):
            at += draw.between(0, 2 * apart_s)
            slot = draw.whole(0, len(self._bound) - 1)
            if draw.chance(0.06):
                self.later(at, functools.partial(self._leave, slot))
            else:
                self._expect(at, slot, draw.one(many, many, *Work))
        if draw.chance(0.2):
            self.later(draw.between(self.now + (at - self.now) / 2, at), self._worker.close)
        if draw.chance(0.2):
            self.later(draw.between(self.now + (at - self.now) / 2, at), self._look)

    def _expect(self, at: float, slot: int, work: Work) -> None:
        draw, label = self._draw, next(self._labels)
        length = draw.one(0.2, 1.0, 1.1, 1.5, 4.0, 12.0) if work not in CHUNKS else 0.3
        samples = np.full(round(length * RATE), label, np.int16)
        whole = Whole(samples, draw.one(Passes.FIRST, Passes.SECOND), draw.one(1, 1, 4), draw.chance(0.3))
        deadline_s = draw.between(0.02, 1.5) if work in (Work.FINAL, Work.FILE) and draw.chance(0.6) else math.inf
        self._fates[label] = draw_fate(draw, self._trouble, self._elsewhere)
        task = Chunk(slot, 0, samples) if work in CHUNKS else whole
        self.later(at, functools.partial(self._submit, slot, work, task, deadline_s, draw.chance(0.1)))

    def later(self, at: float, what: Callable[[], object]) -> None:
        heapq.heappush(self._coming, (at, next(self._order), what))

    def _leave(self, slot: int) -> None:
        """The slot's owner; the next takes its place at once."""
        self.told.append(f"leave {slot}")
        self._worker.unbind(self._bound[slot], slot)
        self._bound[slot] = self._worker.bind()

    def _look(self) -> None:
        for _ in range(LOOKS):
            self._worker.look()

    def _submit(self, slot: int, work: Work, task: Whole | Chunk, deadline_s: float, urgent: bool) -> None:
        label = int(task.samples[0])

        def done(outcome: Outcome) -> None:
            self.told.append(f"={label}({outcome.queue_s * 1e3:.1f}ms,{outcome.batch_size})")
            fate = self._fates[label]
            if fate.again_s is not None and work in CHUNKS:
                samples = np.full(30, next(self._labels), np.int16)
                self._fates[int(samples[0])] = Fate(again_s=fate.again_s if label % 3 else None)
                submit = functools.partial(self._submit, slot, work, Chunk(slot, 1, samples), math.inf, False)
                if fate.again_s:
                    self.later(self.now + fate.again_s, submit)
                else:
                    submit()  # as a stream does that has more audio
            if fate.raises:
                raise ValueError("a stream's own")

        def late() -> None:
            self.told.append(f"late {label}")
            if self._fates[label].raises and label % 2:
                raise ValueError("a stream's own")

        owner = self._bound[slot]
        failed = functools.partial(self._failed, label)
        self._worker.submit(
            Job(owner, work, task, done, failed, late, self.now + deadline_s, urgent=urgent, since=self.now)
        )
        self.told.append(f"+{label}{work.name[:2].lower()}{'!' * urgent}")

    def _failed(self, label: int, error: Exception) -> None:
        self.told.append(f"x{label}({error})")
        if self._fates[label].raises and label % 2:
            raise ValueError("cannot even be told")

    # Time, as the worker and its models see it.

    def monotonic(self) -> float:
        return self.now

    def pass_to(self, then: float) -> None:
        """What comes until then comes in its time."""
        while self._coming and self._coming[0][0] <= then:
            at, _, what = heapq.heappop(self._coming)
            self.now = max(self.now, at)
            what()
        self.now = max(self.now, then)

    def _wait(self, timeout: float | None = None) -> bool:
        until = math.inf if timeout is None else self.now + timeout
        if self._coming:
            until = min(until, self._coming[0][0])
        if until == math.inf:
            self._worker.close()
        else:
            self.pass_to(until)
        return True

    # What the models are asked.

    def steps(self, name: str, labels: list[int]) -> Iterator[list[tuple[int, Any]]]:
        self.told.append(f"{(self.now - 100) * 1e3:.1f}:{name}{labels}".replace(" ", ""))
        fates = [self._fates[label] for label in labels]
        calls = 1 if name == "chunks" else 1 + sum(labels) % 3
        if len(labels) > self._most_rows or (self._trouble == 1.0 and sum(labels) % 13 == 0):
            raise OutOfMemory(f"{len(labels)} rows")
        for call in range(calls):
            self.told.append(f"~{labels[0]}")
            self.pass_to(self.now + self._slowness * (0.01 + 0.003 * len(labels)))
            poison = next((fate.poison for fate in fates if fate.poison is not None), None)
            if isinstance(poison, Exception):
                raise poison
            if poison is not None:
                return
            yield [(row, self._result(label)) for row, label in enumerate(labels) if call == label % calls]

    def _result(self, label: int) -> Transcript | DeviceError | Future[Transcript]:
        fate = self._fates[label]
        if fate.unsound:
            return DeviceError("not finite")
        if fate.elsewhere_s is None:
            return NOTHING
        future: Future[Transcript] = Future()
        if fate.raises and label % 3 == 0:
            self.later(self.now + fate.elsewhere_s, lambda: future.set_exception(ValueError("its process died")))
        else:
            self.later(self.now + fate.elsewhere_s, lambda: future.set_result(NOTHING))
        return future

    # What the observer is told.

    def batch(self, work: str, rows: int, audio_s: float, wall_s: float) -> None:
        self.told.append(f"batch({work},{rows},{audio_s:.2f}s,{wall_s * 1e3:.1f}ms)")

    def waited(self, work: str, wait_s: float) -> None:
        self.told.append(f"waited({work},{wait_s * 1e3:.1f}ms)")

    def dropped(self, work: str, reason: str) -> None:
        self.told.append(f"dropped({work},{reason})")

    def run(self) -> str:
        with pytest.MonkeyPatch.context() as patch:
            for module in ("worker", "runner"):
                patch.setattr(f"parley.decoder.engine.{module}.time", self)
            self._worker._run()
        assert not any(self._worker.waiting().values())
        return " ".join(self.told)


class NoThread:
    def start(self) -> None: ...
    def join(self) -> None: ...


class PlayedModel:
    def __init__(self, play: Play, name: str) -> None:
        self.step = 25  # samples
        self._play = play
        self._name = name

    def decode(
        self, batch: Sequence[NDArray[np.int16]], *, beam: int, word_times: bool, wishes: Sequence[object] = ()
    ) -> Iterator[list[tuple[int, Any]]]:
        name = f"{self._name}/{beam}{'t' * word_times}"
        return self._play.steps(name, [int(samples[0]) for samples in batch])

    def advance(self, chunks: Sequence[Chunk]) -> Iterator[list[tuple[int, Any]]]:
        return self._play.steps(self._name, [int(chunk.samples[0]) for chunk in chunks])

    def finish(self, slot: int, count: int) -> Transcript:
        return NOTHING

    def clear(self, slot: int) -> None:
        self._play.told.append(f"wipe {slot}")


def played(number: int) -> str:
    """All that the worker does in the schedule, in order."""
    before = logging.root.manager.disable
    logging.disable()  # thousands of faults, each with its traceback
    try:
        return Play(number).run()
    finally:
        logging.disable(before)


def digest(record: str) -> str:
    return hashlib.sha256(record.encode()).hexdigest()[:16]


def main() -> None:
    records = {number: played(number) for number in BY_DIGEST}
    kept = {
        "in_full": {str(number): records[number] for number in IN_FULL},
        "by_digest": [digest(records[number]) for number in BY_DIGEST],
    }
    RECORDED.write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    main()
