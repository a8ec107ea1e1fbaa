"""What runs next from what waits: drawn arrivals and outcomes against a plain account of what was promised. No thread,
no clock, no model: time is a number, and what a model would do is drawn."""

from __future__ import annotations

import itertools
import math
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from parley.decoder.engine.queue import Batch, Queue
from parley.decoder.engine.work import BatchLimits, Job, Outcome, Whole, Work
from parley.decoder.models.acoustic import Chunk
from parley.decoder.values import Passes, Transcript
from tests.decoder.fakes import CHUNKS

if TYPE_CHECKING:
    from collections.abc import Iterable

CHUNK, FINAL, CATCH_UP, FILE, PARTIAL = Work
RATE = 10  # samples a second
FEW_ELSEWHERE = 1  # utterances, for the simulation: sixteen would seldom come together
LENGTHS = [1, 4, 5, 10, 12, 20, 40]  # samples, so that some batches are just full
KINDS = [(Passes.SECOND, 1)] * 4 + [(Passes.SECOND, 4), (Passes.FIRST, 1)]  # pass and beam
OUTCOME = Outcome(Transcript(()), 0.0, 1)
LIMITS = st.builds(
    BatchLimits,
    chunks=st.integers(1, 5),
    collect_s=st.sampled_from([0.0, 0.5, 5.0]),
    jobs=st.integers(1, 4),
    file_s=st.integers(1, 20),
    live_s=st.integers(1, 10),
)


def job(
    work: Work,
    now: float = 0.0,
    owner: int = 0,
    samples: int = RATE,
    by: Passes = Passes.SECOND,
    beam: int = 1,
    deadline: float = math.inf,
    urgent: bool = False,
) -> Job:
    zeros = np.zeros(samples, np.int16)
    task = Chunk(owner, 0, zeros) if work in CHUNKS else Whole(zeros, by, beam)
    return Job(owner, work, task, unheard, unheard, deadline=deadline, urgent=urgent, since=now)


def unheard(_: object) -> None:
    raise AssertionError("the queue tells nobody")


def length(job: Job) -> int:
    return len(job.task.samples)


def first_in_right(jobs: Iterable[Job]) -> Job:
    return min(jobs, key=lambda job: (not job.urgent, job.since))


def decoded(queue: Queue, batch: Batch, now: float) -> list[Job]:
    """All of its jobs get their words."""
    jobs = [batch.open.pop(row) for row in list(batch.open)]
    assert queue.leave(batch) == []
    queue.learn(batch, now)
    return jobs


