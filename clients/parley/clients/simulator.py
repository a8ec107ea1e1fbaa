"""Plays many calls at a server at once, each at the pace of speech, and measures what came back when.

    python -m parley.clients.simulator --calls 20 call.wav

For tests and benchmarks. Measures itself too: when the simulator was late, its figures are not the server's.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from parley.clients.aio import AsyncClient
from parley.clients.cli.common import (
    FAILED,
    INTERRUPTED,
    USAGE,
    UsageFault,
    access,
    add_access,
    positive,
    problem,
    whole,
)
from parley.clients.config import StreamConfig
from parley.clients.simulated_call import CallReport, CallSource, Line, Pace
from parley.clients.simulator_figures import Figures, table
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


def main(argv: Sequence[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    try:
        sources = [CallSource.load(path, StreamConfig(separate_channels=args.separate_channels)) for path in args.files]
        calls = [sources[number % len(sources)] for number in range(args.calls)]
        pace = Pace(args.message_ms, args.speed, args.spread)
        reports = simulate_in_processes(
            **access(args), calls=calls, processes=args.processes, concurrency=args.concurrency, pace=pace
        )
    except UsageFault as fault:
        print(f"simulator: {fault}", file=sys.stderr)
        return USAGE
    except KeyboardInterrupt:
        return INTERRUPTED
    except (OSError, ValueError) as error:
        print(f"simulator: {problem(error)}", file=sys.stderr)
        return FAILED
    figures = Figures.of(reports)
    if args.json:
        print(json.dumps({"figures": asdict(figures), "calls": [asdict(report) for report in reports]}))
    else:
        print(table(figures))
    for report in reports:
        if report.error:
            print(f"simulator: call {report.number} ({report.name}): {report.error}", file=sys.stderr)
    if figures.simulator_was_the_bottleneck:
        print(
            "simulator: it was late itself, so these are not the server's figures: more --processes?", file=sys.stderr
        )
    return FAILED if figures.failed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m parley.clients.simulator",
        description="Plays many calls at a server, at the pace of speech, and shows how long its words took.",
    )
    parser.add_argument("files", metavar="FILE", nargs="+", type=Path, help="recordings, played in turn")
    parser.add_argument("--calls", metavar="N", type=whole, default=1, help="how many (default: %(default)s)")
    parser.add_argument("--concurrency", metavar="N", type=whole, help="at a time (default: all)")
    parser.add_argument("--processes", metavar="N", type=whole, default=1, help="default: %(default)s")
    parser.add_argument("--message-ms", metavar="MS", type=positive, default=100.0, help="default: %(default)g")
    parser.add_argument("--speed", metavar="X", type=positive, default=1.0, help="times real time (default: 1)")
    parser.add_argument("--spread", metavar="SECONDS", type=positive, default=1.0, help="over which calls begin (1)")
    parser.add_argument("--separate-channels", action="store_true", help="one speaker a channel")
    parser.add_argument("--json", action="store_true", help="all figures and all calls, as JSON")
    add_access(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
