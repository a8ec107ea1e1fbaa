"""The first pass's acoustic model as the rest sees it: chunks of samples in, log-probabilities out. Knows no streams.

Our own streaming CTC network is one (streaming_ctc.py), TorchScript exports of WeNet (wenet.py) and of icefall's
streaming zipformer (zipformer.py) are others; registry.py tells a folder's kind.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from parley.decoder.speech.vad import SAMPLE_RATE

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np
    import torch
    from numpy.typing import NDArray

    from parley.decoder.model_folder import ModelFolder, ModelInfo
    from parley.decoder.search.ctc import Wishes
    from parley.decoder.text.vocabulary import Vocabulary

CARD_ROWS = 64  # of recordings that go to a card in one call


@dataclass(frozen=True, slots=True)
class ChunkShape:
    """Where a chunk lies in its utterance, in samples: chunk k begins at k * step, and its frames' windows reach from
    `before` samples ahead of that to `after` samples behind the next chunk's beginning."""

    step: int
    before: int
    after: int

    @property
    def window(self) -> int:
        """Samples that a chunk takes."""
        return self.before + self.step + self.after

    def start(self, index: int) -> int:
        """The window's first sample; below 0 for the first chunk, if anything lies before."""
        return index * self.step - self.before

    def end(self, index: int) -> int:
        """Behind the window's last sample: with as many samples chunk `index` can be computed."""
        return (index + 1) * self.step + self.after


@dataclass(frozen=True, slots=True, eq=False)
class Chunk:
    """samples: the window, (shape.window,) int16, zeros where the utterance has none. index: of the chunk in its
    utterance, from 0. length: the utterance's samples, for a chunk whose window reaches beyond its end; else None.
    wishes: with index 0, what the utterance wants of its search."""

    slot: int
    index: int
    samples: NDArray[np.int16]
    length: int | None = None
    wishes: Wishes | None = None


class AcousticModel(Protocol):
    """A streaming CTC network on one device, with room for what it remembers of `slots` utterances.

    Used by the device's thread only. log_probs: (rows, frames, tokens) float32 natural logarithms, on the device; of
    row r the first `frames[r]` frames count. Every row comes out as it would alone. Raises OutOfMemory, after which
    the same chunks may be given again, in smaller batches.
    """

    info: ModelInfo
    vocabulary: Vocabulary
    blank: int
    frame_ms: float  # of a row of log_probs
    shape: ChunkShape
    longest_samples: int  # of an utterance
    side_by_side: int  # rows of a call that go at the same time: on a CPU a thread each, on a card CARD_ROWS
    slots: int
    slot_bytes: int  # of memory on the device, allocated at start

    def chunks(self, samples: int) -> int:
        """How many chunks an utterance of so many samples has; 1 or more."""
        ...

    def clear(self, slot: int) -> None:
        """Wipes what the slot holds."""
        ...

    def forward(self, chunks: Sequence[Chunk]) -> tuple[torch.Tensor, list[int]]:
        """log_probs and frames of one chunk each of utterances in different slots. A slot's chunks come in order;
        index 0 begins a new utterance, to which the slot's old content is invisible."""
        ...

    def whole_steps(self, utterances: Sequence[NDArray[np.int16]]) -> Iterator[tuple[torch.Tensor, list[int]] | None]:
        """log_probs and frames of whole utterances (n,), with all the context that the model can use: yields None
        wherever other work may go in between, and last what it found."""
        ...


def check_rate(folder: ModelFolder) -> None:
    """Raises ModelError unless the model hears what decoders hear."""
    if folder.info.sample_rate != SAMPLE_RATE:
        raise folder.fault(f"sample_rate: got {folder.info.sample_rate}, expected {SAMPLE_RATE}")