class Simulation(RuleBasedStateMachine):
    """Keeps account of where each job ought to be."""

    @initialize(limits=LIMITS)
    def start(self, limits: BatchLimits) -> None:
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr("parley.decoder.engine.queue.MOST_ELSEWHERE", FEW_ELSEWHERE)
        self.limits = limits
        self.queue = Queue(limits, RATE)
        self.now = 0.0
        self.final_s = 0.0
        self.waiting: list[Job] = []  # as they came
        self.stack: list[Batch] = []
        self.elsewhere: list[Job] = []
        self.told_late: set[Job] = set()
        self.over: set[Job] = set()

    def teardown(self) -> None:
        """Its end: all that is here comes out, once."""
        try:
            here = self._here()
            self.queue.turn(self.now + 1.0)  # some may be late and not told so
            left = self.queue.drain()
            assert len(left) == len(set(left)) == len(here)
            assert set(left) == set(here)
            assert self.queue.take_late() is None
            assert self.queue.next_deadline() == math.inf
            assert not any(self.queue.waiting().values())
            assert not any(batch.open for batch in self.stack)
        finally:
            self.patch.undo()

    # What comes.

    @rule(
        work=st.sampled_from(Work),
        those=st.lists(
            st.tuples(st.integers(0, 9), st.sampled_from(LENGTHS), st.sampled_from(KINDS), st.integers(0, 7)),
            max_size=6,
        ),
        patience_s=st.sampled_from([0.3, 2.0, math.inf]),
    )
    def put(self, work: Work, those: list[tuple[int, int, tuple[Passes, int], int]], patience_s: float) -> None:
        """Several that are of one right, each with its owner, samples and pass; one in eight is urgent."""
        for owner, samples, (by, beam), die in those:
            new = job(work, self.now, owner, samples, by, beam, self.now + patience_s, urgent=die == 0)
            self.queue.put(new)
            self._expect(new)

    def _expect(self, new: Job) -> None:
        old = [it for it in self.waiting if it.work is PARTIAL and it.owner == new.owner and new.work not in CHUNKS]
        assert len(old) <= 1
        if old and new.work is PARTIAL:
            assert new.since == old[0].since
            self.waiting[self.waiting.index(old[0])] = new
        else:
            self.waiting = [it for it in self.waiting if it not in old] + [new]
        self.over.update(old)

    @rule(owner=st.integers(0, 9))
    def forget(self, owner: int) -> None:
        self.queue.forget(owner)
        self.over.update(it for it in self.waiting if it.owner == owner)
        self.waiting = [it for it in self.waiting if it.owner != owner]

    @rule(seconds=st.sampled_from([0.1, 0.5, 3.0]))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds

    @precondition(lambda self: self.elsewhere)
    @rule(data=st.data())
    def come_back(self, data: st.DataObject) -> None:
        back = data.draw(st.sampled_from(self.elsewhere))
        assert self.queue.fetch(back) is OUTCOME
        assert self.queue.fetch(back) is None
        self.elsewhere.remove(back)
        self.over.add(back)

    # A step.

    @rule()
    def turn(self) -> None:
        hopeless = [it for it in self.waiting if it.work is FINAL and it.deadline <= self.now + self.final_s]
        if any(it.deadline > self.now for it in hopeless):
            self.final_s *= 0.9
        self.waiting = [it for it in self.waiting if it not in hopeless]
        at_work = [it for batch in self.stack for it in batch.open.values()] + self.elsewhere
        late = hopeless + [it for it in at_work if it.deadline <= self.now]
        begun = self.queue.turn(self.now)
        told = list(iter(self.queue.take_late, None))
        assert told == late
        assert not self.told_late.intersection(told)
        self.told_late.update(told)
        self.over.update(hopeless)
        self._check_begun(begun)

    def _check_begun(self, begun: Batch | None) -> None:
        present = self.stack[-1].work if self.stack else math.inf
        held = len(self.elsewhere) >= FEW_ELSEWHERE
        allowed = [it for it in self.waiting if not (held and it.work is FILE)]
        chunks = [it for it in allowed if it.work is CHUNK]
        collecting = len(chunks) < self.limits.chunks and not any(
            it.urgent or self.now - it.since >= self.limits.collect_s for it in chunks
        )
        if collecting and (self.stack or len(allowed) > len(chunks)):
            allowed = [it for it in allowed if it.work is not CHUNK]
        best = min((it.work for it in allowed), default=math.inf)
        assert (begun is not None) is (best < present)
        if begun is None:
            return
        alike = [it for it in self.waiting if it.work is best]
        assert begun.work is best
        assert begun.started == self.now
        assert list(begun.open.values()) == begun.jobs
        assert set(begun.jobs) <= set(alike)
        assert len(set(begun.jobs)) == len(begun.jobs)
        (self._check_chunks if best in CHUNKS else self._check_wholes)(begun.jobs, alike)
        self.waiting = [it for it in self.waiting if it not in begun.jobs]
        self.stack.append(begun)

    def _check_chunks(self, jobs: list[Job], alike: list[Job]) -> None:
        """Most urgent, then oldest."""
        assert len(jobs) == min(self.limits.chunks, len(alike))
        left = [(not it.urgent, it.since) for it in alike if it not in jobs]
        assert not left or max((not it.urgent, it.since) for it in jobs) <= min(left)

    def _check_wholes(self, jobs: list[Job], alike: list[Job]) -> None:
        """The first in right and who is nearest to it in length, as many as may."""
        first = first_in_right(alike)
        assert first in jobs
        assert len({(it.task.by, it.task.beam) for it in jobs if isinstance(it.task, Whole)}) == 1
        lengths = [length(it) for it in jobs]
        assert lengths == sorted(lengths)
        most = RATE * (self.limits.file_s if first.work is FILE else self.limits.live_s)
        assert len(jobs) == 1 or (len(jobs) <= self.limits.jobs and len(jobs) * lengths[-1] <= most)
        like = first.task
        assert isinstance(like, Whole)
        left = [
            it
            for it in alike
            if isinstance(it.task, Whole) and (it.task.by, it.task.beam) == (like.by, like.beam) and it not in jobs
        ]
        if left:
            distance = [abs(length(it) - length(first)) for it in jobs]
            nearest = min(left, key=lambda it: abs(length(it) - length(first)))
            assert max(distance) <= abs(length(nearest) - length(first))
            if len(jobs) < self.limits.jobs:  # there was no room for it
                nearest_left = [
                    it for it in left if abs(length(it) - length(first)) == abs(length(nearest) - length(first))
                ]
                assert any((len(jobs) + 1) * max(*lengths, length(it)) > most for it in nearest_left)

    @precondition(lambda self: self.stack)
    @rule(data=st.data())
    def words(self, data: st.DataObject) -> None:
        """A call of the model gives some rows their words, or says that they are elsewhere."""
        batch = self.stack[-1]
        for row in data.draw(st.lists(st.sampled_from(sorted(batch.open)), unique=True)):
            taken = batch.open.pop(row)
            if data.draw(st.sampled_from([False, False, True])):
                self.queue.send_away(taken, OUTCOME)
                self.elsewhere.append(taken)
            else:
                self.over.add(taken)
        if not batch.open:
            assert self.queue.leave(batch) == []
            self.queue.learn(batch, self.now)
            self.stack.pop()
            if batch.work is FINAL:
                self.final_s += (self.now - batch.started - self.final_s) / 8

    @precondition(lambda self: self.stack)
    @rule()
    def fail(self) -> None:
        batch = self.stack.pop()
        left = self.queue.leave(batch)
        assert left == list(batch.open.values())
        self.over.update(left)

    @precondition(lambda self: self.stack)
    @rule()
    def want_memory(self) -> None:
        batch = self.stack[-1]
        jobs = list(batch.open.values())
        halves = self.queue.halve(batch, self.now)
        if len(jobs) == 1:
            assert halves == []
            return
        self.stack[-1:] = halves
        later, sooner = halves
        assert sooner.jobs + later.jobs == jobs
        assert 0 <= len(later.jobs) - len(sooner.jobs) <= 1
        assert {half.work for half in halves} == {batch.work}

    # Always.

    def _here(self) -> list[Job]:
        return [*self.waiting, *self.elsewhere, *(it for batch in self.stack for it in batch.open.values())]

    @invariant()
    def all_is_where_it_ought_to_be(self) -> None:
        counts = {work.name.lower(): sum(it.work is work for it in self.waiting) for work in Work}
        assert self.queue.waiting() == counts
        assert self.queue.present is (self.stack[-1] if self.stack else None)
        held = len(self.elsewhere) >= FEW_ELSEWHERE
        waits = any(not (held and it.work is FILE) for it in self.waiting)
        assert self.queue.has_work() is (waits or bool(self.stack))
        deadlines = [it.deadline for it in self.elsewhere if it not in self.told_late]
        assert self.queue.next_deadline() == min(deadlines, default=math.inf)
        here = self._here()
        assert len(here) == len(set(here))
        assert not self.over.intersection(here)
        works = [batch.work for batch in self.stack]
        assert works == sorted(works, reverse=True)  # who stands aside has no better right


