"""google.cloud.speech.v1.Speech/StreamingRecognize, for clients that are written already.

What of a config is neither here nor refused is not heeded: punctuation, speakers, adaptation by reference. Cursors and
summaries have no place in this protocol and are not told.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import grpc
from google.cloud.speech_v1.types import cloud_speech
from google.protobuf.duration_pb2 import Duration
from grpc import aio

from parley.decoder.errors import InvalidOption
from parley.decoder.values import (
    MOST_PHRASES,
    AudioFormat,
    Encoding,
    Final,
    NoSpeech,
    Partial,
    Phrase,
    SearchOptions,
    SpeechBegin,
    SpeechEnd,
    StreamOptions,
)
from parley.server.live.wire import Audio, Request
from parley.server.wires.google.fields import FIELDS
from parley.server.wires.reading import ended, first_message
from parley.server.wires.statuses import BadMessage, statuses

if TYPE_CHECKING:
    from parley.decoder.values import Cursors, EndpointRules, Hypothesis
    from parley.server.kit.admission import Calls
    from parley.server.live.figures import Summary
    from parley.server.live.recognition import Recognition
    from parley.server.live.wire import Message, Told

SERVICE, METHOD, ONEOF = "google.cloud.speech.v1.Speech", "StreamingRecognize", "streaming_request"
INCOMING: Any = cloud_speech.StreamingRecognizeRequest.pb()  # as protobuf has it, without proto-plus around it
RESPONSE: Any = cloud_speech.StreamingRecognizeResponse.pb()
SAID: Any = cloud_speech.RecognitionConfig.AudioEncoding
NAMES = ("LINEAR16", "FLAC", "MULAW", "OGG_OPUS", "MP3", "WEBM_OPUS")
ENCODINGS = {SAID.ENCODING_UNSPECIFIED: Encoding.AUTO, **{SAID[name]: Encoding[name] for name in NAMES}}
EVENT: Any = cloud_speech.StreamingRecognizeResponse.SpeechEventType
EVENTS = {
    SpeechBegin: EVENT.SPEECH_ACTIVITY_BEGIN,
    SpeechEnd: EVENT.SPEECH_ACTIVITY_END,
    NoSpeech: EVENT.SPEECH_ACTIVITY_TIMEOUT,
}


STATUSES = statuses("google.cloud.speech.v1", FIELDS)


def serve(server: aio.Server, recognition: Recognition, calls: Calls) -> None:
    """Adds the service to a server."""

    async def streaming_recognize(_: object, context: aio.ServicerContext[Any, Any]) -> None:
        async with calls.open(f"google.{METHOD}", context, STATUSES) as call:
            recognition.check_ready()
            message = await first_message(context, recognition.terms.stream.idle_s)
            if message is aio.EOF or message.WhichOneof(ONEOF) != "streaming_config":
                found = "the stream's end" if message is aio.EOF else message.WhichOneof(ONEOF) or "an empty message"
                raise BadMessage("streaming_config", f"got {found} first, expected streaming_config")
            await call.name("")
            config = message.streaming_config
            request = recognition.place(stream_request(config, recognition.terms.rules))
            wire = GoogleWire(context, request, config.enable_voice_activity_events)
            await recognition.stream(request, wire, call)

    handler = grpc.stream_stream_rpc_method_handler(
        streaming_recognize,  # a coroutine that reads and writes itself
        request_deserializer=INCOMING.FromString,
        response_serializer=RESPONSE.SerializeToString,
    )
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {METHOD: handler}),))


def stream_request(asked: Any, defaults: EndpointRules) -> Request:
    """A StreamingRecognitionConfig, checked. Raises InvalidOption."""
    config = asked.config
    if config.encoding not in ENCODINGS:
        raise InvalidOption("format.encoding", config.encoding, f"one of {', '.join(NAMES)}, or none")
    separate = config.enable_separate_recognition_per_channel
    phrases = sum(len(context.phrases) for context in config.speech_contexts)  # counted before they are looked at
    if phrases > MOST_PHRASES:
        raise InvalidOption("options.search.hotwords", f"{phrases} phrases", f"at most {MOST_PHRASES}")
    rules, timeout = defaults, asked.voice_activity_timeout
    if timeout.HasField("speech_start_timeout"):
        rules = replace(rules, silence_before_speech_ms=timeout.speech_start_timeout.ToMilliseconds())
    if timeout.HasField("speech_end_timeout"):
        rules = replace(rules, silence_after_speech_ms=timeout.speech_end_timeout.ToMilliseconds())
    return Request(
        format=AudioFormat(
            ENCODINGS[config.encoding], config.sample_rate_hertz, config.audio_channel_count or int(separate), separate
        ),
        options=StreamOptions(
            interim_results=asked.interim_results,
            single_utterance=asked.single_utterance,
            max_alternatives=config.max_alternatives or 1,
            word_times=config.enable_word_time_offsets,
            rules=rules,
            search=SearchOptions(
                hotwords=tuple(
                    Phrase(text, context.boost) if context.boost else Phrase(text)
                    for context in config.speech_contexts
                    for text in context.phrases
                )
            ),
        ),
        model="" if config.model == "default" else config.model,
        language=config.language_code,
    )


class GoogleWire:
    """See live.wire.Wire. request: placed. events: the client wants those of voice activity too."""

    def __init__(self, context: aio.ServicerContext[Any, Any], request: Request, events: bool) -> None:
        self._context, self._request, self._events = context, request, events

    async def read(self) -> Message:
        message = await self._context.read()
        if message is aio.EOF:
            return await ended()
        if (kind := message.WhichOneof(ONEOF)) != "audio_content":
            raise BadMessage(ONEOF, f"got {kind or 'an empty message'} after the first, expected audio_content")
        return Audio(message.audio_content)

    async def write(self, event: Told, cursors: Cursors) -> bool:
        match event:
            case Final():
                response = self._result(event, event.hypotheses, is_final=True)
            case Partial() if self._request.options.interim_results:
                response = self._result(event, (event.hypothesis,), stability=event.stability)
            case SpeechEnd() if self._request.options.single_utterance:
                response = RESPONSE(speech_event_type=EVENT.END_OF_SINGLE_UTTERANCE)
            case SpeechBegin() | SpeechEnd() | NoSpeech() if self._events:
                response = RESPONSE(speech_event_type=EVENTS[type(event)], speech_event_time=_duration(event.time_ms))
            case _:
                return False
        await self._context.write(response)
        return True

    async def end(self, summary: Summary, cursors: Cursors) -> None:
        """There is nothing to tell: the stream's end says it."""

    def _result(self, event: Final | Partial, hypotheses: tuple[Hypothesis, ...], **more: Any) -> Any:
        options, response = self._request.options, RESPONSE()
        result = response.results.add(
            result_end_time=_duration(event.end_ms),
            channel_tag=event.channel + 1 if self._request.format.separate_channels else 0,
            language_code=self._request.language,
            **more,
        )
        for one in hypotheses[: options.max_alternatives]:
            told = result.alternatives.add(transcript=one.text, confidence=one.confidence)
            for word in one.words if options.word_times else ():
                start, end = _duration(word.start_ms), _duration(word.end_ms)
                told.words.add(start_time=start, end_time=end, word=word.text, confidence=word.confidence)
        return response


def _duration(ms: int) -> Duration:
    return Duration(seconds=ms // 1000, nanos=ms % 1000 * 1_000_000)
