"""What nodes do on the device: paced calls, more and more of them, and two nodes that want one card."""

from __future__ import annotations

import contextlib
import os
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import torch

from parley.clients.node_process import NodeFailed
from parley.clients.simulator.call import Pace
from parley.clients.simulator.figures import Figures
from parley.clients.simulator.play import simulate_in_processes
from parley.decoder.config import RecognizerConfig
from parley.decoder.values import Passes
from scripts.gpu.card import Utilisation
from scripts.gpu.setup import FIRST, MB, Figure, Row, Setup, essence
from scripts.node_process import NodeProcess, node_cpu_s
from scripts.telephone import TELEPHONE_RATE, call_source, make_calls

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from parley.clients.simulator.call import CallReport, CallSource

LATE_S = 2.0  # at p99 of finals: with more calls it only gets worse
LEVEL_S = 20.0  # that a number of calls takes beside the calls themselves


def node_flags(setup: Setup, decoders: int, search: str) -> tuple[str, ...]:
    sizes = ("--decoders", str(decoders), "--max-chunk-batch", "256", "--stream-wait-s", "60")
    return ("--passes", "first", "--devices", setup.device, "--search", search, *sizes)


def streams(setup: Setup) -> Iterator[Row]:
    """Calls at the pace of speech, through real nodes; the callers share the machine's cores with them."""
    call_bytes = int(setup.size.call_s * TELEPHONE_RATE)
    sources = [call_source(number, call[:call_bytes]) for number, call in enumerate(make_calls(8))]
    for load in setup.size.streams:
        on = f"{load.search}, {load.nodes} node{'s' if load.nodes > 1 else ''}"
        if setup.left_s < setup.size.call_s + LEVEL_S:
            yield Row("paced streams", on, {"": "left out: no time was left"})
            continue
        flags = node_flags(setup, -(-max(load.calls) // load.nodes), load.search)
        with contextlib.ExitStack() as serving:
            nodes = [serving.enter_context(NodeProcess(*flags)) for _ in range(load.nodes)]
            for calls in load.calls:
                if setup.left_s < setup.size.call_s + LEVEL_S:
                    yield Row("paced streams", on, {"": f"{calls} calls and more left out: no time was left"})
                    break
                chosen = [sources[number % len(sources)] for number in range(calls)]
                row, worst_s = _level(setup, nodes, chosen, f"{calls} calls, {on}")
                yield row
                if not row.ok or worst_s > LATE_S:
                    break  # more calls would be worse


def _level(setup: Setup, nodes: Sequence[NodeProcess], calls: Sequence[CallSource], what: str) -> tuple[Row, float]:
    """What so many calls at once find, and the final's p99 in seconds."""
    processes = max(1, min(12, (os.cpu_count() or 1) - 3) // len(nodes))
    pace = Pace(message_ms=100, spread_s=setup.size.call_s / 3)

    def play(number: int) -> list[CallReport]:
        return simulate_in_processes(nodes[number].address, calls[number :: len(nodes)], processes=processes, pace=pace)

    begun, cpu_s = time.monotonic(), sum(map(node_cpu_s, nodes))
    with Utilisation(setup) as utilisation, ThreadPoolExecutor(len(nodes)) as players:
        heard = Figures.of([report for reports in players.map(play, range(len(nodes))) for report in reports])
    cores = (sum(map(node_cpu_s, nodes)) - cpu_s) / (time.monotonic() - begun)
    figures: dict[str, Figure] = {"failed": heard.failed, "finals": heard.finals}
    for name, spread in (
        ("partial_lag_ms", heard.partial_lag),
        ("final_after_half_close_ms", heard.half_close_to_last_final),
        ("callers_late_ms", heard.simulator_late),
    ):
        if spread is not None:
            p50, p95, p99 = (round(1000 * value) for value in (spread.p50, spread.p95, spread.p99))
            figures[name] = f"{p50}/{p95}/{p99}"
    figures |= {"nodes_cores": round(cores, 2), **utilisation.figures}
    final = heard.half_close_to_last_final
    return Row("paced streams", what, figures, ok=heard.failed == 0), 0.0 if final is None else final.p99


def second_tenant(setup: Setup) -> Iterator[Row]:
    """Two models that want one card."""
    try:
        RecognizerConfig(first_model_dir=FIRST, passes=Passes.FIRST, devices=(setup.device, setup.device))
        yield Row("one card, two models", "named twice", {"": "taken"}, ok=False)
    except ValueError as error:
        yield Row("one card, two models", "named twice", {"": f"refused: {error}"}, ok=True)
    flags = node_flags(setup, 2, "best_path")
    with NodeProcess(*flags), NodeProcess(*flags):
        yield Row("one card, two models", "a second node, with room for both", {"": "both serve"}, ok=True)
    if not setup.on_card:
        return
    free, _ = torch.cuda.mem_get_info(setup.device)
    ballast = torch.empty(max(1, free - 128 * MB), dtype=torch.uint8, device=setup.device)
    try:
        with NodeProcess(*flags):
            yield Row("one card, two models", "a second node, without room", {"": "serves"}, ok=False)
    except NodeFailed as error:
        said = essence(error)
        told = "memory" in said.lower() and "ended with exit status 2" in str(error)
        yield Row("one card, two models", "a second node, without room", {"": f"refused: {said}"}, ok=told)
    del ballast
    torch.cuda.empty_cache()
