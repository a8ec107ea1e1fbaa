"""What a caller asks for, as values. Knows how it looks on the wire and which audio has no header; checks nothing.

The server checks every option and says what it expected; checking here too would only drift from it.
"""

from __future__ import annotations

import enum
from collections import defaultdict
from dataclasses import dataclass
from typing import TypeAlias

from google.protobuf import duration_pb2

from parley.asr.v1 import speech_pb2 as pb
from parley.wire import audio


class Encoding(enum.Enum):
    """The form of audio bytes. AUTO: the server recognizes it by the first bytes."""

    AUTO = "auto"
    LINEAR16 = "linear16"
    FLAC = "flac"
    MULAW = "mulaw"
    ALAW = "alaw"
    OGG_OPUS = "ogg_opus"
    MP3 = "mp3"
    WEBM_OPUS = "webm_opus"


Hotword: TypeAlias = "str | tuple[str, float]"  # a phrase, perhaps with its boost


class Control(enum.Enum):
    """What may stand between the pieces of audio of a stream."""

    FINALIZE = "finalize"  # end the open utterance now, on every channel; the stream goes on
    KEEP_ALIVE = "keep alive"  # a sign of life: the server's idle clock starts again


@dataclass(frozen=True, kw_only=True)
class RecognitionConfig:
    """What the audio is and what is wanted of it.

    `sample_rate` (Hz) and `channels` may stay 0 for audio with a header. `language` and `model` empty: the server's.
    `written`: finals as one writes ("25"), not as one speaks ("twenty five").

    The rest is for a first pass that searches. `hotwords`: phrases that are likelier here than elsewhere. `beam` 0,
    `language_weight` and `word_bonus` None: the server's; a `language_weight` of 0 leaves the language model out.
    `grammar`: one of the server's, which then takes the language model's place. `lattice`: finals are to have one.
    """

    encoding: Encoding = Encoding.AUTO
    sample_rate: int = 0
    channels: int = 0
    separate_channels: bool = False
    language: str = ""
    model: str = ""
    alternatives: int = 1
    words: bool = False
    request_id: str = ""
    written: bool = False
    hotwords: tuple[Hotword, ...] = ()
    beam: int = 0
    language_weight: float | None = None
    word_bonus: float | None = None
    grammar: str = ""
    lattice: bool = False

    def to_wire(self) -> pb.RecognitionConfig:
        return pb.RecognitionConfig(
            encoding=_WIRE_ENCODINGS[self.encoding],
            sample_rate_hertz=self.sample_rate,
            language_code=self.language,
            max_alternatives=self.alternatives,
            audio_channel_count=self.channels,
            enable_word_time_offsets=self.words,
            separate_recognition_per_channel=self.separate_channels,
            model=self.model,
            request_id=self.request_id,
            enable_inverse_text_normalization=self.written,
            speech_contexts=_speech_contexts(self.hotwords),
            search=self._search(),
        )

    def _search(self) -> pb.SearchConfig | None:
        search = pb.SearchConfig(
            beam=self.beam,
            language_weight=self.language_weight,
            word_bonus=self.word_bonus,
            grammar=self.grammar,
            lattice=self.lattice,
        )
        return search if search.ListFields() else None


@dataclass(frozen=True, kw_only=True)
class StreamConfig(RecognitionConfig):
    """What is wanted of a stream. An endpoint rule left None takes the server's default."""

    interim_results: bool = True
    single_utterance: bool = False
    silence_before_speech_s: float | None = None
    silence_after_speech_s: float | None = None
    longest_utterance_s: float | None = None

    def to_stream_wire(self, speech_events: bool) -> pb.StreamingRecognitionConfig:
        return pb.StreamingRecognitionConfig(
            config=self.to_wire(),
            single_utterance=self.single_utterance,
            interim_results=self.interim_results,
            speech_events=speech_events,
            endpoint_rules=pb.EndpointRules(
                silence_before_speech=_duration(self.silence_before_speech_s),
                silence_after_speech=_duration(self.silence_after_speech_s),
                longest_utterance=_duration(self.longest_utterance_s),
            ),
        )


def request(item: bytes | Control) -> pb.StreamingRecognizeRequest:
    """A stream's item as its message."""
    if isinstance(item, Control):
        return pb.StreamingRecognizeRequest(control=_WIRE_CONTROLS[item])
    return pb.StreamingRecognizeRequest(audio=item)


def _speech_contexts(hotwords: tuple[Hotword, ...]) -> list[pb.SpeechContext]:
    by_boost: dict[float, list[str]] = defaultdict(list)
    for hotword in hotwords:
        phrase, boost = (hotword, 0.0) if isinstance(hotword, str) else hotword
        by_boost[boost].append(phrase)
    return [pb.SpeechContext(phrases=phrases, boost=boost) for boost, phrases in by_boost.items()]


def _duration(seconds: float | None) -> duration_pb2.Duration | None:
    if seconds is None:
        return None
    duration = duration_pb2.Duration()
    duration.FromMilliseconds(round(seconds * 1000))
    return duration


_WIRE_ENCODINGS = {
    Encoding.AUTO: pb.AUDIO_ENCODING_UNSPECIFIED,
    Encoding.LINEAR16: pb.AUDIO_ENCODING_LINEAR16,
    Encoding.FLAC: pb.AUDIO_ENCODING_FLAC,
    Encoding.MULAW: pb.AUDIO_ENCODING_MULAW,
    Encoding.ALAW: pb.AUDIO_ENCODING_ALAW,
    Encoding.OGG_OPUS: pb.AUDIO_ENCODING_OGG_OPUS,
    Encoding.MP3: pb.AUDIO_ENCODING_MP3,
    Encoding.WEBM_OPUS: pb.AUDIO_ENCODING_WEBM_OPUS,
}
SAMPLE_BYTES = {  # headerless: bytes map to time
    encoding: audio.SAMPLE_BYTES[wire] for encoding, wire in _WIRE_ENCODINGS.items() if wire in audio.SAMPLE_BYTES
}
_WIRE_CONTROLS = {Control.FINALIZE: pb.CONTROL_FINALIZE, Control.KEEP_ALIVE: pb.CONTROL_KEEP_ALIVE}
