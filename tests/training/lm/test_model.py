"""Models in memory: what is put in where a file has left something out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley.training.lm.model import UNSEEN_LOG10, row_codes, row_places
from tests.training.lm.tables import assembled, is_linked, log10_prob, table_of

# The 3-gram's context and suffix are missing, and so is <unk>.
HOLES = {
    ("</s>",): (-0.5, 0.0),
    ("<s>",): (-99.0, -0.25),
    ("a",): (-0.75, -0.125),
    ("b",): (-1.0, -0.5),
    ("b", "a"): (-0.25, 0.0),
    ("<s>", "a", "b"): (-0.375, 0.0),
}


def test_contexts_and_suffixes_that_are_missing_come_in_and_change_no_probability() -> None:
    model = assembled(HOLES)
    table = table_of(model)
    assert is_linked(model)
    assert set(table) - set(HOLES) == {("<unk>",), ("<s>", "a"), ("a", "b")}
    assert table[("a", "b")] == (-1.125, 0.0)
    for history in ((), ("<s>",), ("a",), ("b",), ("<s>", "a"), ("a", "b"), ("b", "a")):
        for word in ("</s>", "a", "b"):
            assert log10_prob(table, history, word) == pytest.approx(log10_prob(HOLES, history, word)), (history, word)


def test_the_unknown_word_is_the_first() -> None:
    model = assembled(HOLES)
    assert model.words == ("<unk>", "</s>", "<s>", "a", "b")
    assert table_of(model)[("<unk>",)] == (UNSEEN_LOG10, 0.0)


def test_an_unknown_word_in_capitals_is_the_unknown_word() -> None:
    model = assembled({("a",): (-0.5, 0.0), ("<UNK>",): (-2.0, -0.25), ("a", "<UNK>"): (-1.0, 0.0)})
    assert model.words == ("<unk>", "a")
    table = table_of(model)
    assert table[("<unk>",)] == (-2.0, -0.25)
    assert table[("a", "<unk>")] == (-1.0, 0.0)


def test_a_missing_context_has_its_own_missing_context() -> None:
    holes: dict[tuple[str, ...], tuple[float, float]] = {
        (word,): (-1.0, -0.5) for word in ("<unk>", "a", "b", "c", "d")
    }
    holes |= {("a", "b"): (-0.5, -0.25), ("a", "b", "c", "d"): (-0.125, 0.0)}
    model = assembled(holes)
    table = table_of(model)
    assert is_linked(model)
    # abc: a-b's back-off, then that of b and the word alone.
    assert table[("a", "b", "c")] == pytest.approx((-0.25 - 0.5 - 1.0, 0.0))
    assert table[("c", "d")] == pytest.approx((-1.5, 0.0))


@given(
    st.integers(1, 6).flatmap(
        lambda width: st.lists(
            st.lists(st.integers(0, 2**31 - 1), min_size=width, max_size=width), min_size=1, max_size=20
        )
    )
)
def test_row_codes_order_rows_of_any_width_and_of_huge_ids(rows: list[list[int]]) -> None:
    codes = row_codes(np.array(rows, np.int64)).tolist()
    for row, code in zip(rows, codes, strict=True):
        for other, other_code in zip(rows, codes, strict=True):
            assert (row < other, row == other) == (code < other_code, code == other_code)


def test_row_places_finds_rows_in_a_sorted_table() -> None:
    table = np.array([[0, 1], [0, 5], [2, 0]])
    assert row_places(table, np.array([[2, 0], [0, 1], [2, 0]])).tolist() == [2, 0, 2]


def test_find_says_which_are_not_there() -> None:
    bigrams = assembled(HOLES).orders[1]
    contexts, words = np.array([2, 2, 4, 99]), np.array([3, 4, 3, 0])
    found = bigrams.find(contexts, words)
    assert [index >= 0 for index in found] == [True, False, True, False]
    assert bigrams.words[found[0]] == 3
