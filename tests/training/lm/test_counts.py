"""Counted n-grams, against counting by the definition."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley.training.lm import counts
from parley.training.lm.counts import SPECIAL, Counts, count_ngrams
from parley.training.lm.errors import BadModel

sentence = st.lists(st.sampled_from("abcde"), min_size=1, max_size=7)


def by_definition(sentences: list[list[str]], order: int) -> list[Counter[tuple[str, ...]]]:
    """The longest as they came, shorter ones by different words before, those at starts as they came."""
    came: list[Counter[tuple[str, ...]]] = [Counter() for _ in range(order + 1)]
    for words in sentences:
        marked = ("<s>", *words, "</s>")
        for length in range(1, order + 1):
            came[length].update(marked[at : at + length] for at in range(len(marked) - length + 1))
    found = [came[order]]
    for length in range(order - 1, 1, -1):
        continued = Counter(longer[1:] for longer in came[length + 1])
        continued.update({ngram: times for ngram, times in came[length].items() if ngram[0] == "<s>"})
        found.append(continued)
    found.append(Counter(bigram[1:] for bigram in came[2]))
    return found[::-1]


def as_counters(found: Counts) -> list[Counter[tuple[str, ...]]]:
    return [
        Counter(
            {
                tuple(found.words[index] for index in row): times
                for row, times in zip(table.ids.tolist(), table.counts.tolist(), strict=True)
                if times
            }
        )
        for table in found.tables
    ]


@given(st.lists(sentence, min_size=1, max_size=30), st.integers(2, 5), st.integers(1, 40))
def test_counts_are_those_of_the_definition_in_batches_of_any_size(
    sentences: list[list[str]], order: int, batch: int
) -> None:
    if max(map(len, sentences)) < order - 2:
        with pytest.raises(BadModel, match=f"no sentence has {order - 2} words or more"):
            count_ngrams(sentences, order)
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(counts, "BATCH", batch)
        found = count_ngrams(sentences, order)
    assert as_counters(found) == by_definition(sentences, order)
    assert (found.sentences, found.tokens, found.unknown) == (len(sentences), sum(map(len, sentences)), 0)
    for table in found.tables:
        rows = table.ids.tolist()
        assert rows == sorted(rows)
        assert table.ids.dtype == np.int32


TEXT = [["a", "b", "a"], ["a", "c"], ["b", "d", "a"]]


def test_words_come_by_falling_count_first_seen_first() -> None:
    assert count_ngrams(TEXT, 2).words == (*SPECIAL, "a", "b", "c", "d")


@pytest.mark.parametrize(("min_count", "max_words"), [(2, None), (1, 2), (2, 5)])
def test_rare_words_are_unknown(min_count: int, max_words: int | None) -> None:
    found = count_ngrams(TEXT, 3, min_count, max_words)
    assert found.words == (*SPECIAL, "a", "b")
    assert (found.tokens, found.unknown) == (8, 2)
    replaced = [[word if word in "ab" else "<unk>" for word in words] for words in TEXT]
    assert as_counters(found) == by_definition(replaced, 3)


def test_text_may_have_the_unknown_word_itself() -> None:
    found = count_ngrams([["a", "<unk>"], ["<unk>", "a"]], 2)
    assert found.words == (*SPECIAL, "a")
    assert as_counters(found)[1][("<s>", "<unk>")] == 1


def test_no_text_is_refused() -> None:
    with pytest.raises(BadModel, match="no sentence"):
        count_ngrams([], 3)
