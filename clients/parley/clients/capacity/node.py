"""The node that is measured, one of our own or one that runs elsewhere, and what it costs.

Knows the node's settings and its Prometheus page; no calls.
"""

from __future__ import annotations

import threading
import time
import urllib.request
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from prometheus_client.parser import text_string_to_metric_families

from parley.clients.node_process import NodeFailed, NodeProcess

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import TracebackType

SCRAPE_S = 1.0  # between two looks at the metrics
FULL = 0.8  # a node that has so much of its busiest moment's decoders lent is under the level's load
CPU, MEMORY = "process_cpu_seconds_total", "process_resident_memory_bytes"
BUSY, POOL = "parley_pool_busy", "parley_pool_decoders"


@dataclass(frozen=True, slots=True)
class Node:
    """One that serves. `metrics`: the URL of its Prometheus page, if it is known."""

    address: str
    metrics: str | None
    decoders: int | None  # in its pool; None: it does not say


@contextmanager
def serve(flags: Sequence[str], decoders: int) -> Iterator[Node]:
    """`parley serve` with these flags and so many decoders, on free ports of this machine, until the block ends."""
    # All calls come from here: as one peer they would meet the limit that is meant for one client.
    limits = ("--max-streams-per-peer", "0", "--decoders", str(decoders))
    # Behind the caller's own flags, that ours may count.
    where = ("--host", "127.0.0.1", "--port", "0", "--metrics-host", "127.0.0.1", "--metrics-port", "0")
    log_as = ("--log-format", "json", "--log-level", "info")
    process = NodeProcess(*flags, *limits, *where, *log_as, isolated=False)
    try:
        process.start()
        metrics = f"http://{process.metrics_address}/metrics"
        yield Node(process.address, metrics, _pool(scrape(metrics)))
    finally:
        process.end()


def elsewhere(address: str, metrics: str | None) -> Node:
    """A node that somebody else runs."""
    return Node(address, metrics, _pool(scrape(metrics)) if metrics else None)


def scrape(url: str) -> dict[str, float]:
    """The page's samples, summed over their labels. Raises NodeFailed."""
    try:
        with urllib.request.urlopen(url, timeout=10) as response:
            page = str(response.read(), "utf-8")
    except (OSError, ValueError) as error:
        raise NodeFailed(f"{url}: got no metrics ({error}), expected a node's Prometheus page") from error
    totals: dict[str, float] = {}
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            totals[sample.name] = totals.get(sample.name, 0.0) + sample.value
    return totals


class Watch:
    """`with Watch(url) as watch:` what the node takes meanwhile. Knows nothing (None) without a URL or its metrics."""

    def __init__(self, url: str | None) -> None:
        self._url = url
        self._seen: list[tuple[float, dict[str, float]]] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, name="metrics", daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    @property
    def memory_bytes(self) -> int | None:
        """The most that its process had in memory."""
        seen = [page[MEMORY] for _, page in self._seen if MEMORY in page]
        return int(max(seen)) if seen else None

    @property
    def cores(self) -> float | None:
        """Processor cores that it had busy on the mean, while its decoders were lent."""
        pages = [(at, page) for at, page in self._seen if CPU in page]
        most = max((page.get(BUSY, 0.0) for _, page in pages), default=0.0)
        full = [(at, page[CPU]) for at, page in pages if page.get(BUSY, 0.0) >= FULL * most]
        if len(full) < 2:
            return None
        (began, before), (ended, after) = full[0], full[-1]
        return (after - before) / (ended - began)

    def _look(self) -> None:
        while self._url:
            with suppress(NodeFailed):  # a page that is late for once: the calls say whether the node lives
                self._seen.append((time.monotonic(), scrape(self._url)))
            if self._over.wait(SCRAPE_S):
                return


def _pool(page: dict[str, float]) -> int | None:
    return int(page[POOL]) if POOL in page else None
