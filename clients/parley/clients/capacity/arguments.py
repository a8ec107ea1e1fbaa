"""What `parley capacity` is asked on its command line, read and checked. Reads recordings; asks and plays nothing."""

from __future__ import annotations

import argparse
import importlib.util
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from parley.clients.capacity import level
from parley.clients.capacity.result import Result, check_config
from parley.clients.capacity.search import Plan
from parley.clients.capacity.slo import Duration, FileLimit, Size, Slo
from parley.clients.capacity.speech import examples, load_calls, load_file
from parley.clients.cli.common import UsageFault, access, add_credentials, whole

if TYPE_CHECKING:
    from collections.abc import Callable

    from parley.clients.cli.common import Access

T = TypeVar("T")
LONGEST_CALL_SHARE = 0.2  # of a level's time: it has to hold the first calls, the last, and some that count

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


@dataclass(frozen=True, slots=True)
class Order:
    """What the command line asks for, checked."""

    load: level.Load
    access: Access
    serve_flags: tuple[str, ...]
    server: str | None  # None: nodes of our own
    metrics: str | None
    budget_s: float


def ordered(args: argparse.Namespace, flags: list[str]) -> tuple[Order, Result]:
    """What to do, and a result that knows nothing yet. Raises UsageFault, ValueError, OSError."""
    slo, plan = _wanted(args)
    _check_node(args, flags, slo)
    _check_written(args)
    paths = args.files or examples()
    if not paths:
        raise UsageFault("got no recordings, expected some to play: parley capacity ... calls/*.wav")
    seconds: float = args.seconds.seconds
    calls = load_calls(paths, LONGEST_CALL_SHARE * seconds, separate_channels=args.separate_channels)
    file = load_file(paths, slo.file.length.seconds) if slo.file else b""
    load = level.Load(tuple(calls), file, seconds)
    if args.config:
        flags = ["--config", str(args.config), *flags]
    order = Order(
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
        decoders_a_call=load.decoders_a_call,
        cores=None if args.server else len(os.sched_getaffinity(0)),
    )
    return order, result


def _wanted(args: argparse.Namespace) -> tuple[Slo, Plan]:
    try:
        slo = Slo(args.p99_final, args.partial_lag, args.file, args.max_memory)
        plan = Plan(min(args.first, args.most), args.most, args.repeats)
    except ValueError as fault:
        raise UsageFault(str(fault)) from None
    if slo.file and args.seconds.seconds <= slo.file.within.seconds:
        raise UsageFault(
            f"--seconds: got {args.seconds}, expected more than the {slo.file.within} that a file may take"
        )
    return slo, plan


def _check_node(args: argparse.Namespace, flags: list[str], slo: Slo) -> None:
    if args.server and (flags or args.config):
        raise UsageFault("got --server and settings for `parley serve`, expected one of them")
    if args.metrics and not args.server:
        raise UsageFault("got --metrics without --server; a node of our own has its metrics read in any case")
    if slo.memory and args.server and not args.metrics:
        raise UsageFault("got --max-memory for a node elsewhere, expected its --metrics URL too")


def _check_written(args: argparse.Namespace) -> None:
    """That what will be known can be written, before any of it is."""
    if args.png and importlib.util.find_spec("matplotlib") is None:
        raise UsageFault("--png needs matplotlib: pip install 'parley-asr[plot]'; --html needs nothing")
    for path in (args.json, args.html, args.png, args.write_config):
        if path and not path.parent.is_dir():
            raise UsageFault(f"{path}: got no folder {path.parent}, expected one")
    if args.write_config:
        check_config(args.write_config)


def split(argv: list[str]) -> tuple[list[str], list[str]]:
    """Our arguments, and behind the first `--` those of `parley serve`."""
    at = argv.index("--") if "--" in argv else len(argv)
    return argv[:at], argv[at + 1 :]


def parser() -> argparse.ArgumentParser:
    command = argparse.ArgumentParser(
        prog="parley capacity",
        usage="parley capacity LIMIT... [OPTION]... [FILE]... [-- FLAG_OF_PARLEY_SERVE...]",
        description="Finds how many calls a node holds before what you promise your callers breaks: doubles them, "
        "narrows down by halves, and repeats at the edge until the answer is stable.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    command.add_argument(
        "files", metavar="FILE", nargs="*", type=Path, help="recordings of calls (default: the speech of a checkout)"
    )
    _add_limits(command)
    _add_search(command)
    _add_node(command)
    _add_written(command)
    return command


def _add_limits(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group("limits: one of the first three, and any of the others")
    group.add_argument(
        "--p99-final", metavar="TIME", type=_duration, help="from a call's last packet to its final: 100ms"
    )
    group.add_argument("--partial-lag", metavar="TIME", type=_duration, help="from audio to its interim result: 500ms")
    group.add_argument(
        "--file", metavar="LENGTH:TIME", type=_kind(FileLimit.parse), help="a file of that length back within: 30s:2s"
    )
    group.add_argument("--max-memory", metavar="SIZE", type=_kind(Size.parse), help="of the node's process: 4GiB")


def _add_search(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group("the search")
    group.add_argument("--first", metavar="N", type=whole, default=4, help="calls to begin with (%(default)s)")
    group.add_argument("--max", dest="most", metavar="N", type=whole, default=1024, help="calls at most (%(default)s)")
    group.add_argument("--repeats", metavar="N", type=whole, default=3, help="runs at the edge, odd (%(default)s)")
    group.add_argument(
        "--seconds",
        metavar="TIME",
        type=_duration,
        default=Duration(60),
        help="of a run, at most (60s); shorter is vaguer",
    )
    group.add_argument("--budget", metavar="TIME", type=_duration, default=Duration(900), help="of all runs (15m)")
    group.add_argument(
        "--separate-channels", action="store_true", help="one speaker a channel: a call takes a decoder for each"
    )
    group.add_argument(
        "--headroom", metavar="PERCENT", type=_percent, default=80.0, help="of what held, to recommend (%(default)g)"
    )


def _add_node(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group("the node (default: one of our own, on this machine)")
    group.add_argument("--config", metavar="FILE", type=Path, help="its settings, for `parley serve`")
    group.add_argument("--server", metavar="HOST:PORT", help="one that runs elsewhere; it is left as it is")
    group.add_argument(
        "--metrics", metavar="URL", help="its Prometheus page: processor, memory and pool are read there"
    )
    add_credentials(group)


def _add_written(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group("what is written")
    group.add_argument("--write-config", metavar="FILE", type=Path, help="`decoders` into this TOML file, or a new one")
    group.add_argument("--json", metavar="FILE", type=Path, help="everything")
    group.add_argument("--html", metavar="FILE", type=Path, help="one page with the curves and the runs")
    group.add_argument("--png", metavar="FILE", type=Path, help="the curves; needs parley-asr[plot]")


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


_duration = _kind(Duration.parse)
