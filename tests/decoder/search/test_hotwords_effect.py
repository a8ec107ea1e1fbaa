"""What hotwords do on real speech with the embedded model and language model, at the boost that they have unasked."""

from __future__ import annotations

import queue
import time
from functools import cache
from typing import TYPE_CHECKING

import pytest

from parley.decoder.audio import open_file
from parley.decoder.config import RecognizerConfig
from parley.decoder.recognizer import Recognizer
from parley.decoder.values import AudioFormat, Failed, Final, Finished, Passes, Phrase, SearchOptions, StreamOptions
from scripts.speech import CALL, DATA
from tests.decoder.conftest import FIRST_MODEL, MODELS
from tests.speech import RECORDINGS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from parley.decoder.values import Event

    Hear = Callable[[Recognizer, str, Sequence[str]], list[str]]

LANGUAGE_MODEL = MODELS / "lm-en" / "en.lm"
WAIT_S = 60.0
SPEECH = (*RECORDINGS, CALL.name)
UNRELATED = (
    "amoxicillin", "bratislava", "copernicus", "düsseldorf", "ezekiel", "fjord", "giuseppe verdi", "hyperbole",
    "isotope", "jukebox", "kilimanjaro", "lufthansa", "mozambique", "nebuchadnezzar", "oboe", "photosynthesis",
    "quixote", "rhinoceros", "scherzo", "tchaikovsky", "uzbekistan", "voltaire", "wolfgang amadeus", "xylophone",
    "yggdrasil", "zbigniew",
)  # fmt: skip


@pytest.fixture(scope="module")
def recognizer() -> Iterator[Recognizer]:
    config = RecognizerConfig(
        first_model_dir=FIRST_MODEL, passes=Passes.FIRST, devices=("cpu",), decoders=2, language_model=LANGUAGE_MODEL
    )
    with Recognizer(config) as recognizer:
        yield recognizer


@pytest.fixture(scope="module")
def plain(recognizer: Recognizer) -> Callable[[Hear, str], list[str]]:
    """The words without hotwords."""
    return cache(lambda hear, recording: hear(recognizer, recording, ()))


def as_file(recognizer: Recognizer, recording: str, hotwords: Sequence[str]) -> list[str]:
    """The words of its finals."""
    audio = open_file((DATA / recording).read_bytes(), _format(recording))
    with recognizer.pool.lend(WAIT_S, audio.channels) as lease:
        return _words(recognizer.transcribe(lease, audio, _options(hotwords)).finals)


def as_stream(recognizer: Recognizer, recording: str, hotwords: Sequence[str]) -> list[str]:
    events: queue.SimpleQueue[Event] = queue.SimpleQueue()
    finals = []
    fmt = _format(recording)
    with recognizer.pool.lend(WAIT_S, fmt.channels) as lease:
        stream = recognizer.open_stream(lease, fmt, _options(hotwords), events.put)
        for _ in stream.accept((DATA / recording).read_bytes()):
            while not stream.has_room:
                time.sleep(0.001)
        for _ in stream.finish():
            pass
        while not isinstance(event := events.get(timeout=WAIT_S), Finished):
            assert not isinstance(event, Failed), event.error
            if isinstance(event, Final):
                finals.append(event)
    return _words(sorted(finals, key=lambda final: (final.start_ms, final.channel)))


def _format(recording: str) -> AudioFormat:
    return AudioFormat(channels=2 if recording == CALL.name else 1, separate_channels=True)


def _options(hotwords: Sequence[str]) -> StreamOptions:
    return StreamOptions(search=SearchOptions(hotwords=tuple(map(Phrase, hotwords))))


def _words(finals: Sequence[Final]) -> list[str]:
    return " ".join(final.hypotheses[0].text for final in finals).split()


def times(phrase: str, words: Sequence[str]) -> int:
    return f" {' '.join(words)} ".count(f" {phrase} ")


@pytest.mark.parametrize(
    ("hear", "recording", "said"),
    [
        (as_file, "two_cities.flac", {"epoch": 2, "incredulity": 1}),
        (as_stream, "two_cities.flac", {"epoch": 2, "incredulity": 1, "despair": 1}),
        (as_file, "austen_1.flac", {"prudently": 1}),
        (as_stream, "austen_1.flac", {"prudently": 1}),
        (as_file, CALL.name, {"martin bell": 1}),
        (as_stream, CALL.name, {"martin bell": 1}),
    ],
)
def test_rare_words_are_found_that_were_not(
    recognizer: Recognizer, plain: Callable[[Hear, str], list[str]], hear: Hear, recording: str, said: dict[str, int]
) -> None:
    without, found = plain(hear, recording), hear(recognizer, recording, tuple(said))
    for phrase, count in said.items():
        assert times(phrase, without) < count, phrase
        assert times(phrase, found) == count, phrase


@pytest.mark.parametrize("recording", SPEECH)
@pytest.mark.parametrize("hear", [as_file, as_stream])
def test_unrelated_hotwords_change_nothing(
    recognizer: Recognizer, plain: Callable[[Hear, str], list[str]], hear: Hear, recording: str
) -> None:
    without = plain(hear, recording)
    assert without
    assert hear(recognizer, recording, UNRELATED) == without
