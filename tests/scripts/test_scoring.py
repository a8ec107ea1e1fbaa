from __future__ import annotations

import random

import jiwer
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripts.scoring import WordErrors, alignment, count_errors, normalize
from tests.speech import RECORDINGS, words_of

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


@given(SENTENCES, SENTENCES)
def test_every_word_has_its_place_once_and_in_order(reference: str, found: str) -> None:
    pairs = alignment(reference.split(), found.split())
    assert [said for said, _ in pairs if said is not None] == list(range(len(reference.split())))
    assert [heard for _, heard in pairs if heard is not None] == list(range(len(found.split())))
    assert (None, None) not in pairs


def test_an_alignment_pairs_what_can_be_paired() -> None:
    pairs = alignment(["a", "b", "c", "d"], ["a", "x", "d", "e"])
    assert pairs == [(0, 0), (1, None), (2, 1), (3, 2), (None, 3)]


def misheard(text: str, chance: random.Random) -> str:
    """Every fifth word left out, put in or another."""
    heard = []
    for word in text.split():
        kind = chance.randrange(15)
        heard += [] if kind == 0 else [word, "umm"] if kind == 1 else [word[::-1]] if kind == 2 else [word]
    return " ".join(heard)


def real_pairs() -> list[tuple[str, str]]:
    """What is said in tests/data, whole, with errors, shifted by a word, against another recording, and not heard."""
    chance = random.Random(10)
    texts = [words_of(name) for name in RECORDINGS]
    return [
        (text, heard)
        for number, text in enumerate(texts)
        for heard in (text, misheard(text, chance), f"so {text}".rpartition(" ")[0], texts[number - 1], "")
    ]


def assert_scored_as_by_jiwer(reference: str, found: str) -> None:
    """Their edits, and so the rate; where several ways are the shortest, each side may take its own."""
    ours = count_errors(reference, found)
    theirs = jiwer.process_words(" ".join(normalize(reference)), " ".join(normalize(found)))
    assert ours.words == theirs.hits + theirs.substitutions + theirs.deletions
    assert ours.insertions - ours.deletions == theirs.insertions - theirs.deletions
    edits = theirs.substitutions + theirs.insertions + theirs.deletions
    assert ours.substitutions + ours.insertions + ours.deletions == edits
    assert ours.substitutions <= theirs.substitutions
    assert ours.rate == pytest.approx(theirs.wer)


@given(SENTENCES.filter(bool), SENTENCES)
def test_random_sentences_are_scored_as_by_jiwer(reference: str, found: str) -> None:
    assert_scored_as_by_jiwer(reference, found)


def test_real_sentences_are_scored_as_by_jiwer() -> None:
    pairs = real_pairs()
    kinds = [count_errors(*pair) for pair in pairs]
    assert all(any(getattr(each, kind) for each in kinds) for kind in ("substitutions", "insertions", "deletions"))
    for reference, found in pairs:
        assert_scored_as_by_jiwer(reference, found)


@pytest.mark.parametrize("found", ["", "a", "a b c"])
def test_of_silence_every_word_found_is_an_error_as_by_jiwer(found: str) -> None:
    assert_scored_as_by_jiwer("", found)
