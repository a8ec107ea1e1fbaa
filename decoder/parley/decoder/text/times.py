"""An utterance's times, counted from its start, to its stream's. Knows no audio."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from parley.decoder.values import Hypothesis, WordLattice


def placed(hypothesis: Hypothesis, start_ms: int, *, word_times: bool) -> Hypothesis:
    """With its words in the stream's time; without words, if nobody asked for them."""
    words = hypothesis.words if word_times else ()
    moved = (replace(w, start_ms=w.start_ms + start_ms, end_ms=w.end_ms + start_ms) for w in words)
    return replace(hypothesis, words=tuple(moved))


def placed_lattice(lattice: WordLattice | None, start_ms: int) -> WordLattice | None:
    if lattice is None:
        return None
    arcs = (replace(a, start_ms=a.start_ms + start_ms, end_ms=a.end_ms + start_ms) for a in lattice.arcs)
    return replace(lattice, arcs=tuple(arcs))
