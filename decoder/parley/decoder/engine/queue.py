"""What a device does next, from what waits: rights, likeness, deadlines. Knows no clock, no thread, no lock, no model.

Time is what the caller says it is: `now`, in seconds on the clock of `Job.since` and `Job.deadline`.

Of what waits the lowest `Work` goes first. A batch begins only if it outranks the one in the model, which then stands
aside and keeps its place: batches lie on a stack, and the top one is in the model. The queue is asked between two calls
of the model, so whoever has the right waits for one call at most.

A job that was put lies in one place until somebody takes it out: it waits, it is open in a batch, or its words are
elsewhere. Who takes it out answers it, and nobody else: a device may be given up by one thread while its model returns
on another. What is late lies in a list of its own besides, until its owner is told.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from parley.decoder.engine.work import Whole, Work

if TYPE_CHECKING:
    from collections.abc import Sequence

    from parley.decoder.engine.work import BatchLimits, Job, Outcome
    from parley.decoder.models.passes import Steps

MOST_ELSEWHERE = 16  # utterances that somebody else is at, while more of recordings may follow


@dataclass(slots=True, eq=False)
class Batch:
    """Jobs in a model's hands, once it has begun. `open`: those without a result yet, by row. `steps`: the model at
    work on it, kept here by whoever runs it."""

    work: Work
    jobs: list[Job]
    open: dict[int, Job]
    started: float
    steps: Steps | None = None
    wall_s: float = 0.0  # in the model, without the time it stood aside

    @classmethod
    def of(cls, jobs: list[Job], now: float) -> Batch:
        return cls(jobs[0].work, jobs, dict(enumerate(jobs)), now)

    def keep(self, jobs: list[Job]) -> None:
        """Goes on with these alone, each in a new row."""
        self.jobs, self.open = jobs, dict(enumerate(jobs))


class Queue:
    def __init__(self, limits: BatchLimits, sample_rate: int) -> None:
        """sample_rate: of the utterances, in Hz."""
        self._limits = limits
        self._rate = sample_rate
        self._waiting: dict[Work, list[Job]] = {work: [] for work in Work}  # by right
        self._stack: list[Batch] = []  # the last is in the model, those before it stood aside
        self._elsewhere: dict[Job, Outcome] = {}  # whose words are a future, and what else is known
        self._late: list[Job] = []  # to be told so
        self._final_s = 0.0  # that a batch of finals takes, a running mean

    # What waits.

    def put(self, job: Job) -> None:
        """A partial takes the place of its owner's waiting one; a final removes it."""
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

    def forget(self, owner: int) -> None:
        """What of the owner's waits, waits no more, and is not answered."""
        for work, jobs in self._waiting.items():
            self._waiting[work] = [job for job in jobs if job.owner != owner]

    def waiting(self) -> dict[str, int]:
        """Jobs that wait, by kind."""
        return {work.name.lower(): len(jobs) for work, jobs in self._waiting.items()}

    def has_work(self) -> bool:
        """Whether a model has something to do."""
        return bool(self._stack or self._ready())

    def next_deadline(self) -> float:
        """Till then nothing happens that nobody tells of, while there is no work; infinite if nothing ever does."""
        return min((job.deadline for job in self._elsewhere), default=math.inf)

    # What runs next.

    @property
    def present(self) -> Batch | None:
        """The batch whose next step is due."""
        return self._stack[-1] if self._stack else None

    def turn(self, now: float) -> Batch | None:
        """To be called before each step. Finds who is late; the batch that begins, if one outranks the present."""
        self._late += self._overdue(now)
        jobs = self._schedule(now)
        return self._begin(jobs, now) if jobs else None

    def take_late(self) -> Job | None:
        """One to be told that it is late, each once."""
        if not self._late:
            return None
        job = self._late.pop(0)
        job.deadline = math.inf
        return job

    def _overdue(self, now: float) -> list[Job]:
        """The jobs whose deadline has passed; those that wait and cannot keep theirs any more leave the queue."""
        finals, done = self._waiting[Work.FINAL], now + self._final_s
        late = [job for job in finals if job.deadline <= done]
        if late:
            self._waiting[Work.FINAL] = [job for job in finals if job.deadline > done]
            if any(job.deadline > now for job in late):
                self._final_s *= 0.9  # so that a slow time does not keep finals out for good
        for batch in self._stack:
            late += [job for job in batch.open.values() if job.deadline <= now]
        return late + [job for job in self._elsewhere if job.deadline <= now]

    def _schedule(self, now: float) -> list[Job]:
        """The next batch, if it outranks the present one: the oldest job of the first right and its like."""
        works, present = self._ready(), self.present
        if (
            Work.CHUNK in works
            and (len(works) > 1 or present is not None)
            and _may_collect(self._waiting[Work.CHUNK], self._limits, now)
        ):
            works.remove(Work.CHUNK)
        work = works[0] if works else None
        if work is None or (present is not None and work >= present.work):
            return []
        waiting = self._waiting[work]
        if work in (Work.CHUNK, Work.CATCH_UP):
            chosen = _chunk_batch(waiting, self._limits.chunks)
        else:
            most_s = self._limits.file_s if work is Work.FILE else self._limits.live_s
            chosen = _whole_batch(waiting, self._limits.jobs, most_s * self._rate)
        taken = set(chosen)
        self._waiting[work] = [job for job in waiting if job not in taken]
        return chosen

    def _ready(self) -> list[Work]:
        """What waits and may begin. Recordings wait while much of theirs is elsewhere: nothing else holds them back."""
        held = len(self._elsewhere) >= MOST_ELSEWHERE
        return [work for work, jobs in self._waiting.items() if jobs and not (held and work is Work.FILE)]

    def _begin(self, jobs: list[Job], now: float) -> Batch:
        batch = Batch.of(jobs, now)
        self._stack.append(batch)  # at once: whatever happens now, they are known
        return batch

    # What becomes of a batch.

    def halve(self, batch: Batch, now: float) -> list[Batch]:
        """Begins its open jobs anew in two halves, the first of them next. One that is alone stays where it is, and
        nothing begins."""
        jobs = list(batch.open.values())
        if len(jobs) < 2:
            return []
        self._stack.remove(batch)
        half = len(jobs) // 2
        return [self._begin(jobs[half:], now), self._begin(jobs[:half], now)]

    def leave(self, batch: Batch) -> list[Job]:
        """The model is through with the batch; those of its jobs that are still open, for the caller to answer."""
        self._stack.remove(batch)
        return list(batch.open.values())

    def learn(self, batch: Batch, now: float) -> None:
        """Of a batch that was decoded to its end: how long finals take."""
        if batch.work is Work.FINAL:
            self._final_s += (now - batch.started - self._final_s) / 8

    def send_away(self, job: Job, outcome: Outcome) -> None:
        """A job taken out of its batch: somebody else is at its words."""
        self._elsewhere[job] = outcome

    def fetch(self, job: Job) -> Outcome | None:
        """Takes out a job that was elsewhere, for the caller to answer; None if somebody else has done so."""
        return self._elsewhere.pop(job, None)

    def drain(self) -> list[Job]:
        """Takes out all that is here, each job once, for the caller to answer."""
        jobs = [job for batch in self._stack for job in batch.open.values()]
        jobs += (*self._elsewhere, *self._late, *(job for waiting in self._waiting.values() for job in waiting))
        for batch in self._stack:
            batch.open.clear()
        self._elsewhere.clear()
        self._late.clear()
        self._waiting = {work: [] for work in Work}
        return list(dict.fromkeys(jobs))  # what is late may be open, too


