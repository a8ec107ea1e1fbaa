"""Beam search over an attention decoder's next-token probabilities, one utterance. Knows tokens, not text or models.

With a beam of 1 it is greedy search. Hypotheses are ranked by mean log-probability a token, so that a longer one is
not punished for its length. A hypothesis that repeats itself endlessly, the known failure of such decoders, is cut
after the first copy and ended.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

LONGEST_LOOP = 24  # tokens of a phrase that may be found repeating
COPIES = 3  # of a phrase in a row: nobody says it that often ...
SHORTEST_REPEAT = 12  # ... unless it is short: "no no no no" is speech


@dataclass(frozen=True, slots=True)
class Decoded:
    """A hypothesis. `log_probs` and `attention (frames,)` have an entry a token; `end_log_prob` is the end token's."""

    tokens: tuple[int, ...] = ()
    log_probs: tuple[float, ...] = ()
    attention: tuple[NDArray[np.float32], ...] = ()
    end_log_prob: float = 0.0

    @property
    def mean_log_prob(self) -> float:
        return (sum(self.log_probs) + self.end_log_prob) / (len(self.tokens) + 1)


class Beam:
    """The hypotheses of one utterance."""

    def __init__(self, width: int, end_token: int, most_tokens: int) -> None:
        """width: hypotheses kept. most_tokens: a hypothesis this long is ended."""
        self._width, self._end, self._most = width, end_token, most_tokens
        self._open = [Decoded()]
        self._totals = [0.0]
        self._done: list[Decoded] = []

    @property
    def finished(self) -> bool:
        return len(self._done) >= self._width

    def advance(
        self, log_probs: NDArray[np.float32], tokens: NDArray[np.int64], attention: NDArray[np.float32]
    ) -> tuple[list[int], list[int]]:
        """Takes each open hypothesis one token further.

        log_probs, tokens: (open hypotheses, 2 * width or more), likeliest first; attention: (open hypotheses, frames).
        Returns for every hypothesis now open (always `width` of them) the row it grew from and its last token.
        """
        totals = np.asarray(self._totals)[:, None] + log_probs
        grown: list[tuple[int, Decoded, float]] = []
        for rank, flat in enumerate(np.argsort(-totals, axis=None, kind="stable")):
            parent, column = divmod(int(flat), log_probs.shape[1])
            old, token, log_prob = self._open[parent], int(tokens[parent, column]), float(log_probs[parent, column])
            may_end = rank < self._width  # an end that others outrank is no end yet
            if token == self._end:
                if may_end:
                    self._done.append(Decoded(old.tokens, old.log_probs, old.attention, log_prob))
                continue
            new = Decoded((*old.tokens, token), (*old.log_probs, log_prob), (*old.attention, attention[parent]))
            total = float(totals[parent, column])
            loop = repeated(new.tokens)
            if may_end and (loop or len(new.tokens) >= self._most):
                keep = len(new.tokens) - loop
                self._done.append(Decoded(new.tokens[:keep], new.log_probs[:keep], new.attention[:keep]))
                total = -math.inf  # it keeps its row, but nothing grows from it
            grown.append((parent, new, total))
            if len(grown) == self._width:
                break
        self._open = [new for _, new, _ in grown]
        self._totals = [total for _, _, total in grown]
        return [parent for parent, _, _ in grown], [new.tokens[-1] for new in self._open]

    def n_best(self) -> list[Decoded]:
        """The finished hypotheses, best first; at most `width`."""
        return sorted(self._done, key=lambda d: -d.mean_log_prob)[: self._width]


def repeated(tokens: Sequence[int]) -> int:
    """How many tokens at the end only repeat the phrase before them: 0, or all copies but the first."""
    for length in range(1, LONGEST_LOOP + 1):
        copies = max(COPIES, -(-SHORTEST_REPEAT // length))
        span = length * copies
        if span <= len(tokens) and all(tokens[-k] == tokens[-k - length] for k in range(1, span - length + 1)):
            return span - length
    return 0
