"""What a search over CTC log-probabilities is to the rest: advance, n-best. Knows tokens and frames, not text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from parley.decoder.values import Scores

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

    from parley.decoder.search.hotwords import Automaton
    from parley.decoder.search.language_model import LanguageModel

NO_SCORES = Scores(0.0)  # of a path so far, or of a search that has none


@dataclass(frozen=True, slots=True)
class Path:
    """A hypothesis: its tokens, each with the frames [start, end) that it lies in, counted from the utterance's start,
    and the natural logarithm of its probability there. scores: of a whole utterance's. confidences: of each word the
    chance, 0..1, that it is right, by a search that knows better than the tokens' probabilities. stability: of a path
    so far the chance, 0..1, that its words stay; 0: not known."""

    tokens: tuple[int, ...] = ()
    spans: tuple[tuple[int, int], ...] = ()
    log_probs: tuple[float, ...] = ()
    scores: Scores = NO_SCORES
    confidences: tuple[float, ...] = ()
    stability: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Wishes:
    """What an utterance wants of its search. All utterances of a request want the same but for `before`: the last words
    that the channel has had. graph: what a whole utterance is searched over by a lattice search; None: by beams, as
    chunks always are. lattice: wanted beside the words."""

    language_model: LanguageModel
    hotwords: Automaton
    beam: int
    language_weight: float
    word_bonus: float
    before: tuple[str, ...] = ()
    graph: str | None = None
    lattice: bool = False


class Search(Protocol):
    """The searches of many utterances at once, each under a number of its own: its decoder's slot."""

    slot_bytes: int  # of memory, allocated at start

    def begin(self, slot: int, wishes: Wishes | None) -> None:
        """Begins a new utterance in the slot. None: of one that has no wishes, to a search that needs none."""
        ...

    def clear(self, slot: int) -> None:
        """Forgets what the slot holds."""
        ...

    def advance(self, slots: Sequence[int], log_probs: torch.Tensor, frames: Sequence[int]) -> None:
        """Takes the next frames of each slot's utterance: log_probs (rows, frames, tokens), of row r the first
        `frames[r]`."""
        ...

    def best(self, slot: int) -> Path:
        """The likeliest path so far. The same object while nothing has changed."""
        ...

    def n_best(self, slot: int, count: int) -> list[Path]:
        """The likeliest paths of the utterance, which is over: best first, 1 to `count`, no two of the same words."""
        ...
