"""`parley capacity`: the search level by level, shown as it goes. Knows what to play, not how a level is judged."""

from __future__ import annotations

import signal
import sys
import time
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from rich.console import Console
from rich.live import Live

from parley.clients.capacity import level
from parley.clients.capacity.arguments import ordered, parser, split
from parley.clients.capacity.node import elsewhere, serve
from parley.clients.capacity.page import page
from parley.clients.capacity.result import Result, table, write_decoders
from parley.clients.capacity.search import next_level
from parley.clients.cli.common import (
    FAILED,
    INTERRUPTED,
    USAGE,
    UsageFault,
    explain,
    problem,
)
from parley.clients.node_process import NodeFailed
from parley.clients.sync import Client
from parley.wire.errors import CallError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator, Sequence

    from parley.clients.capacity.arguments import Order
    from parley.clients.capacity.node import Node

START_S = 5.0  # of a node, when it is asked whether a level still fits the budget


def main(argv: Sequence[str]) -> int:
    """Runs the search and returns the exit status."""
    own, flags = split(list(argv))
    args = parser().parse_args(own)
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


def _search(args: argparse.Namespace, flags: list[str]) -> int:
    order, result = ordered(args, flags)
    if order.server:
        result = _in_pool(result, elsewhere(order.server, order.metrics).decoders)
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


def _in_pool(result: Result, pool: int | None) -> Result:
    """The same of a node that has so many decoders, if it says: no more calls are tried than have one."""
    plan = result.plan
    most = pool // result.decoders_a_call if pool else plan.most
    if most < plan.most:
        plan = replace(plan, most=max(1, most), first=max(1, min(plan.first, most)))
    return replace(result, pool=pool, plan=plan)


def _levels(order: Order, result: Result, playing: Callable[[int], None]) -> Iterator[Result]:
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
def _node(order: Order, decoders: int) -> Iterator[Node]:
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


def _refuse(fault: str, status: int) -> int:
    print(f"parley capacity: {fault}", file=sys.stderr)
    return status
