"""FLAC frames out of a FLAC stream (RFC 9639). Knows no samples.

A frame doesn't say its length: it ends where the next one begins, so one frame is held back (4096 samples in most
encoders: 85 ms at 48 kHz, 512 ms at 8 kHz). FFmpeg's own parser holds back ten.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from parley.decoder.audio.feed import Feed, Header, Packet, show
from parley.decoder.errors import BadAudio

if TYPE_CHECKING:
    from collections.abc import Generator

LONGEST_HEADER = 16  # bytes of a frame's header
SHORTEST_FRAME = 10  # bytes: header, one constant subframe, checksum
STREAM_INFO_SIZE = 34
BLOCK_SIZES = {1: 192, **{code: 144 << code for code in range(2, 6)}, **{code: 1 << code for code in range(8, 16)}}
RATES = (0, 88_200, 176_400, 192_000, 8_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 96_000)


def _crc8_table() -> bytes:
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte << 1 ^ (0x107 if byte & 0x80 else 0)
        table.append(byte)
    return bytes(table)


CRC8 = _crc8_table()


@dataclass(frozen=True, slots=True)
class StreamInfo:
    rate: int
    channels: int
    bits: int


@dataclass(frozen=True, slots=True)
class Frame:
    marker: bytes  # the first two bytes, the same in all frames of a stream
    number: int  # of the frame, or of its first sample if the marker says so
    next_number: int
    samples: int


def demux(feed: Feed) -> Generator[Header | Packet | None, None, None]:
    info = yield from _stream_info(feed)
    head = yield from feed.peek(LONGEST_HEADER)
    if not head:
        return
    offset = feed.offset
    frame = parse_frame(head, info)
    if frame is None:
        raise BadAudio(f"expected a FLAC frame, found {show(head)}", offset)
    while True:
        # Twice what the samples take uncompressed: no encoder writes more.
        largest = 2 * (frame.samples * info.channels * (info.bits + 1) // 8) + 1024
        at = SHORTEST_FRAME
        following: Frame | None = None
        while following is None:
            at = feed.buffer.find(frame.marker, at)
            if at < 0:
                at = max(len(feed.buffer) - 1, SHORTEST_FRAME)
            elif len(feed.buffer) - at >= LONGEST_HEADER or feed.ended:
                candidate = parse_frame(bytes(feed.buffer[at : at + LONGEST_HEADER]), info)
                if candidate is not None and candidate.number == frame.next_number:
                    following = candidate
                else:
                    at += 1
                continue
            if at > largest:
                raise BadAudio(f"no FLAC frame {frame.next_number} in the {at} bytes after it", offset)
            if feed.ended:
                yield Packet(bytes(feed.buffer), offset, cut=True)
                return
            yield None
        yield Packet((yield from feed.take(at)), offset)
        frame, offset = following, feed.offset


def _stream_info(feed: Feed) -> Generator[Header | None, None, StreamInfo]:
    """Reads up to the first frame."""
    offset = feed.offset
    magic = yield from feed.peek(4)
    if magic != b"fLaC":
        raise BadAudio(f"expected FLAC (fLaC), found {show(magic)}", offset)
    yield from feed.skip(4)
    kind = yield from feed.take(4)
    if kind[0] & 0x7F != 0 or int.from_bytes(kind[1:], "big") != STREAM_INFO_SIZE:
        raise BadAudio(f"expected a STREAMINFO block of {STREAM_INFO_SIZE} bytes, found {show(kind)}", offset + 4)
    block = yield from feed.take(STREAM_INFO_SIZE)
    packed = int.from_bytes(block[10:18], "big")
    info = StreamInfo(rate=packed >> 44, channels=(packed >> 41 & 7) + 1, bits=(packed >> 36 & 31) + 1)
    while not kind[0] & 0x80:
        kind = yield from feed.take(4)
        yield from feed.skip(int.from_bytes(kind[1:], "big"))
    yield Header("flac", info.rate, info.channels, offset, extradata=block)
    return info


def parse_frame(head: bytes, info: StreamInfo) -> Frame | None:
    """The frame whose header begins here, if one does and it fits the stream."""
    if len(head) < 6 or head[0] != 0xFF or head[1] & 0xFE != 0xF8 or head[3] & 1:
        return None
    variable = head[1] & 1
    block_code, rate_code, layout, bits_code = head[2] >> 4, head[2] & 15, head[3] >> 4, head[3] >> 1 & 7
    channels = layout + 1 if layout < 8 else 2 if layout < 11 else 0
    bits = (info.bits, 8, 12, 0, 16, 20, 24, 32)[bits_code]
    ones = 8 - (~head[4] & 0xFF).bit_length()  # leading ones of the coded number tell its length
    length = 4 + max(ones, 1)
    if channels != info.channels or bits != info.bits or ones in (1, 8) or len(head) < length:
        return None
    number = head[4] & (0x7F >> ones)
    for byte in head[5:length]:
        if byte & 0xC0 != 0x80:
            return None
        number = number << 6 | byte & 0x3F

    tail = head[length:]
    block_width = {6: 1, 7: 2}.get(block_code, 0)
    rate_width = {12: 1, 13: 2, 14: 2}.get(rate_code, 0)
    length += block_width + rate_width
    if len(head) <= length or rate_code == 15:
        return None
    samples = int.from_bytes(tail[:block_width], "big") + 1 if block_width else BLOCK_SIZES.get(block_code, 0)
    coded_rate = int.from_bytes(tail[block_width : block_width + rate_width], "big")
    rate = coded_rate * {12: 1000, 13: 1, 14: 10}[rate_code] if rate_width else RATES[rate_code] or info.rate
    crc = 0
    for byte in head[:length]:
        crc = CRC8[crc ^ byte]
    if crc != head[length] or not samples or rate != info.rate:
        return None
    return Frame(bytes(head[:2]), number, number + (samples if variable else 1), samples)
