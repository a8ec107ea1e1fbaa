"""JSGF grammars to word acceptors (W3C note "JSpeech Grammar Format", 2000). Knows the text, not tokens.

Taken: rules, public rules, sequences, alternatives with weights, groups, options, * and +, references, <NULL>, <VOID>,
quoted words, comments. Tags are read over. Not taken, each with an error that says so: imports, references to other
grammars, and rules that contain themselves (a graph has no end then; * and + say what most of them mean).
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from parley.training.graph.words import Draft, GrammarError, Limits, WordFsa

if TYPE_CHECKING:
    from collections.abc import Callable

HEADER = re.compile(r"\ufeff?#JSGF[ \t]+V1\.0(?:[ \t]+[^\s;]+){0,2}[ \t]*;")
LEXEME = re.compile(
    r"""(?P<space>\s+|//[^\n]*|/\*.*?\*/)
      | (?P<tag>\{(?:[^{}\\]|\\.)*\})
      | (?P<weight>/[ \t]*[0-9.eE+-]+[ \t]*/)
      | (?P<rule><[^<>\s]+>)
      | (?P<quoted>"(?:[^"\\]|\\.)*")
      | (?P<sign>[;=|*+()\[\]])
      | (?P<word>[^\s;=|*+<>()\[\]{}/"\\]+)""",
    re.VERBOSE | re.DOTALL,
)
NULL, VOID = "<NULL>", "<VOID>"


class Lexeme(NamedTuple):
    kind: str
    text: str
    line: int


@dataclass(frozen=True, slots=True)
class Word:
    text: str


@dataclass(frozen=True, slots=True)
class Reference:
    name: str
    line: int


@dataclass(frozen=True, slots=True)
class Sequence:
    parts: tuple[Expansion, ...]


@dataclass(frozen=True, slots=True)
class Choice:
    """weights: shares, each 0 or more; None if none is given."""

    parts: tuple[Expansion, ...]
    weights: tuple[float, ...] | None = None


@dataclass(frozen=True, slots=True)
class Repeat:
    """part once or more often; optional: or not at all; endless: more than once."""

    part: Expansion
    optional: bool
    endless: bool


Expansion = Word | Reference | Sequence | Choice | Repeat


def read_jsgf(text: str, spell: Callable[[str], str | None], limits: Limits | None = None) -> WordFsa:
    """The sentences of all public rules. spell: a word as the model has it, None if it has not.

    Raises GrammarError with the line, what was found there and what was expected.
    """
    limits = limits or Limits()
    if len(text) > limits.characters:
        raise GrammarError(f"got a grammar of {len(text)} characters, expected {limits.characters} at most")
    rules, public = _Parser(text, spell, limits).grammar()
    draft = Draft(limits)
    start, end = draft.state(), draft.state()
    draft.final(end)
    builder = _Builder(rules, draft)
    for name in public:
        builder.rule(name, start, end)
    return draft.finish(start)


class _Parser:
    def __init__(self, text: str, spell: Callable[[str], str | None], limits: Limits) -> None:
        self._spell, self._limits, self._depth = spell, limits, 0
        self._lexemes = _lexemes(text)
        self._at = 0

    def grammar(self) -> tuple[dict[str, Expansion], list[str]]:
        if self._peek().text == "grammar":
            self._take()
            self._expect("word", "the grammar's name")
            self._sign(";")
        if self._peek().text == "import":
            raise self._fault("rules: imports are not taken, put the other grammar's rules here")
        rules: dict[str, Expansion] = {}
        public: list[str] = []
        while self._peek().kind != "end":
            is_public = self._peek().text == "public"
            if is_public:
                self._take()
            name = self._expect("rule", "<name> = ...; or public <name> = ...;")
            if name.text in rules or name.text in (NULL, VOID):
                self._at -= 1
                raise self._fault("another name: this rule is there already")
            self._sign("=")
            rules[name.text] = self._choice()
            self._sign(";")
            if is_public:
                public.append(name.text)
        if not public:
            raise self._fault("a public rule before it: public <name> = ...;")
        return rules, public

    def _choice(self) -> Expansion:
        self._depth += 1
        if self._depth > self._limits.depth:
            raise self._fault(f"brackets in each other up to {self._limits.depth} deep")
        parts, weights = [], []
        while True:
            weighted = self._peek().kind == "weight"
            if weighted:
                weights.append(self._weight())
            parts.append(self._sequence())
            if weights and len(weights) != len(parts):
                raise self._fault("a weight /1.0/ before every alternative, or before none")
            if self._peek().text != "|":
                break
            self._take()
        self._depth -= 1
        if weights and not sum(weights):
            raise self._fault("a weight of more than 0 before it")
        return parts[0] if len(parts) == 1 else Choice(tuple(parts), tuple(weights) or None)

    def _weight(self) -> float:
        text = self._peek().text[1:-1]
        try:
            weight = float(text)
        except ValueError:
            weight = -1.0
        if not 0 <= weight <= 1e9:
            raise self._fault("a weight from 0 on, as /0.5/")
        self._take()
        return weight

    def _sequence(self) -> Expansion:
        parts: list[Expansion] = []
        while (part := self._item()) is not None:
            while self._peek().text in ("*", "+") or self._peek().kind == "tag":
                sign = self._take()
                if sign.kind != "tag":
                    part = Repeat(part, optional=sign.text == "*", endless=True)
            parts.append(part)
        if not parts:
            raise self._fault("a word, <rule>, ( or [")
        return parts[0] if len(parts) == 1 else Sequence(tuple(parts))

    def _item(self) -> Expansion | None:
        lexeme = self._peek()
        if lexeme.kind in ("word", "quoted"):
            return self._words()
        if lexeme.kind == "rule":
            self._take()
            return Reference(lexeme.text, lexeme.line)
        if lexeme.text == "(":
            self._take()
            inner = self._choice()
            self._sign(")")
            return inner
        if lexeme.text == "[":
            self._take()
            inner = self._choice()
            self._sign("]")
            return Repeat(inner, optional=True, endless=False)
        return None

    def _words(self) -> Expansion:
        lexeme = self._peek()
        text = re.sub(r"\\(.)", r"\1", lexeme.text[1:-1]) if lexeme.kind == "quoted" else lexeme.text
        words: list[Expansion] = []
        for word in text.split():
            spelled = self._spell(word)
            if spelled is None:
                raise self._fault(f"words in the letters that the model writes; {word!r} is not")
            words.append(Word(spelled))
        if not words:
            raise self._fault("a word between the quotes")
        self._take()
        return words[0] if len(words) == 1 else Sequence(tuple(words))

    def _peek(self) -> Lexeme:
        return self._lexemes[self._at]

    def _take(self) -> Lexeme:
        self._at += 1
        return self._lexemes[self._at - 1]

    def _sign(self, text: str) -> None:
        if self._peek().text != text:
            raise self._fault(text)
        self._take()

    def _expect(self, kind: str, expected: str) -> Lexeme:
        if self._peek().kind != kind:
            raise self._fault(expected)
        return self._take()

    def _fault(self, expected: str) -> GrammarError:
        lexeme = self._peek()
        return _fault(lexeme.line, "the text's end" if lexeme.kind == "end" else repr(lexeme.text), expected)


def _lexemes(text: str) -> list[Lexeme]:
    header = HEADER.match(text)
    if header is None:
        raise _fault(1, repr(text.split("\n", 1)[0][:40]), "#JSGF V1.0;")
    at, line, found = header.end(), 1, list[Lexeme]()
    while at < len(text):
        match = LEXEME.match(text, at)
        if match is None:
            raise _fault(line, repr(text[at : at + 10]), "a word, <rule>, a sign of the grammar or a comment, closed")
        if match.lastgroup != "space":
            found.append(Lexeme(str(match.lastgroup), match[0], line))
        line += match[0].count("\n")
        at = match.end()
    return [*found, Lexeme("end", "", line)]


class _Builder:
    """Rules into a draft, each where it is referred to."""

    def __init__(self, rules: dict[str, Expansion], draft: Draft) -> None:
        self._rules, self._draft = rules, draft
        self._open: list[str] = []

    def rule(self, name: str, source: int, target: int, line: int = 0) -> None:
        if name not in self._rules:
            dotted = ": rules of other grammars are not taken" if "." in name else ""
            raise _fault(line, name, f"a rule of this grammar{dotted}")
        if name in self._open:
            raise _fault(line, f"{name}, which contains itself", "rules that do not; * and + repeat")
        if len(self._open) == self._draft.limits.depth:
            raise _fault(line, name, f"rules in each other up to {self._draft.limits.depth} deep")
        self._open.append(name)
        self._expand(self._rules[name], source, target)
        self._open.pop()

    def _expand(self, part: Expansion, source: int, target: int, score: float = 0.0) -> None:
        """A way for the part from one state to the other. score: of taking it."""
        draft = self._draft
        if isinstance(part, Word):
            draft.arc(source, target, part.text, score)
            return
        if isinstance(part, Reference) and part.name == VOID:
            return
        if score or isinstance(part, Repeat):
            # A state of its own to begin at: who goes round must not come back into what stands before.
            begin = draft.state()
            draft.arc(source, begin, None, score)
        else:
            begin = source
        if isinstance(part, Reference):
            if part.name == NULL:
                draft.arc(begin, target)
            else:
                self.rule(part.name, begin, target, part.line)
        elif isinstance(part, Sequence):
            for inner in part.parts[:-1]:
                after = draft.state()
                self._expand(inner, begin, after)
                begin = after
            self._expand(part.parts[-1], begin, target)
        elif isinstance(part, Choice):
            total = sum(part.weights or ())
            for at, inner in enumerate(part.parts):
                weight = part.weights[at] / total if part.weights else 1.0
                if weight:
                    self._expand(inner, begin, target, math.log(weight))
        else:
            end = draft.state()
            self._expand(part.part, begin, end)
            draft.arc(end, target)
            if part.endless:
                draft.arc(end, begin)
            if part.optional:
                draft.arc(begin, target)


def _fault(line: int, found: str, expected: str) -> GrammarError:
    return GrammarError(f"line {line}: got {found}, expected {expected}")
