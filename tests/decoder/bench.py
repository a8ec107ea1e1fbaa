"""A device's worker with scripted models, and the answers that its jobs got."""

from __future__ import annotations

import contextlib
import math
import queue
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from parley.decoder.engine.work import BatchLimits, Job, Outcome, Whole, Work
from parley.decoder.engine.worker import DeviceWorker
from parley.decoder.models.acoustic import Chunk
from parley.decoder.values import Passes
from tests.decoder.fakes import CHUNKS, WAIT_S, SteppedModel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

RATE = 16_000
STEP = RATE // 4  # samples of a chunk that are new


@dataclass
class Noted:
    """An observer that keeps what it is told."""

    batches: list[tuple[str, int, float]] = field(default_factory=list)
    waits: list[str] = field(default_factory=list)
    drops: queue.Queue[tuple[str, str]] = field(default_factory=queue.Queue)
    outcomes: list[tuple[str, str]] = field(default_factory=list)  # of stages

    def batch(self, work: str, rows: int, audio_s: float, wall_s: float) -> None:
        assert wall_s > 0
        self.batches.append((work, rows, audio_s))

    def waited(self, work: str, wait_s: float) -> None:
        assert wait_s >= 0
        self.waits.append(work)

    def dropped(self, work: str, reason: str) -> None:
        self.drops.put((work, reason))

    def staged(self, stage: str, outcome: str, took_s: float) -> None:
        assert took_s >= 0
        self.outcomes.append((stage, outcome))


class Bench:
    """A job is known by its label. `model` is the second pass; `first` takes chunks and its own utterances."""

    def __init__(self, limits: BatchLimits) -> None:
        self.model = SteppedModel()
        self.first = SteppedModel(STEP, like=self.model)
        models = {Passes.SECOND: self.model, Passes.FIRST: self.first}
        self.noted = Noted()
        self.worker = DeviceWorker("bench", models, RATE, limits, self.noted, self.first)
        self.owner = self.worker.bind()
        self.answers: queue.Queue[tuple[int, str | Exception]] = queue.Queue()
        self.outcomes: dict[int, Outcome] = {}

    def submit(
        self,
        label: int,
        work: Work = Work.FINAL,
        seconds: float = 1.0,
        *,
        owner: int | None = None,
        slot: int = 0,
        by: Passes = Passes.SECOND,
        beam: int = 1,
        word_times: bool = False,
        urgent: bool = False,
        deadline: float = math.inf,
        late: Callable[[], None] | None = None,
        then: Callable[[], None] = lambda: None,
    ) -> None:
        """seconds, by, beam, word_times: of an utterance; slot: of a chunk. An answer "late" comes at the deadline,
        unless `late` does something else."""
        samples = np.zeros(STEP if work in CHUNKS else int(seconds * RATE), np.int16)
        samples[0] = label

        def done(outcome: Outcome) -> None:
            assert threading.current_thread().name == "device-bench"
            then()
            self.outcomes[label] = outcome
            self.answers.put((label, outcome.transcript.hypotheses[0].text))

        self.worker.submit(
            Job(
                owner=self.owner if owner is None else owner,
                work=work,
                task=Chunk(slot, 0, samples) if work in CHUNKS else Whole(samples, by, beam, word_times),
                done=done,
                failed=lambda error: self.answers.put((label, error)),
                late=late or (lambda: self.answers.put((label, "late"))),
                deadline=deadline,
                urgent=urgent,
            )
        )

    def chunks(self, *labels: int, work: Work = Work.CHUNK, urgent: bool = False) -> list[int]:
        """A chunk each of streams of their own, each in the slot of its label; their owners."""
        owners = [self.worker.bind() for _ in labels]
        for owner, label in zip(owners, labels, strict=True):
            self.submit(label, work, owner=owner, slot=label, urgent=urgent)
        return owners

    def hold(self, label: int = 99, work: Work = Work.FINAL) -> None:
        """Gets the model busy, so that what comes next waits."""
        self.submit(label, work, owner=self.worker.bind(), slot=label)
        assert self.model.entered() == [label]

    def release(self, label: int = 99) -> None:
        self.model.go()
        assert self.answer() == (label, str(label))

    def answer(self) -> tuple[int, str | Exception]:
        return self.answers.get(timeout=WAIT_S)

    def answered(self, *labels: int) -> None:
        """The next answers are these jobs', in any order, each with its own text."""
        assert sorted(self.answer() for _ in labels) == [(label, str(label)) for label in sorted(labels)]

    def next_batch(self, *labels: int) -> None:
        """The next call of a model is for these rows; it finishes all of them."""
        assert self.model.entered() == list(labels)
        self.model.go()
        self.answered(*labels)


@contextlib.contextmanager
def running(
    chunks: int = 8, jobs: int = 8, file_s: float = 100.0, live_s: float = 100.0, collect_s: float = 0.0
) -> Iterator[Bench]:
    bench = Bench(BatchLimits(chunks, collect_s, jobs, file_s, live_s))
    try:
        yield bench
    finally:
        bench.model.go()  # a test that failed may have left it waiting
        bench.worker.close()
