"""What a pass is to the device that runs it: steps that give rows their words. Knows no network and no queue."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from concurrent.futures import Future

    import numpy as np
    from numpy.typing import NDArray

    from parley.decoder.errors import DeviceError
    from parley.decoder.models.acoustic import Chunk
    from parley.decoder.search.ctc import Wishes
    from parley.decoder.values import Transcript

RowResult: TypeAlias = "Transcript | DeviceError | Future[Transcript]"  # a future: somebody else is still at it
Steps: TypeAlias = "Iterator[Sequence[tuple[int, RowResult]]]"


class WholeModel(Protocol):
    """Decodes utterances; see SecondPass.decode and FirstPass.decode."""

    def decode(
        self, batch: Sequence[NDArray[np.int16]], *, beam: int, word_times: bool, wishes: Sequence[Wishes | None] = ()
    ) -> Steps: ...


class ChunkModel(WholeModel, Protocol):
    """Takes streams a chunk further; see FirstPass. step: samples from one chunk to the next."""

    step: int

    def advance(self, chunks: Sequence[Chunk]) -> Steps: ...
    def finish(self, slot: int, count: int) -> Transcript: ...
    def clear(self, slot: int) -> None: ...
