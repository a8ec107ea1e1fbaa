"""JSGF grammars: what they accept, against the grammar's own definition; what is wrong with those that do not parse."""

from __future__ import annotations

import contextlib
import math
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley.training.graph.jsgf import read_jsgf
from parley.training.graph.words import GrammarError, Limits
from tests.training.graph.language import sentences

LONGEST = 4  # words of a sentence that is looked at
HEAD = "#JSGF V1.0;\n"

Language = frozenset[tuple[str, ...]]


def same(word: str) -> str | None:
    return word.lower() if word.isalpha() else None


def accepted(text: str, longest: int = LONGEST) -> Language:
    return frozenset(sentences(read_jsgf(text, same), longest))


def joined(left: Language, right: Language) -> Language:
    return frozenset(a + b for a, b in product(left, right) if len(a + b) <= LONGEST)


def repeated(one: Language) -> Language:
    """Once or more often."""
    whole = one
    while (more := whole | joined(whole, one)) != whole:
        whole = more
    return whole


NOTHING: Language = frozenset([()])


@st.composite
def expansions(draw: st.DrawFn, depth: int = 3) -> tuple[str, Language]:
    """An expansion's text, and what it means."""
    kind = (
        draw(st.sampled_from(["word"] * 3 + ["group", "option", "star", "plus", "sequence", "choice"]))
        if depth
        else "word"
    )
    if kind == "word":
        word = draw(st.sampled_from(["yes", "no", "<NULL>", "<VOID>", "maybe"]))
        return word, {"<NULL>": NOTHING, "<VOID>": frozenset()}.get(word, frozenset([(word,)]))
    if kind in ("sequence", "choice"):
        parts = draw(st.lists(expansions(depth - 1), min_size=2, max_size=3))
        if kind == "sequence":
            whole = NOTHING
            for _, language in parts:
                whole = joined(whole, language)
            return " ".join(f"({text})" for text, _ in parts), whole
        return "(" + " | ".join(text for text, _ in parts) + ")", frozenset().union(*(one for _, one in parts))
    text, language = draw(expansions(depth - 1))
    if kind == "group":
        return f"({text})", language
    if kind == "option":
        return f"[{text}]", language | NOTHING
    return f"({text}){'*' if kind == 'star' else '+'}", repeated(language) | (
        NOTHING if kind == "star" else frozenset()
    )


@given(first=expansions(), second=expansions())
def test_the_language_is_the_grammars(first: tuple[str, Language], second: tuple[str, Language]) -> None:
    text = f"{HEAD}grammar test;\npublic <one> = {first[0]} <two>;\n<two> = {second[0]};"
    expected = joined(first[1], second[1])
    with contextlib.suppress(GrammarError) if not expected else contextlib.nullcontext():
        assert accepted(text) == expected


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ("public <a> = yes;", {"yes"}),
        ("public <a> = yes; public <b> = no;", {"yes", "no"}),
        ("public <a> = yes | no maybe;", {"yes", "no maybe"}),
        ("public <a> = [very] good;", {"good", "very good"}),
        ('public <a> = "New York" {city = "NY}"} {more \\} of it};'.replace("NY}", "NY"), {"new york"}),
        ("public <a> = yes // no;\n | /* no\n; */ maybe;", {"yes", "maybe"}),
        ("public <a> = (yes {1} | no {2}) {3} <b>*; <b> = <VOID>;", {"yes", "no"}),
        ("public <a> = <b> <b>; <b> = yes | no;", {"yes yes", "yes no", "no yes", "no no"}),
        ("public <a> = /0/ yes | /1/ no;", {"no"}),
    ],
)
def test_small_grammars(rules: str, expected: set[str]) -> None:
    assert {" ".join(said) for said in accepted(HEAD + rules)} == expected


def test_weights_are_shares() -> None:
    fsa = read_jsgf(HEAD + "public <a> = /3/ yes | /1/ no;", same)
    found = sentences(fsa, 1)
    assert found[("yes",)] == pytest.approx(math.log(0.75))
    assert found[("no",)] == pytest.approx(math.log(0.25))


def test_a_repeat_does_not_come_back_into_what_stands_before_it() -> None:
    assert accepted(HEAD + "public <a> = yes no* maybe;", 3) == {("yes", "maybe"), ("yes", "no", "maybe")}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1: got '', expected #JSGF V1.0;"),
        ("grammar a;", "line 1: got 'grammar a;', expected #JSGF V1.0;"),
        (HEAD + "\nimport <other.*>;", "line 3: got 'import', expected rules: imports are not taken"),
        (HEAD + "<a> = yes;", "line 2: got the text's end, expected a public rule before it"),
        (HEAD + "public <a> = yes", "line 2: got the text's end, expected ;"),
        (HEAD + "public <a> = ;", "line 2: got ';', expected a word, <rule>, ( or ["),
        (HEAD + "public <a> = (yes\n| no;", "line 3: got ';', expected )"),
        (HEAD + "public <a> = yes <b>;", "line 2: got <b>, expected a rule of this grammar"),
        (HEAD + "public <a> = <com.b.c>;", "rules of other grammars are not taken"),
        (HEAD + "public <a> = yes\n[<a>];", "line 3: got <a>, which contains itself, expected rules that do not"),
        (HEAD + "public <a> = <b>; <b> = <a>;", "line 2: got <a>, which contains itself"),
        (HEAD + "public <a> = yes; <a> = no;", "line 2: got '<a>', expected another name"),
        (HEAD + "public <a> = /1/ yes | no;", "expected a weight /1.0/ before every alternative"),
        (HEAD + "public <a> = /0/ yes | /0/ no;", "expected a weight of more than 0"),
        (HEAD + "public <a> = /-1/ yes;", "line 2: got '/-1/', expected a weight from 0 on"),
        (HEAD + "public <a> = 7up;", "line 2: got '7up', expected words in the letters that the model writes"),
        (HEAD + 'public <a> = "unclosed;', "line 2: got '\"unclosed;', expected a word, <rule>"),
        (HEAD + "public <a> = <VOID>;", "accepts nothing"),
        (HEAD + "public <a> = " + "(" * 60 + "yes" + ")" * 60 + ";", "brackets in each other up to 50 deep"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(text: str, message: str) -> None:
    with pytest.raises(GrammarError) as caught:
        read_jsgf(text, same)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        (Limits(characters=20), "characters, expected 20 at most"),
        (Limits(states=3), "more than 3 states"),
        (Limits(arcs=3), "more than 3 arcs"),
        (Limits(words=2), "more than 2 different words"),
        (Limits(depth=1), "rules in each other up to 1 deep"),
    ],
)
def test_limits(limits: Limits, message: str) -> None:
    with pytest.raises(GrammarError, match=message):
        read_jsgf(HEAD + "public <a> = one two <b>; <b> = three four five;", same, limits)


def test_rules_that_double_each_other_meet_the_limit() -> None:
    rules = "".join(f"<r{at}> = <r{at + 1}> <r{at + 1}>;" for at in range(40))
    with pytest.raises(GrammarError, match="more than 20000 states"):
        read_jsgf(HEAD + "public <a> = <r0>;" + rules + "<r40> = yes;", same)
