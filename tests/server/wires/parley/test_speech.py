"""The service as its clients see it, over a recognizer that does what the tests say."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from parley.asr.v1 import speech_pb2 as pb
from parley.decoder.engine.transcribe import FileResult
from parley.decoder.errors import AudioTooLong, BadAudio, DeviceError
from parley.decoder.values import Failed, Finished, Hypothesis, NoSpeech, Passes, SpeechBegin, SpeechEnd
from parley.server.live import session
from scripts.speech import DATA
from tests.server.fakes import FakeRecognizer, final, partial
from tests.server.wire import (
    FINALIZE,
    KEEP_ALIVE,
    PCM,
    STEREO,
    audio,
    configured,
    read_all,
    read_one,
    refusal,
    refusal_of,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.server.conftest import Running

    Serve = Callable[..., Awaitable[Running]]

INVALID, NOT_FOUND = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND


async def test_a_stream_from_config_to_summary(running: Running) -> None:
    call = running.stub.StreamingRecognize()
    await call.write(configured())
    stream = await running.recognizer.streams.get()
    await call.write(audio(bytes(32_000)))
    await stream.has_taken(32_000)
    stream.final_ms = 1_000
    stream.say(final())
    first = await read_one(call)
    await call.done_writing()
    (last,) = await read_all(call)

    assert first is not None
    (result,) = first.results
    assert result.is_final
    assert result.alternatives[0].transcript == "one two"
    assert not result.alternatives[0].words
    assert result.word_timing == pb.WORD_TIMING_UNSPECIFIED
    assert result.source == pb.FINAL_SOURCE_SECOND_PASS
    assert (result.segment, result.channel_tag, result.language_code) == (0, 0, "en")
    assert result.result_end_time == Duration(seconds=1)
    assert result.latency == pb.FinalLatency(
        total=Duration(nanos=250_000_000), queue=Duration(nanos=125_000_000), batch_size=3
    )
    assert first.cursors == pb.Cursors(
        received=Duration(seconds=1), processed=Duration(seconds=1), final=Duration(seconds=1)
    )
    assert not first.HasField("summary")
    assert not last.results
    assert last.summary.audio == Duration(seconds=1)
    assert (last.summary.finals, last.summary.interims) == (1, 0)
    assert last.summary.worst_final == Duration(nanos=250_000_000)
    assert last.summary.half_close_to_last_final == Duration()
    assert first.request_id == last.request_id != ""
    assert stream.closed


async def test_words_alternatives_and_language_come_as_asked(running: Running) -> None:
    config = pb.RecognitionConfig(enable_word_time_offsets=True, max_alternatives=2, language_code="de")
    config.MergeFrom(STEREO)
    call = running.stub.StreamingRecognize(iter([configured(config)]))
    stream = await running.recognizer.streams.get()
    stream.finishes = False
    word_list = final().hypotheses
    stream.say(final(channel=1, hypotheses=(*word_list, Hypothesis("two", 0.1), Hypothesis("three", 0.1))))
    stream.say(Finished())
    first, _ = await read_all(call)
    (result,) = first.results
    assert [one.transcript for one in result.alternatives] == ["one two", "two"]
    assert [word.word for word in result.alternatives[0].words] == ["one", "two"]
    assert result.alternatives[0].words[1].start_time == Duration(nanos=500_000_000)
    assert result.word_timing == pb.WORD_TIMING_ATTENTION
    assert (result.channel_tag, result.language_code) == (2, "de")
    assert stream.options.max_alternatives == 2
    assert stream.options.word_times


@pytest.mark.parametrize("asked", [True, False])
async def test_interim_results_and_speech_events_come_only_if_asked_for(running: Running, asked: bool) -> None:
    call = running.stub.StreamingRecognize(iter([configured(interim_results=asked, speech_events=asked)]))
    stream = await running.recognizer.streams.get()
    stream.finishes = False
    await stream.finished.wait()
    stream.say(SpeechBegin(0, 250))
    stream.say(SpeechEnd(0, 500))
    stream.say(partial())
    early = [await read_one(call) for _ in range(3 * asked)]
    stream.say(final())
    stream.say(NoSpeech(0, 750))
    stream.say(Finished())
    responses = [response for response in early if response] + await read_all(call)
    results = [result.is_final for response in responses for result in response.results]
    events = [
        (response.speech_event.type, response.speech_event.time.ToMilliseconds())
        for response in responses
        if response.HasField("speech_event")
    ]
    expected = [
        (pb.SPEECH_EVENT_TYPE_SPEECH_BEGIN, 250),
        (pb.SPEECH_EVENT_TYPE_SPEECH_END, 500),
        (pb.SPEECH_EVENT_TYPE_NO_SPEECH, 750),
    ]
    assert results == ([False, True] if asked else [True])
    assert events == (expected if asked else [])
    assert responses[-1].summary.interims == int(asked)
    assert all(response.HasField("cursors") for response in responses)


@pytest.mark.parametrize(("model", "passes"), [("", Passes.BOTH), ("fake", Passes.SECOND)])
async def test_the_model_asked_for_says_which_passes_decode(running: Running, model: str, passes: Passes) -> None:
    config = pb.RecognitionConfig(model=model)
    config.MergeFrom(PCM)
    call = running.stub.StreamingRecognize(iter([configured(config)]))
    stream = await running.recognizer.streams.get()
    await read_all(call)
    await running.stub.Recognize(pb.RecognizeRequest(config=config, audio=bytes(320)))
    assert [stream.options.passes, *(options.passes for options in running.recognizer.files.options)] == [passes] * 2


async def test_finals_after_the_half_close_are_timed(running: Running) -> None:
    call = running.stub.StreamingRecognize(iter([configured(), audio(bytes(32_000))]))
    stream = await running.recognizer.streams.get()
    stream.finishes = False
    await stream.finished.wait()
    stream.say(SpeechBegin(0, 500))
    stream.say(final())
    stream.say(Finished())
    summary = (await read_all(call))[-1].summary
    assert summary.half_close_to_last_final.ToNanoseconds() > 0
    assert summary.speech_to_first_result.ToNanoseconds() > 0


async def test_the_final_cursor_never_passes_a_final_that_waits(running: Running) -> None:
    call = running.stub.StreamingRecognize(iter([configured()]))
    stream = await running.recognizer.streams.get()
    stream.finishes = False
    stream.final_ms = 2_000  # both are made already when the first is sent
    stream.say(final(0, end_ms=1_000))
    stream.say(final(1, end_ms=2_000))
    stream.say(Finished())
    responses = await read_all(call)
    assert [response.cursors.final.ToMilliseconds() for response in responses] == [0, 2_000, 2_000]


async def test_whatever_is_sent_after_the_streams_end_is_ignored(running: Running) -> None:
    call = running.stub.StreamingRecognize()
    await call.write(configured(single_utterance=True))
    stream = await running.recognizer.streams.get()
    assert stream.options.single_utterance
    stream.has_room = False
    await call.write(audio(b"1"))
    await call.write(configured())  # nonsense
    stream.say(final())
    stream.say(Finished())
    stream.advance()
    first, last = await read_all(call)
    assert first.results[0].is_final
    assert last.summary.finals == 1
    assert await call.code() == grpc.StatusCode.OK


async def test_controls(running: Running) -> None:
    call = running.stub.StreamingRecognize(iter([configured(), KEEP_ALIVE, FINALIZE, audio(b""), FINALIZE]))
    stream = await running.recognizer.streams.get()
    await read_all(call)
    assert stream.finalized == 2
    assert not stream.taken


@pytest.mark.parametrize(
    ("requests", "field", "text"),
    [
        ([audio(b"1")], "config", "got audio first"),
        ([FINALIZE], "config", "got control first"),
        ([pb.StreamingRecognizeRequest()], "config", "got an empty message first"),
        ([], "config", "ended before its first message"),
        ([configured(), configured()], "config", "a second time"),
        ([configured(), pb.StreamingRecognizeRequest()], "request", "is empty"),
        ([configured(), pb.StreamingRecognizeRequest(control=pb.CONTROL_UNSPECIFIED)], "control", "got 0"),
        ([configured(pb.RecognitionConfig(encoding=5))], "encoding", "got 5"),  # type: ignore[arg-type]
        ([configured(pb.RecognitionConfig(sample_rate_hertz=96_000))], "sample_rate_hertz", "got 96000"),
        ([configured(pb.RecognitionConfig(audio_channel_count=9))], "audio_channel_count", "got 9"),
        ([configured(pb.RecognitionConfig(max_alternatives=-1))], "max_alternatives", "got -1"),
        ([configured(pb.RecognitionConfig(request_id="Ω"))], "request_id", "printable ASCII"),
        (
            [configured(endpoint_rules=pb.EndpointRules(silence_after_speech=Duration(seconds=11)))],
            "endpoint_rules.silence_after_speech",
            "11000 ms",
        ),
        (
            [configured(pb.RecognitionConfig(separate_recognition_per_channel=True))],
            "audio_channel_count",
            "separate_recognition_per_channel",
        ),
        (
            [configured(pb.RecognitionConfig(separate_recognition_per_channel=True, audio_channel_count=5))],
            "audio_channel_count",
            "1 to 4",
        ),
    ],
)
async def test_a_bad_request_names_its_field(
    running: Running, requests: list[pb.StreamingRecognizeRequest], field: str, text: str
) -> None:
    refused = await refusal_of(running.stub, requests)
    assert refused.code == INVALID
    assert refused.fields == [field]
    assert text in refused.text
    assert running.recognizer.pool.snapshot().busy == 0


@pytest.mark.parametrize(
    ("config", "field"),
    [
        (pb.RecognitionConfig(model="loud"), "model"),
        (pb.RecognitionConfig(language_code="tlh"), "language_code"),
    ],
)
async def test_what_the_node_does_not_have_is_not_found(
    running: Running, config: pb.RecognitionConfig, field: str
) -> None:
    for refused in (
        await refusal_of(running.stub, [configured(config)]),
        await refusal(running.stub.Recognize(pb.RecognizeRequest(config=config))),
    ):
        assert refused.code == NOT_FOUND
        assert refused.fields == [field]


@pytest.mark.parametrize(
    ("fault", "code", "text"),
    [
        (BadAudio("no frame here", 1234), INVALID, "byte 1234"),
        (AudioTooLong(60), grpc.StatusCode.OUT_OF_RANGE, "60 s"),
        (DeviceError("cuda:7 is on fire"), grpc.StatusCode.INTERNAL, "request my-call"),
        (ZeroDivisionError("secret"), grpc.StatusCode.INTERNAL, "request my-call"),
    ],
)
async def test_what_the_decoder_raises_ends_the_stream_by_the_table(
    running: Running, fault: Exception, code: grpc.StatusCode, text: str
) -> None:
    config = pb.RecognitionConfig(request_id="my-call")
    for raised_in_accept in (True, False):
        call = running.stub.StreamingRecognize()
        await call.write(configured(config))
        stream = await running.recognizer.streams.get()
        if raised_in_accept:
            stream.fault = fault
            await call.write(audio(b"1"))
        else:
            stream.say(Failed(fault))
        refused = await refusal(read_all(call))
        assert refused.code == code
        assert text in refused.text
        assert "secret" not in refused.text
        assert "fire" not in refused.text
        assert refused.info.metadata["request_id"] == "my-call"
        assert stream.closed
    assert running.recognizer.pool.snapshot().busy == 0


async def test_too_large_a_message_is_told_the_limit(serve: Serve) -> None:
    running = await serve(max_chunk_bytes=2048, max_file_bytes=4096)
    refused = await refusal_of(running.stub, [configured(), audio(bytes(2049))])
    assert refused.code == grpc.StatusCode.OUT_OF_RANGE
    assert "2048" in refused.text
    refused = await refusal(running.stub.Recognize(pb.RecognizeRequest(config=PCM, audio=bytes(4097))))
    assert refused.code == grpc.StatusCode.OUT_OF_RANGE
    assert "4096" in refused.text
    refused = await refusal(running.stub.Recognize(pb.RecognizeRequest(config=PCM, audio=bytes(1 << 20))))
    assert refused.code == grpc.StatusCode.RESOURCE_EXHAUSTED  # gRPC's own, before the message is here
    assert str(4096 + 512 * 1024) in refused.text


async def test_an_idle_stream_is_ended(serve: Serve) -> None:
    running = await serve(idle_timeout_s=0.05)
    call = running.stub.StreamingRecognize()
    await call.write(configured())
    refused = await refusal(read_all(call))
    assert refused.code == grpc.StatusCode.DEADLINE_EXCEEDED
    assert "0.05 s (idle_timeout_s)" in refused.text
    refused = await refusal(read_all(running.stub.StreamingRecognize()))  # nothing at all comes
    assert refused.code == grpc.StatusCode.DEADLINE_EXCEEDED
    assert "idle_timeout_s" in refused.text


async def test_a_file_waits_for_a_decoder_no_longer_than_a_stream(serve: Serve) -> None:
    running = await serve(FakeRecognizer(decoders=1), pool_wait_s=0.05)
    runs, go = threading.Event(), threading.Event()

    def work(_: threading.Event) -> None:
        runs.set()
        assert go.wait(60)

    running.recognizer.files.work = work
    request = pb.RecognizeRequest(config=PCM, audio=bytes(320))
    first = asyncio.ensure_future(running.stub.Recognize(request))
    await asyncio.to_thread(runs.wait)
    refused = await refusal(running.stub.Recognize(request, timeout=30))
    go.set()
    assert refused.info.reason == "POOL_EXHAUSTED"
    assert refused.retry.retry_delay.ToSeconds() == 1
    assert (await first).results


async def test_an_utterance_without_words_moves_the_clients_cursors(running: Running) -> None:
    call = running.stub.StreamingRecognize()
    await call.write(configured(interim_results=True))
    stream = await running.recognizer.streams.get()
    stream.say(partial())
    interim = await read_one(call)
    assert interim is not None
    assert interim.results
    stream.advance(700)
    told = await read_one(call)
    assert told is not None
    assert not told.results
    assert told.cursors.final == Duration(nanos=700_000_000)
    stream.advance(700)  # nothing new
    stream.final_ms = 900  # in silence, with no event: asked for by a control
    await call.write(FINALIZE)
    told = await read_one(call)
    assert told is not None
    assert told.cursors.final == Duration(nanos=900_000_000)
    await call.done_writing()
    (last,) = await read_all(call)
    assert last.HasField("summary")


async def test_in_silence_the_cursors_come_now_and_then(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "CURSORS_S", 0.01)
    call = running.stub.StreamingRecognize()
    await call.write(configured())
    stream = await running.recognizer.streams.get()
    for final_ms in (500, 900):
        stream.final_ms = final_ms
        told = await read_one(call)
        assert told is not None
        assert told.cursors.final.ToMilliseconds() == final_ms
    await call.done_writing()
    (last,) = await read_all(call)
    assert last.HasField("summary")


async def test_a_files_encoding_is_counted_as_it_was_found(serve: Serve) -> None:
    running = await serve(metrics_port=0)
    await running.stub.Recognize(pb.RecognizeRequest(audio=(DATA / "austen_1.flac").read_bytes()))
    registry = running.node.metrics.registry
    assert registry.get_sample_value("parley_audio_seconds_total", {"method": "Recognize", "encoding": "FLAC"}) == 2


async def test_a_full_pool_says_when_to_try_again(serve: Serve) -> None:
    running = await serve(FakeRecognizer(decoders=1), pool_wait_s=0.05)
    holder = running.stub.StreamingRecognize()
    await holder.write(configured())
    await running.recognizer.streams.get()
    for refused in (
        await refusal_of(running.stub, [configured()]),
        await refusal(running.stub.Recognize(pb.RecognizeRequest(config=PCM, audio=bytes(320)))),
    ):
        assert refused.code == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "all 1 decoders are lent" in refused.text
        assert refused.retry.retry_delay.ToSeconds() == 1
    holder.cancel()


async def test_waiting_for_a_decoder_ends_before_the_callers_deadline(serve: Serve) -> None:
    running = await serve(FakeRecognizer(decoders=1), stream_wait_s=3600)
    holder = running.stub.StreamingRecognize()
    await holder.write(configured())
    await running.recognizer.streams.get()
    refused = await refusal_of(running.stub, [configured()], timeout=2)
    assert refused.code == grpc.StatusCode.RESOURCE_EXHAUSTED
    holder.cancel()


async def test_a_live_call_does_not_wait_for_a_decoder_unless_it_may(serve: Serve) -> None:
    running = await serve(FakeRecognizer(decoders=1), pool_wait_s=3600)
    for _ in range(3):  # the one that comes back is lent again
        holder = running.stub.StreamingRecognize()
        await holder.write(configured())
        await running.recognizer.streams.get()
        refused = await refusal_of(running.stub, [configured()])
        assert refused.code == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "waited 0.0 s" in refused.text
        await holder.done_writing()
        await read_all(holder)
        (await asyncio.wrap_future(running.recognizer.pool.request(1))).release()


async def test_who_waits_gets_the_decoder_that_comes_back(serve: Serve) -> None:
    running = await serve(FakeRecognizer(decoders=1), stream_wait_s=5.0)
    first = running.stub.StreamingRecognize()
    await first.write(configured())
    await running.recognizer.streams.get()
    second = running.stub.StreamingRecognize(iter([configured()]))
    await first.done_writing()
    await read_all(first)
    assert (await read_all(second))[-1].HasField("summary")


async def test_streams_a_peer_are_limited(serve: Serve) -> None:
    running = await serve(max_streams_per_peer=1)
    call = running.stub.StreamingRecognize()
    await call.write(configured())
    await running.recognizer.streams.get()
    refused = await refusal_of(running.stub, [configured()])
    assert refused.code == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "max_streams_per_peer" in refused.text
    await call.done_writing()
    await read_all(call)
    assert (await running.stub.GetModels(pb.GetModelsRequest())).models[0].name == "fake"


async def test_the_request_id_is_made_or_echoed(running: Running) -> None:
    named = pb.RecognitionConfig(request_id="call 17")
    named.MergeFrom(PCM)
    for config, expected in ((named, "call 17"), (PCM, None)):
        call = running.stub.StreamingRecognize(iter([configured(config)]))
        (only,) = await read_all(call)
        file_call = running.stub.Recognize(pb.RecognizeRequest(config=config, audio=bytes(320)))
        answers = [
            (only.request_id, dict(await call.initial_metadata())["x-request-id"]),
            ((await file_call).request_id, dict(await file_call.initial_metadata())["x-request-id"]),
        ]
        for in_response, in_metadata in answers:
            assert in_response == in_metadata
            assert in_response == expected or (expected is None and in_response)


async def test_a_file(running: Running) -> None:
    config = pb.RecognitionConfig(enable_word_time_offsets=True)
    config.MergeFrom(STEREO)
    response = await running.stub.Recognize(pb.RecognizeRequest(config=config, audio=bytes(640)))
    assert [result.channel_tag for result in response.results] == [1, 2]
    assert response.results[0].alternatives[0].words[0].word == "one"
    assert response.results[0].word_timing == pb.WORD_TIMING_ATTENTION
    assert response.audio == Duration(seconds=2)
    assert response.processing.ToNanoseconds() > 0


async def test_an_empty_file_has_no_results(running: Running) -> None:
    running.recognizer.files.result = FileResult((), 0)
    response = await running.stub.Recognize(pb.RecognizeRequest())
    assert not response.results


async def test_a_file_that_is_no_audio_is_refused(running: Running) -> None:
    refused = await refusal(running.stub.Recognize(pb.RecognizeRequest(audio=b"surely not audio" * 100)))
    assert refused.code == INVALID
    assert refused.fields == ["audio"]
    assert "byte " in refused.text


async def test_a_cancelled_file_keeps_its_decoder_until_its_thread_stops(running: Running) -> None:
    begun, seen, go = threading.Event(), threading.Event(), threading.Event()

    def work(cancelled: threading.Event) -> None:
        begun.set()
        assert cancelled.wait(60)
        seen.set()
        assert go.wait(60)

    running.recognizer.files.work = work
    call = running.stub.Recognize(pb.RecognizeRequest(config=PCM, audio=bytes(320)))
    waiting = asyncio.ensure_future(call.code())
    await asyncio.to_thread(begun.wait)
    call.cancel()
    await asyncio.to_thread(seen.wait)
    assert await waiting == grpc.StatusCode.CANCELLED
    assert running.recognizer.pool.snapshot().busy == 1
    whole = running.recognizer.pool.request(4)
    go.set()
    (await asyncio.wrap_future(whole)).release()


async def test_models(running: Running) -> None:
    (model,) = (await running.stub.GetModels(pb.GetModelsRequest())).models
    assert (model.name, list(model.language_codes), model.sample_rate_hertz) == ("fake", ["en", "de"], 16_000)
    assert (model.description, model.license) == ("says what it is told", "0BSD")


async def test_a_message_that_is_no_protobuf_is_the_clients_fault(running: Running) -> None:
    raw: Any = running.channel.stream_stream("/parley.asr.v1.Speech/StreamingRecognize")
    refused = await refusal(read_all(raw(iter([b"\xff\xff"]))))
    assert refused.code == INVALID
    assert refused.info.reason == "NOT_PROTOBUF"
