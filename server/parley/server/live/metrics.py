"""What counts live calls and recordings: the node's metrics, as this room sees them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from parley.decoder.values import Source


class LiveMetrics(Protocol):
    def step(self, seconds: float) -> None:
        """One slice of a stream's audio was handled on the event loop."""

    def interim(self, lag_s: float) -> None:
        """An interim result was sent so long after the last of its audio came."""

    def final(self, source: Source, after_endpoint_s: float | None = None) -> None:
        """A final result was sent; of a stream's, so long after the decision to end its utterance."""

    def finals_after_half_close(self, seconds: float) -> None:
        """A stream's last final was sent so long after its half-close."""

    def audio(self, method: str, encoding: str, seconds: float) -> None:
        """A call has ended that brought so much audio."""

    def file(self, audio_s: float, processing_s: float) -> None:
        """A recording is done."""