Simulation.TestCase.settings = settings(max_examples=150, stateful_step_count=40)
TestSimulation = Simulation.TestCase


# Who waits, and how long.


@given(
    st.sampled_from([FINAL, CATCH_UP, FILE, PARTIAL]),
    st.lists(st.tuples(st.integers(1, 40), st.sampled_from([1, 4])), min_size=1, max_size=10),
    st.lists(st.tuples(st.integers(1, 40), st.sampled_from([1, 4])), min_size=60, max_size=60),
    LIMITS,
)
def test_whoever_came_before_delays_by_a_batch_at_most(
    work: Work, first: list[tuple[int, int]], later: list[tuple[int, int]], limits: BatchLimits
) -> None:
    """However many come later, and however well they would go together with others."""
    queue = Queue(limits, RATE)
    owners = itertools.count()
    for now, (samples, beam) in enumerate(first):
        queue.put(job(work, now, next(owners), samples, beam=beam))
    left = set(range(len(first)))
    for turn, (samples, beam) in enumerate(later, len(first)):
        queue.put(job(work, turn, next(owners), samples, beam=beam))
        batch = queue.turn(turn)
        assert batch is not None
        assert not left or min(left) in {it.owner for it in batch.jobs}
        left -= {it.owner for it in decoded(queue, batch, turn)}
    assert not left


