"""What a search over CTC log-probabilities is to the rest: advance, n-best. Knows tokens and frames, not text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch


@dataclass(frozen=True, slots=True)
class Path:
    """A hypothesis: its tokens, each with the frames [start, end) that it lies in, counted from the utterance's start,
    and the natural logarithm of its probability there."""

    tokens: tuple[int, ...] = ()
    spans: tuple[tuple[int, int], ...] = ()
    log_probs: tuple[float, ...] = ()


class Search(Protocol):
    """The searches of many utterances at once, each under a number of its own: its decoder's slot."""

    def clear(self, slot: int) -> None:
        """Begins a new utterance in the slot."""
        ...

    def advance(self, slots: Sequence[int], log_probs: torch.Tensor, frames: Sequence[int]) -> None:
        """Takes the next frames of each slot's utterance: log_probs (rows, frames, tokens), of row r the first
        `frames[r]`."""
        ...

    def n_best(self, slot: int, count: int) -> list[Path]:
        """The likeliest paths so far, best first: 1 to `count`. The same objects while nothing has changed."""
        ...
