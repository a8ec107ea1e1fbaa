"""Uncompressed audio in a stream: PCM16 and G.711, bare or behind a RIFF header. Knows no rates but the header's."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from parley.decoder.audio.feed import Feed, show
from parley.decoder.errors import BadAudio
from parley.decoder.values import Encoding

if TYPE_CHECKING:
    from collections.abc import Generator

    from numpy.typing import NDArray

UNKNOWN_SIZES = (0, 0xFFFFFFFF)  # what a recorder writes that cannot go back to its header
LARGEST_FMT_CHUNK = 1024
EXTENSIBLE = 0xFFFE
# A subformat GUID is a format tag and these bytes.
GUID_TAIL = bytes.fromhex("0000000010008000 00aa00389b71")
FORMAT_TAGS = {1: Encoding.LINEAR16, 6: Encoding.ALAW, 7: Encoding.MULAW}
BITS = {Encoding.LINEAR16: 16, Encoding.ALAW: 8, Encoding.MULAW: 8}


def _mulaw_table() -> NDArray[np.int16]:
    code = ~np.arange(256) & 0xFF
    magnitude = ((((code & 0x0F) << 3) + 0x84) << (code >> 4 & 7)) - 0x84
    return np.where(code & 0x80, -magnitude, magnitude).astype(np.int16)


def _alaw_table() -> NDArray[np.int16]:
    code = np.arange(256) ^ 0x55
    exponent = code >> 4 & 7
    step = ((code & 0x0F) << 4) + 8
    magnitude = np.where(exponent == 0, step, (step + 0x100) << np.maximum(exponent - 1, 0))
    return np.where(code & 0x80, magnitude, -magnitude).astype(np.int16)


G711 = {Encoding.MULAW: _mulaw_table(), Encoding.ALAW: _alaw_table()}


def headerless(
    feed: Feed, encoding: Encoding, channels: int, size: int | None = None
) -> Generator[NDArray[np.int16] | None, None, None]:
    """Yields (samples, channels) of the next `size` bytes, or all. A sample cut off by the audio's end is dropped."""
    frame = BITS[encoding] // 8 * channels
    left = size if size is not None else 1 << 62
    while data := (yield from feed.take_whole(frame, left)):
        left -= len(data)
        if encoding is Encoding.LINEAR16:
            samples = np.frombuffer(data, "<i2")
        else:
            samples = G711[encoding].take(np.frombuffer(data, np.uint8))
        yield samples.reshape(-1, channels)


@dataclass(frozen=True, slots=True)
class WavHeader:
    encoding: Encoding
    rate: int
    channels: int
    offset: int  # of the fmt chunk
    size: int | None  # bytes of audio that follow; None: all that come


def is_wav(head: bytes) -> bool:
    return head[:4] == b"RIFF" and head[8:12] == b"WAVE"


def wav_header(feed: Feed) -> Generator[None, None, WavHeader]:
    """Reads up to the first byte of audio."""
    yield from feed.skip(12)
    form: tuple[Encoding, int, int, int] | None = None
    while True:
        offset = feed.offset
        name, size = struct.unpack("<4sI", (yield from feed.take(8)))
        if name == b"data":
            if form is None:
                raise BadAudio("RIFF header: the data chunk comes before the fmt chunk", offset)
            return WavHeader(*form, size=None if size in UNKNOWN_SIZES else size)
        padded = size + size % 2
        if name == b"fmt ":
            if not 16 <= size <= LARGEST_FMT_CHUNK:
                raise BadAudio(f"RIFF header: a fmt chunk of {size} bytes, expected 16 to {LARGEST_FMT_CHUNK}", offset)
            form = _wav_format((yield from feed.take(padded)), offset)
        else:
            yield from feed.skip(padded)


def _wav_format(chunk: bytes, offset: int) -> tuple[Encoding, int, int, int]:
    tag, channels, rate, _, align, bits = struct.unpack_from("<HHIIHH", chunk)
    if tag == EXTENSIBLE and chunk[26:40] == GUID_TAIL:
        tag = int.from_bytes(chunk[24:26], "little")
    encoding = FORMAT_TAGS.get(tag)
    if encoding is None or bits != BITS[encoding]:
        raise BadAudio(
            f"RIFF header: format tag {tag:#x} with {bits} bits a sample is not supported in a stream, "
            "expected 16-bit PCM (0x1), 8-bit A-law (0x6) or 8-bit mu-law (0x7)",
            offset,
        )
    if align != channels * bits // 8:
        raise BadAudio(
            f"RIFF header: {align} bytes for {channels} channels of {bits} bits, expected {channels * bits // 8}; "
            f"the chunk begins {show(chunk)}",
            offset,
        )
    return encoding, rate, channels, offset
