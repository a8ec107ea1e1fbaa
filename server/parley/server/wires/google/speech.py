"""google.cloud.speech.v1.Speech/StreamingRecognize, for clients that are written already.

A config's wish for other words or labels, which is not to be had here, is refused; hints, such as metadata, are not
heeded, and punctuation is as the model writes it. Cursors and summaries have no place in this protocol.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import grpc
from google.cloud.speech_v1.types import cloud_speech
from grpc import aio

from parley.decoder.errors import InvalidOption
from parley.decoder.values import (
    AudioFormat,
    Encoding,
    Final,
    NoSpeech,
    Partial,
    SearchOptions,
    SpeechBegin,
    SpeechEnd,
    StreamOptions,
)
from parley.server.live.wire import Asked, Audio
from parley.server.wires.google.errors import STATUSES
from parley.server.wires.messages import channel_tag, config_of, from_ms, hotwords
from parley.server.wires.reading import ended, first_message
from parley.server.wires.statuses import BadMessage

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


def serve(server: aio.Server, recognition: Recognition, calls: Calls) -> None:
    """Adds the service to a server."""

    async def streaming_recognize(_: object, context: aio.ServicerContext[Any, Any]) -> None:
        async with calls.open(f"google.{METHOD}", context, STATUSES) as call:
            recognition.check_ready()
            message = await first_message(context, recognition.terms.stream.idle_s)
            config = config_of(message, ONEOF, "streaming_config")
            await call.name("")
            request = recognition.place(stream_request(config, recognition.terms.rules))
            wire = GoogleWire(context, request, config.enable_voice_activity_events)
            await recognition.stream(request, wire, call)

    handler = grpc.stream_stream_rpc_method_handler(
        streaming_recognize,  # a coroutine that reads and writes itself
        request_deserializer=INCOMING.FromString,
        response_serializer=RESPONSE.SerializeToString,
    )
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {METHOD: handler}),))


def stream_request(asked: Any, defaults: EndpointRules) -> Asked:
    """A StreamingRecognitionConfig, checked. Raises InvalidOption."""
    config = asked.config
    if config.encoding not in ENCODINGS:
        raise InvalidOption("format.encoding", config.encoding, f"one of {', '.join(NAMES)}, or none")
    separate = config.enable_separate_recognition_per_channel
    _check_wishes(config)
    rules, timeout = defaults, asked.voice_activity_timeout
    if timeout.HasField("speech_start_timeout"):
        rules = replace(rules, silence_before_speech_ms=timeout.speech_start_timeout.ToMilliseconds())
    if timeout.HasField("speech_end_timeout"):
        rules = replace(rules, silence_after_speech_ms=timeout.speech_end_timeout.ToMilliseconds())
    return Asked(
        format=AudioFormat(
            ENCODINGS[config.encoding], config.sample_rate_hertz, config.audio_channel_count or int(separate), separate
        ),
        options=StreamOptions(
            interim_results=asked.interim_results,
            single_utterance=asked.single_utterance,
            max_alternatives=config.max_alternatives or 1,
            word_times=config.enable_word_time_offsets,
            rules=rules,
            search=SearchOptions(hotwords=hotwords(config.speech_contexts)),
            language=config.language_code,
        ),
        model="" if config.model == "default" else config.model,
    )


def _check_wishes(config: Any) -> None:
    """Raises InvalidOption for what would make other words or labels of them, and is not to be had here."""
    wishes = {
        "profanity_filter": config.profanity_filter,
        "diarization_config": config.diarization_config.enable_speaker_diarization,
        "adaptation": config.HasField("adaptation"),
        "transcript_normalization": config.HasField("transcript_normalization"),
        "alternative_language_codes": bool(config.alternative_language_codes),
    }
    for name, wished in wishes.items():
        if wished:
            raise InvalidOption(name, "such a wish", "none, this node does not have it")


class GoogleWire:
    """See live.wire.Wire. request: placed. events: the client wants those of voice activity too."""

    def __init__(self, context: aio.ServicerContext[Any, Any], request: Asked, events: bool) -> None:
        self._context, self._request, self._events = context, request, events

    async def read(self) -> Message:
        message = await self._context.read()
        if message is aio.EOF:
            return ended()
        if (kind := message.WhichOneof(ONEOF)) != "audio_content":
            raise BadMessage(ONEOF, f"got {kind or 'an empty message'} after the first, expected audio_content")
        return Audio(message.audio_content)

    async def write(self, event: Told, cursors: Cursors) -> bool:
        match event:
            case Final():
                response = self._result(event, event.hypotheses, is_final=True)
            case Partial() if self._request.options.interim_results:
                response = self._result(event, (event.hypothesis,), stability=event.stability)
            case SpeechBegin() | SpeechEnd() | NoSpeech():
                return await self._tell(event)
            case _:
                return False
        await self._context.write(response)
        return True

    async def end(self, summary: Summary, cursors: Cursors) -> None:
        """There is nothing to tell: the stream's end says it."""

    async def _tell(self, event: SpeechBegin | SpeechEnd | NoSpeech) -> bool:
        """What the client wants of an event of voice activity: of the end of its one utterance perhaps two."""
        told = []
        if self._events:
            told.append(RESPONSE(speech_event_type=EVENTS[type(event)], speech_event_time=from_ms(event.time_ms)))
        if isinstance(event, SpeechEnd) and self._request.options.single_utterance:
            told.append(RESPONSE(speech_event_type=EVENT.END_OF_SINGLE_UTTERANCE))
        for response in told:
            await self._context.write(response)
        return bool(told)

    def _result(self, event: Final | Partial, hypotheses: tuple[Hypothesis, ...], **more: Any) -> Any:
        options, response = self._request.options, RESPONSE()
        result = response.results.add(
            result_end_time=from_ms(event.end_ms),
            channel_tag=channel_tag(self._request, event.channel),
            language_code=options.language,
            **more,
        )
        for one in hypotheses[: options.max_alternatives]:
            told = result.alternatives.add(transcript=one.text, confidence=one.confidence)
            for word in one.words if options.word_times else ():
                start, end = from_ms(word.start_ms), from_ms(word.end_ms)
                told.words.add(start_time=start, end_time=end, word=word.text, confidence=word.confidence)
        return response
