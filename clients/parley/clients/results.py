"""What a server says, as values. Knows the wire's messages; no caller meets a protobuf.

Times are seconds of audio from the start of the stream or recording.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING

from parley.asr.v1 import speech_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Sequence

    from google.protobuf.duration_pb2 import Duration


@dataclass(frozen=True, slots=True)
class Word:
    text: str
    start_s: float
    end_s: float
    confidence: float  # 0..1, the model's own; 0: not known


@dataclass(frozen=True, slots=True)
class Scores:
    """What a search chose by: natural logarithms, the higher the likelier. `total` is the sum of the others."""

    acoustic: float
    language: float
    hotwords: float
    total: float


@dataclass(frozen=True, slots=True)
class Alternative:
    """Another reading of a result's audio, less likely than the result's own."""

    text: str
    confidence: float
    words: tuple[Word, ...]
    scores: Scores | None = None


@dataclass(frozen=True, slots=True)
class LatticeArc:
    """A word between two points of a lattice; "" for silence. `acoustic`, `language`: natural logarithms. `posterior`:
    0..1, the share of all readings, each by its probability, that go along here."""

    source: int
    target: int
    word: str
    start_s: float
    end_s: float
    acoustic: float
    language: float
    posterior: float


@dataclass(frozen=True, slots=True)
class Lattice:
    """What else may have been said. Points are numbered by time: every way from 0 to `points - 1` is a reading."""

    points: int
    arcs: tuple[LatticeArc, ...]


@dataclass(frozen=True, slots=True)
class Latency:
    """Where the time of a final went, on the server's clock."""

    total_s: float  # from the decision to end the utterance to the result leaving the decoder
    queue_s: float  # of that: waiting for the device
    batch_size: int


@dataclass(frozen=True, slots=True)
class Result:
    """A part of a channel's speech. Interim results of a segment replace one another until its final comes.

    One without text takes the others back: there were no words.
    """

    text: str
    is_final: bool
    start_s: float
    end_s: float
    channel: int  # 1 for the first, with separate_channels; else 0
    segment: int  # number of the utterance in its channel, or of the segment in its recording
    stability: float  # of an interim result, 0..1; 0: not known
    confidence: float
    words: tuple[Word, ...]
    others: tuple[Alternative, ...]
    language: str
    word_timing: str  # how word times were made: "ctc", "attention", "mixed" or "" (there are none)
    source: str  # which pass a final is from: "first", "second", "first_in_time" (the second was late) or "" (not said)
    latency: Latency | None  # of a stream's final
    scores: Scores | None = None  # of a final of a search
    lattice: Lattice | None = None  # of a final, if it was asked for and the search has one


class SpeechEventKind(enum.Enum):
    BEGIN = "begin"
    END = "end"
    NO_SPEECH = "no speech"


@dataclass(frozen=True, slots=True)
class SpeechEvent:
    """Something the server's voice activity detector saw."""

    kind: SpeechEventKind
    time_s: float
    channel: int


@dataclass(frozen=True, slots=True)
class Cursors:
    """How far the server is; with several channels the slowest channel's."""

    received_s: float = 0.0
    processed_s: float = 0.0
    final_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Summary:
    """A stream's figures, when all is said. `None`: it did not happen."""

    audio_s: float
    finals: int
    interims: int
    half_close_to_last_final_s: float | None
    worst_final_s: float | None
    speech_to_first_result_s: float | None
    breaks: int  # of the connection, each survived


@dataclass(frozen=True, slots=True)
class Transcript:
    """A recording's words."""

    results: tuple[Result, ...]
    audio_s: float
    processing_s: float
    request_id: str

    @property
    def text(self) -> str:
        return " ".join(result.text for result in self.results)


@dataclass(frozen=True, slots=True)
class Model:
    name: str
    languages: tuple[str, ...]
    sample_rate: int
    description: str
    license: str


class Serving(enum.Enum):
    """A service's health."""

    UNKNOWN = 0
    SERVING = 1
    NOT_SERVING = 2
    SERVICE_UNKNOWN = 3


def seconds(duration: Duration) -> float:
    # Rounded, so that a sum of times reads 3.3 and not 3.3000000000000003.
    return round(duration.seconds + duration.nanos / 1e9, 6)


def stream_result(message: pb.StreamingRecognitionResult) -> Result:
    first, others = _alternatives(message.alternatives)
    latency = message.latency
    return Result(
        text=first.text,
        is_final=message.is_final,
        start_s=seconds(message.result_start_time),
        end_s=seconds(message.result_end_time),
        channel=message.channel_tag,
        segment=message.segment,
        stability=message.stability,
        confidence=first.confidence,
        words=first.words,
        others=others,
        language=message.language_code,
        word_timing=_WORD_TIMINGS.get(message.word_timing, ""),
        source=_SOURCES.get(message.source, ""),
        latency=Latency(seconds(latency.total), seconds(latency.queue), latency.batch_size)
        if message.HasField("latency")
        else None,
        scores=first.scores,
        lattice=_lattice(message),
    )


