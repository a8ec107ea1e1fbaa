"""A node as an operator sees it: health and metrics. How it drains: tests/server."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.end_to_end.calls import stream_recording
from tests.end_to_end.metrics import read_metrics

if TYPE_CHECKING:
    from parley.asr.v1.speech_pb2_grpc import SpeechAsyncStub
    from scripts.node_process import NodeProcess

SERVICES = ("", "parley.asr.v1.Speech")


@pytest.mark.parametrize("service", SERVICES)
async def test_a_node_that_serves_says_so(node: NodeProcess, service: str) -> None:
    async with grpc.aio.insecure_channel(node.address) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        response = await health.Check(health_pb2.HealthCheckRequest(service=service))
    assert response.status == health_pb2.HealthCheckResponse.SERVING


async def test_metrics_count_a_call(node: NodeProcess, stub: SpeechAsyncStub) -> None:
    before = await read_metrics(node)
    await stream_recording(stub, "austen_1.flac")
    after = await read_metrics(node)
    audio_s = after["parley_audio_seconds_total"] - before.get("parley_audio_seconds_total", 0.0)
    assert audio_s == pytest.approx(7.1, abs=0.1)
    assert after["parley_pool_busy"] == 0
