"""A node's life as an operator sees it: health, metrics, draining."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from parley.asr.v1 import speech_pb2 as pb
from parley.asr.v1 import speech_pb2_grpc
from scripts.node_process import NodeProcess
from tests.end_to_end.calls import PCM, end, open_request, read_final, stream_recording
from tests.end_to_end.metrics import read_metrics
from tests.speech import pcm_of

if TYPE_CHECKING:
    from parley.asr.v1.speech_pb2_grpc import SpeechAsyncStub

SERVICES = ("", "parley.asr.v1.Speech")
SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


@pytest.mark.parametrize("service", SERVICES)
async def test_a_node_that_serves_says_so(node: NodeProcess, service: str) -> None:
    async with grpc.aio.insecure_channel(node.address) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        response = await health.Check(health_pb2.HealthCheckRequest(service=service))
    assert response.status == SERVING


async def test_metrics_count_a_call(node: NodeProcess, stub: SpeechAsyncStub) -> None:
    before = await read_metrics(node)
    await stream_recording(stub, "austen_1.flac")
    after = await read_metrics(node)
    audio_s = after["parley_audio_seconds_total"] - before.get("parley_audio_seconds_total", 0.0)
    assert audio_s == pytest.approx(7.1, abs=0.1)
    assert after["parley_pool_busy"] == 0


async def test_draining_finishes_the_live_call_and_takes_no_new_one() -> None:
    audio = pcm_of("austen_4.flac")
    with NodeProcess() as node:
        async with grpc.aio.insecure_channel(node.address) as channel:
            stub: SpeechAsyncStub = speech_pb2_grpc.SpeechStub(channel)
            call = stub.StreamingRecognize()
            await call.write(open_request(PCM))
            await call.write(pb.StreamingRecognizeRequest(audio=audio))
            await call.write(pb.StreamingRecognizeRequest(control=pb.CONTROL_FINALIZE))
            first = await read_final(call)

            await terminate(node, channel)
            async with grpc.aio.insecure_channel(node.address) as late:
                with pytest.raises(grpc.aio.AioRpcError) as refused:
                    await speech_pb2_grpc.SpeechStub(late).Recognize(pb.RecognizeRequest(audio=audio))
            assert refused.value.code() == grpc.StatusCode.UNAVAILABLE

            await call.write(pb.StreamingRecognizeRequest(audio=audio))
            await call.done_writing()
            assert await read_final(call) == first
            assert await end(call) == grpc.StatusCode.OK
        assert node.process.wait(30) == 0


async def test_a_second_sigterm_ends_at_once() -> None:
    with NodeProcess("--grace-s", "3600") as node:
        async with grpc.aio.insecure_channel(node.address) as channel:
            stub: SpeechAsyncStub = speech_pb2_grpc.SpeechStub(channel)
            call = stub.StreamingRecognize()
            await call.write(open_request(PCM))
            await terminate(node, channel)
            assert node.process.poll() is None
            node.process.send_signal(signal.SIGTERM)
            node.process.wait(30)
            assert await call.code() == grpc.StatusCode.UNAVAILABLE


async def terminate(node: NodeProcess, channel: grpc.aio.Channel) -> None:
    """Sends SIGTERM and returns when the node says that it drains."""
    health = health_pb2_grpc.HealthStub(channel)
    watch = health.Watch(health_pb2.HealthCheckRequest(service=SERVICES[1]))
    async for update in watch:
        if update.status == SERVING:
            node.process.send_signal(signal.SIGTERM)
        if update.status == NOT_SERVING:
            break
    watch.cancel()
