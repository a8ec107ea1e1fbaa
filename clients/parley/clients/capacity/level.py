"""One level: so many calls, or files, at once at a node, and whether what was promised held. Knows no search.

A caller begins its next call when one has ended, so that the level lasts until enough finals stand behind a percentile.
Calls begin spread over the length of one: else they would breathe in step. What is counted is what ended while all were
on the line: not each caller's first call, beside which others are only beginning, nor its last.
"""

from __future__ import annotations

import asyncio
import math
import multiprocessing
import signal
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from parley.clients.aio import AsyncClient
from parley.clients.capacity.node import Watch
from parley.clients.capacity.search import Outcome
from parley.clients.capacity.slo import Size
from parley.clients.simulator.call import CallSource, Pace
from parley.clients.simulator.figures import TOO_LATE_S, Figures, Spread
from parley.clients.simulator.play import simulate
from parley.wire.errors import CallError, Exhausted
from parley.wire.retry import NEVER

if TYPE_CHECKING:
    from collections.abc import Sequence

    from parley.clients.capacity.node import Node
    from parley.clients.capacity.slo import FileLimit, Slo
    from parley.clients.cli.common import Access
    from parley.clients.simulator.call import CallReport

ENOUGH = 100  # finals, or files: below, the 99th percentile is the slowest one
ROUNDS_BESIDE = 2  # of each caller's calls: the first and the last are not counted
CALLS_A_PROCESS = 50  # one Python is late with more
DEAD_S = 600.0  # calls that are so much longer under way than their audio lasts will never end
LATE_SHARE = 0.1  # of the limit: callers that are late by less do not change what is judged
REFUSED = "RESOURCE_EXHAUSTED"  # how the report of a call that was refused begins


@dataclass(frozen=True, slots=True)
class Load:
    """What is played, and how long a level may take at most, apart from calls that are slow to end."""

    calls: tuple[CallSource, ...]
    file: bytes
    seconds: float

    @property
    def call_s(self) -> float:
        """The mean length of a call."""
        return sum(len(call.audio) / call.bytes_per_s for call in self.calls) / len(self.calls)

    @property
    def decoders_a_call(self) -> int:
        """The most that one of the calls takes."""
        return max(call.config.channels if call.config.separate_channels else 1 for call in self.calls)

    def rounds(self, callers: int) -> int:
        """Calls that each caller makes: enough, within the time, but one in any case."""
        enough = math.ceil(ENOUGH / callers) + ROUNDS_BESIDE
        # One less than fit: they begin over the length of one.
        return max(1, min(enough, int(self.seconds / self.call_s) - 1))

    def expected_s(self, callers: int, slo: Slo) -> float:
        calls_s = (self.rounds(callers) + 1) * self.call_s if slo.calls else 0.0
        return calls_s + (self.seconds if slo.file else 0.0)


@dataclass(frozen=True, slots=True)
class Played:
    """What came of calls and files. Times, in seconds, of what counts; failures of all."""

    failed: int = 0
    refused: int = 0
    fault: str | None = None  # of the first that failed
    final: Spread | None = None  # from a call's last packet to its last final result
    partial: Spread | None = None
    file: Spread | None = None
    late: Spread | None = None  # the callers themselves


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a level. `calls`: at once; `decoders`: the node's, None if it does not say."""

    calls: int
    decoders: int | None
    outcome: Outcome
    reason: str  # in words, what was found and what was promised; empty if it held
    played: Played
    cores: float | None  # that the node had busy, on the mean
    memory_bytes: int | None
    wall_s: float


class NothingMeasured(Exception):
    """A level ended without a figure that is to be judged. Says which."""


def run(node: Node, access: Access, load: Load, callers: int, slo: Slo) -> Run:
    """Plays calls, then files if anything is promised of them, with every decoder busy each time.

    Raises NothingMeasured.
    """
    began = time.monotonic()
    played = Played()
    with Watch(node.metrics) as watch:
        if slo.calls:
            played = play_calls(access, load, callers)
        if slo.file and not played.failed:
            # A file is of one channel, and takes one decoder.
            files = asyncio.run(play_files(access, load, callers * load.decoders_a_call, slo.file))
            played = replace(played, failed=files.failed, refused=files.refused, fault=files.fault, file=files.file)
    outcome, reason = judge(slo, played, watch.memory_bytes)
    return Run(
        calls=callers,
        decoders=node.decoders,
        outcome=outcome,
        reason=reason,
        played=played,
        cores=watch.cores,
        memory_bytes=watch.memory_bytes,
        wall_s=time.monotonic() - began,
    )


