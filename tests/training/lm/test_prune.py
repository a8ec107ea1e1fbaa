"""Pruning, against what the loss of an n-gram does by definition."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley.training.lm.counts import count_ngrams
from parley.training.lm.errors import BadModel
from parley.training.lm.kneser_ney import estimate
from parley.training.lm.prune import prune, prune_to_size, with_backoffs
from tests.training.lm.tables import is_linked, log10_prob, table_of

if TYPE_CHECKING:
    from parley.training.lm.model import NgramModel
    from tests.training.lm.tables import Table

THRESHOLDS = [1e-6, 1e-4, 1e-3, 1e-2]


def trained(seed: int, order: int, lines: int = 60) -> NgramModel:
    rng = np.random.default_rng(seed)
    # Every word calls for its like: without n-grams much would be lost.
    text = []
    for _ in range(lines):
        words = [int(rng.integers(12))]
        while len(words) < rng.integers(3, 9):
            words.append(int(rng.integers(12)) if rng.random() < 0.4 else words[-1] * 5 % 12)
        text.append([f"w{word}" for word in words])
    return estimate(count_ngrams(text, order))[0]


def total(table: Table, context: tuple[str, ...], words: list[str]) -> float:
    return sum(10 ** log10_prob(table, context, word) for word in words)


def without(table: Table, ngram: tuple[str, ...]) -> Table:
    """The table less one n-gram, its context's back-off such that all sums to 1 again."""
    smaller = {other: value for other, value in table.items() if other != ngram}
    context = ngram[:-1]
    seen = [other[-1] for other in smaller if other[:-1] == context]
    left = 1 - sum(10**prob for other, (prob, _) in smaller.items() if other[:-1] == context)
    lower = 1 - sum(10 ** log10_prob(smaller, context[1:], word) for word in seen)
    smaller[context] = (smaller[context][0], math.log10(left / lower))
    return smaller


def likelihood(table: Table, history: tuple[str, ...]) -> float:
    """Of a context; a sentence begins as often as one ends."""
    log10 = table[("</s>",) if history[0] == "<s>" else history[:1]][0]
    return 10 ** (log10 + sum(log10_prob(table, history[:end], history[end]) for end in range(1, len(history))))


@pytest.mark.parametrize("order", [2, 3])
def test_an_ngram_goes_exactly_if_perplexity_rises_less_than_the_threshold(order: int) -> None:
    model = trained(3, order)
    table = table_of(model)
    words = [word for word in model.words if word != "<s>"]
    threshold = 1e-3
    kept = set(table_of(prune(model, threshold)))
    longest = [ngram for ngram in table if len(ngram) == order]
    rises = {}
    for ngram in longest:
        smaller, context = without(table, ngram), ngram[:-1]
        lost = sum(
            10 ** log10_prob(table, context, word)
            * math.log(10)
            * (log10_prob(table, context, word) - log10_prob(smaller, context, word))
            for word in words
        )
        rises[ngram] = math.expm1(likelihood(table, context) * lost)
    assert {ngram for ngram in longest if ngram in kept} == {ngram for ngram in longest if rises[ngram] >= threshold}
    assert 0 < sum(rise < threshold for rise in rises.values()) < len(rises)


@given(st.integers(0, 10_000), st.integers(2, 4), st.sampled_from(THRESHOLDS))
def test_a_pruned_model_is_whole_and_sums_to_one(seed: int, order: int, threshold: float) -> None:
    model = trained(seed, order, 15)
    smaller = prune(model, threshold)
    assert is_linked(smaller)
    assert smaller.words == model.words
    table, before = table_of(smaller), table_of(model)
    assert set(table) <= set(before)
    assert all(table[ngram][0] == before[ngram][0] for ngram in table)
    words = [word for word in model.words if word != "<s>"]
    for context in {(), *(ngram[:-1] for ngram in before if len(ngram) > 1)}:
        assert total(table, context, words) == pytest.approx(1, abs=1e-6), context


def test_more_is_pruned_at_higher_thresholds_and_nothing_at_none() -> None:
    model = trained(1, 3)
    sizes = [sum(prune(model, threshold).counts) for threshold in (0.0, *THRESHOLDS)]
    assert sizes == sorted(sizes, reverse=True)
    # At 0 only those go that are worth less than nothing.
    assert sizes[0] > sizes[-1]
    assert prune(model, 1.0).counts == (len(model.words), 0, 0)


def test_backoffs_of_a_smoothed_model_are_those_that_its_probabilities_call_for() -> None:
    model = trained(2, 4)
    for ours, found in zip(with_backoffs(model).orders, model.orders, strict=True):
        assert ours.log10_backoffs == pytest.approx(found.log10_backoffs, abs=1e-9)


def test_a_context_that_leaves_nothing_has_a_finite_backoff() -> None:
    model = estimate(count_ngrams([["a", "b"], ["a", "b"], ["b", "a"]], 2))[0]
    full = with_backoffs(model)
    taken = [ngrams.log10_backoffs for ngrams in full.orders]
    assert all(np.all(np.isfinite(backoffs)) for backoffs in taken)


def size(model: NgramModel) -> int:
    return sum(model.counts)


@pytest.mark.parametrize("share", [0.3, 0.5, 0.9])
def test_pruning_to_a_size_comes_close_to_it_from_below(share: float) -> None:
    model = trained(4, 3, 300)
    limit = int(size(model) * share)
    steps: list[int] = []
    smaller, threshold = prune_to_size(model, size, limit, lambda: steps.append(1))
    assert 0.95 * limit < size(smaller) <= limit
    assert steps
    assert table_of(smaller) == table_of(prune(model, threshold))


def test_a_model_that_fits_stays_as_it_is() -> None:
    model = trained(4, 3)
    assert prune_to_size(model, size, size(model), lambda: None) == (model, 0.0)


def test_a_size_that_no_pruning_reaches_is_refused() -> None:
    model = trained(4, 3)
    with pytest.raises(BadModel, match=f"{len(model.words)} bytes are left"):
        prune_to_size(model, size, len(model.words) - 1, lambda: None)