def _may_collect(chunks: list[Job], limits: BatchLimits, now: float) -> bool:
    """Whether chunks may wait for more of them. Each alone costs so much that other work would never have its turn;
    with nothing else to do there is nothing to wait for."""
    return len(chunks) < limits.chunks and all(not job.urgent and now - job.since < limits.collect_s for job in chunks)


def _chunk_batch(waiting: list[Job], most: int) -> list[Job]:
    """All that wait, as they came; if they are too many the urgent ones and then the oldest."""
    if len(waiting) > most:
        waiting = sorted(waiting, key=lambda job: (not job.urgent, job.since))
    return waiting[:most]


def _whole_batch(waiting: Sequence[Job], most: int, most_samples: float) -> list[Job]:
    """The first in right and, of those with its pass and beam, the nearest in length; by length. most_samples: in the
    batch, padding counted, unless one alone has more."""
    oldest = min(waiting, key=lambda job: (not job.urgent, job.since))
    like = oldest.task
    assert isinstance(like, Whole)
    alike = [
        (job, job.task)
        for job in waiting
        if isinstance(job.task, Whole) and (job.task.by, job.task.beam) == (like.by, like.beam)
    ]
    alike.sort(key=lambda one: (one[0] is not oldest, abs(len(one[1].samples) - len(like.samples))))
    chosen: list[tuple[Job, Whole]] = []
    longest = 0
    for job, whole in alike[:most]:
        longest = max(longest, len(whole.samples))
        if chosen and longest * (len(chosen) + 1) > most_samples:
            break
        chosen.append((job, whole))
    return [job for job, _ in sorted(chosen, key=lambda one: len(one[1].samples))]
