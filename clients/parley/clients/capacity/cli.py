"""`parley capacity`: its arguments, and the search level by level. Knows what to ask, not how a level is judged."""

from __future__ import annotations

import argparse
import importlib.util
import os
import signal
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from rich.console import Console
from rich.live import Live

from parley.clients.capacity import level
from parley.clients.capacity.node import elsewhere, serve
from parley.clients.capacity.page import page
from parley.clients.capacity.result import Result, check_config, table, write_decoders
from parley.clients.capacity.search import Plan, next_level
from parley.clients.capacity.slo import Duration, FileLimit, Size, Slo
from parley.clients.capacity.speech import examples, load_calls, load_file
from parley.clients.cli.common import (
    FAILED,
    INTERRUPTED,
    USAGE,
    UsageFault,
    access,
    add_credentials,
    explain,
    problem,
    whole,
)
from parley.clients.node_process import NodeFailed
from parley.clients.sync import Client
from parley.wire.errors import CallError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from parley.clients.capacity.node import Node
    from parley.clients.cli.common import Access

T = TypeVar("T")
LONGEST_CALL_SHARE = 0.2  # of a level's time: it has to hold the first calls, the last, and some that count
START_S = 5.0  # of a node, when it is asked whether a level still fits the budget

EXAMPLES = """\
examples:
  the final within 100 ms of the last packet of a live call, with the first pass, on this machine:
    parley capacity --p99-final 100ms --write-config parley.toml -- --passes first
  a 30 s file back within 2 s with every decoder busy:
    parley capacity --file 30s:2s calls/*.wav
  a node that runs elsewhere:
    parley capacity --p99-final 300ms --server node:50051 --metrics http://node:9090/metrics calls/*.wav

What stands behind `--` is for `parley serve`. The node is started anew for every level, with a decoder for each call:
memory is allocated at start, so what is measured is what is recommended. Every limit is for the 99th percentile.
Exit status: 0 some number of calls held, 1 none did or something failed, 2 wrong usage, 130 Ctrl-C; what is known by
then is told and written all the same.
"""


def main(argv: Sequence[str]) -> int:
    """Runs the search and returns the exit status."""
    own, flags = _split(list(argv))
    args = _parser().parse_args(own)
    try:
        with _ended_as_by_ctrl_c():
            return _search(args, flags)
    except KeyboardInterrupt:
        return INTERRUPTED
    except UsageFault as fault:
        return _refuse(str(fault), USAGE)
    except NodeFailed as error:
        return _refuse(str(error), FAILED)
    except (OSError, ValueError) as error:
        return _refuse(problem(error), FAILED)


@dataclass(frozen=True, slots=True)
class _Order:
    """What the command line asks for, checked."""

    load: level.Load
    access: Access
    serve_flags: tuple[str, ...]
    server: str | None  # None: nodes of our own
    metrics: str | None
    budget_s: float


def _search(args: argparse.Namespace, flags: list[str]) -> int:
    order, result = _ordered(args, flags)
    if order.server:
        with Client(**order.access) as client:
            try:
                client.health()  # else every level would fail, one after the other
            except CallError as error:
                return _refuse(explain(error, order.server), FAILED)
    status = 0
    with _Shown() as shown:
        try:
            for latest in _levels(order, result, shown.playing):
                result = latest
                shown.ran(result)
        except KeyboardInterrupt:
            status = INTERRUPTED
        except (NodeFailed, level.NothingMeasured) as error:
            status = _refuse(str(error), FAILED)
    if result.runs:
        _tell(result)
        for fault in _write(result, args):
            status = _refuse(fault, status or FAILED)
    return status or (0 if result.answer.held else FAILED)


