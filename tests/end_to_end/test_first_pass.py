"""A node with both passes: the first alone, both together, chosen by the request's model."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
from typing import TYPE_CHECKING

import grpc
import pytest

from parley.asr.v1 import speech_pb2 as pb
from parley.asr.v1 import speech_pb2_grpc
from scripts.node_process import NodeProcess
from tests.end_to_end.calls import cut, end, open_request
from tests.end_to_end.conftest import DECODERS_OF_BOTH as DECODERS
from tests.end_to_end.metrics import read_metric
from tests.speech import RATE, RECORDINGS, pcm_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from parley.asr.v1.speech_pb2_grpc import SpeechAsyncStub

FIRST, SECOND, BOTH = "en-streaming", "moonshine-tiny-en", ""
SHORT = RECORDINGS[1:]
CANCELS = 300


@pytest.fixture(scope="module")
def node(node_of_both: NodeProcess) -> NodeProcess:
    return node_of_both


@pytest.fixture
async def stub(node: NodeProcess) -> AsyncIterator[SpeechAsyncStub]:
    async with grpc.aio.insecure_channel(node.address) as channel:
        yield speech_pb2_grpc.SpeechStub(channel)


def config(model: str, *, words: bool = True) -> pb.RecognitionConfig:
    return pb.RecognitionConfig(
        encoding=pb.AUDIO_ENCODING_LINEAR16,
        sample_rate_hertz=RATE,
        audio_channel_count=1,
        model=model,
        enable_word_time_offsets=words,
    )


async def results(
    stub: SpeechAsyncStub, pieces: Iterable[bytes], model: str, *, interim: bool = False
) -> list[pb.StreamingRecognitionResult]:
    audio = (pb.StreamingRecognizeRequest(audio=piece) for piece in pieces)
    requests = itertools.chain((open_request(config(model), interim),), audio)
    return [result async for response in stub.StreamingRecognize(requests) for result in response.results]


def said(finals: Iterable[pb.StreamingRecognitionResult]) -> list[tuple[str, list[tuple[str, int, int]]]]:
    """Transcripts with their words' times in milliseconds."""
    return [
        (
            final.alternatives[0].transcript,
            [
                (word.word, word.start_time.ToMilliseconds(), word.end_time.ToMilliseconds())
                for word in final.alternatives[0].words
            ],
        )
        for final in finals
    ]


