"""The node over the real recognizer: the same words whatever happened before, and every decoder back."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

import grpc
import numpy as np
import pytest
from google.protobuf.duration_pb2 import Duration
from grpc import aio

from parley.asr.v1 import speech_pb2 as pb
from parley.asr.v1 import speech_pb2_grpc
from parley.server.node.app import Node
from parley.server.node.settings import Settings
from scripts.speech import DATA
from tests.server.wire import FINALIZE, PCM, STEREO, audio, configured, read_all, read_one, refusal, refusal_of
from tests.speech import RATE, pcm_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from parley.asr.v1.speech_pb2_grpc import SpeechAsyncStub

RECORDING = "austen_1.flac"
DECODERS = 4
PIECE = 3_200  # bytes: 100 ms


def node_of(**settings: object) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("node", [settings], indirect=True)


WITH_EITHER_PASS_AND_BOTH = pytest.mark.parametrize(
    "node", [{"passes": passes} for passes in ("first", "second", "both")], indirect=True, ids=str
)


@pytest.fixture
async def node(request: pytest.FixtureRequest) -> AsyncIterator[Node]:
    """Its finals take their time: which pass they are from is then no matter of chance."""
    given = {
        "passes": "second",
        "decoders": DECODERS,
        "stream_wait_s": 60,
        "final_budget_ms": 0,
        **getattr(request, "param", {}),
    }
    node = Node(Settings.of({"port": 0, "metrics_port": -1, "grace_s": 5, "devices": ("cpu",), **given}))
    yield node
    await node.drain()


@pytest.fixture
async def stub(node: Node) -> AsyncIterator[SpeechAsyncStub]:
    port = await node.start()
    await node.ready()
    async with aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield speech_pb2_grpc.SpeechStub(channel)


def pieces(data: bytes, size: int = PIECE) -> list[pb.StreamingRecognizeRequest]:
    return [audio(data[start : start + size]) for start in range(0, len(data), size)]


async def words(stub: SpeechAsyncStub, requests: Iterable[pb.StreamingRecognizeRequest]) -> list[tuple[int, str]]:
    responses = await read_all(stub.StreamingRecognize(iter(requests)))
    summary = responses[-1]
    assert summary.HasField("summary")
    assert summary.cursors.final == summary.cursors.processed
    results = [result for response in responses for result in response.results if result.is_final]
    assert summary.summary.finals == len(results)
    return [(result.channel_tag, result.alternatives[0].transcript) for result in results]


@WITH_EITHER_PASS_AND_BOTH
async def test_streams_of_any_cut_have_the_same_words(stub: SpeechAsyncStub) -> None:
    data = pcm_of(RECORDING)
    chance = random.Random(3)
    at, ragged = 0, []
    while at < len(data):
        size = chance.randrange(1, 9_999)
        ragged.append(audio(data[at : at + size]))
        at += size
    expected = await words(stub, [configured(PCM), audio(data)])
    assert len(expected) == 1
    assert await words(stub, [configured(PCM), *ragged]) == expected
    flac = (DATA / RECORDING).read_bytes()
    assert await words(stub, [configured(pb.RecognitionConfig()), *pieces(flac, 999)]) == expected


async def test_a_file_has_the_words_of_its_stream(stub: SpeechAsyncStub) -> None:
    flac = (DATA / RECORDING).read_bytes()
    expected = await words(stub, [configured(pb.RecognitionConfig()), audio(flac)])
    assert "Dashwood" in expected[0][1]
    file = await stub.Recognize(
        pb.RecognizeRequest(audio=flac, config=pb.RecognitionConfig(enable_word_time_offsets=True))
    )
    assert file.results[0].alternatives[0].words[-1].word in expected[0][1]


@node_of(passes="both", final_budget_ms=1)
async def test_a_final_over_its_budget_is_the_first_passs_and_says_so(node: Node, stub: SpeechAsyncStub) -> None:
    live = pcm_of(RECORDING)[: 19 * PIECE]  # more would be ahead of the clock, and a recording has no budget
    responses = await read_all(stub.StreamingRecognize(iter([configured(PCM), *pieces(live)])))
    results = [result for response in responses for result in response.results]
    assert [result.source for result in results] == [pb.FINAL_SOURCE_FIRST_PASS_IN_TIME]
    registry = node.metrics.registry
    assert registry.get_sample_value("parley_finals_total", {"source": "first_in_time"}) == 1
    assert registry.get_sample_value("parley_batch_rows_count", {"work": "chunk"})


@node_of(passes="both")
async def test_a_model_by_name_decodes_alone(stub: SpeechAsyncStub) -> None:
    async def sources(model: str) -> tuple[int, int, bool]:
        """Of a stream and of a file, and whether interim results came with times."""
        config = pb.RecognitionConfig(model=model, enable_word_time_offsets=True)
        config.MergeFrom(PCM)
        data = pcm_of(RECORDING)
        requests = iter([configured(config, interim_results=True), *pieces(data)])
        results = [one for response in await read_all(stub.StreamingRecognize(requests)) for one in response.results]
        (final,) = (result for result in results if result.is_final)
        (segment,) = (await stub.Recognize(pb.RecognizeRequest(config=config, audio=data))).results
        return final.source, segment.source, any(one.word_timing for one in results if not one.is_final)

    second, first = [model.name for model in (await stub.GetModels(pb.GetModelsRequest())).models]
    assert await sources("") == (pb.FINAL_SOURCE_SECOND_PASS, pb.FINAL_SOURCE_SECOND_PASS, True)
    assert await sources(second) == (pb.FINAL_SOURCE_SECOND_PASS, pb.FINAL_SOURCE_SECOND_PASS, False)
    assert await sources(first) == (pb.FINAL_SOURCE_FIRST_PASS, pb.FINAL_SOURCE_FIRST_PASS, True)


@WITH_EITHER_PASS_AND_BOTH
async def test_each_channel_of_a_call_has_its_own_results(stub: SpeechAsyncStub) -> None:
    one = pcm_of(RECORDING)
    both = b"".join(one[at : at + 2] + one[at : at + 2] for at in range(0, len(one), 2))
    found = await words(stub, [configured(STEREO), *pieces(both, 64_000)])
    assert sorted(tag for tag, _ in found) == [1, 2]
    assert found[0][1] == found[1][1]
    file = await stub.Recognize(pb.RecognizeRequest(audio=both, config=STEREO))
    assert [result.channel_tag for result in file.results] == [1, 2]


SOON = pb.EndpointRules(silence_before_speech=Duration(nanos=500_000_000))


async def test_a_single_utterance_comes_whole_though_silence_follows_at_once(stub: SpeechAsyncStub) -> None:
    data = pcm_of(RECORDING) + bytes(64_000)
    call = stub.StreamingRecognize()
    await call.write(configured(PCM, single_utterance=True, speech_events=True, endpoint_rules=SOON))
    for piece in pieces(data):
        await call.write(piece)
    responses = await read_all(call)  # no half-close
    assert await call.code() == grpc.StatusCode.OK
    (result,) = [result for response in responses for result in response.results]
    assert "Dashwood" in result.alternatives[0].transcript
    assert responses[-1].summary.finals == 1
    assert not any(event.speech_event.type == pb.SPEECH_EVENT_TYPE_NO_SPEECH for event in responses)


async def test_a_channel_without_speech_does_not_end_the_others_single_utterance(stub: SpeechAsyncStub) -> None:
    one = pcm_of(RECORDING) + bytes(64_000)
    both = b"".join(one[at : at + 2] + bytes(2) for at in range(0, len(one), 2))
    call = stub.StreamingRecognize()
    await call.write(configured(STEREO, single_utterance=True, speech_events=True, endpoint_rules=SOON))
    for piece in pieces(both):
        await call.write(piece)
    responses = await read_all(call)  # no half-close
    assert await call.code() == grpc.StatusCode.OK
    (result,) = [result for response in responses for result in response.results]
    assert result.channel_tag == 1
    assert "Dashwood" in result.alternatives[0].transcript
    silent = [one.speech_event for one in responses if one.speech_event.type == pb.SPEECH_EVENT_TYPE_NO_SPEECH]
    assert [event.channel_tag for event in silent] == [2]


async def test_an_utterance_without_words_is_told_by_the_cursors(stub: SpeechAsyncStub) -> None:
    noise = np.random.default_rng(1).integers(-3_000, 3_000, 2 * RATE).astype("<i2").tobytes()
    call = stub.StreamingRecognize()
    await call.write(configured(PCM))
    await call.write(audio(bytes(RATE) + noise))
    await call.write(FINALIZE)
    told = await read_one(call)
    assert told is not None
    assert told.cursors.final.ToMilliseconds() > 0
    await call.done_writing()
    await read_all(call)


async def test_undecodable_audio_names_its_byte(stub: SpeechAsyncStub) -> None:
    flac = (DATA / RECORDING).read_bytes()
    broken = flac[:40_000] + bytes(20_000) + flac[60_000:]
    refused = await refusal_of(stub, [configured(pb.RecognitionConfig()), audio(broken)])
    assert refused.code == grpc.StatusCode.INVALID_ARGUMENT
    assert "audio at byte " in refused.text
    refused = await refusal(stub.Recognize(pb.RecognizeRequest(audio=b"\x01\x02\x03" * 100)))
    assert refused.code == grpc.StatusCode.INVALID_ARGUMENT
    assert "audio at byte " in refused.text


async def test_silence_and_nothing_are_no_errors(stub: SpeechAsyncStub) -> None:
    assert await words(stub, [configured(PCM)]) == []
    assert await words(stub, [configured(PCM), audio(bytes(64_000)), FINALIZE]) == []
    assert not (await stub.Recognize(pb.RecognizeRequest(config=PCM))).results


@WITH_EITHER_PASS_AND_BOTH
async def test_cancels_at_any_point_leave_a_node_as_new(node: Node, stub: SpeechAsyncStub) -> None:
    data = pcm_of(RECORDING)
    expected = await words(stub, [configured(PCM), audio(data)])
    chance = random.Random(7)

    async def give_up() -> None:
        call = stub.StreamingRecognize()
        await call.write(configured(PCM, interim_results=True))
        for piece in pieces(data)[: chance.randrange(75)]:
            await call.write(piece)
        if chance.random() < 0.5:
            await call.write(FINALIZE)
        if chance.random() < 0.3:
            await call.done_writing()
        call.cancel()

    async def give_up_file() -> None:
        call = stub.Recognize(pb.RecognizeRequest(config=PCM, audio=data))
        code = asyncio.ensure_future(call.code())
        for _ in range(chance.randrange(50)):
            await asyncio.sleep(0)
        call.cancel()
        await code

    gate = asyncio.Semaphore(2 * DECODERS)

    async def one() -> None:
        async with gate:
            await (give_up() if chance.random() < 0.8 else give_up_file())

    await asyncio.gather(*(one() for _ in range(100)))
    assert await words(stub, [configured(PCM), audio(data)]) == expected
    assert node.recognizer is not None
    (await asyncio.wrap_future(node.recognizer.pool.request(DECODERS))).release()
    assert node.recognizer.pool.snapshot().busy == 0
