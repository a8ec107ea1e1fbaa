"""Words that a first pass gets wrong, with a language model and without. Knows recordings and edits, not searches."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from parley.decoder.errors import BadAudio
from parley.decoder.values import AudioFormat, Passes, StreamOptions
from parley.training.lm.errors import BadModel
from parley.training.lm.text import spoken_words

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from parley.decoder.config import RecognizerConfig
    from parley.decoder.recognizer import Recognizer
    from parley.training.lm.manifest import Recording

AT_ONCE = 4  # recordings: enough to fill a batch
WAIT_S = 60.0  # there are as many decoders as recordings: none waits


@dataclass(frozen=True, slots=True)
class Search:
    """None: what the model's folder or the recognizer says."""

    language_model: Path | None = None
    language_weight: float | None = None
    word_bonus: float | None = None
    beam: int | None = None


@dataclass(frozen=True, slots=True)
class WordErrors:
    words: int
    edits: int

    @property
    def rate(self) -> float:
        return self.edits / max(self.words, 1)


def config(folder: Path, search: Search) -> RecognizerConfig:
    """Raises ValueError that names every fault."""
    from parley.decoder.config import RecognizerConfig

    given = {name: value for name in ("beam",) if (value := getattr(search, name)) is not None}
    return RecognizerConfig(
        first_model_dir=folder,
        passes=Passes.FIRST,
        decoders=AT_ONCE,
        language_model=search.language_model,
        language_weight=search.language_weight,
        word_bonus=search.word_bonus,
        **given,
    )


def word_errors(recordings: Sequence[Recording], settings: RecognizerConfig, step: Callable[[], object]) -> WordErrors:
    """Decodes all. `step` is called after each."""
    from parley.decoder.recognizer import Recognizer  # and with it networks and FFmpeg, which a text does not need

    words = edits = 0
    with Recognizer(settings) as recognizer, ThreadPoolExecutor(AT_ONCE) as threads:
        for recording, heard in zip(
            recordings, threads.map(lambda each: _heard(recognizer, each), recordings), strict=True
        ):
            expected = spoken_words(recording.text)
            words += len(expected)
            edits += edit_distance(expected, heard)
            step()
    return WordErrors(words, edits)


def edit_distance(expected: Sequence[str], found: Sequence[str]) -> int:
    """The fewest words to put in, take out or exchange."""
    row = list(range(len(found) + 1))
    for line, word in enumerate(expected, start=1):
        diagonal, row[0] = row[0], line
        for column, heard in enumerate(found, start=1):
            diagonal, row[column] = row[column], min(diagonal + (word != heard), row[column] + 1, row[column - 1] + 1)
    return row[-1]


def _heard(recognizer: Recognizer, recording: Recording) -> list[str]:
    from parley.decoder.audio import open_file

    data = recording.audio.read_bytes()
    try:
        audio = open_file(data, AudioFormat())
        with recognizer.pool.lend(timeout=WAIT_S) as lease:
            finals = recognizer.transcribe(lease, audio, StreamOptions()).finals
    except BadAudio as error:
        raise BadModel(f"{recording.audio}: {error}") from None
    return spoken_words(" ".join(final.hypotheses[0].text for final in finals))
