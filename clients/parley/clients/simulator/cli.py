"""The simulator's command line. Knows what to ask and how to show it; plays nothing."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

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
from parley.clients.simulator.call import CallSource, Pace
from parley.clients.simulator.figures import Figures, table
from parley.clients.simulator.play import simulate_in_processes

if TYPE_CHECKING:
    from collections.abc import Sequence


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
