"""The values that pass between the decoder's parts and its callers. Knows no logic beyond checking itself.

Times are whole milliseconds of audio from the start of the stream or file, unless a name says otherwise.
A request is a `format`, `options`, a `model` and a `language`: what is wrong with one is said of a dotted path from
there, such as `options.rules.longest_utterance_ms`.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from parley.decoder.bounds import Range, described, out_of_bounds
from parley.decoder.errors import InvalidOption

if TYPE_CHECKING:
    from collections.abc import Callable


class Encoding(enum.Enum):
    """The form of audio bytes. AUTO is recognized by the first bytes."""

    AUTO = "auto"
    LINEAR16 = "LINEAR16"
    FLAC = "FLAC"
    MULAW = "MULAW"
    ALAW = "ALAW"
    OGG_OPUS = "OGG_OPUS"
    MP3 = "MP3"
    WEBM_OPUS = "WEBM_OPUS"


HEADERLESS = frozenset({Encoding.LINEAR16, Encoding.MULAW, Encoding.ALAW})
LOWEST_RATE, HIGHEST_RATE = 8_000, 48_000  # Hz
MOST_CHANNELS = 8
MOST_ALTERNATIVES = 10
LONGEST_UTTERANCE_MS = 30_000  # that a request may ask for: decoders have room for it


@dataclass(frozen=True, slots=True)
class AudioFormat:
    """What a request says of its audio. `sample_rate` and `channels` 0: not said, the audio's header decides."""

    encoding: Encoding = Encoding.AUTO
    sample_rate: int = 0
    channels: int = 0
    separate_channels: bool = False

    def __post_init__(self) -> None:
        if self.sample_rate and not LOWEST_RATE <= self.sample_rate <= HIGHEST_RATE:
            raise InvalidOption("format.sample_rate", self.sample_rate, f"{LOWEST_RATE} to {HIGHEST_RATE} Hz")
        if not 0 <= self.channels <= MOST_CHANNELS:
            raise InvalidOption("format.channels", self.channels, f"1 to {MOST_CHANNELS} channels")


@dataclass(frozen=True, slots=True)
class EndpointRules:
    """When an utterance ends; Kaldi's rules. See parley.decoder.speech.endpoint."""

    silence_before_speech_ms: int = described(
        0, "silence without speech that is told of, ms; 0: never", Range(0, 3_600_000, said="0 (never) to 3600 s")
    )
    silence_after_speech_ms: int = described(
        800, "silence that ends an utterance, ms", Range(100, 10_000, said="0.1 s to 10 s")
    )
    longest_utterance_ms: int = described(
        20_000, "length at which an utterance is cut, ms", Range(2_000, LONGEST_UTTERANCE_MS, said="2 s to 30 s")
    )

    def __post_init__(self) -> None:
        for fault in out_of_bounds(self):
            raise InvalidOption(f"options.rules.{fault.field}", f"{fault.found} ms", fault.expected)


CHUNKS_MS = (160, 320, 640)  # that a step of the first pass may have


class Precision(enum.Enum):
    """Arithmetic of the first pass's own network."""

    AUTO = "auto"  # int8 where it pays and the network has it, else float32
    FLOAT32 = "float32"
    INT8 = "int8"


class SearchKind(enum.Enum):
    """How the first pass's words are found: the likeliest token of each frame (BEST_PATH), beams of prefixes with a
    language model (BEAM), or for finals and files a lattice of whole utterances, by k2 (K2)."""

    BEST_PATH = "best_path"
    BEAM = "beam"
    K2 = "k2"


TOKENS = "tokens"  # of a lattice search the graph that is always there: all that the model can say


class Passes(enum.Enum):
    """What decodes: the streaming network as the audio comes (FIRST), the attention decoder over whole utterances
    (SECOND), or interim results from the one and finals from the other (BOTH)."""

    FIRST = "first"
    SECOND = "second"
    BOTH = "both"


LONGEST_PHRASE = 100  # characters of a hotword phrase
MOST_PHRASES = 1_000  # of a request
MOST_BOOST = 20.0
MOST_BEAM = 64
BEAM = Range(1, MOST_BEAM)
LANGUAGE_WEIGHT = Range(0, 5)
WORD_BONUS = Range(-10, 10)
MOST_ORDER = 5  # of a language model's n-grams
MOST_CONTEXT = MOST_ORDER - 1  # words that it goes on from


@dataclass(frozen=True, slots=True)
class Phrase:
    """Words to be heard more readily. boost: what four letters of it are worth, as a natural logarithm."""

    text: str
    boost: float = 2.0

    def __post_init__(self) -> None:
        if len(self.text) > LONGEST_PHRASE or not self.text.strip() or not self.text.isprintable():
            found = ascii(self.text[: LONGEST_PHRASE + 1])
            raise InvalidOption("options.search.hotwords.text", found, f"1 to {LONGEST_PHRASE} printable characters")
        if not 0 <= self.boost <= MOST_BOOST:
            raise InvalidOption("options.search.hotwords.boost", self.boost, f"0 to {MOST_BOOST:g}")


