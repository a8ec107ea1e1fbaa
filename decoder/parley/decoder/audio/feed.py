"""Bytes that arrive in pieces, read as if they were all there. Knows no format.

A demuxer is a generator that reads through a Feed: where bytes are missing it yields None and is resumed when more
have come. It so never sees where the pieces were cut, and what it makes cannot depend on that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Generator


class OutOfBytes(Exception):
    """The audio ended where a demuxer needed more."""


@dataclass(frozen=True, slots=True)
class Header:
    """What a container says of the stream whose packets follow. A second one begins a chained stream."""

    codec: str  # FFmpeg's name of the decoder
    rate: int
    channels: int
    offset: int  # of the header in the audio
    extradata: bytes = b""
    skip: int = 0  # samples to drop at the start: the encoder's delay
    rate_is_free: bool = False  # the codec has one rate, whatever the request says of the recording's
    bad_packets: int = 0  # in a row to decode around


@dataclass(frozen=True, slots=True)
class Packet:
    data: bytes
    offset: int  # in the audio
    keep: int | None = None  # samples; None: all
    cut: bool = False  # perhaps cut off by the end of the audio


class Feed:
    """`buffer` holds what has come and was not taken yet; `offset` is its place in the audio."""

    def __init__(self) -> None:
        self.buffer = bytearray()
        self.offset = 0
        self.ended = False

    def push(self, data: bytes) -> None:
        self.buffer += data

    def more(self) -> Generator[None, None, None]:
        """Waits for more bytes."""
        if self.ended:
            raise OutOfBytes
        yield None

    def peek(self, size: int) -> Generator[None, None, bytes]:
        """The next `size` bytes, fewer only where the audio ends. They stay."""
        while len(self.buffer) < size and not self.ended:
            yield None
        return bytes(self.buffer[:size])

    def take(self, size: int) -> Generator[None, None, bytes]:
        """The next `size` bytes."""
        while len(self.buffer) < size:
            yield from self.more()
        data = bytes(self.buffer[:size])
        self.drop(size)
        return data

    def take_whole(self, unit: int, most: int) -> Generator[None, None, bytes]:
        """All bytes that are there in whole units, at most `most`; none where the audio, or `most`, ends."""
        while True:
            size = min(len(self.buffer), most)
            size -= size % unit
            if size or self.ended or most < unit:
                data = bytes(self.buffer[:size])
                self.drop(size)
                return data
            yield None

    def skip(self, size: int) -> Generator[None, None, None]:
        """Drops the next `size` bytes without ever holding them together."""
        while size > len(self.buffer):
            size -= len(self.buffer)
            self.drop(len(self.buffer))
            yield from self.more()
        self.drop(size)

    def drop(self, size: int) -> None:
        del self.buffer[:size]
        self.offset += size


def show(data: bytes) -> str:
    """The first bytes of something unexpected, for an error's text."""
    text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in data[:8])
    return f"{data[:8].hex(' ')} ({text!r})" if data else "nothing"
