from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scripts.hotwords import Effect, effect, numbers, rare_words, unrelated_words, words_of
from scripts.scoring import WordErrors, normalize
from tests.decoder.searching import random_table, read_model

if TYPE_CHECKING:
    from pathlib import Path

KNOWN = ["the", "house", "of", "a", "lighthouse", "keeper's", "stranger", "lantern", "harbour", "wreck"]


def test_rare_words_are_counted_where_they_were_said() -> None:
    reference = normalize("the keeper saw the wreck and the wreck")
    found = normalize("the keeper so the wreck and the lantern")
    seen = effect(reference, found, rare={"keeper", "wreck"}, listed={"keeper", "wreck", "lantern"})
    assert (seen.said, seen.heard, seen.false) == (3, 2, 1)
    assert seen.all == WordErrors(8, 2, 0, 0)
    assert seen.others == WordErrors(5, 1, 0, 0)


def test_a_rare_word_in_another_place_is_false() -> None:
    seen = effect(["the", "wreck", "lies"], ["wreck", "the", "rest", "lies"], rare={"wreck"}, listed={"wreck"})
    assert (seen.said, seen.heard, seen.false) == (1, 0, 1)
    assert seen.all == WordErrors(3, 1, 1, 0)
    assert seen.others == WordErrors(2, 0, 1, 0)


def test_hotwords_that_were_not_said_are_false() -> None:
    seen = effect(["the", "house"], ["lantern", "the", "lantern", "house", "x"], rare=set(), listed={"lantern"})
    assert (seen.said, seen.heard, seen.false) == (0, 0, 2)
    assert seen.others == seen.all == WordErrors(2, 0, 3, 0)


def test_effects_add_up() -> None:
    one = effect(["a", "b"], ["a", "c"], rare={"b"}, listed={"b", "c"})
    two = effect(["a"], ["a", "a"], rare={"b"}, listed={"b", "c"})
    assert sum([one, two], Effect()) == Effect(1, 0, 1, WordErrors(3, 1, 1, 0), WordErrors(2, 0, 1, 0))


def test_words_come_by_their_probability(tmp_path: Path) -> None:
    table = random_table(np.random.default_rng(3), KNOWN, 2)
    words = words_of(read_model(table, tmp_path / "small.lm"))
    assert words == sorted(KNOWN, key=lambda word: -table[word,][0])


def test_rare_words_are_long_and_not_likely() -> None:
    texts = ["The harbour, the wreck!", "of Oz: Zanzibar-wreck"]
    assert rare_words(texts, KNOWN, likeliest=len(KNOWN) - 1) == ["wreck", "zanzibar"]
    assert rare_words(texts, KNOWN, likeliest=3) == ["harbour", "wreck", "zanzibar"]
    assert rare_words(texts, KNOWN, likeliest=len(KNOWN)) == ["zanzibar"]


def test_unrelated_words_are_in_no_text() -> None:
    texts = ["the Wreck"]
    fitting = {"house", "lighthouse", "stranger", "lantern", "harbour"}
    assert set(unrelated_words(texts, KNOWN, 5)) == fitting
    assert unrelated_words(texts, KNOWN, 2) == unrelated_words(texts, KNOWN, 2)


def test_boosts_are_numbers() -> None:
    assert numbers("0,0.5,4") == [0.0, 0.5, 4.0]