def transcript(message: pb.RecognizeResponse) -> Transcript:
    return Transcript(
        results=tuple(_file_result(result, number) for number, result in enumerate(message.results)),
        audio_s=seconds(message.audio),
        processing_s=seconds(message.processing),
        request_id=message.request_id,
    )


def _file_result(message: pb.SpeechRecognitionResult, segment: int) -> Result:
    first, others = _alternatives(message.alternatives)
    return Result(
        text=first.text,
        is_final=True,
        start_s=seconds(message.result_start_time),
        end_s=seconds(message.result_end_time),
        channel=message.channel_tag,
        segment=segment,
        stability=0.0,
        confidence=first.confidence,
        words=first.words,
        others=others,
        language=message.language_code,
        word_timing=_WORD_TIMINGS.get(message.word_timing, ""),
        source=_SOURCES.get(message.source, ""),
        latency=None,
        scores=first.scores,
        lattice=_lattice(message),
    )


def speech_event(message: pb.SpeechEvent) -> SpeechEvent | None:
    """None for a kind of event this client does not know: a newer server may send one."""
    kind = _EVENT_KINDS.get(message.type)
    return SpeechEvent(kind, seconds(message.time), message.channel_tag) if kind else None


def cursors(message: pb.Cursors) -> Cursors:
    return Cursors(
        received_s=seconds(message.received),
        processed_s=seconds(message.processed),
        final_s=seconds(message.final),
    )


def summary(message: pb.StreamSummary, breaks: int) -> Summary:
    return Summary(
        audio_s=seconds(message.audio),
        finals=message.finals,
        interims=message.interims,
        half_close_to_last_final_s=_optional(message, "half_close_to_last_final"),
        worst_final_s=_optional(message, "worst_final"),
        speech_to_first_result_s=_optional(message, "speech_to_first_result"),
        breaks=breaks,
    )


def model(message: pb.Model) -> Model:
    return Model(
        name=message.name,
        languages=tuple(message.language_codes),
        sample_rate=message.sample_rate_hertz,
        description=message.description,
        license=message.license,
    )


def _optional(message: pb.StreamSummary, field: str) -> float | None:
    return seconds(getattr(message, field)) if message.HasField(field) else None  # type: ignore[arg-type]


def _alternatives(
    messages: Sequence[pb.SpeechRecognitionAlternative],
) -> tuple[Alternative, tuple[Alternative, ...]]:
    first, *others = [
        Alternative(
            message.transcript,
            message.confidence,
            tuple(
                Word(word.word, seconds(word.start_time), seconds(word.end_time), word.confidence)
                for word in message.words
            ),
            _scores(message),
        )
        for message in messages
    ] or [Alternative("", 0.0, ())]
    return first, tuple(others)


def _scores(message: pb.SpeechRecognitionAlternative) -> Scores | None:
    if not message.HasField("scores"):
        return None
    scores = message.scores
    return Scores(scores.acoustic, scores.language, scores.hotwords, scores.total)


def _lattice(message: pb.StreamingRecognitionResult | pb.SpeechRecognitionResult) -> Lattice | None:
    if not message.HasField("lattice"):
        return None
    return Lattice(
        message.lattice.points,
        tuple(
            LatticeArc(
                source=arc.source,
                target=arc.target,
                word=arc.word,
                start_s=seconds(arc.start_time),
                end_s=seconds(arc.end_time),
                acoustic=arc.acoustic,
                language=arc.language,
                posterior=arc.posterior,
            )
            for arc in message.lattice.arcs
        ),
    )


FIRST_IN_TIME = "first_in_time"
_WORD_TIMINGS: dict[int, str] = {
    pb.WORD_TIMING_CTC: "ctc",
    pb.WORD_TIMING_ATTENTION: "attention",
    pb.WORD_TIMING_MIXED: "mixed",
}
_SOURCES: dict[int, str] = {
    pb.FINAL_SOURCE_FIRST_PASS: "first",
    pb.FINAL_SOURCE_SECOND_PASS: "second",
    pb.FINAL_SOURCE_FIRST_PASS_IN_TIME: FIRST_IN_TIME,
}
_EVENT_KINDS: dict[int, SpeechEventKind] = {
    pb.SPEECH_EVENT_TYPE_SPEECH_BEGIN: SpeechEventKind.BEGIN,
    pb.SPEECH_EVENT_TYPE_SPEECH_END: SpeechEventKind.END,
    pb.SPEECH_EVENT_TYPE_NO_SPEECH: SpeechEventKind.NO_SPEECH,
}
