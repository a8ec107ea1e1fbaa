"""Spoken to written form: a table of sentences, and what must hold for every text."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley.decoder.text.inverse_text import LANGUAGES, NUMBERS, REPEATS, written
from parley.decoder.values import Hypothesis, Word

UNITS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
UNITS += ["thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"]
TENS = ["", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
ORDINALS = {"one": "first", "two": "second", "three": "third", "five": "fifth", "eight": "eighth", "nine": "ninth"}
ORDINALS |= {"twelve": "twelfth"}

CHANGED = [
    # Cardinals.
    ("i have been on hold for twenty five minutes", "i have been on hold for 25 minutes"),
    ("there were one hundred and one of them", "there were 101 of them"),
    ("it took a hundred and twenty minutes", "it took 120 minutes"),
    ("that is one thousand two hundred and thirty four units", "that is 1234 units"),
    ("we ship two million five hundred thousand a year", "we ship 2500000 a year"),
    ("the order was for twenty five hundred", "the order was for 2500"),
    ("between fifteen and twenty people", "between 15 and 20 people"),
    ("seven or eight, maybe twelve", "seven or eight, maybe 12"),
    ("Twenty-five, he said.", "25, he said."),
    ("He said: “Forty two!” (Forty-two.)", "He said: “42!” (42.)"),
    ("it is catch twenty two", "it is catch 22"),
    # Ordinals.
    ("the twenty first of may", "the 21st of may"),
    ("our Thirty-Third anniversary, yes", "our 33rd anniversary, yes"),
    ("he lives on the twelfth floor", "he lives on the 12th floor"),
    ("my contract ends on the twenty second.", "my contract ends on the 22nd."),
    ("on march twenty second we called", "on march 22nd we called"),
    ("i was the one hundred and fifth caller", "i was the 105th caller"),
    # Dates with a year.
    ("i was born on may fifth nineteen eighty two", "i was born on may fifth 1982"),
    ("since the twenty third of june twenty nineteen", "since the 23rd of june 2019"),
    ("it is july twenty fifth, nineteen ninety nine", "it is july 25th, 1999"),
    # Times.
    ("can you call me at half past three", "can you call me at 3:30"),
    ("Half past ten, please.", "10:30, please."),
    ("it was a quarter to one", "it was 12:45"),
    ("about quarter past nine in the evening", "about 9:15 in the evening"),
    ("they came at twenty past four", "they came at 4:20"),
    ("he is in from three thirty p m on", "he is in from 3:30 p.m. on"),
    ("we open at eight a m.", "we open at 8 a.m."),
    ("from seven a m to nine p m", "from 7 a.m. to 9 p.m."),
    ("at three oh five p.m., or later?", "at 3:05 p.m., or later?"),
    ("we close at eleven pm", "we close at 11 p.m."),
    ("he gets up at six am", "he gets up at 6 a.m."),
    ("at twelve thirty five am", "at 12:35 a.m."),
    ("half past two p m", "2:30 p.m."),
    ("I'll ring at three o'clock.", "I'll ring at 3 o'clock."),
    ("it is twelve o clock", "it is 12 o'clock"),
    ("can you do ten fifteen in the morning", "can you do 10:15 in the morning"),
    ("call me at ten fifteen tomorrow", "call me at 10:15 tomorrow"),
    ("on monday at two forty five", "on monday at 2:45"),
    # Digits.
    ("my number is five five five o one two three", "my number is 5550123"),
    ("Five five five, oh one two three.", "555, oh 123."),
    ("the code is double five triple seven", "the code is 55777"),
    ("oh two oh seven nine four six oh nine five eight", "02079460958"),
    ("one eight hundred five five five o one two three", "18005550123"),
    ("dial nine one one", "dial 911"),
    ("my four oh one k", "my 401 k"),
    ("account zero zero seven", "account 007"),
    ("it ends in eight eight oh.", "it ends in 880."),
    ("his number is five-five-five-one-two-one-two", "his number is 5551212"),
    ("call five five five one two one two ten times", "call 5551212 10 times"),
    # Decimals.
    ("the value is three point one four", "the value is 3.14"),
    ("version six point oh two", "version 6.02"),
    ("one point five million people", "1.5 million people"),
    ("at one point five percent", "at 1.5%"),
    # Percent.
    ("thirty percent off", "30% off"),
    ("five per cent, not ten percent.", "5%, not 10%."),
    ("i am a hundred percent sure", "i am 100% sure"),
    ("zero point nine percent interest", "0.9% interest"),
    # Money.
    ("it was two hundred and fifty dollars", "it was $250"),
    ("a one dollar fee", "a $1 fee"),
    ("you owe us twenty dollars and fifty cents.", "you owe us $20.50."),
    ("twelve dollars five cents", "$12.05"),
    ("nineteen point nine nine euros", "€19.99"),
    ("a hundred thousand dollars", "$100000"),
    ("one point five million dollars", "$1.5 million"),
    ("it weighs twenty pounds", "it weighs 20 pounds"),
    ("ten cents", "10 cents"),
]

UNCHANGED = [
    "one of them called me",
    "on second thought no",
    "may first is fine",
    "point taken",
    "at one point five people called",
    "a hundred people",
    "thanks a million",
    "a couple hundred dollars",
    "half a million dollars",
    "hundreds of thousands of calls",
    "a thousand and one's",
    "no one is there, two of us tried",
    "give me a second",
    "the twenty second floor",
    "a twenty-second delay",
    "two thirds of it",
    "a tenth of the price",
    "in the nineteen eighties",
    "she is in her twenties",
    "twenty something",
    "a fifty fifty chance",
    "twenty four seven",
    "open twenty-four-seven",
    "the thirty-day trial",
    "my twenty-five-year-old car",
    "in twenty thirty minutes",
    "it is nineteen ninety nine",
    "two fifty each",
    "room three twelve",
    "i made two fifty today",
    "two hundred three hundred",
    "two hundred and three hundred",
    "a two three hundred dollar bill",
    "twenty dollars fifty",
    "point five percent",
    "three point fourteen",
    "seventy six o one",
    "zero twenty",
    "nine to five",
    "five to nine people",
    "which one am i speaking to",
    "call me at three oh five",
    "one two",
    "double five",
    "it is a double room",
    "oh five of them",
    "first second third",
    "the hundredth time",
    "for the one hundredth time",
    "one hundredth of a second",
    "a dozen eggs and a dollar",
    "25 dollars, 3 thousand, 5 hundred and twenty",
    "",
]


def speak(number: int, conjunction: str = "", hyphen: str = " ") -> str:
    """A number below a billion as people say it."""
    if number < 20:
        return UNITS[number]
    if number < 100:
        return TENS[number // 10] + (hyphen + UNITS[number % 10] if number % 10 else "")
    for size, name in ((1_000_000, "million"), (1_000, "thousand"), (100, "hundred")):
        if number >= size:
            rest = number % size
            said = f"{speak(number // size, conjunction, hyphen)} {name}"
            joint = f" {conjunction}" if conjunction and 0 < rest < 100 else ""
            return f"{said}{joint} {speak(rest, conjunction, hyphen)}" if rest else said
    raise AssertionError(number)


def speak_ordinal(number: int) -> str:
    *before, last = speak(number).split()
    last = ORDINALS.get(last, last[:-1] + "ieth" if last.endswith("y") else last + "th")
    return " ".join([*before, last])


def text_written(text: str, language: str = "en-US") -> str:
    return written(Hypothesis(text, 1.0), language).text


def timed(text: str) -> Hypothesis:
    words = (Word(word, 100 * at, 100 * at + 80, 0.9 - at / 100) for at, word in enumerate(text.split()))
    return Hypothesis(text, 0.5, tuple(words))


@pytest.mark.parametrize(("spoken", "expected"), CHANGED)
def test_what_is_certain_is_written(spoken: str, expected: str) -> None:
    assert text_written(spoken) == expected


@pytest.mark.parametrize("text", UNCHANGED)
def test_what_is_not_certain_stays(text: str) -> None:
    assert text_written(text) == text


NUMBERS_SAID = st.one_of(st.integers(10, 10_000), st.integers(10, 999_999_999))


@given(NUMBERS_SAID, st.sampled_from(["", "and"]), st.sampled_from([" ", "-"]))
def test_a_number_that_is_said_is_written(number: int, conjunction: str, hyphen: str) -> None:
    said = speak(number, conjunction, hyphen)
    assert text_written(f"it has {said} of them") == f"it has {number} of them"
    assert text_written(f"{said.capitalize()}.") == f"{number}."
    assert text_written(f"{said} percent") == f"{number}%"


@given(st.integers(0, 9))
def test_a_number_below_ten_is_written_with_a_unit_only(number: int) -> None:
    said = speak(number)
    assert text_written(f"it has {said} of them") == f"it has {said} of them"
    assert text_written(f"it has {said} percent") == f"it has {number}%"


@given(NUMBERS_SAID.filter(lambda number: number % 10**3 and (number % 100 or number // 100 % 10 > 1)))
def test_an_ordinal_that_is_said_is_written(number: int) -> None:
    said = text_written(f"the {speak_ordinal(number)}")
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    assert said == f"the {number}{ending}"


@given(
    st.text("0123456789", min_size=3, max_size=16).filter(lambda digits: digits.strip("0")),
    st.sampled_from(["zero", "o"]),
)
def test_digits_said_one_by_one_are_written_as_one(digits: str, zero: str) -> None:
    said = [zero if digit == "0" else UNITS[int(digit)] for digit in digits]
    assert text_written(f"it is {' '.join(said)}.") == f"it is {digits}."


@given(st.integers(0, 999), st.text("0123456789", min_size=1, max_size=6))
def test_decimals_that_are_said_are_written(whole: int, digits: str) -> None:
    said = " ".join(UNITS[int(digit)] for digit in digits)
    assert text_written(f"it is {speak(whole)} point {said}") == f"it is {whole}.{digits}"


@given(st.integers(1, 12), st.integers(1, 59), st.sampled_from(["a", "p"]), st.sampled_from(["{} m", "{}.m.", "{}m"]))
def test_times_that_are_said_are_written(hour: int, minute: int, side: str, form: str) -> None:
    said = f"oh {speak(minute)}" if minute < 10 else speak(minute)
    assert text_written(f"{speak(hour)} {said} {form.format(side)} then") == f"{hour}:{minute:02} {side}.m. then"


BESIDE_NUMBERS = """
    a and point o oh p m am past to half quarter o'clock percent per cent dollars cents pounds may of at the people
    tomorrow in morning twenty-five five-five hundreds twenties Twenty. ten, “one Point 5 25 1.5 — .
