"""An acoustic model that says what its samples tell it, and the first pass over it."""

from __future__ import annotations

import math
from concurrent.futures import Future
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from parley.decoder.model_folder import ModelInfo
from parley.decoder.models.acoustic import Chunk, ChunkShape
from parley.decoder.text.vocabulary import Vocabulary
from parley.decoder.values import Transcript
from tests.decoder.chunks import chunk_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from parley.decoder.errors import DeviceError
    from parley.decoder.models.first_pass import FirstPass
    from parley.decoder.models.passes import RowResult
    from parley.decoder.search.ctc import Wishes

RATE = 16_000
FRAME = RATE // 25  # samples, 40 ms
CHUNK = 4  # frames
PIECES = ("<blk>", "▁no", "▁yes", "ter", "day", "<unk>")
_, NO, YES, TER, DAY, UNKNOWN = range(len(PIECES))
NOTHING = Transcript(())


class Repeater:
    """An acoustic model that says what the samples tell it: a frame's first one holds 100 times the token and its
    share in percent; a token of 9 is a number that is none."""

    info = ModelInfo("repeater", ("en",), RATE, "", "")
    vocabulary = Vocabulary([piece.encode() for piece in PIECES])
    blank = 0
    frame_ms = 40.0
    shape = ChunkShape(CHUNK * FRAME, 0, 0)
    longest_samples = 30 * RATE
    slots = 4
    slot_bytes = 0
    side_by_side = 1

    def __init__(self) -> None:
        self.cleared: list[int] = []
        self.calls: list[list[int]] = []  # samples of the rows of each call

    def chunks(self, samples: int) -> int:
        return max(1, -(-samples // self.shape.step))

    def clear(self, slot: int) -> None:
        self.cleared.append(slot)

    def forward(self, chunks: Sequence[Chunk]) -> tuple[torch.Tensor, list[int]]:
        ends = [
            chunk.length - chunk.index * self.shape.step if chunk.length is not None else self.shape.step
            for chunk in chunks
        ]
        return self._said([chunk.samples[:end] for chunk, end in zip(chunks, ends, strict=True)])

    def whole_steps(self, utterances: Sequence[NDArray[np.int16]]) -> Iterator[tuple[torch.Tensor, list[int]]]:
        yield self._said(utterances)

    def _said(self, utterances: Sequence[NDArray[np.int16]]) -> tuple[torch.Tensor, list[int]]:
        self.calls.append([len(samples) for samples in utterances])
        frames = [len(samples) // FRAME for samples in utterances]
        log_probs = torch.zeros(len(utterances), max(frames), len(PIECES))
        for row, samples in zip(log_probs, utterances, strict=True):
            for at, told in enumerate(samples[::FRAME].tolist()):
                token, percent = divmod(told, 100)
                if token == 9:
                    row[at, 2] = math.nan if percent else math.inf
                    continue
                row[at] = math.log((100 - percent) / 100 / (len(PIECES) - 1))
                row[at, token] = math.log(percent / 100)
        return log_probs, frames


def utterance(*frames: int, percent: int = 80) -> NDArray[np.int16]:
    """Samples that tell the repeater these tokens; a number from 100 up holds its own percentage."""
    samples = np.zeros(len(frames) * FRAME, np.int16)
    samples[::FRAME] = [frame if frame >= 100 else 100 * frame + percent for frame in frames]
    return samples


NOT_A_NUMBER, INFINITE = 901, 900


def advance(
    first_pass: FirstPass, wishes: Wishes | None = None, **streams: tuple[int, NDArray[np.int16]]
) -> list[Transcript | DeviceError]:
    """One step of streams, by name a chunk's index and the utterance; in slots of their order. In rows' order."""
    chunks = [
        chunk_of(first_pass.model, slot, samples, index) for slot, (index, samples) in enumerate(streams.values())
    ]
    (rows,) = first_pass.advance([replace(chunk, wishes=wishes) if not chunk.index else chunk for chunk in chunks])
    assert [row for row, _ in rows] == list(range(len(chunks)))
    return [here(said) for _, said in rows]


def through(
    first_pass: FirstPass, samples: NDArray[np.int16], wishes: Wishes | None = None
) -> list[Transcript | DeviceError]:
    """What is said after each chunk of an utterance, in slot 0."""
    chunks = first_pass.model.chunks(len(samples))
    return [said for index in range(chunks) for said in advance(first_pass, wishes, a=(index, samples))]


def decode(
    first_pass: FirstPass, batch: Sequence[NDArray[np.int16]], wishes: Wishes | None = None, beam: int = 1
) -> list[Transcript | DeviceError]:
    """In the batch's order; each came once."""
    steps = first_pass.decode(batch, beam=beam, word_times=True, wishes=[wishes] * len(batch))
    rows = [one for step in steps for one in step]
    assert sorted(row for row, _ in rows) == list(range(len(batch)))
    return [here(said) for _, said in sorted(rows, key=lambda one: one[0])]


def here(said: RowResult) -> Transcript | DeviceError:
    assert not isinstance(said, Future)
    return said


def texts(said: Sequence[Transcript | DeviceError]) -> list[str]:
    return ["; ".join(one.text for one in each.hypotheses) for each in said if isinstance(each, Transcript)]
