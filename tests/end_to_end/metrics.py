"""Reads a node's metrics page."""

from __future__ import annotations

import asyncio
import urllib.request
from typing import TYPE_CHECKING

from prometheus_client.parser import text_string_to_metric_families

if TYPE_CHECKING:
    from scripts.node_process import NodeProcess


async def read_metrics(node: NodeProcess) -> dict[str, float]:
    """Every sample by its name, summed over its labels."""
    page = await asyncio.to_thread(fetch, f"http://{node.metrics_address}/metrics")
    totals: dict[str, float] = {}
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            totals[sample.name] = totals.get(sample.name, 0.0) + sample.value
    return totals


async def read_metric(node: NodeProcess, name: str) -> float:
    return (await read_metrics(node))[name]


def fetch(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as response:
        return str(response.read(), "utf-8")
