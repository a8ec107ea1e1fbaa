"""Both clients against a real server: what is asked for, what comes back, what goes wrong."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from typing import TYPE_CHECKING

import grpc
import pytest

from parley.asr.v1 import speech_pb2 as pb
from parley.clients import (
    AsyncClient,
    Cancelled,
    Client,
    Control,
    Encoding,
    Exhausted,
    InvalidRequest,
    NotAuthorized,
    RecognitionConfig,
    ServerFault,
    Serving,
    SpeechEvent,
    SpeechEventKind,
    StreamConfig,
    TimedOut,
    Unavailable,
)
from parley.wire.channel import RECORDING_LIMIT
from tests.clients.conftest import SOON, AsyncCaller, Caller, SyncCaller
from tests.wire.fake_speech import RATE, FakeServer, Fault, retry_info, toy_audio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

TOY = StreamConfig(encoding=Encoding.LINEAR16, sample_rate=RATE, words=True)


def test_stream_brings_interims_finals_and_the_summary(caller: Caller, server: FakeServer) -> None:
    pieces = [toy_audio(7), toy_audio(8), toy_audio(0), toy_audio(9)]
    results, facts = caller.stream(pieces, TOY)
    assert [(result.text, result.is_final, result.segment) for result in results] == [
        ("7", False, 0),
        ("7 8", False, 0),
        ("7 8", True, 0),
        ("9", False, 1),
        ("9", True, 1),
    ]
    final = results[2]
    assert [(word.text, word.start_s, word.end_s) for word in final.words] == [("7", 0.0, 0.02), ("8", 0.02, 0.04)]
    assert (final.start_s, final.end_s, final.channel) == (0.0, 0.04, 0)
    summary = facts.summary
    assert summary
    assert (summary.audio_s, summary.finals, summary.interims, summary.breaks) == (0.08, 2, 3, 0)
    assert summary.half_close_to_last_final_s == 0.012
    assert summary.worst_final_s is None
    assert facts.request_id == "made-by-fake"
    assert facts.cursors.final_s == 0.08
    assert server.speech.connections[0].finished


def test_config_arrives_whole(caller: Caller, server: FakeServer) -> None:
    config = StreamConfig(
        encoding=Encoding.MULAW,
        sample_rate=RATE,
        channels=2,
        separate_channels=True,
        language="en-GB",
        model="toy",
        alternatives=3,
        words=True,
        request_id="call-7",
        written=True,
        hotwords=("willoughby", ("marianne dashwood", 4.5), "brandon"),
        beam=8,
        language_weight=0.0,
        word_bonus=-1.5,
        grammar="menu",
        lattice=True,
        interim_results=False,
        single_utterance=True,
        silence_after_speech_s=0.5,
    )
    _, facts = caller.stream([], config)
    seen = server.speech.connections[0].config
    assert seen
    assert seen.config == pb.RecognitionConfig(
        encoding=pb.AUDIO_ENCODING_MULAW,
        sample_rate_hertz=RATE,
        audio_channel_count=2,
        separate_recognition_per_channel=True,
        language_code="en-GB",
        model="toy",
        max_alternatives=3,
        enable_word_time_offsets=True,
        request_id="call-7",
        enable_inverse_text_normalization=True,
        speech_contexts=[
            pb.SpeechContext(phrases=["willoughby", "brandon"]),
            pb.SpeechContext(phrases=["marianne dashwood"], boost=4.5),
        ],
        search=pb.SearchConfig(beam=8, language_weight=0, word_bonus=-1.5, grammar="menu", lattice=True),
    )
    assert seen.single_utterance
    assert not seen.interim_results
    assert not seen.speech_events
    assert seen.endpoint_rules.silence_after_speech.ToMilliseconds() == 500
    assert not seen.endpoint_rules.HasField("longest_utterance")
    assert facts.request_id == "call-7"


def test_controls_travel_between_the_audio(caller: Caller, server: FakeServer) -> None:
    results, _ = caller.stream([toy_audio(1), Control.FINALIZE, Control.KEEP_ALIVE, toy_audio(2)], TOY)
    assert [result.text for result in results if result.is_final] == ["1", "2"]
    assert server.speech.connections[0].controls == [pb.CONTROL_FINALIZE, pb.CONTROL_KEEP_ALIVE]


def test_speech_events_are_asked_for_by_listening(caller: Caller) -> None:
    events: list[SpeechEvent] = []
    caller.stream([toy_audio(1), toy_audio(0)], TOY, on_event=events.append)
    assert events == [SpeechEvent(SpeechEventKind.BEGIN, 0.0, 0), SpeechEvent(SpeechEventKind.END, 0.02, 0)]


def test_stream_of_one_utterance_ends_before_its_audio(caller: Caller) -> None:
    def endless() -> Iterator[bytes]:
        while True:
            yield toy_audio(1, 0)

    config = StreamConfig(encoding=Encoding.LINEAR16, sample_rate=RATE, single_utterance=True)
    results, facts = caller.stream(endless(), config)
    assert [result.text for result in results if result.is_final] == ["1"]
    assert facts.summary


def test_failing_audio_fails_the_stream_and_ends_the_call(caller: Caller, server: FakeServer) -> None:
    def failing() -> Iterator[bytes]:
        yield toy_audio(1)
        while not server.speech.connections:  # or the call may be over before the server has seen it
            time.sleep(0.001)
        raise OSError("the microphone is gone")

    with pytest.raises(OSError, match="the microphone is gone"):
        caller.stream(failing(), TOY)
    assert server.speech.connections[0].ended.wait(10)
    assert not server.speech.connections[0].finished


def test_audio_that_is_not_bytes_is_refused_here(caller: Caller) -> None:
    with pytest.raises(TypeError):
        caller.stream(["words"], TOY)  # type: ignore[list-item]


def test_leaving_the_iterator_cancels_the_call(server: FakeServer) -> None:
    more = threading.Event()

    def audio() -> Iterator[bytes]:
        yield toy_audio(1)
        more.wait()

    with Client(server.address) as client:
        for result in client.stream(audio(), TOY):
            assert result.text == "1"
            break
        gc.collect()
        assert server.speech.connections[0].ended.wait(10)
        more.set()
    assert not server.speech.connections[0].finished


def test_listener_that_fails_ends_the_call(server: FakeServer) -> None:
    more = threading.Event()

    def audio() -> Iterator[bytes]:
        yield toy_audio(1)
        more.wait()

    def fail(event: SpeechEvent) -> None:
        raise ZeroDivisionError

    async def run() -> None:
        async def never_ending() -> AsyncIterator[bytes]:
            yield toy_audio(1)
            await asyncio.Event().wait()

        async with AsyncClient(server.address) as client:
            kept = client.stream(never_ending(), TOY, on_event=fail)
            with pytest.raises(ZeroDivisionError):
                [result async for result in kept]
            assert await asyncio.to_thread(server.speech.connections[1].ended.wait, 10)
            with pytest.raises(StopAsyncIteration):
                await anext(kept)

    with Client(server.address) as client:
        kept = client.stream(audio(), TOY, on_event=fail)
        with pytest.raises(ZeroDivisionError):
            list(kept)
        assert server.speech.connections[0].ended.wait(10)
        with pytest.raises(StopIteration):
            next(kept)
        more.set()
    asyncio.run(run())


def test_leaving_the_block_cancels_the_call(server: FakeServer) -> None:
    more = threading.Event()

    def audio() -> Iterator[bytes]:
        yield toy_audio(1)
        more.wait()

    with Client(server.address) as client, client.stream(audio(), TOY) as results:
        assert next(results).text == "1"
        results.close()
        assert server.speech.connections[0].ended.wait(10)
        more.set()
        assert list(results) == []


async def test_leaving_the_async_block_cancels_the_call_and_the_audio(server: FakeServer) -> None:
    cancelled = False

    async def audio() -> AsyncIterator[bytes]:
        nonlocal cancelled
        yield toy_audio(1)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled = True
            raise

    async with AsyncClient(server.address) as client:
        async with client.stream(audio(), TOY) as results:
            async for result in results:
                assert result.text == "1"
                break
        assert await asyncio.to_thread(server.speech.connections[0].ended.wait, 10)
    assert cancelled
    assert not server.speech.connections[0].finished


async def test_cancelling_the_task_cancels_the_call(server: FakeServer) -> None:
    first = asyncio.Event()

    async def audio() -> AsyncIterator[bytes]:
        yield toy_audio(1)
        await asyncio.Event().wait()

    async def consume(client: AsyncClient) -> None:
        async for _ in client.stream(audio(), TOY):
            first.set()

    async with AsyncClient(server.address) as client:
        task = asyncio.create_task(consume(client))
        await first.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await asyncio.to_thread(server.speech.connections[0].ended.wait, 10)


async def test_failing_async_audio_wakes_whoever_waits_for_results(server: FakeServer) -> None:
    async def audio() -> AsyncIterator[bytes]:
        yield toy_audio(0)
        raise OSError("the line is dead")

    async with AsyncClient(server.address) as client:
        with pytest.raises(OSError, match="the line is dead"):
            async for _ in client.stream(audio(), TOY):
                pass


def test_deadline_bounds_a_stream(caller: Caller, server: FakeServer) -> None:
    server.set_reading(False)
    with pytest.raises(TimedOut) as failed:
        caller.stream([toy_audio(1)], TOY, timeout_s=0.3)
    assert failed.value.code is grpc.StatusCode.DEADLINE_EXCEEDED
    server.set_reading(True)


def test_token_goes_along(server: FakeServer) -> None:
    for kind in (SyncCaller, AsyncCaller):
        kind(server.address, token="secret").stream([], TOY)
    assert [each.metadata["authorization"] for each in server.speech.connections] == ["Bearer secret"] * 2


def test_transcribe_by_bytes_and_by_path(caller: Caller, server: FakeServer, tmp_path: Path) -> None:
    path = tmp_path / "call.txt"
    path.write_bytes(b"how are you\nfine")
    for recording in (path.read_bytes(), path, str(path)):
        transcript = caller.transcribe(recording, RecognitionConfig(words=True))
        assert transcript.text == "how are you fine"
        assert [(result.start_s, result.end_s, result.segment) for result in transcript.results] == [
            (0.0, 3.0, 0),
            (3.0, 4.0, 1),
        ]
        assert transcript.results[0].words[1].text == "are"
        assert (transcript.results[0].word_timing, transcript.results[0].source) == ("attention", "second")
        assert (transcript.audio_s, transcript.processing_s, transcript.request_id) == (4.0, 0.01, "made-by-fake")
    assert server.speech.recognized[0].audio == path.read_bytes()


def test_recording_over_the_limit_is_refused_before_it_is_read(caller: Caller, tmp_path: Path) -> None:
    path = tmp_path / "huge.wav"
    with path.open("wb") as file:
        file.truncate(RECORDING_LIMIT + (1 << 20))
    with pytest.raises(ValueError, match="got 129 MiB, expected at most 128 MiB"):
        caller.transcribe(path)


def test_models_and_health(caller: Caller, server: FakeServer) -> None:
    (model,) = caller.models()
    assert (model.name, model.languages, model.sample_rate, model.license) == ("toy", ("en",), RATE, "MIT")
    assert caller.health() is Serving.SERVING
    server.set_serving(False, "parley.asr.v1.Speech")
    assert caller.health("parley.asr.v1.Speech") is Serving.NOT_SERVING
    with pytest.raises(InvalidRequest):
        caller.health("no.such.Service")


def test_refusal_is_typed_and_carries_its_details(caller: Caller) -> None:
    with pytest.raises(InvalidRequest) as refused:
        caller.transcribe(b"bad")
    error = refused.value
    assert error.code is grpc.StatusCode.INVALID_ARGUMENT
    assert error.text == "audio at byte 0: not audio"
    assert (error.reason, error.request_id) == ("BAD_AUDIO", "bad-1")
    assert [(each.field, each.text) for each in error.violations] == [("audio", "not audio")]
    assert str(error) == "INVALID_ARGUMENT: audio at byte 0: not audio (request bad-1)"


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (grpc.StatusCode.NOT_FOUND, InvalidRequest),
        (grpc.StatusCode.OUT_OF_RANGE, InvalidRequest),
        (grpc.StatusCode.UNAUTHENTICATED, NotAuthorized),
        (grpc.StatusCode.INTERNAL, ServerFault),
        (grpc.StatusCode.DATA_LOSS, ServerFault),
    ],
)
def test_each_code_has_its_exception_and_no_second_try(
    caller: Caller, server: FakeServer, code: grpc.StatusCode, kind: type[Exception]
) -> None:
    server.speech.unary_faults = [Fault(code)]
    with pytest.raises(kind):
        caller.models()
    server.speech.stream_faults = [Fault(code)]
    with pytest.raises(kind):
        caller.stream([toy_audio(1)], TOY)


def test_unary_calls_try_again_when_unavailable_and_when_told_to(caller: Caller, server: FakeServer) -> None:
    full = Fault(grpc.StatusCode.RESOURCE_EXHAUSTED, details=(retry_info(0.01),))
    server.speech.unary_faults = [Fault(), full, full]
    assert caller.transcribe(b"at last").text == "at last"
    assert len(server.speech.recognized) == 4


def test_full_without_a_time_to_come_back_is_final(caller: Caller, server: FakeServer) -> None:
    server.speech.unary_faults = [Fault(grpc.StatusCode.RESOURCE_EXHAUSTED)]
    with pytest.raises(Exhausted) as refused:
        caller.models()
    assert refused.value.retry_after_s is None


def test_waiting_beyond_the_deadline_is_not_begun(caller: Caller, server: FakeServer) -> None:
    server.speech.unary_faults = [Fault(grpc.StatusCode.RESOURCE_EXHAUSTED, details=(retry_info(3600),))]
    with pytest.raises(Exhausted) as refused:
        caller.transcribe(b"later")
    assert refused.value.retry_after_s == 3600


def test_no_server_is_unavailable_in_the_end(server: FakeServer) -> None:
    server.stop()
    for kind in (SyncCaller, AsyncCaller):
        with pytest.raises(Unavailable):
            kind(server.address, retry=SOON).models()
    server.start()


def test_closing_the_client_cancels_its_calls(server: FakeServer) -> None:
    client = Client(server.address)

    def audio() -> Iterator[bytes]:
        yield toy_audio(1)
        client.close()
        yield toy_audio(2)

    with pytest.raises(Cancelled):
        list(client.stream(audio(), TOY))
