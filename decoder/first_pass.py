"""The first pass: a streaming CTC network and the search over what it says. Knows samples and words, not streams.

One `FirstPass` a device, used by that device's thread only. Live calls go through it chunk by chunk (`advance`), whole
utterances of recordings with all their context (`decode`).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from decoder.errors import DeviceError
from decoder.search.greedy import Greedy
from decoder.text import timed_words
from decoder.torch_device import memory_errors
from decoder.types import Hypothesis, Transcript

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from decoder.acoustic import AcousticModel, Chunk
    from decoder.search.ctc import Path, Search


CALL_S = 12.0  # of audio a thread in one call of the model for recordings: a live call may have to wait for it


class FirstPass:
    def __init__(self, model: AcousticModel) -> None:
        self.model = model
        self.step = model.shape.step
        self._search: Search = Greedy(model.slots, model.blank)
        self._said: dict[int, tuple[Path, Transcript]] = {}  # by slot: its best path, in words

    def clear(self, slot: int) -> None:
        """Wipes what the slot's last stream has left."""
        self.model.clear(slot)
        self._search.clear(slot)
        self._said.pop(slot, None)

    def advance(self, chunks: Sequence[Chunk]) -> Iterator[list[tuple[int, Transcript | DeviceError]]]:
        """Takes the streams in these chunks' slots one chunk further; yields once, with each row's words so far.

        Word times are in milliseconds from the utterance's start. A row whose log-probabilities are not finite has an
        error in the place of its words. Raises OutOfMemory: then the same chunks may come again.
        """
        log_probs, frames = self.model.forward(chunks)
        for chunk in chunks:
            if chunk.index == 0:
                self._search.clear(chunk.slot)
        # From here on the chunks may not come again, so want of memory is a fault like any other.
        sound = _sound(log_probs)
        self._search.advance([chunk.slot for chunk in chunks], log_probs, frames)
        yield [(row, self._so_far(chunk.slot) if sound[row] else _unsound()) for row, chunk in enumerate(chunks)]

    def decode(
        self,
        batch: Sequence[NDArray[np.int16]],
        *,
        beam: int,
        word_times: bool,  # they cost nothing here
    ) -> Iterator[list[tuple[int, Transcript | DeviceError]]]:
        """Decodes whole utterances; yields after each call of the model, as SecondPass.decode does."""
        for rows in self._calls(batch):
            log_probs, frames = self.model.whole([batch[row] for row in rows])
            search = Greedy(len(rows), self.model.blank)
            with memory_errors():
                sound = _sound(log_probs)
                search.advance(range(len(rows)), log_probs, frames)
            yield [
                (row, self._transcript(search.n_best(at, beam)) if sound[at] else _unsound())
                for at, row in enumerate(rows)
            ]

    def _calls(self, batch: Sequence[NDArray[np.int16]]) -> Iterator[list[int]]:
        """The rows of each call of the model; they come sorted by length."""
        most, rows = CALL_S * self.model.info.sample_rate, list[int]()
        for row, samples in enumerate(batch):
            deep = -(-(len(rows) + 1) // self.model.side_by_side)
            if deep > 1 and len(samples) * deep > most:
                yield rows
                rows = []
            rows.append(row)
        yield rows

    def _so_far(self, slot: int) -> Transcript:
        (path,) = self._search.n_best(slot, 1)
        known, transcript = self._said.get(slot, (None, None))
        if path is not known or transcript is None:
            transcript = self._transcript([path])
            self._said[slot] = path, transcript
        return transcript

    def _transcript(self, paths: Sequence[Path]) -> Transcript:
        hypotheses = (self._hypothesis(path) for path in paths)
        return Transcript(tuple(hypothesis for hypothesis in hypotheses if hypothesis is not None))

    def _hypothesis(self, path: Path) -> Hypothesis | None:
        words = self.model.vocabulary.words(path.tokens)
        if not words:
            return None
        text = self.model.vocabulary.separator.join(text for text, _ in words)
        confidence = math.exp(sum(path.log_probs) / len(path.log_probs))
        return Hypothesis(text, confidence, timed_words(words, path.log_probs, path.spans, self.model.frame_ms))


def _sound(log_probs: torch.Tensor) -> list[bool]:
    """By row, whether all of it is finite."""
    rows: list[bool] = torch.isfinite(log_probs).all(-1).all(-1).tolist()
    return rows


def _unsound() -> DeviceError:
    return DeviceError("the model's log-probabilities for this stream are not finite")
