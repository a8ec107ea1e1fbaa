"""Where in the audio an attention decoder's tokens lie, and whether it listened at all. Knows no text.

attention: (tokens, frames), each row a distribution over the frames.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


def align(attention: NDArray[np.float32]) -> list[int]:
    """Each token's first frame and, last, the number of frames: the edges of the monotonic path of largest sum.

    Every token gets at least one frame while there are enough. Dynamic programming over tokens, vectorized over frames:
    best[t][f] = max over the start s <= f of best[t - 1][s - 1] + sum(attention[t][s..f]).
    """
    tokens, frames = attention.shape
    if frames < tokens:  # not speech anybody can follow: share the frames out
        return [t * frames // tokens for t in range(tokens + 1)]
    best = np.full(frames + 1, -np.inf)
    best[0] = 0.0
    starts = np.zeros((tokens, frames + 1), np.int64)
    steps = np.arange(frames + 1)
    for t in range(tokens):
        total = np.concatenate(([0.0], np.cumsum(attention[t], dtype=np.float64)))
        gain = best - total  # of starting the token at frame s, before its own sum
        ahead = np.maximum.accumulate(gain)
        start = np.maximum.accumulate(np.where(gain == ahead, steps, 0))
        best = np.concatenate(([-np.inf], ahead[:-1] + total[1:]))  # ends before frame f: one frame at least
        starts[t, 1:] = start[:-1]
    edges = [frames]
    for t in reversed(range(tokens)):
        edges.append(int(starts[t, edges[-1]]))
    return edges[::-1]


def share_on_path(attention: NDArray[np.float32], edges: Sequence[int]) -> float:
    """0 to 1: how much of the attention lies between the edges. Speech gives 0.5 to 0.8; a model that makes up words
    over noise looks elsewhere."""
    inside = [row[start:end].sum() for row, start, end in zip(attention, edges, edges[1:], strict=False)]
    return float(np.mean(inside))


def spread(attention: NDArray[np.float32]) -> float:
    """0 to 1: the rows' mean entropy; looking everywhere alike is 1. Speech gives 0.5 to 0.8."""
    if attention.shape[1] < 2:
        return 0.0
    entropies = -(attention * np.log(np.maximum(attention, 1e-9))).sum(axis=1)
    return float(entropies.mean() / math.log(attention.shape[1]))
