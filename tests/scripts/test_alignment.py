from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from scripts.alignment import alignment, errors
from scripts.scoring import WordErrors, count_errors

SENTENCES = st.lists(st.sampled_from("abcd"), max_size=8)


@given(SENTENCES, SENTENCES)
def test_every_word_has_its_place_once_and_in_order(reference: list[str], found: list[str]) -> None:
    pairs = alignment(reference, found)
    assert [said for said, _ in pairs if said is not None] == list(range(len(reference)))
    assert [heard for _, heard in pairs if heard is not None] == list(range(len(found)))
    assert (None, None) not in pairs


@given(SENTENCES, SENTENCES)
def test_its_errors_are_those_that_are_scored(reference: list[str], found: list[str]) -> None:
    expected = count_errors(" ".join(reference), " ".join(found))
    assert errors(reference, found, alignment(reference, found)) == expected


def test_errors_of_a_part() -> None:
    reference, found = ["a", "b", "c", "d"], ["a", "x", "d", "e"]
    assert alignment(reference, found) == [(0, 0), (1, None), (2, 1), (3, 2), (None, 3)]
    assert errors(reference, found, [(1, None), (2, 1)]) == WordErrors(2, 1, 0, 1)
    assert errors(reference, found, [(0, 0), (None, 3)]) == WordErrors(1, 0, 1, 0)
