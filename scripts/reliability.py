"""How far a recognizer's confidence can be believed: its calibration error, and which interim results survive.

Knows how to count, not how the figures are made. What is said not to be known (0) is counted, and left out of the rest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from scripts.scoring import alignment

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

BINS = 15

Pair: TypeAlias = "tuple[float, bool]"  # what was said, 0..1, and whether it came true


@dataclass(frozen=True, slots=True)
class Bin:
    """What was said between `low` and `high`: how often, on the mean, and how often it came true."""

    low: float
    high: float
    count: int
    mean: float
    share: float


@dataclass(frozen=True, slots=True)
class Reliability:
    """`error` is the expected calibration error: the bins' distances from mean to share, weighted by their counts."""

    count: int
    unknown: int
    mean: float
    share: float
    error: float
    bins: tuple[Bin, ...]


@dataclass(frozen=True, slots=True)
class Survival:
    """Of the interim results with at least this stability, the share that survived; None: there were none."""

    threshold: float
    count: int
    share: float | None


def reliability(pairs: Iterable[Pair], bins: int = BINS) -> Reliability:
    """Bins are of equal width; a figure on the border of two is the upper one's, 1 the last one's."""
    said: list[list[Pair]] = [[] for _ in range(bins)]
    known: list[Pair] = []
    unknown = 0
    for chance, truth in pairs:
        if not 0 <= chance <= 1:
            raise ValueError(f"got a confidence of {chance}, expected 0 to 1")
        if chance == 0:
            unknown += 1
            continue
        known.append((chance, truth))
        said[min(int(chance * bins), bins - 1)].append((chance, truth))
    parts = tuple(Bin(at / bins, (at + 1) / bins, len(part), *_means(part)) for at, part in enumerate(said))
    error = sum(part.count * abs(part.mean - part.share) for part in parts) / max(len(known), 1)
    return Reliability(len(known), unknown, *_means(known), error, parts)


def _means(pairs: Sequence[Pair]) -> tuple[float, float]:
    count = max(len(pairs), 1)
    return sum(chance for chance, _ in pairs) / count, sum(truth for _, truth in pairs) / count


def survival(pairs: Sequence[Pair], thresholds: Iterable[float]) -> tuple[Survival, ...]:
    rows = []
    for threshold in thresholds:
        truths = [truth for chance, truth in pairs if chance >= threshold]
        rows.append(Survival(threshold, len(truths), sum(truths) / len(truths) if truths else None))
    return tuple(rows)


def kept(reference: Sequence[str], found: Sequence[str]) -> list[bool]:
    """For each word found, whether it is one of the reference's, by the alignment that scripts.scoring counts."""
    pairs = alignment(reference, found)
    return [said is not None and reference[said] == found[heard] for said, heard in pairs if heard is not None]
