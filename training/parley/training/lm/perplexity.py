"""How well a model foretells texts. Knows scores of sentences, not what a model's file looks like."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from parley.decoder.search.language_model import word_score
from parley.decoder.values import MOST_CONTEXT
from parley.training.lm.model import SENTENCE_END

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from parley.decoder.search.language_model import LanguageModel


@dataclass(frozen=True, slots=True)
class Perplexity:
    """Of a text's words and sentence ends. log_prob: natural logarithm of all; known_log_prob: of those known."""

    sentences: int = 0
    words: int = 0
    unknown: int = 0
    log_prob: float = 0.0
    known_log_prob: float = 0.0

    @property
    def unknown_rate(self) -> float:
        return self.unknown / max(self.words, 1)

    @property
    def of_all(self) -> float:
        return _perplexity(self.log_prob, self.words + self.sentences)

    @property
    def of_known(self) -> float:
        """Words that the model does not have left out of the sum and of the count."""
        return _perplexity(self.known_log_prob, self.words + self.sentences - self.unknown)


def log_probs_of(model: LanguageModel, words: Sequence[str]) -> list[float]:
    """The natural logarithm of each word's probability in a sentence, and of the sentence's end."""
    history = np.full(MOST_CONTEXT, -1, np.int32)
    history[0] = model.start
    scores = []
    for word in (*map(model.index, words), model.index(SENTENCE_END)):
        scores.append(float(word_score(model.tables, history, word)))
        history[1:] = history[:-1].copy()
        history[0] = word
    return scores


def measure(model: LanguageModel, sentences: Iterable[list[str]]) -> Perplexity:
    lines = words = unknown = 0
    log_prob = unknown_log_prob = 0.0
    for sentence in sentences:
        scores = log_probs_of(model, sentence)
        lines += 1
        words += len(sentence)
        log_prob += sum(scores)
        for word, score in zip(sentence, scores, strict=False):  # the last score is that of the sentence's end
            if not model.index(word):
                unknown += 1
                unknown_log_prob += score
    return Perplexity(lines, words, unknown, log_prob, log_prob - unknown_log_prob)


def _perplexity(log_prob: float, tokens: int) -> float:
    return math.exp(-log_prob / tokens) if tokens else math.nan
