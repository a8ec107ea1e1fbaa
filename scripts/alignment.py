"""Which word found stands for which word said. Knows words and edits, not where either came from."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

from scripts.scoring import WordErrors

PAIR, LEFT_OUT, PUT_IN = range(3)


def alignment(reference: Sequence[str], found: Sequence[str]) -> list[tuple[int | None, int | None]]:
    """Places in both, in order; None for a word that `found` leaves out, or puts in. Of the fewest edits, and of those
    the fewest substitutions, as scripts.scoring counts them."""
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


def errors(
    reference: Sequence[str], found: Sequence[str], pairs: Iterable[tuple[int | None, int | None]]
) -> WordErrors:
    """Of these pairs, which may be a part of an alignment."""
    words = substitutions = insertions = deletions = 0
    for said, heard in pairs:
        words += said is not None
        if said is None:
            insertions += 1
        elif heard is None:
            deletions += 1
        else:
            substitutions += reference[said] != found[heard]
    return WordErrors(words, substitutions, insertions, deletions)
