"""A recording's segments are searched side by side, each as if a sentence began with it. This puts right what the words
before would have changed. Knows hypotheses and the language model, no audio."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from parley.decoder.search.language_model import word_score
from parley.decoder.values import MOST_CONTEXT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from parley.decoder.search.ctc import Wishes
    from parley.decoder.values import Hypothesis


def behind(before: Sequence[str], hypotheses: Sequence[Hypothesis], wishes: Wishes) -> tuple[Hypothesis, ...]:
    """A segment's n-best in the order, and with the scores, that they have behind these words of the channel."""
    model = wishes.language_model
    if not (before and wishes.language_weight and model.order):
        return tuple(hypotheses)
    start, ours = model.context(()), model.context(before)
    moved = []
    for hypothesis in hypotheses:
        scores = hypothesis.scores
        assert scores is not None
        words = model.ids(hypothesis.text.split()[: model.order - 1])  # later ones do not see so far back
        gained = wishes.language_weight * (_score(wishes, ours, words) - _score(wishes, start, words))
        moved.append(replace(hypothesis, scores=replace(scores, language=scores.language + gained)))
    return tuple(sorted(moved, key=lambda one: -one.scores.total if one.scores else 0.0))


def _score(wishes: Wishes, context: NDArray[np.int32], words: Sequence[int]) -> float:
    history = np.full(MOST_CONTEXT, -1, np.int32)
    history[: len(context)] = context
    total = 0.0
    for word in words:
        if word:  # an unknown word costs the same everywhere
            total += float(word_score(wishes.language_model.tables, history, word))
        history = np.concatenate(([word], history[:-1])).astype(np.int32)
    return total
