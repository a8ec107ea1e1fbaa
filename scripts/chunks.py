"""An utterance's chunks, for those who give them to a model themselves. Knows shapes and samples, not streams."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from parley.decoder.models.acoustic import Chunk

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from numpy.typing import NDArray

    from parley.decoder.models.acoustic import AcousticModel


def chunk_of(model: AcousticModel, slot: int, samples: NDArray[np.int16], index: int) -> Chunk:
    """Chunk `index` of an utterance (n,), zeros where its window has none of it."""
    start, end = model.shape.start(index), model.shape.end(index)
    inside = samples[max(start, 0) : max(end, 0)]
    window = np.zeros(model.shape.window, np.int16)
    window[max(start, 0) - start :][: len(inside)] = inside
    return Chunk(slot, index, window, len(samples) if end > len(samples) else None)


def taken_whole(model: AcousticModel, utterances: Sequence[NDArray[np.int16]]) -> tuple[torch.Tensor, list[int]]:
    """log_probs (rows, frames, tokens) and frames of whole utterances, with all the context that there is."""
    *_, found = model.whole_steps(utterances)
    assert found is not None
    return found
