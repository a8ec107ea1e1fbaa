"""The automaton of hotwords against plain string search."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley.decoder.search.hotwords import Automaton, automaton, step
from parley.decoder.values import LONGEST_PHRASE, MOST_PHRASES, Phrase
from tests.decoder.searching import Listed

WORDS = st.sampled_from(["a", "b", "ab", "ba", "é"])
TEXTS = st.lists(WORDS, min_size=1, max_size=4).map(" ".join)
PHRASES = st.lists(st.builds(Phrase, TEXTS, st.sampled_from([0.0, 1.0, 2.0, 8.0])), max_size=5)


def walk(phrases: Automaton, text: str) -> tuple[float, float]:
    """What the text has earned for good, and what it holds at its end."""
    state, earned = 0, 0.0
    for byte in text.encode():
        state, gained = step(phrases, state, byte)
        earned += gained
    return earned, float(phrases.held[state])


def spoken(*words: str) -> str:
    return f" {' '.join(words)} "


@given(PHRASES, st.lists(WORDS, max_size=8))
def test_it_earns_what_string_search_finds(phrases: list[Phrase], words: list[str]) -> None:
    built, listed, text = automaton(phrases, lower=True), Listed(phrases), spoken(*words)
    for end in range(len(text) + 1):  # also in the middle of words
        earned, held = walk(built, text[:end])
        assert earned == pytest.approx(listed.earned(text[:end]))
        assert held == pytest.approx(listed.held(text[:end]))


@given(PHRASES, TEXTS)
def test_the_order_of_phrases_does_not_matter(phrases: list[Phrase], text: str) -> None:
    assert walk(automaton(phrases, lower=True), f" {text} ") == pytest.approx(
        walk(automaton(phrases[::-1], lower=True), f" {text} ")
    )


def test_four_letters_earn_the_boost() -> None:
    for boost in (1.0, 8.0):
        assert walk(automaton([Phrase("anna", boost)], lower=True), " anna ") == (boost, 0.0)
    assert walk(automaton([Phrase("anna k", 2.0)], lower=True), " anna k ") == (3.0, 0.0)


def test_what_was_begun_is_held_and_lost_again() -> None:
    built = automaton([Phrase("anna karenina", 4.0)], lower=True)
    assert walk(built, " an") == (0.0, 0.0)  # most words begin as some phrase does
    assert walk(built, " ann") == (0.0, 3.0)
    assert walk(built, " anna ") == (0.0, 5.0)
    assert walk(built, " anna b") == walk(built, " anna  ") == (0.0, 0.0)
    assert walk(built, " anna ann") == (0.0, 3.0)  # the phrase may begin anew
    assert walk(built, " anna karenina") == (0.0, 13.0)
    assert walk(built, " anna karenina ") == (13.0, 0.0)


@pytest.mark.parametrize("text", [" hannah ", " anna", "anna ", " annas ", " an na ", " x-anna "])
def test_a_phrase_begins_and_ends_at_a_words_edges(text: str) -> None:
    assert walk(automaton([Phrase("anna")], lower=True), text)[0] == 0.0


def test_phrases_may_share_a_space() -> None:
    built = automaton([Phrase("anna", 1.0), Phrase("lena", 2.0)], lower=True)
    assert walk(built, " anna lena anna ") == (4.0, 0.0)
    assert walk(automaton([Phrase("anna anna", 1.0)], lower=True), " anna anna anna ") == (4.5, 0.0)


def test_a_phrase_inside_a_phrase() -> None:
    """Whether the outer one is finished or not, and however far it had come."""
    built = automaton([Phrase("a bcde f g", 1.0), Phrase("bcde", 1.0)], lower=True)
    for text in (" a bcde ", " a bcde f x ", " x bcde ", " a bcde f a "):
        assert walk(built, text)[0] == 1.0
    assert walk(built, " a bcde f g ")[0] == 1.0 + 10 / 4


def test_of_phrases_that_begin_alike_the_longest_counts() -> None:
    built = automaton([Phrase("anna", 1.0), Phrase("anna karenina", 1.0)], lower=True)
    # A space more than alone: it is inside the other phrase.
    assert walk(built, " anna ") == (1.25, 0.0)
    assert walk(built, " anna karenina ") == (13 / 4, 0.0)


def test_spaces_are_one_and_case_is_the_models() -> None:
    built = automaton([Phrase("  Anna   Karenina ", 4.0)], lower=True)
    assert walk(built, " anna karenina ") == (13.0, 0.0)
    upper = automaton([Phrase("Anna", 4.0)], lower=False)
    assert walk(upper, " Anna ") == (4.0, 0.0)
    assert walk(upper, " anna ") == (0.0, 0.0)


def test_no_phrases() -> None:
    built = automaton([], lower=True)
    assert walk(built, " anything at all ") == (0.0, 0.0)


def test_as_many_and_as_long_as_they_may_be() -> None:
    rng = np.random.default_rng(5)
    letters = np.array(list("abcdefgh "))
    phrases: list[Phrase] = []
    while len(phrases) < MOST_PHRASES:
        text = "a" + "".join(rng.choice(letters, LONGEST_PHRASE - 2)) + "a"
        phrases.append(Phrase(text, 4.0))
    built, listed = automaton(phrases, lower=True), Listed(phrases)
    assert len(built.held) <= MOST_PHRASES * (LONGEST_PHRASE + 2) + 1
    words = list(itertools.chain.from_iterable(phrases[at].text.split() for at in (3, 500, 999)))
    text = spoken(*words)
    earned, held = walk(built, text)
    assert earned == pytest.approx(listed.earned(text))
    assert earned == pytest.approx(sum(len(" ".join(phrases[at].text.split())) for at in (3, 500, 999)), rel=0.1)
    assert held == 0.0
