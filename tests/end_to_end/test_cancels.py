"""Calls that are given up, in every way and at any point, leave nothing behind."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

import grpc
import pytest

from parley.asr.v1 import speech_pb2 as pb
from parley.asr.v1 import speech_pb2_grpc
from tests.end_to_end.calls import PCM, cut, end, open_request, read_final, stream_recording
from tests.end_to_end.conftest import DECODERS
from tests.end_to_end.metrics import read_metric
from tests.speech import RATE, RECORDINGS, pcm_of

if TYPE_CHECKING:
    from parley.asr.v1.speech_pb2_grpc import SpeechAsyncStub
    from scripts.node_process import NodeProcess

AT_ONCE = DECODERS * 3 // 2  # more than there are decoders: some are given up while they wait for one


async def give_up(address: str, stub: SpeechAsyncStub, chance: random.Random) -> None:
    """Opens a call and gives it up after some of its messages: a cancel, a deadline, or the connection's death."""
    way = chance.choice(("cancel", "deadline", "connection"))
    pieces = cut(pcm_of(chance.choice(RECORDINGS)), RATE * 2 // 5)
    pieces = pieces[: chance.randrange(len(pieces) + 1)]
    channel = grpc.aio.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)])
    async with channel:
        if way == "connection":
            stub = speech_pb2_grpc.SpeechStub(channel)
        call = stub.StreamingRecognize(timeout=chance.uniform(0.001, 0.5) if way == "deadline" else None)
        try:
            await call.write(open_request(PCM, interim_results=True))
            for piece in pieces:
                await call.write(pb.StreamingRecognizeRequest(audio=piece))
            after = chance.choice(("at once", "a response", "half-close"))
            if after == "half-close":
                await call.done_writing()
            elif after == "a response" and len(pieces) > 10:
                await call.read()
            if way == "deadline":
                await call.code()
        except (grpc.RpcError, grpc.aio.InternalError, asyncio.InvalidStateError):  # as parley.clients.aio takes them
            assert way == "deadline", way
        finally:
            if way != "connection":
                call.cancel()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("cancels", [150, pytest.param(1_000, marks=pytest.mark.slow)])
async def test_words_and_pool_are_as_new_after_cancels(node: NodeProcess, stub: SpeechAsyncStub, cancels: int) -> None:
    before = [await stream_recording(stub, recording) for recording in RECORDINGS]
    chance = random.Random(11)
    gate = asyncio.Semaphore(AT_ONCE)

    async def one() -> None:
        async with gate:
            await give_up(node.address, stub, chance)

    await asyncio.gather(*(one() for _ in range(cancels)))

    await every_decoder_can_be_held_at_once(node, stub)
    assert [await stream_recording(stub, recording) for recording in RECORDINGS] == before


async def every_decoder_can_be_held_at_once(node: NodeProcess, stub: SpeechAsyncStub) -> None:
    calls = [stub.StreamingRecognize() for _ in range(DECODERS)]
    audio = pcm_of("austen_5.flac")
    for call in calls:
        await call.write(open_request(PCM))
        await call.write(pb.StreamingRecognizeRequest(audio=audio))
        await call.write(pb.StreamingRecognizeRequest(control=pb.CONTROL_FINALIZE))
    finals = [await read_final(call) for call in calls]  # none is half-closed yet: all are lent
    assert len(set(finals)) == 1
    assert await read_metric(node, "parley_pool_busy") == DECODERS
    for call in calls:
        await call.done_writing()
    assert [await end(call) for call in calls] == [grpc.StatusCode.OK] * DECODERS