@given(
    st.lists(st.floats(0.01, 1.0), min_size=40, max_size=40),
    st.floats(0.01, 0.3),
    st.sampled_from([FINAL, FILE, PARTIAL]),
)
def test_beside_other_work_a_chunk_goes_as_soon_as_it_has_collected(
    calls_s: list[float], collect_s: float, other: Work
) -> None:
    """Between the next two calls of the model, which take `calls_s`."""
    queue = Queue(BatchLimits(chunks=2, collect_s=collect_s), RATE)
    queue.put(job(other, owner=1))
    queue.turn(0.0)
    chunk = job(CHUNK, owner=2)
    queue.put(chunk)
    now, ends = 0.0, iter(itertools.accumulate(calls_s))
    while (begun := queue.turn(now)) is None:
        assert now < collect_s
        now = next(ends)
    assert now >= collect_s
    assert begun.jobs == [chunk]


def test_chunks_that_come_one_by_one_leave_others_their_turn() -> None:
    """A live call's chunk comes before each call of the model, and a final has its turns all the same."""
    queue = Queue(BatchLimits(chunks=8, collect_s=0.03), RATE)
    queue.put(job(FINAL))
    turns = []
    for number in range(60):
        now = number * 0.01
        queue.put(job(CHUNK, now, number + 1))
        queue.turn(now)
        present = queue.present
        assert present is not None
        turns.append(present.work)
        if present.work is CHUNK:
            decoded(queue, present, now)
    assert turns.count(FINAL) >= 40


@given(st.integers(0, 12), st.sampled_from([CHUNK, FINAL, CATCH_UP, FILE]))
def test_a_partial_runs_when_nothing_else_waits_and_never_before(count: int, work: Work) -> None:
    queue = Queue(BatchLimits(chunks=2, jobs=2, collect_s=0.0), RATE)
    queue.put(job(PARTIAL, owner=99))
    for owner in range(count):
        queue.put(job(work, 1.0, owner))
    ran = []
    while (batch := queue.turn(2.0)) is not None:
        ran += [it.work for it in decoded(queue, batch, 2.0)]
    assert ran == [work] * count + [PARTIAL]


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 9)), min_size=1, max_size=30), st.integers(1, 4))
def test_the_urgent_go_first_then_the_oldest(chunks: list[tuple[bool, int]], most: int) -> None:
    queue = Queue(BatchLimits(chunks=most), RATE)
    for owner, (urgent, since) in enumerate(chunks):
        queue.put(job(CHUNK, since, owner, urgent=urgent))
    ran: list[tuple[bool, float]] = []
    while (batch := queue.turn(10.0)) is not None:
        ran += sorted((not it.urgent, it.since) for it in decoded(queue, batch, 10.0))
    assert ran == sorted((not urgent, since) for urgent, since in chunks)


# Deadlines.


