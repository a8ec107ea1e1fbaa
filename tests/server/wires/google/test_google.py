"""Google's own client against a node that speaks its protocol too."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from grpc import aio

speech = pytest.importorskip("google.cloud.speech_v1")

from google.api_core import exceptions  # noqa: E402  # they come with the client
from google.protobuf.duration_pb2 import Duration  # noqa: E402
from google.rpc import error_details_pb2  # noqa: E402
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc  # noqa: E402

from parley.decoder.values import Finished, NoSpeech, Phrase, SpeechBegin, SpeechEnd  # noqa: E402
from parley.server.node.app import Node  # noqa: E402
from parley.server.node.settings import Settings  # noqa: E402
from tests.server.fakes import WORDS, final, partial  # noqa: E402
from tests.server.wire import PCM, configured, read_all  # noqa: E402
from tests.speech import RATE, pcm_of  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from tests.server.conftest import Running

    Serve = Callable[..., Awaitable[Running]]

LINEAR16 = speech.RecognitionConfig.AudioEncoding.LINEAR16
EVENT = speech.StreamingRecognizeResponse.SpeechEventType
BOTH = {"protocols": "parley,google"}


def config(**fields: Any) -> Any:
    return speech.RecognitionConfig({"encoding": LINEAR16, "sample_rate_hertz": RATE, "language_code": "en", **fields})


def client_of(channel: Any) -> Any:
    transport = speech.SpeechAsyncClient.get_transport_class("grpc_asyncio")
    return speech.SpeechAsyncClient(transport=transport(channel=channel))


async def called(channel: Any, *requests: dict[str, Any]) -> Any:
    """The client's stream of responses to these requests."""

    async def say() -> AsyncIterator[Any]:
        for request in requests:
            yield speech.StreamingRecognizeRequest(request)

    return await client_of(channel).streaming_recognize(requests=say())


WISHES: dict[str, Any] = {
    "profanity_filter": True,
    "alternative_language_codes": ["de"],
    "diarization_config": {"enable_speaker_diarization": True},
    "adaptation": {"phrase_set_references": ["projects/p/locations/global/phraseSets/s"]},
    "transcript_normalization": {"entries": [{"search": "one", "replace": "1"}]},
}


def configuring(asked: Any = None, **streaming: Any) -> dict[str, Any]:
    return {"streaming_config": speech.StreamingRecognitionConfig(config=asked or config(), **streaming)}


async def test_a_stream_of_googles_client(serve: Serve) -> None:
    running = await serve(**BOTH)
    timeout = speech.StreamingRecognitionConfig.VoiceActivityTimeout(speech_end_timeout={"nanos": 500_000_000})
    asked = config(
        max_alternatives=2,
        enable_word_time_offsets=True,
        speech_contexts=[speech.SpeechContext(phrases=["marianne"], boost=5)],
    )
    responses = await called(
        running.channel,
        configuring(asked, interim_results=True, enable_voice_activity_events=True, voice_activity_timeout=timeout),
        {"audio_content": bytes(2 * RATE)},
    )
    stream = await running.recognizer.streams.get()
    stream.finishes = False
    await stream.finished.wait()
    said = (SpeechBegin(0, 250), partial(), SpeechEnd(0, 900), final(), NoSpeech(0, 2_000), Finished())
    told = []
    for event in said:
        stream.say(event)
        if not isinstance(event, Finished):
            told.append(await responses.read())
    assert [response.speech_event_type for response in told] == [
        EVENT.SPEECH_ACTIVITY_BEGIN,
        EVENT.SPEECH_EVENT_UNSPECIFIED,
        EVENT.SPEECH_ACTIVITY_END,
        EVENT.SPEECH_EVENT_UNSPECIFIED,
        EVENT.SPEECH_ACTIVITY_TIMEOUT,
    ]
    assert told[0].speech_event_time.total_seconds() == 0.25
    (interim,), (result,) = told[1].results, told[3].results
    assert (interim.is_final, interim.alternatives[0].transcript, interim.stability) == (False, "one", 0.5)
    assert (result.is_final, result.language_code, result.channel_tag) == (True, "en", 0)
    (alternative,) = result.alternatives
    assert (alternative.transcript, alternative.confidence) == (WORDS.text, WORDS.confidence)
    assert [(word.word, word.end_time.total_seconds()) for word in alternative.words] == [("one", 0.4), ("two", 0.9)]
    assert len(stream.taken) == 2 * RATE
    assert stream.options.rules.silence_after_speech_ms == 500
    assert stream.options.search.hotwords == (Phrase("marianne", 5),)


async def test_one_utterance_ends_by_googles_event_and_nothing_else_is_told_unasked(serve: Serve) -> None:
    running = await serve(**BOTH)
    responses = await called(running.channel, configuring(single_utterance=True))
    stream = await running.recognizer.streams.get()
    stream.finishes = False
    for event in (SpeechBegin(0, 250), partial(), SpeechEnd(0, 900), final(), Finished()):
        stream.say(event)
    end, last = [response async for response in responses]
    assert end.speech_event_type == EVENT.END_OF_SINGLE_UTTERANCE
    assert last.results[0].is_final


