from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripts.scoring import WordErrors, count_errors, normalize

SENTENCES = st.lists(st.sampled_from("abcd"), max_size=8).map(" ".join)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Ill-disposed, isn\u2019t he?", ["ill", "disposed", "isn't", "he"]),
        ("  In 1859:\tthe AGE_of wisdom… ", ["in", "the", "ageof", "wisdom"]),
        ("Café", ["café"]),
        ("?!", []),
    ],
)
def test_normalize_keeps_letters_apostrophes_and_spaces(text: str, words: list[str]) -> None:
    assert normalize(text) == words


@pytest.mark.parametrize(
    ("reference", "hypothesis", "errors"),
    [
        ("a b c", "A, b c.", WordErrors(3, 0, 0, 0)),
        ("a b c", "a x c", WordErrors(3, 1, 0, 0)),
        ("a b c", "a c", WordErrors(3, 0, 0, 1)),
        ("a b c", "a b b c d", WordErrors(3, 0, 2, 0)),
        ("a b c", "", WordErrors(3, 0, 0, 3)),
        ("", "a", WordErrors(0, 0, 1, 0)),
        ("a b c d", "b c x d e", WordErrors(4, 0, 2, 1)),
    ],
)
def test_errors_are_counted_by_kind(reference: str, hypothesis: str, errors: WordErrors) -> None:
    assert count_errors(reference, hypothesis) == errors


def test_rates_add_up_over_words_not_over_sentences() -> None:
    total = count_errors("a b c", "a b c") + count_errors("d", "e")
    assert total.rate == 0.25


def reference_distance(first: list[str], second: list[str]) -> int:
    if not first or not second:
        return len(first) + len(second)
    if first[0] == second[0]:
        return reference_distance(first[1:], second[1:])
    return 1 + min(
        reference_distance(first[1:], second),
        reference_distance(first, second[1:]),
        reference_distance(first[1:], second[1:]),
    )


@given(SENTENCES.filter(lambda text: len(text) < 11), SENTENCES.filter(lambda text: len(text) < 11))
def test_no_shorter_edit_exists(reference: str, hypothesis: str) -> None:
    errors = count_errors(reference, hypothesis)
    edits = errors.substitutions + errors.insertions + errors.deletions
    assert edits == reference_distance(reference.split(), hypothesis.split())
    assert errors.words - errors.deletions + errors.insertions == len(hypothesis.split())