def slowed(took_s: float) -> Queue:
    """Whose mean time of finals is an eighth of that, at the time of `took_s`."""
    queue = Queue(BatchLimits(), RATE)
    queue.put(job(FINAL))
    batch = queue.turn(0.0)
    assert batch is not None
    decoded(queue, batch, took_s)
    return queue


@given(st.floats(0.1, 100.0), st.floats(0.01, 20.0))
def test_a_final_that_cannot_be_in_time_is_not_begun(took_s: float, patience_s: float) -> None:
    queue = slowed(took_s)
    final = job(FINAL, took_s, deadline=took_s + patience_s)
    queue.put(final)
    begun = queue.turn(took_s)
    if final.deadline <= took_s + took_s / 8:
        assert begun is None
        assert queue.take_late() is final
        assert not queue.has_work()
    else:
        assert begun is not None
        assert begun.jobs == [final]
    assert queue.take_late() is None


@given(st.floats(1.0, 1_000.0), st.floats(0.1, 1.0))
def test_a_slow_time_does_not_keep_finals_out_for_good(took_s: float, patience_s: float) -> None:
    queue = slowed(took_s)
    refused = 0
    while True:
        queue.put(job(FINAL, took_s, deadline=took_s + patience_s))
        if queue.turn(took_s) is not None:
            break
        refused += 1
    assert refused <= max(0.0, math.log(took_s / 8 / patience_s) / -math.log(0.9)) + 1


@pytest.mark.parametrize("work", [FILE, PARTIAL, *CHUNKS])
def test_only_finals_are_given_up_before_they_begin(work: Work) -> None:
    queue = Queue(BatchLimits(), RATE)
    past = job(work, deadline=1.0)
    queue.put(past)
    batch = queue.turn(2.0)
    assert batch is not None
    assert batch.jobs == [past]
    assert queue.take_late() is None
    queue.turn(3.0)
    assert queue.take_late() is past  # once it runs
    queue.turn(4.0)
    assert queue.take_late() is None


# Partials and halves.


@given(st.lists(st.integers(0, 3), min_size=1, max_size=12))
def test_of_an_owner_s_partials_the_newest_waits_in_the_place_of_the_first(owners: list[int]) -> None:
    queue = Queue(BatchLimits(jobs=1), RATE)
    newest: dict[int, Job] = {}
    for now, owner in enumerate(owners):
        new = job(PARTIAL, now, owner)
        queue.put(new)
        newest[owner] = new
    ran = []
    while (batch := queue.turn(100.0)) is not None:
        ran += decoded(queue, batch, 100.0)
    assert ran == list(newest.values())  # a dict keeps the place of the first
    assert [it.since for it in ran] == [owners.index(owner) for owner in newest]


def test_a_partial_that_took_a_place_has_its_place_among_equals() -> None:
    queue = Queue(BatchLimits(jobs=2), RATE)
    for owner in (1, 2, 3, 2):
        queue.put(job(PARTIAL, 0.0, owner))
    batch = queue.turn(1.0)
    assert batch is not None
    assert [it.owner for it in batch.jobs] == [1, 2]


@given(st.integers(1, 40), st.integers(1, 8))
def test_halves_keep_the_order_down_to_what_fits(count: int, most: int) -> None:
    queue = Queue(BatchLimits(chunks=40), RATE)
    jobs = [job(CATCH_UP, owner=owner) for owner in range(count)]
    for one in jobs:
        queue.put(one)
    queue.turn(0.0)
    queue.put(job(CATCH_UP, owner=99))
    fitted = []
    while (present := queue.present) is not None:
        if len(present.jobs) > most:
            assert queue.turn(0.0) is None  # its like waits till the halves are through
            assert len(queue.halve(present, 0.0)) == 2
        else:
            fitted.append(decoded(queue, present, 0.0))
    assert [it for batch in fitted for it in batch] == jobs
    assert all(2 * len(batch) >= min(most, count) for batch in fitted)


# What it needs.


def test_it_loads_no_numpy_and_no_torch() -> None:
    code = "import sys, parley.decoder.engine.queue; print(*{'numpy', 'torch'} & set(sys.modules))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == []
