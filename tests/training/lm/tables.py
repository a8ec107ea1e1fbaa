"""Models as dictionaries, scored by the definition of backing off: what the arrays and the files are held against."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from parley.training.lm.model import Rows, assemble

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from parley.training.lm.model import NgramModel

    Table = Mapping[tuple[str, ...], tuple[float, float]]


def assembled(table: Table) -> NgramModel:
    """From n-grams with log10 probability and back-off."""
    order = max(map(len, table))
    words = [ngram[0] for ngram in table if len(ngram) == 1]
    rows = []
    for length in range(1, order + 1):
        ngrams = [ngram for ngram in table if len(ngram) == length]
        ids = np.array([[words.index(word) for word in ngram] for ngram in ngrams], np.int64).reshape(-1, length)
        values = np.array([table[ngram] for ngram in ngrams]).reshape(-1, 2)
        rows.append(Rows(ids, values[:, 0], values[:, 1]))
    return assemble(words, rows)


def table_of(model: NgramModel) -> dict[tuple[str, ...], tuple[float, float]]:
    return {
        tuple(model.words[index] for index in row): (prob, backoff)
        for order, ngrams in enumerate(model.orders, start=1)
        for row, prob, backoff in zip(
            model.rows(order).tolist(), ngrams.log10_probs.tolist(), ngrams.log10_backoffs.tolist(), strict=True
        )
    }


def log10_prob(table: Table, history: Sequence[str], word: str) -> float:
    """Of the word behind its history, of which the table's longest context counts."""
    order = max(map(len, table))
    context = tuple(history)[-(order - 1) :]
    ngram = (*context, word)
    if ngram in table:
        return table[ngram][0]
    _, backoff = table.get(context, (0.0, 0.0))
    return backoff + log10_prob(table, context[1:], word)


def sentence_scores(table: Table, words: Sequence[str]) -> list[float]:
    """Natural logarithms, of each word and of the sentence's end. Words not in the table are <unk>."""
    known = ["<s>", *(word if (word,) in table else "<unk>" for word in words), "</s>"]
    return [log10_prob(table, known[:place], word) * math.log(10) for place, word in enumerate(known) if place]


def is_linked(model: NgramModel) -> bool:
    """Whether contexts, suffixes and keys are what the model says of itself."""
    table = table_of(model)
    for lower, order in pairwise(range(1, len(model.orders) + 1)):
        suffixes = [tuple(row) for row in model.rows(lower)[model.suffixes[lower - 1]].tolist()]
        if suffixes != [tuple(row[1:]) for row in model.rows(order).tolist()]:
            return False
    return all(np.all(np.diff(ngrams.keys) > 0) for ngrams in model.orders) and all(
        ngram[:-1] in table and ngram[1:] in table for ngram in table if len(ngram) > 1
    )