"""
VOCABULARY = [*sorted(NUMBERS | REPEATS.keys()), *BESIDE_NUMBERS.split()]
SOUP = st.lists(st.sampled_from(VOCABULARY), max_size=14).map(" ".join)


@given(SOUP)
def test_what_is_written_is_not_written_again(text: str) -> None:
    once = written(timed(text), "en-GB")
    assert written(once, "en-GB") == once


@given(SOUP)
def test_words_keep_their_times_and_make_the_text(text: str) -> None:
    spoken = timed(text)
    result = written(spoken, "en")
    assert result.text == " ".join(word.text for word in result.words) == text_written(text, "en")
    assert result.confidence == spoken.confidence
    said = list(spoken.words)
    for word in result.words:
        inside = [each for each in said if word.start_ms <= each.start_ms and each.end_ms <= word.end_ms]
        assert inside == said[: len(inside)], "each spoken word lies in one written word, in order"
        assert (word.start_ms, word.end_ms) == (inside[0].start_ms, inside[-1].end_ms)
        assert word.confidence == min(each.confidence for each in inside)
        del said[: len(inside)]
    assert not said


@given(st.text().filter(lambda text: NUMBERS.isdisjoint(re.findall("[a-z]+", text.lower()))))
def test_text_without_number_words_is_the_same_letter_for_letter(text: str) -> None:
    spoken = Hypothesis(f" the  {text} end ", 0.5, (Word("the", 0, 10, 0.5),))
    assert written(spoken, "en") == spoken


def test_a_written_word_spans_the_words_it_was_made_of() -> None:
    spoken = (
        Word("At", 0, 90, 0.9),
        Word("three", 100, 190, 0.8),
        Word("thirty", 200, 290, 0.6),
        Word("p", 300, 340, 0.7),
        Word("m.", 350, 390, 0.5),
    )
    result = written(Hypothesis("At three thirty p m.", 0.4, spoken), "en")
    assert result == Hypothesis(
        "At 3:30 p.m.",
        0.4,
        (Word("At", 0, 90, 0.9), Word("3:30", 100, 290, 0.6), Word("p.m.", 300, 390, 0.5)),
    )


def test_words_that_differ_from_the_text_are_written_by_themselves() -> None:
    spoken = Hypothesis("Twenty-five!", 0.4, (Word("twenty", 0, 90, 0.9), Word("five", 100, 190, 0.8)))
    assert written(spoken, "en") == Hypothesis("25!", 0.4, (Word("25", 0, 190, 0.8),))


@pytest.mark.parametrize("language", ["", "de", "de-DE", "eng", "fr"])
def test_other_languages_are_left_alone(language: str) -> None:
    spoken = timed("twenty five percent")
    assert written(spoken, language) is spoken


@pytest.mark.parametrize("language", ["en", "EN", "en-US", "en-gb", *LANGUAGES])
def test_regions_of_a_language_are_the_language(language: str) -> None:
    assert text_written("twenty five percent", language) == "25%"


def test_pounds_are_money_where_they_are() -> None:
    assert text_written("two hundred pounds and fifty pence", "en-GB") == "£200.50"
    assert text_written("two hundred pounds", "en-US") == "200 pounds"
