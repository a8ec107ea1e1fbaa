"""What a live call is to the node, whatever protocol its client speaks: messages in, events out. Knows no protocol."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias

if TYPE_CHECKING:
    from parley.decoder.values import (
        AudioFormat,
        Cursors,
        Final,
        NoSpeech,
        Partial,
        SpeechBegin,
        SpeechEnd,
        StreamOptions,
    )
    from parley.server.live.figures import Summary


@dataclass(slots=True)
class Audio:
    data: bytes


@dataclass(frozen=True, slots=True)
class Finalize:
    """The open utterance is to end now."""


@dataclass(frozen=True, slots=True)
class KeepAlive:
    """The client is there. That it came is all it says."""


@dataclass(frozen=True, slots=True)
class End:
    """The client has said all. at: when, on the monotonic clock. settling_s: how long it may yet turn out to be the end
    of the call: only then it is believed."""

    at: float
    settling_s: float = 0.0


Message: TypeAlias = "Audio | Finalize | KeepAlive | End"
Told: TypeAlias = "Partial | Final | SpeechBegin | SpeechEnd | NoSpeech | None"  # None: the cursors alone have moved


class Wire(Protocol):
    """One call's client. A cancelled `read` or `write` is not called again."""

    async def read(self) -> Message:
        """What the client says next; nothing after End. Raises the wire's own error for what says nothing it knows."""

    async def write(self, event: Told, cursors: Cursors) -> bool:
        """Tells the client; returns when it has room for more. False: this client is not told such things."""

    async def end(self, summary: Summary, cursors: Cursors) -> None:
        """Tells the client how it was: its last message."""


class Caller(Protocol):
    """What the node keeps of a call, whatever served it. began_at: monotonic s. figures: for its log line."""

    method: str
    began_at: float
    figures: dict[str, object]

    def patience_s(self, limit_s: float) -> float:
        """How long the call may wait for decoders: that long, or less by the caller's deadline."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a client asks for, checked. Once it is placed its options say the language and the passes too."""

    format: AudioFormat
    options: StreamOptions
    model: str

    @property
    def decoders(self) -> int:
        """How many decoders a stream takes."""
        return self.format.channels if self.format.separate_channels else 1
