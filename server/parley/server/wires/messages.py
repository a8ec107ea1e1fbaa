"""What the messages of both gRPC wires have in common: durations, channels' numbers, phrases, a config to begin with.

Knows forms that look the same in both protocols; neither protocol's classes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from google.protobuf.duration_pb2 import Duration
from grpc import aio

from parley.decoder.errors import InvalidOption
from parley.decoder.values import MOST_PHRASES, Phrase
from parley.server.wires.statuses import BadMessage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from parley.server.live.wire import Asked


class SpeechContext(Protocol):
    """Phrases that are likelier in a call. boost: 0 leaves it to the node."""

    @property
    def phrases(self) -> Sequence[str]: ...
    @property
    def boost(self) -> float: ...


def config_of(message: Any, oneof: str, name: str) -> Any:
    """The config in a stream's first message, or in aio.EOF. Raises BadMessage."""
    if message is aio.EOF:
        raise BadMessage(name, f"the stream ended before its first message, expected {name} in it")
    kind = message.WhichOneof(oneof)
    if kind != name:
        raise BadMessage(name, f"got {kind or 'an empty message'} first, expected {name}")
    return getattr(message, name)


def hotwords(contexts: Sequence[SpeechContext]) -> tuple[Phrase, ...]:
    """The phrases of a request. Raises InvalidOption."""
    # Counted before they are looked at: a message may hold millions, of empty ones too.
    if len(contexts) > MOST_PHRASES:
        raise InvalidOption("options.search.hotwords", f"{len(contexts)} of them", f"at most {MOST_PHRASES}")
    count = sum(len(context.phrases) for context in contexts)
    if count > MOST_PHRASES:
        raise InvalidOption("options.search.hotwords", f"{count} phrases", f"at most {MOST_PHRASES}")
    return tuple(
        Phrase(text, context.boost) if context.boost else Phrase(text)
        for context in contexts
        for text in context.phrases
    )


def channel_tag(asked: Asked, channel: int) -> int:
    """The wire's number of a channel."""
    return channel + 1 if asked.format.separate_channels else 0


def from_ms(ms: int) -> Duration:
    """Whole milliseconds as a Duration."""
    seconds, rest = divmod(ms, 1000)
    return Duration(seconds=seconds, nanos=rest * 1_000_000)
