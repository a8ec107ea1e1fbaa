"""A stream's utterances to the first pass's chunks: which one is due. Knows frames and samples, not words or devices.

Whether a chunk is due depends on the audio alone, never on the clock: an utterance gives the same chunks however its
audio comes. Audio is fed only as far as it is certain to belong to the utterance: so the silence that an endpoint waits
for costs nothing, and the utterance's end is heard as the end of a recording would be.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from parley.decoder.models.acoustic import Chunk
from parley.decoder.speech.vad import FRAME

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from parley.decoder.models.acoustic import ChunkShape


@dataclass(slots=True)
class Spoken:
    """An utterance on its way through the first pass, in frames of the VAD. settled: audio before it may be fed.
    limit: it ends here; None while it is open. chunks: taken so far; fed: frames in them."""

    segment: int
    start: int
    settled: int
    limit: int | None = None
    chunks: int = 0
    fed: int = 0


class Chunker:
    """The utterances of one stream, oldest first; `current` is being fed, one chunk after the other."""

    def __init__(self, slot: int, shape: ChunkShape, count: Callable[[int], int]) -> None:
        """count: how many chunks an utterance of so many samples has."""
        self.slot, self._shape, self._count = slot, shape, count
        self._spoken: deque[Spoken] = deque()

    def begin(self, segment: int, start: int) -> None:
        """An utterance is open, from this frame on."""
        self._spoken.append(Spoken(segment, start, start))

    def settle(self, frame: int) -> None:
        """The open utterance's audio before this frame is certain to be part of it."""
        self._spoken[-1].settled = frame

    def close(self, limit: int) -> None:
        """The open utterance is over. What is settled of it is fed up to `limit`; chunks that were due go beyond, for
        with a cut the audio goes on."""
        self._spoken[-1].limit = min(limit, self._spoken[-1].settled)

    def drop(self) -> None:
        """The open utterance was none."""
        self._spoken.pop()

    def pop(self) -> None:
        """The current utterance is through."""
        self._spoken.popleft()

    @property
    def current(self) -> Spoken | None:
        """The utterance that is being fed."""
        return self._spoken[0] if self._spoken else None

    @property
    def waiting(self) -> int:
        """Frames of audio that may be fed and are not yet."""
        return sum(max(0, one.settled - one.start - one.fed) for one in self._spoken)

    @property
    def needed(self) -> int | None:
        """The first frame that is still to be read; None: none."""
        # With a cut the next utterance begins in what the last one has been fed.
        return min((one.start + max(0, self._shape.start(one.chunks)) // FRAME for one in self._spoken), default=None)

    @property
    def through(self) -> bool:
        """Whether the current utterance has had its last chunk."""
        current = self.current
        return current is not None and current.limit is not None and not self._due(current) and not self._left(current)

    def take(self, read: Callable[[int, int], NDArray[np.int16]]) -> Chunk | None:
        """The current utterance's next chunk, if it is due. read: samples [from, to) of the stream."""
        current = self.current
        if current is None:
            return None
        index = current.chunks
        start, end = self._shape.start(index), self._shape.end(index)
        length = None
        if not self._due(current):
            if not self._left(current):
                return None
            assert current.limit is not None
            length = (current.limit - current.start) * FRAME
            end = min(end, length)
        current.chunks += 1
        current.fed += self._shape.step // FRAME
        samples = np.zeros(self._shape.window, np.int16)
        first, offset = max(start, 0), current.start * FRAME
        if first < end:
            samples[first - start : end - start] = read(offset + first, offset + end)
        return Chunk(self.slot, index, samples, length)

    def _due(self, one: Spoken) -> bool:
        """Whether the next chunk's whole window may be fed."""
        return self._shape.end(one.chunks) <= (one.settled - one.start) * FRAME

    def _left(self, one: Spoken) -> bool:
        """Whether the utterance's end is still to be fed."""
        return one.limit is not None and one.chunks < self._count((one.limit - one.start) * FRAME)
