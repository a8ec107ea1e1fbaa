"""A stream's last samples, in memory that is taken once. Knows frames and samples, not who reads them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from parley.decoder.speech.endpoint import BEFORE_SPEECH
from parley.decoder.speech.vad import FRAME, FRAME_MS, WINDOW
from parley.decoder.values import LONGEST_UTTERANCE_MS

if TYPE_CHECKING:
    from numpy.typing import NDArray

LAG_FRAMES = 2_000 // FRAME_MS  # of audio that may wait for the first pass before its client is held back
BLOCK_FRAMES = 1_000 // FRAME_MS  # that come after `has_room` was asked, at most
HELD_FRAMES = LONGEST_UTTERANCE_MS // FRAME_MS + BEFORE_SPEECH + WINDOW + 1 + LAG_FRAMES + BLOCK_FRAMES
AUDIO_BYTES = 2 * HELD_FRAMES * FRAME  # that a decoder holds


class AudioBuffer:
    """The feeding thread appends. The device's reads under its lock, under which alone anything is moved."""

    def __init__(self) -> None:
        self.samples = np.empty(HELD_FRAMES * FRAME, np.int16)  # frames [self._first, self._end) of the stream
        self.samples.fill(0)  # written, so that the memory is taken now and not under load
        self._first = self._end = 0

    def clear(self) -> None:
        """Another stream begins."""
        self._first = self._end = 0

    def forget(self, frame: int) -> None:
        """Nobody wants what is before this frame: makes space. With the device's lock held."""
        held, gone = self._end - self._first, frame - self._first
        self.samples[: (held - gone) * FRAME] = self.samples[gone * FRAME : held * FRAME].copy()
        self._first = frame

    def append(self, samples: NDArray[np.int16]) -> bool:
        """Takes whole frames; False if there is no space for them."""
        more, held = len(samples) // FRAME, self._end - self._first
        if held + more > HELD_FRAMES:
            return False
        self.samples[held * FRAME : (held + more) * FRAME] = samples
        self._end += more
        return True

    def read(self, start: int, end: int) -> NDArray[np.int16]:
        """Samples [start, end) of the stream: a view."""
        offset = self._first * FRAME
        return self.samples[start - offset : end - offset]

    def energies(self, start: int, end: int) -> list[float]:
        """Of frames [start, end) of the stream."""
        frames = self.read(start * FRAME, end * FRAME).reshape(-1, FRAME)
        energies: list[float] = np.square(frames, dtype=np.float32).sum(1).tolist()
        return energies
