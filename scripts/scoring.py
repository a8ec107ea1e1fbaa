"""Word error rates, and which word found stands for which word said. Knows words and edits, no audio and no model."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

NEITHER_LETTER_NOR_APOSTROPHE = re.compile(r"[^\w' ]|[\d_]")
PAIR, LEFT_OUT, PUT_IN = range(3)


@dataclass(frozen=True, slots=True)
class WordErrors:
    """What turns the reference's `words` into the hypothesis, at the fewest edits."""

    words: int = 0
    substitutions: int = 0
    insertions: int = 0
    deletions: int = 0

    @property
    def rate(self) -> float:
        return (self.substitutions + self.insertions + self.deletions) / max(self.words, 1)

    def __add__(self, other: WordErrors) -> WordErrors:
        return WordErrors(
            self.words + other.words,
            self.substitutions + other.substitutions,
            self.insertions + other.insertions,
            self.deletions + other.deletions,
        )


def normalize(text: str) -> list[str]:
    """Lower case, hyphens to spaces, everything but letters, apostrophes and spaces removed."""
    spaced = re.sub(r"[-\s]", " ", text.lower().replace("\u2019", "'"))
    return NEITHER_LETTER_NOR_APOSTROPHE.sub("", spaced).split()


def count_errors(reference: str, hypothesis: str) -> WordErrors:
    said, found = normalize(reference), normalize(hypothesis)
    substitutions = insertions = deletions = 0
    for expected, heard in alignment(said, found):
        if expected is None:
            insertions += 1
        elif heard is None:
            deletions += 1
        else:
            substitutions += said[expected] != found[heard]
    return WordErrors(len(said), substitutions, insertions, deletions)


def alignment(reference: Sequence[str], found: Sequence[str]) -> list[tuple[int | None, int | None]]:
    """Places in both, in order; None for a word that `found` leaves out, or puts in. Of the fewest edits, and of those
    the fewest substitutions."""
    rows = [[(column, 0) for column in range(len(found) + 1)]]
    for line, word in enumerate(reference, start=1):
        row = [(line, 0)]
        for column, heard in enumerate(found, start=1):
            row.append(min(_ways(rows[-1], row, column, word == heard)))
        rows.append(row)
    pairs: list[tuple[int | None, int | None]] = []
    line, column = len(reference), len(found)
    while line or column:
        way = LEFT_OUT if line else PUT_IN
        if line and column:
            same = reference[line - 1] == found[column - 1]
            way = _ways(rows[line - 1], rows[line], column, same).index(rows[line][column])
        line, column = line - (way != PUT_IN), column - (way != LEFT_OUT)
        pairs.append((None if way == PUT_IN else line, None if way == LEFT_OUT else column))
    return pairs[::-1]


def _ways(
    above: Sequence[tuple[int, int]], row: Sequence[tuple[int, int]], column: int, same: bool
) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
    """(edits, substitutions) after a pair, a word left out, a word put in."""
    diagonal, over, left = above[column - 1], above[column], row[column - 1]
    pair = diagonal if same else (diagonal[0] + 1, diagonal[1] + 1)
    return pair, (over[0] + 1, over[1]), (left[0] + 1, left[1])
