"""Smoothing, against Chen and Goodman's formulas word by word."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley.training.lm.counts import count_ngrams
from parley.training.lm.kneser_ney import Discounts, discounts, estimate
from tests.training.lm.tables import is_linked, log10_prob, table_of

sentences = st.lists(st.lists(st.sampled_from("aaaaabbbccde"), min_size=3, max_size=8), min_size=1, max_size=40)


@given(sentences, st.integers(2, 5), st.sampled_from([None, 3]))
def test_every_context_sums_to_one(text: list[list[str]], order: int, max_words: int | None) -> None:
    model, _ = estimate(count_ngrams(text, order, max_words=max_words))
    table = table_of(model)
    predicted = [word for word in model.words if word != "<s>"]
    seen = {ngram[:-1] for ngram in table if len(ngram) > 1}
    unseen = {(first, second) for first, second in itertools.product(model.words, "ae") if (second,) in table}
    for context in {(), *seen, *unseen}:
        total = sum(10 ** log10_prob(table, context, word) for word in predicted)
        assert total == pytest.approx(1, abs=1e-9), context
    assert is_linked(model)


@given(sentences)
def test_no_word_is_impossible_and_no_backoff_creates(text: list[list[str]]) -> None:
    model, _ = estimate(count_ngrams(text, 3))
    for ngrams in model.orders:
        assert np.all(np.isfinite(ngrams.log10_probs))
        assert np.all(ngrams.log10_probs <= 0)
        assert np.all(ngrams.log10_backoffs <= 1e-12)


def test_probabilities_are_those_of_the_formula() -> None:
    rng = np.random.default_rng(5)
    text = [[f"w{number}" for number in rng.geometric(0.05, rng.integers(3, 9))] for _ in range(150)]
    model, found = estimate(count_ngrams(text, 3))
    assert not any(discount.guessed for discount in found)
    table = table_of(model)

    marked = [("<s>", *words, "</s>") for words in text]
    trigrams = Counter(ngram for words in marked for ngram in zip(words, words[1:], words[2:], strict=False))
    pairs = Counter(ngram for words in marked for ngram in itertools.pairwise(words))
    bigrams = Counter(ngram[1:] for ngram in trigrams)
    bigrams.update({pair: times for pair, times in pairs.items() if pair[0] == "<s>"})
    words = Counter(pair[1:] for pair in pairs)
    levels: list[Counter[tuple[str, ...]]] = [Counter(words), Counter(bigrams), Counter(trigrams)]

    def prob(ngram: tuple[str, ...]) -> float:
        if not ngram:
            return 1 / (len(model.words) - 1)
        level, context = levels[len(ngram) - 1], ngram[:-1]
        times = Counter(level.values())
        share = times[1] / (times[1] + 2 * times[2])
        discount = [0.0] + [k - (k + 1) * share * times[k + 1] / times[k] for k in (1, 2, 3)]
        followers = [count for other, count in level.items() if other[:-1] == context]
        kept = max(level[ngram] - discount[min(level[ngram], 3)], 0) / sum(followers)
        return kept + sum(discount[min(count, 3)] for count in followers) / sum(followers) * prob(ngram[1:])

    assert set(table) == {("<unk>",), ("<s>",), *words, *bigrams, *trigrams}
    for ngram, (value, _) in table.items():
        if ngram != ("<s>",):
            assert 10**value == pytest.approx(prob(ngram), rel=1e-9), ngram


@pytest.mark.parametrize(
    "counts",
    [
        [],
        [2, 2, 3],  # none came once
        [1, 1, 3],  # none came twice
        [1, 1, 2, 2],  # none came three times
        [1] * 2 + [2] + [3] * 9,  # twice would get less than nothing
    ],
)
def test_too_little_text_gets_the_usual_discounts(counts: list[int]) -> None:
    assert discounts(np.array(counts, np.int64)) == Discounts(0.5, 1.0, 1.5, guessed=True)


def test_discounts_follow_from_counts_of_counts() -> None:
    found = discounts(np.array([1] * 8 + [2] * 4 + [3] * 2 + [4]))
    assert found == Discounts(0.5, 2 - 3 * 0.5 * 2 / 4, 3 - 4 * 0.5 * 1 / 2, guessed=False)
    assert found.of(np.array([0, 1, 2, 3, 4, 90])).tolist() == [0, 0.5, 1.25, 2, 2, 2]