def _levels(order: _Order, result: Result, playing: Callable[[int], None]) -> Iterator[Result]:
    """The result after each run, until the answer stands or the next level would not fit the budget."""
    until = time.monotonic() + order.budget_s
    while (calls := next_level(result.plan, result.trials)) is not None:
        expected_s = order.load.expected_s(calls, result.slo) + (0.0 if order.server else START_S)
        if result.runs and time.monotonic() + expected_s > until:
            return
        playing(calls)
        with _node(order, result.decoders_for(calls)) as node:
            if not order.server and node.decoders and not result.runs:
                # A decoder asked for is one on every device.
                result = replace(result, devices=node.decoders // result.decoders_for(calls))
            run = level.run(node, {**order.access, "address": node.address}, order.load, calls, result.slo)
        result = replace(result, runs=(*result.runs, run))
        yield result


@contextmanager
def _node(order: _Order, decoders: int) -> Iterator[Node]:
    if order.server:
        yield elsewhere(order.server, order.metrics)
    else:
        with serve(order.serve_flags, decoders) as node:
            yield node


class _Shown:
    """The runs so far: a table that grows on a terminal, else a line each. On stderr; what counts goes to stdout."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._live = Live(console=self._console, transient=True) if self._console.is_terminal else None
        self._result: Result | None = None

    def __enter__(self) -> _Shown:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def playing(self, calls: int) -> None:
        if self._live:
            shown = table(self._result.runs if self._result else ())
            shown.caption = f"{calls} calls at once ..."
            self._live.update(shown, refresh=True)

    def ran(self, result: Result) -> None:
        self._result = result
        run = result.runs[-1]
        if not self._live:
            self._console.print(
                f"{run.calls} calls: {run.outcome.value}{f' ({run.reason})' if run.reason else ''}",
                markup=False,
                highlight=False,
                soft_wrap=True,
            )


def _tell(result: Result) -> None:
    """The answer, on stdout."""
    console = Console()
    console.print(table(result.runs))
    console.print(f"[bold]{result.headline()}[/bold]", highlight=False)
    for line in result.explanation():
        console.print(line, markup=False, highlight=False)


def _write(result: Result, args: argparse.Namespace) -> list[str]:
    """The answer, in every file that was asked for. One that cannot be written keeps no other from it: all faults."""
    faults: list[str] = []
    if args.json:
        with _noted(faults):
            args.json.write_text(result.as_json() + "\n", encoding="utf-8")
    if args.html:
        with _noted(faults):
            args.html.write_text(page(result), encoding="utf-8")
    if args.png:
        from parley.clients.capacity.picture import draw

        with _noted(faults):
            draw(result, args.png)
    if args.write_config and result.decoders:
        with _noted(faults):
            write_decoders(args.write_config, result.decoders)
    return faults


@contextmanager
def _noted(faults: list[str]) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:
        faults.append(problem(error))


def _ordered(args: argparse.Namespace, flags: list[str]) -> tuple[_Order, Result]:
    """What to do, and a result that knows nothing yet. Raises UsageFault, ValueError, OSError."""
    try:
        slo = Slo(args.p99_final, args.partial_lag, args.file, args.max_memory)
        plan = Plan(min(args.first, args.most), args.most, args.repeats)
    except ValueError as fault:
        raise UsageFault(str(fault)) from None
    if args.server and (flags or args.config):
        raise UsageFault("got --server and settings for `parley serve`, expected one of them")
    if args.metrics and not args.server:
        raise UsageFault("got --metrics without --server; a node of our own has its metrics read in any case")
    if slo.memory and args.server and not args.metrics:
        raise UsageFault("got --max-memory for a node elsewhere, expected its --metrics URL too")
    if slo.file and args.seconds.seconds <= slo.file.within.seconds:
        raise UsageFault(
            f"--seconds: got {args.seconds}, expected more than the {slo.file.within} that a file may take"
        )
    if args.png and importlib.util.find_spec("matplotlib") is None:
        raise UsageFault("--png needs matplotlib: pip install 'parley-asr[plot]'; --html needs nothing")
    for path in (args.json, args.html, args.png, args.write_config):
        if path and not path.parent.is_dir():
            raise UsageFault(f"{path}: got no folder {path.parent}, expected one")
    if args.write_config:
        check_config(args.write_config)
    paths = args.files or examples()
    if not paths:
        raise UsageFault("got no recordings, expected some to play: parley capacity ... calls/*.wav")
    seconds: float = args.seconds.seconds
    calls = load_calls(paths, LONGEST_CALL_SHARE * seconds, separate_channels=args.separate_channels)
    file = load_file(paths, slo.file.length.seconds) if slo.file else b""
    if args.config:
        flags = ["--config", str(args.config), *flags]
    load = level.Load(tuple(calls), file, seconds)
    a_call = load.decoders_a_call
    pool = elsewhere(args.server, args.metrics).decoders if args.server else None
    if pool and pool // a_call < plan.most:
        plan = replace(plan, most=max(1, pool // a_call), first=max(1, min(plan.first, pool // a_call)))
    order = _Order(
        load=load,
        access=access(args),
        serve_flags=tuple(flags),
        server=args.server,
        metrics=args.metrics,
        budget_s=args.budget.seconds,
    )
    result = Result(
        slo=slo,
        plan=plan,
        runs=(),
        node=args.server or " ".join(["parley serve", *flags]),
        headroom=args.headroom / 100,
        decoders_a_call=a_call,
        pool=pool,
        cores=None if args.server else len(os.sched_getaffinity(0)),
    )
    return order, result


@contextmanager
def _ended_as_by_ctrl_c() -> Iterator[None]:
    """However we are asked to end: our node, in a session of its own, must not outlive us."""

    def end(*_: object) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _split(argv: list[str]) -> tuple[list[str], list[str]]:
    """Our arguments, and behind the first `--` those of `parley serve`."""
    at = argv.index("--") if "--" in argv else len(argv)
    return argv[:at], argv[at + 1 :]


def _refuse(fault: str, status: int) -> int:
    print(f"parley capacity: {fault}", file=sys.stderr)
    return status


def _percent(text: str) -> float:
    number = float(text.removesuffix("%"))
    if not 0 < number <= 100:
        raise ValueError
    return number


_percent.__name__ = "percentage above 0 and up to 100"  # what argparse calls it


def _kind(parse: Callable[[str], T]) -> Callable[[str], T]:
    """For argparse, which shows what is wrong in an error of its own only."""

    def read(text: str) -> T:
        try:
            return parse(text)
        except ValueError as fault:
            raise argparse.ArgumentTypeError(str(fault)) from None

    return read


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="parley capacity",
        usage="parley capacity LIMIT... [OPTION]... [FILE]... [-- FLAG_OF_PARLEY_SERVE...]",
        description="Finds how many calls a node holds before what you promise your callers breaks: doubles them, "
        "narrows down by halves, and repeats at the edge until the answer is stable.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    duration = _kind(Duration.parse)
    parser.add_argument(
        "files", metavar="FILE", nargs="*", type=Path, help="recordings of calls (default: the speech of a checkout)"
    )
    slo = parser.add_argument_group("limits: one of the first three, and any of the others")
    slo.add_argument("--p99-final", metavar="TIME", type=duration, help="from a call's last packet to its final: 100ms")
    slo.add_argument("--partial-lag", metavar="TIME", type=duration, help="from audio to its interim result: 500ms")
    slo.add_argument(
        "--file", metavar="LENGTH:TIME", type=_kind(FileLimit.parse), help="a file of that length back within: 30s:2s"
    )
    slo.add_argument("--max-memory", metavar="SIZE", type=_kind(Size.parse), help="of the node's process: 4GiB")

    search = parser.add_argument_group("the search")
    search.add_argument("--first", metavar="N", type=whole, default=4, help="calls to begin with (%(default)s)")
    search.add_argument("--max", dest="most", metavar="N", type=whole, default=1024, help="calls at most (%(default)s)")
    search.add_argument("--repeats", metavar="N", type=whole, default=3, help="runs at the edge, odd (%(default)s)")
    search.add_argument(
        "--seconds",
        metavar="TIME",
        type=duration,
        default=Duration(60),
        help="of a run, at most (60s); shorter is vaguer",
    )
    search.add_argument("--budget", metavar="TIME", type=duration, default=Duration(900), help="of all runs (15m)")
    search.add_argument(
        "--separate-channels", action="store_true", help="one speaker a channel: a call takes a decoder for each"
    )
    search.add_argument(
        "--headroom", metavar="PERCENT", type=_percent, default=80.0, help="of what held, to recommend (%(default)g)"
    )

    node = parser.add_argument_group("the node (default: one of our own, on this machine)")
    node.add_argument("--config", metavar="FILE", type=Path, help="its settings, for `parley serve`")
    node.add_argument("--server", metavar="HOST:PORT", help="one that runs elsewhere; it is left as it is")
    node.add_argument("--metrics", metavar="URL", help="its Prometheus page: processor, memory and pool are read there")
    add_credentials(node)

    written = parser.add_argument_group("what is written")
    written.add_argument(
        "--write-config", metavar="FILE", type=Path, help="`decoders` into this TOML file, or a new one"
    )
    written.add_argument("--json", metavar="FILE", type=Path, help="everything")
    written.add_argument("--html", metavar="FILE", type=Path, help="one page with the curves and the runs")
    written.add_argument("--png", metavar="FILE", type=Path, help="the curves; needs parley-asr[plot]")
    return parser
