"""OpenFST's text form of an acceptor of words. Knows the text, not tokens.

A line is an arc, `from to word [cost]` or `from to word word [cost]`, or a final state, `state [cost]`; a cost is a
negative natural logarithm, 0 or more. The first line's first state is the start; `<eps>` says nothing.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from parley.training.graph.words import Draft, GrammarError, Limits, WordFsa

if TYPE_CHECKING:
    from collections.abc import Callable

SILENT = ("<eps>", "<epsilon>")
FORM = "FROM TO WORD [COST], FROM TO WORD WORD [COST] or STATE [COST]"


def read_fst_text(text: str, spell: Callable[[str], str | None], limits: Limits | None = None) -> WordFsa:
    """spell: a word as the model has it, None if it has not.

    Raises GrammarError with the line, what was found there and what was expected.
    """
    limits = limits or Limits()
    if len(text) > limits.characters:
        raise GrammarError(f"got a grammar of {len(text)} characters, expected {limits.characters} at most")
    draft = Draft(limits)
    states: dict[str, int] = {}

    def state(name: str) -> int:
        if name not in states:
            states[name] = draft.state()
        return states[name]

    for number, line in enumerate(text.splitlines(), 1):
        fields = line.split()
        if not fields:
            continue
        try:
            names, words, cost = _parts(fields)
        except ValueError as error:
            raise GrammarError(f"line {number}: got {line.strip()[:80]!r}, expected {error}") from None
        if len(names) == 1:
            draft.final(state(names[0]), -cost)
            continue
        if len(words) == 2 and words[0] != words[1]:
            raise GrammarError(
                f"line {number}: got {words[0]!r} and {words[1]!r}, expected an acceptor: one word twice"
            )
        spelled = None if words[0] in SILENT else spell(words[0])
        if spelled is None and words[0] not in SILENT:
            raise GrammarError(f"line {number}: got {words[0]!r}, expected a word in the letters that the model writes")
        draft.arc(state(names[0]), state(names[1]), spelled, -cost)
    if not states:
        raise GrammarError(f"line 1: got an empty text, expected lines {FORM}")
    return draft.finish(0)


def _parts(fields: list[str]) -> tuple[list[str], list[str], float]:
    """States, words, cost. Raises ValueError with what was expected."""
    if len(fields) <= 2:
        names, words, costs = fields[:1], fields[:0], fields[1:]
    elif len(fields) == 4 and _number(fields[3]) is None:
        names, words, costs = fields[:2], fields[2:], []
    else:
        split = 4 if len(fields) == 5 else 3
        names, words, costs = fields[:2], fields[2:split], fields[split:]
    if len(costs) > 1 or not all(name.isascii() and name.isdigit() for name in names):
        raise ValueError(f"{FORM}, states as numbers")
    cost = _number(costs[0]) if costs else 0.0
    if cost is None or not 0 <= cost < math.inf:
        raise ValueError("a cost of 0 or more")
    return names, words, cost


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
