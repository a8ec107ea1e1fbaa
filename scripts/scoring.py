"""Word error rates. Knows words and edit distance, not where the words came from."""

from __future__ import annotations

import re
from dataclasses import dataclass

NEITHER_LETTER_NOR_APOSTROPHE = re.compile(r"[^\w' ]|[\d_]")


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
    expected, found = normalize(reference), normalize(hypothesis)
    # Cells are (edits, substitutions, insertions, deletions): of equal distances the fewer substitutions win.
    row = [(column, 0, column, 0) for column in range(len(found) + 1)]
    for line, word in enumerate(expected, start=1):
        above, row = row, [(line, 0, 0, line)]
        for column, heard in enumerate(found, start=1):
            if word == heard:
                row.append(above[column - 1])
                continue
            edits, subs, ins, dels = above[column - 1]
            substituted = (edits + 1, subs + 1, ins, dels)
            edits, subs, ins, dels = row[column - 1]
            inserted = (edits + 1, subs, ins + 1, dels)
            edits, subs, ins, dels = above[column]
            deleted = (edits + 1, subs, ins, dels + 1)
            row.append(min(substituted, inserted, deleted))
    return WordErrors(len(expected), *row[-1][1:])
