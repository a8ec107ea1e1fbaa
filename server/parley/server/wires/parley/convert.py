"""The wire's messages to the decoder's values and back. Knows both vocabularies; no stream, no call, no clock."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from google.protobuf.duration_pb2 import Duration

from parley.asr.v1 import speech_pb2 as pb
from parley.decoder.errors import InvalidOption
from parley.decoder.values import (
    AudioFormat,
    Encoding,
    EndpointRules,
    NoSpeech,
    SearchOptions,
    Source,
    SpeechBegin,
    SpeechEnd,
    StreamOptions,
    WordTiming,
)
from parley.server.live.wire import Asked
from parley.server.wires.messages import channel_tag, from_ms, hotwords

if TYPE_CHECKING:
    from collections.abc import Sequence

    from parley.decoder.model_folder import ModelInfo
    from parley.decoder.values import Cursors, Final, Hypothesis, Partial, Scores, WordLattice
    from parley.server.live.figures import Summary

LONGEST_REQUEST_ID = 128

ENCODINGS = {
    pb.AUDIO_ENCODING_UNSPECIFIED: Encoding.AUTO,
    pb.AUDIO_ENCODING_LINEAR16: Encoding.LINEAR16,
    pb.AUDIO_ENCODING_FLAC: Encoding.FLAC,
    pb.AUDIO_ENCODING_MULAW: Encoding.MULAW,
    pb.AUDIO_ENCODING_ALAW: Encoding.ALAW,
    pb.AUDIO_ENCODING_OGG_OPUS: Encoding.OGG_OPUS,
    pb.AUDIO_ENCODING_MP3: Encoding.MP3,
    pb.AUDIO_ENCODING_WEBM_OPUS: Encoding.WEBM_OPUS,
}
TIMINGS = {
    WordTiming.ATTENTION: pb.WORD_TIMING_ATTENTION,
    WordTiming.CTC: pb.WORD_TIMING_CTC,
    WordTiming.MIXED: pb.WORD_TIMING_MIXED,
}
SOURCES = {
    Source.FIRST: pb.FINAL_SOURCE_FIRST_PASS,
    Source.SECOND: pb.FINAL_SOURCE_SECOND_PASS,
    Source.FIRST_IN_TIME: pb.FINAL_SOURCE_FIRST_PASS_IN_TIME,
}
SPEECH_EVENTS = {
    SpeechBegin: pb.SPEECH_EVENT_TYPE_SPEECH_BEGIN,
    SpeechEnd: pb.SPEECH_EVENT_TYPE_SPEECH_END,
    NoSpeech: pb.SPEECH_EVENT_TYPE_NO_SPEECH,
}


def request_id(asked: str) -> str:
    """The caller's id for a request, checked. Raises InvalidOption."""
    if len(asked) > LONGEST_REQUEST_ID or not asked.isascii() or not asked.isprintable():
        expected = f"at most {LONGEST_REQUEST_ID} printable ASCII characters"
        raise InvalidOption("request_id", ascii(asked[:LONGEST_REQUEST_ID]), expected)
    return asked


def file_request(config: pb.RecognitionConfig) -> Asked:
    """A recording's config, checked. Raises InvalidOption."""
    if config.encoding not in ENCODINGS:
        known = ", ".join(encoding.value for encoding in ENCODINGS.values() if encoding is not Encoding.AUTO)
        raise InvalidOption("format.encoding", config.encoding, f"one of {known}, or none to have it recognized")
    return Asked(
        format=AudioFormat(
            encoding=ENCODINGS[config.encoding],
            sample_rate=config.sample_rate_hertz,
            channels=config.audio_channel_count,
            separate_channels=config.separate_recognition_per_channel,
        ),
        options=StreamOptions(
            max_alternatives=config.max_alternatives or 1,
            word_times=config.enable_word_time_offsets,
            search=search_options(config),
            language=config.language_code,
            written=config.enable_inverse_text_normalization,
        ),
        model=config.model,
    )


def stream_request(config: pb.StreamingRecognitionConfig, defaults: EndpointRules) -> Asked:
    """A stream's config, checked. Raises InvalidOption."""
    request = file_request(config.config)
    if request.format.separate_channels and not request.format.channels:
        # The decoders are lent before the audio's header comes.
        raise InvalidOption("format.channels", 0, "1 to 8 with separate_recognition_per_channel in a stream")
    options = replace(
        request.options,
        interim_results=config.interim_results,
        single_utterance=config.single_utterance,
        rules=endpoint_rules(config.endpoint_rules, defaults),
    )
    return replace(request, options=options)


def search_options(config: pb.RecognitionConfig) -> SearchOptions:
    """What a config says of the search; None for what it leaves to the node."""
    search = config.search
    return SearchOptions(
        beam=search.beam or None,
        language_weight=search.language_weight if search.HasField("language_weight") else None,
        word_bonus=search.word_bonus if search.HasField("word_bonus") else None,
        hotwords=hotwords(config.speech_contexts),
        grammar=search.grammar,
        lattice=search.lattice,
    )


def endpoint_rules(rules: pb.EndpointRules, defaults: EndpointRules) -> EndpointRules:
    """The rules asked for over the node's own."""
    asked = {f"{field.name}_ms": value.ToMilliseconds() for field, value in rules.ListFields()}
    return replace(defaults, **asked)