@dataclass(frozen=True, slots=True)
class SearchOptions:
    """How the first pass's words are searched for; None leaves it to the recognizer's config. hotwords: beside the
    recognizer's own. grammar: the name of one that takes the language model's place, in a lattice search. lattice:
    wanted beside the words."""

    beam: int | None = described(None, "hypotheses that an utterance keeps open", BEAM)
    language_weight: float | None = described(
        None, "how much the language model counts; 0: not at all", LANGUAGE_WEIGHT
    )
    word_bonus: float | None = described(None, "added for every word, natural logarithm", WORD_BONUS)
    hotwords: tuple[Phrase, ...] = ()
    grammar: str = ""
    lattice: bool = False

    def __post_init__(self) -> None:
        for fault in out_of_bounds(self):
            raise InvalidOption(f"options.search.{fault.field}", fault.found, fault.expected)
        if len(self.hotwords) > MOST_PHRASES:
            raise InvalidOption("options.search.hotwords", f"{len(self.hotwords)} phrases", f"at most {MOST_PHRASES}")


@dataclass(frozen=True, slots=True)
class StreamOptions:
    """What a request wants of its decoder. passes: None leaves it to the recognizer's config. language: of its results,
    "en-US"; "": not known. written: finals in written form ("25", not "twenty five"), where the language has one."""

    interim_results: bool = False
    single_utterance: bool = False
    max_alternatives: int = 1
    word_times: bool = True
    rules: EndpointRules = field(default_factory=EndpointRules)
    passes: Passes | None = None
    search: SearchOptions = SearchOptions()
    language: str = ""
    written: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.max_alternatives <= MOST_ALTERNATIVES:
            raise InvalidOption("options.max_alternatives", self.max_alternatives, f"1 to {MOST_ALTERNATIVES}")


class WordTiming(enum.Enum):
    """How word times were made. MIXED: the first pass's where both passes have the word, else by attention."""

    CTC = "ctc"
    ATTENTION = "attention"
    MIXED = "mixed"


class Source(enum.Enum):
    """Which pass a final's words are from. FIRST_IN_TIME: from the first, because the second could not give them within
    the budget."""

    FIRST = "first"
    SECOND = "second"
    FIRST_IN_TIME = "first_in_time"


@dataclass(frozen=True, slots=True)
class Word:
    text: str
    start_ms: int
    end_ms: int
    confidence: float  # 0..1
    speaker: str = ""  # "": not told apart


@dataclass(frozen=True, slots=True)
class Scores:
    """Natural logarithms: of all the audio under the words; of the words under the language model, times its weight,
    with the word bonus; what hotwords have earned."""

    acoustic: float
    language: float = 0.0
    hotwords: float = 0.0

    @property
    def total(self) -> float:
        return self.acoustic + self.language + self.hotwords


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """scores: of a search that has them. stability: of words that are not final the chance, 0..1, that they stay; 0:
    not known."""

    text: str
    confidence: float  # 0..1
    words: tuple[Word, ...] = ()
    scores: Scores | None = None
    stability: float = 0.0


@dataclass(frozen=True, slots=True)
class LatticeArc:
    """A word between two points; "" for silence. acoustic, language: natural logarithms. posterior: 0..1, the share of
    all the lattice's paths, by their probability, that go along here."""

    source: int
    target: int
    word: str
    start_ms: int
    end_ms: int
    acoustic: float
    language: float
    posterior: float


@dataclass(frozen=True, slots=True)
class WordLattice:
    """What else may have been said. Points are numbered by time: 0 is the utterance's start, `points - 1` its end. Arcs
    are sorted by source, then target; times are as a transcript's."""

    points: int
    arcs: tuple[LatticeArc, ...]


@dataclass(frozen=True, slots=True)
class Transcript:
    """One utterance's n-best, word times in milliseconds from the utterance's start. No hypotheses: no words in it."""

    hypotheses: tuple[Hypothesis, ...]
    lattice: WordLattice | None = None


@dataclass(frozen=True, slots=True)
class SpeechBegin:
    channel: int
    time_ms: int


@dataclass(frozen=True, slots=True)
class SpeechEnd:
    channel: int
    time_ms: int


@dataclass(frozen=True, slots=True)
class NoSpeech:
    """`silence_before_speech_ms` passed without speech."""

    channel: int
    time_ms: int


@dataclass(frozen=True, slots=True)
class Partial:
    """The open utterance's words so far."""

    channel: int
    segment: int
    start_ms: int
    end_ms: int
    hypothesis: Hypothesis
    stability: float = 0.0  # 0: not known


@dataclass(frozen=True, slots=True)
class Final:
    """An utterance's words. `hypotheses` is never empty; an utterance without words gives no Final. speaker: of all its
    words, "" if they are not told apart. passed: names of stages that it has gone past, for they failed, were late or
    had stopped; for a call's figures and the log, no client is told."""

    channel: int
    segment: int
    start_ms: int
    end_ms: int
    hypotheses: tuple[Hypothesis, ...]
    word_timing: WordTiming
    source: Source
    total_s: float  # from the decision to end the utterance to now, wall clock
    queue_s: float  # of that: waiting for the device
    batch_size: int
    lattice: WordLattice | None = None
    speaker: str = ""
    passed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Advanced:
    """All of the channel's audio before `final_ms` is final. Comes also for an utterance that held no words."""

    channel: int
    final_ms: int


@dataclass(frozen=True, slots=True)
class Finished:
    """Every channel has ended and every final has been sent: a stream's last event."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The stream cannot go on. A stream's last event."""

    error: Exception


Event: TypeAlias = "SpeechBegin | SpeechEnd | NoSpeech | Partial | Final | Advanced | Finished | Failed"
Sink: TypeAlias = "Callable[[Event], None]"


@dataclass(frozen=True, slots=True)
class Cursors:
    """How far a stream is; with several channels the slowest channel's."""

    received_ms: int
    processed_ms: int
    final_ms: int