@pytest.mark.parametrize(
    ("requests", "field", "text"),
    [
        ([{"audio_content": b"1"}], "streaming_config", "got audio_content first"),
        ([], "streaming_config", "the stream ended before its first message"),
        ([configuring(), configuring()], "streaming_request", "got streaming_config after the first"),
        ([configuring(config(encoding=4))], "encoding", "got 4, expected one of LINEAR16, "),
        ([configuring(config(sample_rate_hertz=96_000))], "sample_rate_hertz", "got 96000"),
        ([configuring(config(max_alternatives=11))], "max_alternatives", "got 11"),
        (
            [configuring(config(speech_contexts=[{}] * 1_001))],
            "speech_contexts",
            "got 1001 of them, expected at most 1000",
        ),
        *(
            (
                [configuring(config(**{name: value}))],
                name,
                f"{name}: got such a wish, expected none",
            )
            for name, value in WISHES.items()
        ),
        ([configuring(), {"audio_content": bytes(2049)}], "audio_content", "at most 2048 bytes"),
        (
            [
                configuring(
                    voice_activity_timeout=speech.StreamingRecognitionConfig.VoiceActivityTimeout(
                        speech_end_timeout=Duration(seconds=11)
                    )
                )
            ],
            "voice_activity_timeout.speech_end_timeout",
            "got 11000 ms",
        ),
    ],
)
async def test_a_bad_request_names_googles_field(
    serve: Serve, requests: list[dict[str, Any]], field: str, text: str
) -> None:
    running = await serve(**BOTH, max_chunk_bytes=2048)
    with pytest.raises((exceptions.InvalidArgument, exceptions.OutOfRange)) as refused:
        [response async for response in await called(running.channel, *requests)]
    (info, violations) = refused.value.details
    assert info.domain == "google.cloud.speech.v1"
    assert isinstance(violations, error_details_pb2.BadRequest)
    assert [violation.field for violation in violations.field_violations] == [field]
    assert text in refused.value.message


async def test_hints_and_wishes_that_are_said_to_be_none_are_no_fault(serve: Serve) -> None:
    running = await serve(**BOTH)
    asked = config(
        model="default",
        use_enhanced=True,
        enable_word_confidence=True,
        metadata=speech.RecognitionMetadata(audio_topic="novels"),
        enable_spoken_punctuation=False,
        diarization_config=speech.SpeakerDiarizationConfig(enable_speaker_diarization=False),
    )
    assert [response async for response in await called(running.channel, configuring(asked))] == []


async def test_the_end_of_one_utterance_is_also_that_of_its_speech(serve: Serve) -> None:
    running = await serve(**BOTH)
    responses = await called(running.channel, configuring(single_utterance=True, enable_voice_activity_events=True))
    stream = await running.recognizer.streams.get()
    stream.finishes = False
    for event in (SpeechEnd(0, 900), Finished()):
        stream.say(event)
    assert [response.speech_event_type async for response in responses] == [
        EVENT.SPEECH_ACTIVITY_END,
        EVENT.END_OF_SINGLE_UTTERANCE,
    ]


async def test_a_client_that_says_nothing_is_told_what_it_can_send(serve: Serve) -> None:
    running = await serve(**BOTH, idle_timeout_s=0.05)
    quiet = asyncio.Event()

    async def say() -> AsyncIterator[Any]:
        yield speech.StreamingRecognizeRequest(configuring())
        await quiet.wait()

    responses = await client_of(running.channel).streaming_recognize(requests=say())
    with pytest.raises(exceptions.DeadlineExceeded, match=r"\(idle_timeout_s\): send audio \["):
        [response async for response in responses]


async def test_who_is_refused_at_the_door_hears_it_in_the_first_protocols_name(serve: Serve, tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text("0123456789abcdef")
    running = await serve(protocols="google", tokens_file=tokens)
    with pytest.raises(exceptions.Unauthenticated) as refused:
        [response async for response in await called(running.channel, configuring())]
    assert refused.value.details[0].domain == "google.cloud.speech.v1"


async def test_reflection_names_only_what_it_can_describe(serve: Serve) -> None:
    running = await serve(**BOTH)
    stub: Any = reflection_pb2_grpc.ServerReflectionStub(running.channel)
    ask = reflection_pb2.ServerReflectionRequest
    call = stub.ServerReflectionInfo()
    await call.write(ask(list_services=""))
    names = [service.name for service in (await call.read()).list_services_response.service]
    assert "parley.asr.v1.Speech" in names
    for name in names:
        await call.write(ask(file_containing_symbol=name))
        assert (await call.read()).HasField("file_descriptor_response"), name
    await call.done_writing()


async def test_both_protocols_are_served_side_by_side_and_counted_apart(serve: Serve) -> None:
    running = await serve(**BOTH)
    responses = await called(running.channel, configuring())
    assert [response async for response in responses] == []
    assert (await read_all(running.stub.StreamingRecognize(iter([configured(PCM)]))))[-1].HasField("summary")
    count = running.node.metrics.registry.get_sample_value
    for method in ("google.StreamingRecognize", "StreamingRecognize"):
        assert count("parley_calls_total", {"method": method, "code": "OK"}) == 1


async def test_words_of_a_recording_through_googles_client() -> None:
    settings = {"port": 0, "metrics_port": -1, "grace_s": 0, "devices": "cpu", "decoders": 1, **BOTH}
    node = Node(Settings.of(settings))
    try:
        port = await node.start()
        await node.ready()
        audio = pcm_of("austen_1.flac")
        pieces = [{"audio_content": audio[start : start + 3_200]} for start in range(0, len(audio), 3_200)]
        async with aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            responses = await called(channel, configuring(config(language_code="en-US")), *pieces)
            results = [result async for response in responses for result in response.results]
    finally:
        await node.drain()
    assert "Dashwood" in results[-1].alternatives[0].transcript
    assert all(result.is_final for result in results)


def test_our_folder_proto_is_not_taken_for_the_package_that_googles_libraries_need() -> None:
    script = "import proto; print(proto.Message.__name__)"  # with the current folder before all else
    root = Path(__file__).parents[4]
    assert (root / "proto").is_dir()
    done = subprocess.run([sys.executable, "-c", script], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout == "Message\n"
