"""Many calls at a server at once, in one process or in several. Knows the client; what a call says is the call's."""

from __future__ import annotations

import asyncio
import math
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

from parley.clients.aio import AsyncClient
from parley.clients.simulator.call import CallReport, CallSource, Line, Pace
from parley.wire.errors import CallError
from parley.wire.retry import NEVER

if TYPE_CHECKING:
    from collections.abc import Sequence

    from parley.wire.channel import Tls

GRACE_S = 120.0  # a call that has not ended so long after its audio has failed


async def simulate(
    address: str,
    calls: Sequence[CallSource],
    *,
    concurrency: int | None = None,
    pace: Pace | None = None,
    token: str | None = None,
    tls: Tls | None = None,
) -> list[CallReport]:
    """Play all calls, at most `concurrency` at a time (default: all). Reports come in the order of the calls."""
    pace = pace or Pace()
    lines = concurrency or len(calls)
    room = asyncio.Semaphore(lines)

    async def play(client: AsyncClient, number: int, source: CallSource) -> CallReport:
        async with room:
            if number < lines:
                await asyncio.sleep(pace.spread_s * number / lines)
            return await _play(client, number, source, pace)

    async with AsyncClient(address, token=token, tls=tls, retry=NEVER) as client:
        return await asyncio.gather(*(play(client, number, source) for number, source in enumerate(calls)))


def simulate_in_processes(
    address: str,
    calls: Sequence[CallSource],
    *,
    processes: int,
    concurrency: int | None = None,
    pace: Pace | None = None,
    token: str | None = None,
    tls: Tls | None = None,
) -> list[CallReport]:
    """The same, shared out over processes: one Python plays only some dozens of calls on time."""
    processes = min(processes, len(calls))
    each = None if concurrency is None else math.ceil(concurrency / processes)
    # Spawned, not forked: gRPC's threads do not survive a fork.
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
        parts = [
            pool.submit(_part, address, calls[first::processes], each, pace, token, tls) for first in range(processes)
        ]
        reports = [
            replace(report, number=first + report.number * processes)
            for first, part in enumerate(parts)
            for report in part.result()
        ]
    return sorted(reports, key=lambda report: report.number)


def _part(
    address: str,
    calls: Sequence[CallSource],
    concurrency: int | None,
    pace: Pace | None,
    token: str | None,
    tls: Tls | None,
) -> list[CallReport]:
    return asyncio.run(simulate(address, calls, concurrency=concurrency, pace=pace, token=token, tls=tls))


async def _play(client: AsyncClient, number: int, source: CallSource, pace: Pace) -> CallReport:
    line = Line(source, pace)
    timeout_s = len(source.audio) / source.bytes_per_s / pace.speed + GRACE_S
    error: str | None = None
    async with client.stream(line.audio(), source.config, timeout_s=timeout_s) as results:
        try:
            async for result in results:
                line.heard(result)
        except CallError as failure:
            error = str(failure)
    return line.report(number, results.summary, error)
