"""Where given tokens lie: the likeliest CTC alignment. Knows tokens and frames, not where the tokens came from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


def forced_alignment(log_probs: NDArray[np.float32], tokens: Sequence[int], blank: int) -> tuple[int, ...] | None:
    """Each frame's label, a token or blank; None if the frames are too few. log_probs: (frames, tokens)."""
    labels = np.full(2 * len(tokens) + 1, blank)
    labels[1::2] = tokens
    places, frames = len(labels), len(log_probs)
    if not frames:
        return None if tokens else ()
    skips = np.zeros(places, bool)  # from the token before, over the blank between
    skips[3::2] = labels[3::2] != labels[1:-2:2]
    scores = np.full(places, -np.inf)
    scores[:2] = log_probs[0, labels[:2]]
    steps = np.zeros((frames, places), np.int8)
    ways = np.full((3, places), -np.inf)  # to stay, from the place before, from the one before that
    for frame in range(1, frames):
        ways[0], ways[1, 1:] = scores, scores[:-1]
        ways[2, 2:] = np.where(skips[2:], scores[:-2], -np.inf)
        steps[frame] = ways.argmax(0)
        scores = ways.max(0) + log_probs[frame, labels]
    place = places - 1 if places == 1 or scores[-1] >= scores[-2] else places - 2
    if not np.isfinite(scores[place]):
        return None
    path = []
    for frame in range(frames - 1, -1, -1):
        path.append(int(labels[place]))
        place -= int(steps[frame, place])
    return tuple(reversed(path))


def collapsed(labels: Sequence[int], blank: int) -> tuple[tuple[int, ...], tuple[tuple[int, int], ...]]:
    """What frames of these labels say: the tokens, and each one's frames [start, end)."""
    tokens: list[int] = []
    spans: list[tuple[int, int]] = []
    before = blank
    for frame, label in enumerate(labels):
        if label != blank:
            if label == before:
                spans[-1] = (spans[-1][0], frame + 1)
            else:
                tokens.append(label)
                spans.append((frame, frame + 1))
        before = label
    return tuple(tokens), tuple(spans)