def judge(slo: Slo, played: Played, memory_bytes: int | None) -> tuple[Outcome, str]:
    """Whether all that was promised held, and if not, whose limit was met first. Raises NothingMeasured."""
    if played.refused:
        return Outcome.REFUSED, f"{played.refused} refused: {played.fault}"
    if played.failed:
        return Outcome.BROKEN, f"{played.failed} failed: {played.fault}"
    # Late callers send less than they should and hear late: neither a good figure nor a bad one is the node's.
    allowed_s = max(TOO_LATE_S, LATE_SHARE * slo.tightest_call_s)
    if played.late and played.late.p99 > allowed_s:
        return Outcome.CALLERS_LATE, f"callers late by {ms(played.late.p99)}, at most {ms(allowed_s)} is fair"
    limits = (
        ("final after a call's last packet", played.final, slo.final),
        ("interim result", played.partial, slo.partial),
        ("file back", played.file, slo.file and slo.file.within),
    )
    faults = []
    for name, spread, limit in limits:
        if limit and not spread:
            raise NothingMeasured(f"{name}: got none, expected some: longer --seconds, or recordings with more speech?")
        if limit and spread and spread.p99 > limit.seconds:
            faults.append(f"{name}: p99 {ms(spread.p99)}, at most {limit} was promised")
    if slo.memory and memory_bytes is None:
        raise NothingMeasured("memory: got no process_resident_memory_bytes in the node's metrics, expected it there")
    if slo.memory and memory_bytes and memory_bytes > slo.memory.bytes:
        faults.append(f"memory: {Size(memory_bytes)}, at most {slo.memory} was promised")
    return (Outcome.BROKEN, "; ".join(faults)) if faults else (Outcome.HELD, "")


def play_calls(access: Access, load: Load, callers: int) -> Played:
    """So many callers at once, in as many processes as can keep time."""
    rounds = load.rounds(callers)
    processes = math.ceil(callers / CALLS_A_PROCESS)
    jobs = []
    for first in range(processes):
        lines = len(range(first, callers, processes))
        # Each from another call on, so that they do not all say the same.
        calls = [load.calls[(first + number) % len(load.calls)] for number in range(rounds * lines)]
        jobs.append((access, calls, lines, load.call_s))
    # Spawned, not forked: gRPC's threads do not survive a fork. A Ctrl-C ends them all as this block is left.
    with multiprocessing.get_context("spawn").Pool(processes, _leave_interrupts) as pool:
        waiting = pool.starmap_async(_play_part, jobs, chunksize=1)
        try:
            parts = waiting.get((rounds + 1) * load.call_s + DEAD_S)
        except multiprocessing.TimeoutError:
            raise NothingMeasured(f"calls: got no end of them, expected one within {DEAD_S:g} s") from None
    counted = [report for (_, _, lines, _), part in zip(jobs, parts, strict=True) for report in _middle(part, lines)]
    return summed([report for part in parts for report in part], counted)


def summed(reports: Sequence[CallReport], counted: Sequence[CallReport]) -> Played:
    """Failures of all, times of those that count."""
    faults = [report.error for report in reports if report.error]
    figures = Figures.of(counted)
    return Played(
        failed=len(faults),
        refused=sum(fault.startswith(REFUSED) for fault in faults),
        fault=faults[0] if faults else None,
        final=figures.half_close_to_last_final,
        partial=figures.partial_lag,
        late=figures.simulator_late,
    )


def _middle(reports: Sequence[CallReport], lines: int) -> Sequence[CallReport]:
    """Without each line's first and last call, if there is one between. They come in the order in which they began."""
    return reports[lines:-lines] if len(reports) > ROUNDS_BESIDE * lines else reports


def _play_part(access: Access, calls: Sequence[CallSource], lines: int, spread_s: float) -> list[CallReport]:
    return asyncio.run(simulate(**access, calls=calls, concurrency=lines, pace=Pace(spread_s=spread_s)))


def _leave_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


async def play_files(access: Access, load: Load, at_once: int, limit: FileLimit) -> Played:
    """So many files at once, a next one as soon as one is back, until enough are, or the time is up.

    Files still under way then count if they are late already, with the time they have taken so far.
    """
    times: list[float] = []
    faults: list[CallError] = []
    begun: dict[int, float] = {}
    enough = asyncio.Event()

    async def send(client: AsyncClient, line: int) -> None:
        while not enough.is_set():
            begun[line] = time.monotonic()
            try:
                await client.transcribe(load.file)
            except CallError as fault:
                faults.append(fault)
                enough.set()
                return
            times.append(time.monotonic() - begun[line])
            if len(times) >= max(ENOUGH, 2 * at_once):
                enough.set()

    async with AsyncClient(**access, retry=NEVER) as client:
        lines = [asyncio.create_task(send(client, line)) for line in range(at_once)]
        try:
            await asyncio.wait_for(enough.wait(), load.seconds)
        except (TimeoutError, asyncio.TimeoutError):  # two before Python 3.11
            enough.set()
        now = time.monotonic()
        times += [
            now - begun[line]
            for line, task in enumerate(lines)
            if not task.done() and now - begun[line] > limit.within.seconds
        ]
        for task in lines:
            task.cancel()
        await asyncio.wait(lines)
    return Played(
        failed=len(faults),
        refused=sum(isinstance(fault, Exhausted) for fault in faults),
        fault=str(faults[0]) if faults else None,
        file=Spread.of(times),
    )


def ms(seconds: float) -> str:
    """For people."""
    return f"{seconds * 1000:.0f} ms" if seconds < 10 else f"{seconds:.0f} s"
