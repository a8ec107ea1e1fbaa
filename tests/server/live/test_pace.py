"""Fast clients are slowed, slow readers are spared, and nobody makes the node hold much."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from grpc import aio

from parley.asr.v1 import speech_pb2 as pb
from parley.asr.v1 import speech_pb2_grpc
from parley.decoder.values import Finished, Hypothesis
from parley.server.kit.grpc_server import READ_AHEAD
from parley.server.live.outbox import MOST_WAITING
from parley.server.live.session import SLICE
from tests.server.fakes import FakeRecognizer, FakeStream, final, partial
from tests.server.wire import FINALIZE, PCM, Refusal, audio, configured, read_all, read_one, refusal

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from tests.server.conftest import Running
    from tests.server.wire import Call

    Serve = Callable[..., Awaitable[Running]]

MESSAGE = 4_000  # bytes
FIREHOSE = 64 * READ_AHEAD // MESSAGE * MESSAGE  # bytes, many windows full


class Firehose:
    """A client that writes FIREHOSE bytes as fast as it is let."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self.written = 0
        self.progress = asyncio.Event()
        self.task = asyncio.ensure_future(self._write())

    async def _write(self) -> None:
        while self.written < FIREHOSE:
            await self._call.write(audio(bytes(MESSAGE)))
            self.written += MESSAGE
            self.progress.set()

    async def has_stalled(self) -> None:
        """Returns when nothing has been written for half a second: a stall cannot be told from a pause otherwise."""
        while True:
            self.progress.clear()
            try:
                await asyncio.wait_for(self.progress.wait(), 0.5)
            except asyncio.TimeoutError:
                return


async def open_stream(running: Running, **options: Any) -> tuple[Call, FakeStream]:
    call = running.stub.StreamingRecognize()
    await call.write(configured(**options))
    return call, await running.recognizer.streams.get()


async def test_a_firehose_is_held_back_while_the_decoder_has_no_room(running: Running) -> None:
    call, stream = await open_stream(running)
    stream.has_room = False
    firehose = Firehose(call)
    await firehose.has_stalled()
    assert not stream.taken
    assert firehose.written <= READ_AHEAD + 2 * MESSAGE
    stream.advance()
    await firehose.task
    await call.done_writing()
    await read_all(call)
    assert len(stream.taken) == FIREHOSE


async def test_room_is_asked_for_within_a_message_too(running: Running) -> None:
    call, stream = await open_stream(running)
    accept = stream.accept

    def accept_one(data: bytes) -> Iterator[None]:
        yield from accept(data)
        stream.has_room = False

    stream.accept = accept_one  # type: ignore[method-assign]
    await call.write(audio(bytes(3 * SLICE)))
    await call.write(FINALIZE)
    for count in (1, 2, 3):
        await stream.has_taken(count * SLICE)
        assert len(stream.taken) == count * SLICE
        assert not stream.finalized
        stream.advance()
    await call.done_writing()
    await read_all(call)
    assert stream.finalized == 1


async def test_room_is_asked_for_within_a_slice_too(running: Running) -> None:
    """A few bytes may hold minutes of audio."""
    call, stream = await open_stream(running)
    steps = 0

    def accept_in_steps(data: bytes) -> Iterator[None]:
        nonlocal steps
        while steps < 3:
            steps += 1
            stream.has_room = False
            stream.accepted.set()
            yield

    async def has_stepped(count: int) -> None:
        while steps < count:
            stream.accepted.clear()
            await stream.accepted.wait()

    stream.accept = accept_in_steps  # type: ignore[method-assign]
    await call.write(audio(b"12"))
    for count in (1, 2, 3):
        await has_stepped(count)
        await running.stub.GetModels(pb.GetModelsRequest())  # others have their turn
        assert steps == count
        stream.advance()
    await call.done_writing()
    await read_all(call)


async def test_a_stalled_stream_does_not_hold_its_neighbours_on_the_connection(serve: Serve) -> None:
    running = await serve(FakeRecognizer(decoders=17))
    stalled = []
    for _ in range(16):
        call, stream = await open_stream(running)
        stream.has_room = False
        stalled.append(Firehose(call))
    await asyncio.gather(*(one.has_stalled() for one in stalled))
    call, stream = await open_stream(running)
    await Firehose(call).task
    await stream.has_taken(FIREHOSE)
    for one in stalled:
        one.task.cancel()


async def test_a_held_back_client_is_not_idle(serve: Serve) -> None:
    running = await serve(idle_timeout_s=0.2)
    call, stream = await open_stream(running)
    stream.has_room = False
    await call.write(audio(bytes(MESSAGE)))
    waiting = asyncio.ensure_future(call.read())
    done, _ = await asyncio.wait({waiting}, timeout=0.6)  # three times the limit
    assert not done
    stream.advance()
    with pytest.raises(aio.AioRpcError) as raised:  # and from now on it is
        await waiting
    assert "idle_timeout_s" in Refusal(raised.value).text
    assert len(stream.taken) == MESSAGE


@pytest.fixture
def small_window() -> list[tuple[str, int]]:
    """Options of a client that takes in little before it reads."""
    return [("grpc.http2.lookahead_bytes", 64 * 1024), ("grpc.http2.bdp_probe", 0)]


LONG = "word " * 20_000  # more than the client's window


