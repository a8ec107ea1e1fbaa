"""What nodes do on the device: paced calls, more and more of them, and two nodes that want one card."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import torch

from clients.simulated_call import Pace
from clients.simulator import simulate_in_processes
from clients.simulator_figures import Figures
from decoder.recognizer import RecognizerConfig
from decoder.types import (
    Passes,
)
from scripts.gpu.card import Utilisation
from scripts.gpu.setup import FIRST, MB, Figure, Row, Setup, essence
from scripts.node_process import NodeProcess, node_cpu_s
from scripts.telephone import TELEPHONE_RATE, call_source, make_calls

if TYPE_CHECKING:
    from collections.abc import Iterator


LATE_S = 2.0  # at p99 of finals: with more calls it only gets worse
LEVEL_S = 20.0  # that a number of calls takes beside the calls themselves


def node_flags(setup: Setup, decoders: int, search: str) -> tuple[str, ...]:
    sizes = ("--decoders", str(decoders), "--max-chunk-batch", "256", "--stream-wait-s", "60")
    return ("--passes", "first", "--devices", setup.device, "--search", search, *sizes)


def streams(setup: Setup) -> Iterator[Row]:
    """Calls at the pace of speech, through a real node; the callers share the machine's cores with it."""
    call_bytes = int(setup.size.call_s * TELEPHONE_RATE)
    sources = [call_source(number, call[:call_bytes]) for number, call in enumerate(make_calls(8))]
    processes = max(1, min(12, (os.cpu_count() or 1) - 3))
    for search in setup.size.searches:
        if setup.left_s < setup.size.call_s + LEVEL_S:
            yield Row("paced streams", search, {"": "left out: no time was left"})
            continue
        with NodeProcess(*node_flags(setup, max(setup.size.calls), search)) as node:
            for calls in setup.size.calls:
                what = f"{calls} calls, {search}"
                if setup.left_s < setup.size.call_s + LEVEL_S:
                    yield Row("paced streams", what, {"": "left out, with all behind it: no time was left"})
                    break
                chosen = [sources[number % len(sources)] for number in range(calls)]
                pace = Pace(message_ms=100, spread_s=setup.size.call_s / 3)
                begun, cpu_s = time.monotonic(), node_cpu_s(node)
                with Utilisation(setup) as utilisation:
                    reports = simulate_in_processes(node.address, chosen, processes=processes, pace=pace)
                cores = (node_cpu_s(node) - cpu_s) / (time.monotonic() - begun)
                heard = Figures.of(reports)
                figures: dict[str, Figure] = {"failed": heard.failed, "finals": heard.finals}
                for name, spread in (
                    ("partial_lag_ms", heard.partial_lag),
                    ("final_after_half_close_ms", heard.half_close_to_last_final),
                    ("callers_late_ms", heard.simulator_late),
                ):
                    if spread is not None:
                        p50, p95, p99 = (round(1000 * value) for value in (spread.p50, spread.p95, spread.p99))
                        figures[name] = f"{p50}/{p95}/{p99}"
                figures |= {"node_cores": round(cores, 2), **utilisation.figures}
                yield Row("paced streams", what, figures, ok=heard.failed == 0)
                final = heard.half_close_to_last_final
                if heard.failed or (final is not None and final.p99 > LATE_S):
                    break  # more calls would be worse


def second_tenant(setup: Setup) -> Iterator[Row]:
    """Two models that want one card."""
    try:
        RecognizerConfig(FIRST, passes=Passes.FIRST, devices=(setup.device, setup.device))
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
    except RuntimeError as error:
        said = essence(error)
        told = "memory" in said.lower() and "ended with 2" in str(error)
        yield Row("one card, two models", "a second node, without room", {"": f"refused: {said}"}, ok=told)
    del ballast
    torch.cuda.empty_cache()