async def recording(
    stub: SpeechAsyncStub, name: str, model: str = FIRST
) -> list[tuple[str, list[tuple[str, int, int]]]]:
    return said(await results(stub, cut(pcm_of(name), RATE * 2 // 10), model))


async def test_64_calls_at_once_give_the_words_of_calls_one_by_one(stub: SpeechAsyncStub) -> None:
    alone = {name: await recording(stub, name) for name in RECORDINGS}
    assert all(alone.values())
    names = [*RECORDINGS, *(SHORT * DECODERS)][:DECODERS]
    together = await asyncio.gather(*(recording(stub, name) for name in names))
    assert together == [alone[name] for name in names]


async def test_the_cpu_in_shares_gives_the_same_words(stub: SpeechAsyncStub) -> None:
    alone = {name: await recording(stub, name) for name in SHORT}
    flags = ("--passes", "first", "--devices", "cpu:0,cpu:1", "--decoders", "4", "--threads", "1")
    with NodeProcess(*flags) as sharing:
        async with grpc.aio.insecure_channel(sharing.address) as channel:
            shared = speech_pb2_grpc.SpeechStub(channel)
            names = [*(SHORT * 8)][:8]  # every decoder of both
            assert await asyncio.gather(*(recording(shared, name) for name in names)) == [alone[name] for name in names]
        serving = next(line for line in map(json.loads, sharing.log) if line["event"] == "serving")
        assert (serving["devices"], serving["decoders"]) == (["cpu:0", "cpu:1"], 8)
        assert sharing.stop() == 0


async def test_pieces_do_not_change_words(stub: SpeechAsyncStub) -> None:
    chance = random.Random(5)
    for name in RECORDINGS:
        audio = pcm_of(name)
        edges = [0, *sorted(chance.randrange(len(audio)) for _ in range(20)), len(audio)]
        ways = [cut(audio, RATE * 2 * ms // 1000) for ms in (20, 1000)]
        ways.append([audio[start:stop] for start, stop in itertools.pairwise(edges)])
        heard = await asyncio.gather(*(results(stub, pieces, FIRST) for pieces in ways))
        assert [said(each) for each in heard] == [said(heard[0])] * len(ways)


async def test_interim_results_come_with_the_chunks(stub: SpeechAsyncStub) -> None:
    heard = await results(stub, cut(pcm_of(SHORT[0]), 3_200), FIRST, interim=True)
    for _, of_segment in itertools.groupby(heard, key=lambda result: result.segment):
        *interims, final = of_segment
        assert final.is_final
        assert final.source == pb.FINAL_SOURCE_FIRST_PASS
        assert final.word_timing == pb.WORD_TIMING_CTC
        texts = [interim.alternatives[0].transcript for interim in interims]
        assert len(set(texts)) == len(texts) > 2  # each says something new
        assert all(0 < interim.stability < 1 for interim in interims)
        ends = [interim.result_end_time.ToMilliseconds() for interim in interims]
        assert ends == sorted(ends)


async def test_with_both_passes_finals_have_the_second_ones_words(stub: SpeechAsyncStub) -> None:
    for name in SHORT:
        both = await results(stub, cut(pcm_of(name), 3_200), BOTH, interim=True)
        finals = [result for result in both if result.is_final]
        second = await recording(stub, name, SECOND)
        assert [text for text, _ in said(finals)] == [text for text, _ in second]
        assert {final.source for final in finals} == {pb.FINAL_SOURCE_SECOND_PASS}
        assert {final.word_timing for final in finals} <= {pb.WORD_TIMING_MIXED, pb.WORD_TIMING_CTC}
        interims = {result.alternatives[0].transcript for result in both if not result.is_final}
        assert interims
        assert all(text == text.lower() for text in interims)  # the first pass writes neither capitals nor points


async def test_a_file_by_either_pass(stub: SpeechAsyncStub) -> None:
    audio = pcm_of(SHORT[0])
    texts = {}
    for model, source in ((FIRST, pb.FINAL_SOURCE_FIRST_PASS), (SECOND, pb.FINAL_SOURCE_SECOND_PASS)):
        response = await stub.Recognize(pb.RecognizeRequest(config=config(model), audio=audio))
        assert {result.source for result in response.results} == {source}
        texts[model] = [result.alternatives[0].transcript for result in response.results]
    assert texts[FIRST] != texts[SECOND]
    default = await stub.Recognize(pb.RecognizeRequest(config=config(BOTH), audio=audio))
    assert [result.alternatives[0].transcript for result in default.results] == texts[SECOND]


async def test_silence_is_not_decoded(node: NodeProcess, stub: SpeechAsyncStub) -> None:
    await results(stub, cut(pcm_of(SHORT[0]), 3_200), FIRST)
    before = await read_metric(node, "parley_batch_rows_count")
    assert before > 0
    assert await results(stub, cut(bytes(RATE * 2 * 20), 3_200), FIRST, interim=True) == []
    assert await read_metric(node, "parley_batch_rows_count") == before


@pytest.mark.timeout(300)
async def test_words_and_pool_are_as_new_after_cancels_at_every_point(node: NodeProcess, stub: SpeechAsyncStub) -> None:
    before = {(name, model): await recording(stub, name, model) for name in SHORT for model in (FIRST, BOTH)}
    chance = random.Random(3)
    gate = asyncio.Semaphore(DECODERS * 3 // 2)

    async def give_up() -> None:
        async with gate:
            pieces = cut(pcm_of(chance.choice(SHORT)), RATE * 2 // 10)
            call = stub.StreamingRecognize()
            await call.write(open_request(config(chance.choice((FIRST, BOTH))), interim_results=True))
            for piece in pieces[: chance.randrange(len(pieces) + 1)]:
                await call.write(pb.StreamingRecognizeRequest(audio=piece))
            await asyncio.sleep(chance.choice((0.0, chance.random() / 5)))
            call.cancel()
            assert await end_of(call) is grpc.StatusCode.CANCELLED

    await asyncio.gather(*(give_up() for _ in range(CANCELS)))
    after = await asyncio.gather(*(recording(stub, name, model) for name, model in before))
    assert dict(zip(before, after, strict=True)) == before


async def end_of(
    call: grpc.aio.StreamStreamCall[pb.StreamingRecognizeRequest, pb.StreamingRecognizeResponse],
) -> object:
    try:
        return await end(call)
    except asyncio.CancelledError:
        return await call.code()