async def test_a_slow_reader_gets_every_final_and_only_fresh_interims(
    running: Running, small_window: list[tuple[str, int]]
) -> None:
    async with aio.insecure_channel(f"127.0.0.1:{running.port}", options=small_window) as channel:
        stub: speech_pb2_grpc.SpeechAsyncStub = speech_pb2_grpc.SpeechStub(channel)
        call = stub.StreamingRecognize()
        await call.write(configured(interim_results=True))
        stream = await running.recognizer.streams.get()
        for segment in range(3):
            for number in range(100):
                stream.say(partial(segment, text=f"{number} {LONG}"))
                await asyncio.sleep(0)
            stream.say(final(segment, hypotheses=(Hypothesis(LONG, 1.0),)))
        stream.say(partial(3, text="the newest"))
        await call.done_writing()
        responses = await read_all(call)
    results = [result for response in responses for result in response.results]
    assert [result.segment for result in results if result.is_final] == [0, 1, 2]
    interims = [result for result in results if not result.is_final]
    assert len(interims) < 10  # of 301
    assert responses[-1].summary.interims == len(interims)


async def test_a_client_far_behind_with_its_finals_is_not_read(
    running: Running, small_window: list[tuple[str, int]]
) -> None:
    async with aio.insecure_channel(f"127.0.0.1:{running.port}", options=small_window) as channel:
        stub: speech_pb2_grpc.SpeechAsyncStub = speech_pb2_grpc.SpeechStub(channel)
        call = stub.StreamingRecognize()
        await call.write(configured())
        stream = await running.recognizer.streams.get()
        count = MOST_WAITING + 50
        for segment in range(count):
            stream.say(final(segment, hypotheses=(Hypothesis(LONG, 1.0),)))
        firehose = Firehose(call)
        await firehose.has_stalled()
        assert len(stream.taken) <= MESSAGE  # its read was under way
        for segment in range(count):
            response = await read_one(call)
            assert response is not None
            assert response.results[0].segment == segment
        await firehose.task
        await stream.has_taken(FIREHOSE)
        call.cancel()


async def test_who_reads_nothing_is_given_up(serve: Serve, small_window: list[tuple[str, int]]) -> None:
    running = await serve(idle_timeout_s=0.2)
    async with aio.insecure_channel(f"127.0.0.1:{running.port}", options=small_window) as channel:
        stub: speech_pb2_grpc.SpeechAsyncStub = speech_pb2_grpc.SpeechStub(channel)
        call = stub.StreamingRecognize()
        await call.write(configured())
        stream = await running.recognizer.streams.get()
        stream.finishes = False
        await call.done_writing()
        for segment in range(3):
            stream.say(final(segment, hypotheses=(Hypothesis(LONG, 1.0),)))
        # The decoders come back although the client does not even take its status.
        (await asyncio.wrap_future(running.recognizer.pool.request(4))).release()
        refused = await refusal(read_all(call))
    assert refused.code == grpc.StatusCode.DEADLINE_EXCEEDED
    assert "no response was read for 0.2 s" in refused.text


async def test_a_cancel_does_not_reach_the_decoder_as_an_end_of_audio(serve: Serve) -> None:
    running = await serve(stream_wait_s=5.0)  # until the decoders of those before are back
    streams = []
    for _ in range(50):
        call, stream = await open_stream(running)
        streams.append(stream)
        call.cancel()
    (await asyncio.wrap_future(running.recognizer.pool.request(4))).release()
    # On a busy machine the cancel may come later than `settle` waits; without it nearly all would be finished.
    assert sum(stream.finished.is_set() for stream in streams) < 10
    assert all(stream.closed for stream in streams)


@pytest.mark.parametrize("stream_wait_s", [0.0, 5.0])
async def test_cancels_at_any_point_bring_every_decoder_back(serve: Serve, stream_wait_s: float) -> None:
    running = await serve(FakeRecognizer(decoders=3), stream_wait_s=stream_wait_s)
    chance = random.Random(5)

    async def give_up() -> None:
        call = running.stub.StreamingRecognize(timeout=chance.choice((None, chance.uniform(0.001, 0.05))))
        turns = chance.randrange(40)
        pending: set[asyncio.Future[Any]] = {asyncio.ensure_future(call.write(configured()))}
        if chance.random() < 0.5:
            pending.add(asyncio.ensure_future(running.stub.Recognize(pb.RecognizeRequest(config=PCM, audio=bytes(99)))))
        for _ in range(turns):
            await asyncio.sleep(0)
        call.cancel()
        for one in pending:
            one.cancel()
        await asyncio.gather(*pending, return_exceptions=True)

    for _ in range(20):
        await asyncio.gather(*(give_up() for _ in range(10)))
    pool = running.recognizer.pool
    (await asyncio.wrap_future(pool.request(3))).release()
    # A call that was given up may reach the node after all, and has a decoder for a moment.
    while pool.snapshot().busy or pool.snapshot().waiting:  # noqa: ASYNC110  # a pool tells nobody
        await asyncio.sleep(0.001)


async def test_the_server_ends_a_stream_whose_client_still_sends(running: Running) -> None:
    call, stream = await open_stream(running)
    stream.say(Finished())
    (only,) = await read_all(call)
    assert only.HasField("summary")
    assert await call.code() == grpc.StatusCode.OK
