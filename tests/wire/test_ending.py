"""How a grpc.aio call really ended."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import grpc
import pytest

from parley.asr.v1 import speech_pb2 as pb
from parley.asr.v1 import speech_pb2_grpc
from parley.wire.ending import Ending, Status
from parley.wire.errors import InvalidRequest, call_error
from tests.wire.fake_speech import RATE, FakeServer, Fault, toy_audio

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with FakeServer() as running:
        yield running


async def test_servers_status_is_found_behind_a_failed_write(server: FakeServer) -> None:
    """grpc.aio hides it behind its own INTERNAL in many of these calls."""
    hidden = 0
    config = pb.StreamingRecognitionConfig(
        config=pb.RecognitionConfig(encoding=pb.AUDIO_ENCODING_LINEAR16, sample_rate_hertz=RATE)
    )
    async with grpc.aio.insecure_channel(server.address) as channel:
        stub = speech_pb2_grpc.SpeechStub(channel)
        for _ in range(60):
            server.speech.stream_faults = [Fault(grpc.StatusCode.NOT_FOUND, after_responses=2)]
            call = stub.StreamingRecognize()
            ending = Ending(call)

            async def send(call: grpc.aio.StreamStreamCall = call) -> None:  # type: ignore[type-arg]
                with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
                    await call.write(pb.StreamingRecognizeRequest(config=config))
                    for _ in range(50):
                        await call.write(pb.StreamingRecognizeRequest(audio=toy_audio(1)))

            sending = asyncio.create_task(send())
            with pytest.raises(grpc.aio.AioRpcError):
                async for _ in call:
                    pass
            assert isinstance(call_error(await ending.status()), InvalidRequest)
            await sending
            hidden += (await call.code()) is grpc.StatusCode.INTERNAL
    assert hidden, "grpc.aio tells the truth now: parley.wire.ending is no longer needed"


async def test_status_that_never_comes_is_not_waited_for_long(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("parley.wire.ending._PATIENCE_S", 0.02)
    async with grpc.aio.insecure_channel(server.address) as channel:
        call = speech_pb2_grpc.SpeechStub(channel).StreamingRecognize()
        ending = Ending(call)
        call._cython_call.set_internal_error("a write failed")  # type: ignore[attr-defined]
        status = await ending.status()
        assert status.is_mask
        assert status.code() is grpc.StatusCode.INTERNAL


async def test_status_of_a_call_that_goes_on_is_not_asked_for(server: FakeServer) -> None:
    async with grpc.aio.insecure_channel(server.address) as channel:
        call = speech_pb2_grpc.SpeechStub(channel).StreamingRecognize()
        with pytest.raises(AssertionError, match="not over"):
            Status(call)
        call.cancel()
