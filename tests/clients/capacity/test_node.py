"""What a node takes, from its metrics, and how one of our own comes up. A real node's start is in end_to_end."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from prometheus_client import CollectorRegistry, Gauge, ProcessCollector, start_http_server

from parley.clients.capacity import node
from parley.clients.capacity.node import Watch, elsewhere, scrape, serve
from parley.clients.node_process import NodeFailed

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def metrics() -> Iterator[str]:
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    Gauge("parley_pool_decoders", "All", registry=registry).set(6)
    Gauge("parley_pool_busy", "Lent", ["device"], registry=registry).labels("cpu").set(5)
    server, thread = start_http_server(0, "127.0.0.1", registry)
    yield f"http://127.0.0.1:{server.server_port}/metrics"
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_node_elsewhere_says_how_many_decoders_it_has(metrics: str) -> None:
    assert elsewhere("node:50051", metrics).decoders == 6
    assert elsewhere("node:50051", None).decoders is None
    assert scrape(metrics)["parley_pool_busy"] == 5


def test_what_a_node_takes_is_watched(metrics: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node, "SCRAPE_S", 0.01)
    with Watch(metrics) as watch:
        while len(watch._seen) < 3:
            sum(range(10_000))  # takes processor time
    assert watch.memory_bytes
    assert watch.memory_bytes > 1 << 20
    assert watch.cores is not None
    assert watch.cores >= 0


def test_cores_are_those_of_the_time_when_decoders_were_lent() -> None:
    watch = Watch("http://unused")
    looks = [(0, 0.0, 0), (1, 5.0, 8), (2, 6.0, 7), (3, 7.5, 10), (4, 20.0, 1)]  # second, processor seconds, lent
    watch._seen = [(at, {node.CPU: cpu, node.BUSY: busy}) for at, cpu, busy in looks]
    assert watch.cores == pytest.approx((7.5 - 5.0) / 2)
    watch._seen = watch._seen[-1:]
    assert watch.cores is None
    assert watch.memory_bytes is None


def test_without_metrics_nothing_is_known() -> None:
    with Watch(None) as watch:
        pass
    assert (watch.cores, watch.memory_bytes) == (None, None)
    with Watch("http://127.0.0.1:9/metrics") as watch:
        pass
    assert (watch.cores, watch.memory_bytes) == (None, None)
    with pytest.raises(NodeFailed, match="expected a node's Prometheus page"):
        elsewhere("node:50051", "no URL")


def test_a_node_that_does_not_come_up_says_why() -> None:
    with (
        pytest.raises(NodeFailed, match=r"exit status 2(.|\n)*--nonsense 1: no such setting"),
        serve(["--nonsense", "1"], 1),
    ):
        pass
