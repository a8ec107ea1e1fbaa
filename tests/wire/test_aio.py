"""Asyncio calls as a gateway makes them: messages in, messages out. What goes wrong on the way is in tests/clients."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import grpc
import pytest

from parley.asr.v1 import speech_pb2 as pb
from parley.wire.aio import Calls
from parley.wire.channel import metadata, open_aio_channel
from parley.wire.errors import Exhausted
from parley.wire.retry import NEVER, Retry
from tests.wire.fake_speech import RATE, FakeServer, Fault, retry_info, toy_audio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

CONFIG = pb.StreamingRecognitionConfig(
    config=pb.RecognitionConfig(encoding=pb.AUDIO_ENCODING_LINEAR16, sample_rate_hertz=RATE)
)
SOON = Retry(first_wait_s=0.001, longest_wait_s=0.002)


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with FakeServer() as running:
        yield running


async def requests() -> AsyncIterator[pb.StreamingRecognizeRequest]:
    for word in (1, 0, 2, 0, 3):
        yield pb.StreamingRecognizeRequest(audio=toy_audio(word))


async def relay(server: FakeServer) -> list[pb.StreamingRecognizeResponse]:
    async with open_aio_channel(server.address, None) as channel:
        calls = Calls(channel, metadata(None), SOON)
        return [response async for response in calls.recognize(calls.session(CONFIG, None), requests())]


async def test_whoever_reads_the_messages_sees_a_stream_that_never_broke(server: FakeServer) -> None:
    def finals(responses: list[pb.StreamingRecognizeResponse]) -> list[pb.StreamingRecognitionResult]:
        return [result for response in responses for result in response.results if result.is_final]

    whole = await relay(server)
    server.speech.stream_faults = [Fault(after_responses=4), Fault(after_responses=3)]
    broken = await relay(server)
    assert len(server.speech.connections) == 4
    assert finals(broken) == finals(whole)
    assert len(finals(broken)) == 3
    assert broken[-1].summary == whole[-1].summary


async def test_one_answer_is_tried_for_as_often_as_is_said(server: FakeServer) -> None:
    full = Fault(grpc.StatusCode.RESOURCE_EXHAUSTED, details=(retry_info(0.01),))
    async with open_aio_channel(server.address, None) as channel:
        calls = Calls(channel, metadata(None), SOON)
        server.speech.unary_faults = [full, full]
        answer = await calls.unary(calls.speech.GetModels, pb.GetModelsRequest(), None)
        assert [model.name for model in answer.models] == ["toy"]
        server.speech.unary_faults = [full]
        with pytest.raises(Exhausted):
            await calls.unary(calls.speech.GetModels, pb.GetModelsRequest(), None, NEVER)


async def test_who_closes_the_responses_closes_the_requests_too(server: FakeServer) -> None:
    closed: list[bool] = []

    async def held(*words: int, then_waits: bool) -> AsyncIterator[pb.StreamingRecognizeRequest]:
        try:
            for word in words:
                yield pb.StreamingRecognizeRequest(audio=toy_audio(word))
            if then_waits:
                await asyncio.Event().wait()
        finally:
            closed.append(True)

    async with open_aio_channel(server.address, None) as channel:
        calls = Calls(channel, metadata(None), SOON)
        for number, requests in enumerate((held(1, then_waits=True), held(*[1] * 10_000, then_waits=False)), start=1):
            responses = calls.recognize(calls.session(CONFIG, None), requests)
            await anext(responses)
            await responses.aclose()
            assert len(closed) == number
