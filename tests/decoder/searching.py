"""Beam searches as streams drive them, language models to search with, and what both should give, by plain counting."""

from __future__ import annotations

import itertools
import re
from typing import TYPE_CHECKING

import numpy as np
import torch

from parley.decoder.search.beam import Beam
from parley.decoder.search.ctc import Wishes
from parley.decoder.search.hotwords import automaton
from parley.decoder.search.language_model import LanguageModel, no_language_model
from parley.decoder.search.settings import BeamSettings
from parley.decoder.text.vocabulary import Vocabulary
from parley.training.lm.kenlm_binary import write_binary
from tests.speech import RECORDINGS, words_of
from tests.training.lm.tables import assembled

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from parley.decoder.search import ctc
    from parley.decoder.values import Phrase
    from tests.training.lm.tables import Table

BLANK = 0
# Words can be spelled in several ways, and words begin in words. The mark of a word is also a token of its own.
VOCABULARY = Vocabulary([piece.encode() for piece in ("<blk>", "▁", "▁a", "a", "▁b", "b")])
EVERYTHING = BeamSettings(unknown_word=-20.0, token_beam=1e3, tokens=64, score_beam=1e3)  # nothing is given up


def read_model(table: Table, path: Path) -> LanguageModel:
    """The n-grams by way of a file."""
    write_binary(assembled(table), path)
    return LanguageModel.read(path)


def random_table(
    rng: np.random.Generator, words: Sequence[str], order: int
) -> dict[tuple[str, ...], tuple[float, float]]:
    """Unigrams of all words and some longer n-grams: log10 probability and back-off, as single precision has them."""
    known = ["<unk>", "<s>", "</s>", *words]
    table: dict[tuple[str, ...], tuple[float, float]] = {}

    def values() -> tuple[float, float]:
        prob, backoff = np.float32(-rng.uniform(0.1, 4)), np.float32(-rng.uniform(0, 1))
        return float(prob), float(backoff)

    for word in known:
        table[word,] = values()
    for length in range(2, order + 1):
        for _ in range(3 * len(known)):
            ngram = tuple(known[at] for at in rng.integers(len(known), size=length))
            if "<s>" not in ngram[1:] and "</s>" not in ngram[:-1]:
                table[ngram] = values()
    return table


def table_of_speech() -> dict[tuple[str, ...], tuple[float, float]]:
    """What is said in the recordings: its words, two by two; of none it is known that sentences begin with it."""
    table: dict[tuple[str, ...], tuple[float, float]] = {("<unk>",): (-3.0, 0.0), ("<s>",): (-99.0, -0.3)}
    table["</s>",] = -1.5, 0.0
    for name in RECORDINGS:
        words = re.findall("[a-z']+", words_of(name).lower())
        table |= {(word,): (-2.5, -0.3) for word in words}
        table |= dict.fromkeys(itertools.pairwise(words), (-0.5, 0.0))
    return table


def wishes(
    model: LanguageModel | None = None,
    phrases: Sequence[Phrase] = (),
    *,
    beam: int = 16,
    language_weight: float = 0.6,
    word_bonus: float = 0.5,
    before: tuple[str, ...] = (),
) -> Wishes:
    model = model or no_language_model()
    return Wishes(model, automaton(phrases, model.lower), beam, language_weight, word_bonus, before)


def random_rows(rng: np.random.Generator, frames: int, tokens: int, sharpness: float = 1.0) -> torch.Tensor:
    """(frames, tokens) log-probabilities."""
    return torch.from_numpy(sharpness * rng.normal(size=(frames, tokens)).astype(np.float32)).log_softmax(-1)


def feed(beam: Beam, slot: int, rows: torch.Tensor, cuts: Sequence[int] = ()) -> None:
    """Rows (frames, tokens) of one utterance, in pieces."""
    edges = [0, *sorted(cuts), len(rows)]
    for start, end in itertools.pairwise(edges):
        beam.advance([slot], rows[None, start:end], [end - start])


def searched(
    rows: torch.Tensor,
    wanted: Wishes,
    count: int = 1,
    *,
    settings: BeamSettings = EVERYTHING,
    vocabulary: Vocabulary = VOCABULARY,
    cuts: Sequence[int] = (),
) -> list[ctc.Path]:
    """The n-best of an utterance alone."""
    beam = Beam(1, vocabulary, BLANK, settings)
    beam.begin(0, wanted)
    feed(beam, 0, rows, cuts)
    return beam.n_best(0, count)


def texts(paths: Sequence[ctc.Path], vocabulary: Vocabulary = VOCABULARY) -> list[str]:
    return [" ".join(word for word, _ in vocabulary.words(path.tokens)) for path in paths]


class Listed:
    """Phrases, and what text earns by them: each byte of a phrase but the spaces round it is worth a quarter of the
    highest boost of those phrases that are not over with it, and begin as it does up to there."""

    def __init__(self, phrases: Sequence[Phrase]) -> None:
        self._phrases = [(f" {' '.join(phrase.text.lower().split())} ".encode(), phrase.boost) for phrase in phrases]

    def _worth(self, start: bytes) -> float:
        """Of the first bytes of a phrase."""
        return sum(
            max((boost / 4 for text, boost in self._phrases if text.startswith(start[:n]) and n < len(text)), default=0)
            for n in range(2, len(start) + 1)
        )

    def earned(self, text: str) -> float:
        """By the longest phrase from each word on. text: words between single spaces, with a space at either end."""
        told = text.encode()
        whole = [[phrase for phrase, _ in self._phrases if told.startswith(phrase, at)] for at in range(len(told))]
        return sum(self._worth(max(found, key=len)) for found in whole if found)

    def held(self, text: str) -> float:
        """By the phrase that the text may go on with, behind the last whole one inside: lost if it does not. Less than
        three letters and the space before them hold nothing."""
        told = text.encode()
        for at in range(len(told)):
            begun = told[at:]
            if any(phrase.startswith(begun) for phrase, _ in self._phrases):
                inside = [phrase for phrase, _ in self._phrases if begun.startswith(phrase)]
                return self._worth(begun) - max(map(self._worth, inside), default=0) if len(begun) >= 4 else 0.0
        return 0.0


def alignments(log_probs: torch.Tensor) -> dict[tuple[int, ...], list[tuple[float, tuple[int, ...]]]]:
    """By what they say, all alignments there are, each with its log-probability. log_probs: (frames, tokens)."""
    rows, found = log_probs.double().numpy(), dict[tuple[int, ...], list[tuple[float, tuple[int, ...]]]]()
    for labels in itertools.product(range(rows.shape[1]), repeat=len(rows)):
        said = tuple(label for label, _ in itertools.groupby(labels) if label != BLANK)
        found.setdefault(said, []).append((float(rows[np.arange(len(rows)), list(labels)].sum()), labels))
    return found
