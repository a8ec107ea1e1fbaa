"""Best path search: in every frame the likeliest token. Knows tokens and frames, not text.

A run of the same token is that token once; a blank ends a run (Graves et al. 2006, "Connectionist Temporal
Classification"). Nothing is revised: a token once found stays.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from parley.decoder.search.ctc import Path

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

    from parley.decoder.search.ctc import Wishes


class Greedy:
    """See parley.decoder.search.ctc.Search."""

    slot_bytes = 0  # but for a path

    def __init__(self, slots: int, blank: int) -> None:
        self._blank = blank
        self._last = np.full(slots, blank)  # each slot's token in its last frame
        self._frames = np.zeros(slots, np.int64)  # seen
        self._paths = [Path()] * slots

    def begin(self, slot: int, wishes: Wishes | None) -> None:  # there is nothing to wish for
        self.clear(slot)

    def clear(self, slot: int) -> None:
        self._last[slot], self._frames[slot], self._paths[slot] = self._blank, 0, Path()

    def advance(self, slots: Sequence[int], log_probs: torch.Tensor, frames: Sequence[int]) -> None:
        best, token = (tensor.cpu().numpy() for tensor in log_probs.max(-1))
        rows, counts = np.asarray(slots), np.asarray(frames)
        before = np.concatenate((self._last[rows, None], token[:, :-1]), 1)
        found = (token != self._blank) & (np.arange(token.shape[1]) < counts[:, None])
        first = self._frames[rows]
        for row in np.flatnonzero(found.any(1)).tolist():
            path = self._paths[slots[row]]
            tokens, spans, scores = list(path.tokens), list(path.spans), list(path.log_probs)
            for at in np.flatnonzero(found[row]).tolist():
                frame, log_prob = int(first[row]) + at, float(best[row, at])
                if token[row, at] == before[row, at]:
                    spans[-1] = (spans[-1][0], frame + 1)
                    scores[-1] = max(scores[-1], log_prob)
                else:
                    tokens.append(int(token[row, at]))
                    spans.append((frame, frame + 1))
                    scores.append(log_prob)
            self._paths[slots[row]] = Path(tuple(tokens), tuple(spans), tuple(scores))
        ended = counts > 0
        self._last[rows[ended]] = token[ended, counts[ended] - 1]
        self._frames[rows] += counts

    def best(self, slot: int) -> Path:
        return self._paths[slot]

    def n_best(self, slot: int, count: int) -> list[Path]:  # there is only one
        return [self._paths[slot]]