def final_result(final: Final, request: Asked) -> pb.StreamingRecognitionResult:
    """A final on the wire."""
    return pb.StreamingRecognitionResult(
        alternatives=_alternatives(final.hypotheses, request),
        is_final=True,
        result_start_time=from_ms(final.start_ms),
        result_end_time=from_ms(final.end_ms),
        channel_tag=channel_tag(request, final.channel),
        language_code=request.options.language,
        segment=final.segment,
        word_timing=_timing(final, request),
        source=SOURCES[final.source],
        latency=pb.FinalLatency(total=from_s(final.total_s), queue=from_s(final.queue_s), batch_size=final.batch_size),
        lattice=_lattice(final.lattice),
    )


def interim_result(partial: Partial, request: Asked) -> pb.StreamingRecognitionResult:
    """A partial on the wire."""
    alternatives = _alternatives([partial.hypothesis], request)
    return pb.StreamingRecognitionResult(
        alternatives=alternatives,
        stability=partial.stability,
        result_start_time=from_ms(partial.start_ms),
        result_end_time=from_ms(partial.end_ms),
        channel_tag=channel_tag(request, partial.channel),
        language_code=request.options.language,
        segment=partial.segment,
        # Only the first pass times the words of an utterance that is still open.
        word_timing=pb.WORD_TIMING_CTC if alternatives[0].words else pb.WORD_TIMING_UNSPECIFIED,
    )


def file_result(final: Final, request: Asked) -> pb.SpeechRecognitionResult:
    """A file's segment on the wire."""
    return pb.SpeechRecognitionResult(
        alternatives=_alternatives(final.hypotheses, request),
        channel_tag=channel_tag(request, final.channel),
        result_start_time=from_ms(final.start_ms),
        result_end_time=from_ms(final.end_ms),
        language_code=request.options.language,
        word_timing=_timing(final, request),
        source=SOURCES[final.source],
        lattice=_lattice(final.lattice),
    )


def speech_event(event: SpeechBegin | SpeechEnd | NoSpeech, request: Asked) -> pb.SpeechEvent:
    """A voice activity event on the wire."""
    return pb.SpeechEvent(
        type=SPEECH_EVENTS[type(event)], time=from_ms(event.time_ms), channel_tag=channel_tag(request, event.channel)
    )


def cursors(at: Cursors) -> pb.Cursors:
    """Cursors on the wire."""
    return pb.Cursors(received=from_ms(at.received_ms), processed=from_ms(at.processed_ms), final=from_ms(at.final_ms))


def summary(figures: Summary) -> pb.StreamSummary:
    """A stream's figures on the wire."""
    after_half_close, to_first = figures.half_close_to_last_final_s, figures.speech_to_first_result_s
    return pb.StreamSummary(
        audio=from_ms(figures.audio_ms),
        finals=figures.finals,
        interims=figures.interims,
        half_close_to_last_final=None if after_half_close is None else from_s(after_half_close),
        worst_final=from_s(figures.worst_final_s),
        speech_to_first_result=None if to_first is None else from_s(to_first),
    )


def model(info: ModelInfo) -> pb.Model:
    """A model's description on the wire."""
    return pb.Model(
        name=info.name,
        language_codes=info.languages,
        sample_rate_hertz=info.sample_rate,
        description=info.description,
        license=info.license,
    )


def from_s(seconds: float) -> Duration:
    """Seconds as a Duration, to the microsecond."""
    whole, rest = divmod(round(seconds * 1_000_000), 1_000_000)
    return Duration(seconds=whole, nanos=rest * 1_000)


def _alternatives(hypotheses: Sequence[Hypothesis], request: Asked) -> list[pb.SpeechRecognitionAlternative]:
    return [
        pb.SpeechRecognitionAlternative(
            transcript=hypothesis.text,
            confidence=hypothesis.confidence,
            words=[
                pb.WordInfo(
                    start_time=from_ms(word.start_ms),
                    end_time=from_ms(word.end_ms),
                    word=word.text,
                    confidence=word.confidence,
                )
                for word in hypothesis.words
            ]
            if request.options.word_times
            else (),
            scores=_scores(hypothesis.scores),
        )
        for hypothesis in hypotheses[: request.options.max_alternatives]
    ]


def _scores(scores: Scores | None) -> pb.Scores | None:
    if scores is None:
        return None
    return pb.Scores(acoustic=scores.acoustic, language=scores.language, hotwords=scores.hotwords, total=scores.total)


def _lattice(lattice: WordLattice | None) -> pb.Lattice | None:
    if lattice is None:
        return None
    return pb.Lattice(
        points=lattice.points,
        arcs=[
            pb.LatticeArc(
                source=arc.source,
                target=arc.target,
                word=arc.word,
                start_time=from_ms(arc.start_ms),
                end_time=from_ms(arc.end_ms),
                acoustic=arc.acoustic,
                language=arc.language,
                posterior=arc.posterior,
            )
            for arc in lattice.arcs
        ],
    )


def _timing(final: Final, request: Asked) -> pb.WordTiming.ValueType:
    return TIMINGS[final.word_timing] if request.options.word_times else pb.WORD_TIMING_UNSPECIFIED
