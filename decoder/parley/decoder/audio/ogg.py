"""Opus packets out of Ogg pages (RFC 3533, RFC 7845). Knows no Opus but its head and its packets' lengths.

Holds back a page until it is whole: its checksum covers all of it.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from parley.decoder.audio.feed import Feed, Header, Packet, show
from parley.decoder.audio.opus import packet_samples, parse_head
from parley.decoder.errors import BadAudio

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

CONTINUED, FIRST, LAST = 1, 2, 4  # a page's flags
MOST_STREAMS = 16  # side by side before an Opus one
LARGEST_PACKET = 1 << 18  # bytes; Opus allows 48 frames of 1275 a packet
REVERSED_BITS = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def checksum(page: bytes) -> int:
    """Ogg's CRC-32 is zlib's with the bits of every byte in the other order and without the inversions."""
    mirrored = zlib.crc32(page.translate(REVERSED_BITS), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int.from_bytes(mirrored.to_bytes(4, "little").translate(REVERSED_BITS), "big")


@dataclass(frozen=True, slots=True)
class Page:
    """granule: the audio's samples up to its last packet's end; -1: none ends in it. laces: lengths, 255 a packet goes
    on in the next."""

    flags: int
    granule: int
    serial: int
    laces: bytes
    body: bytes
    offset: int  # in the audio


def demux(feed: Feed) -> Generator[Header | Packet | None, None, None]:
    """The packets of the first Opus stream, and of streams chained after it; others beside it are passed over."""
    stream: _OpusStream | None = None
    others: list[str] = []  # what streams begin with that are none of Opus
    beginning = False  # the last page began a stream
    while True:
        page = yield from _page(feed)
        if page.flags & FIRST:
            # Streams side by side begin side by side; one that begins after other pages is chained.
            if stream is None or not beginning:
                if page.body[:8] == b"OpusHead":
                    yield parse_head(page.body, page.offset)
                    stream = _OpusStream(page.serial)
                elif stream is None:
                    others.append(show(page.body))
                    if len(others) > MOST_STREAMS:
                        raise BadAudio(f"over {MOST_STREAMS} streams in the Ogg file, none of them Opus", page.offset)
            beginning = True
            continue
        beginning = False
        if stream is None:
            raise BadAudio(f"expected an Opus stream in the Ogg file, found {', '.join(others) or 'none'}", page.offset)
        if page.serial == stream.serial:
            yield from stream.packets(page)


def _page(feed: Feed) -> Generator[None, None, Page]:
    """The next page, whole and sound."""
    offset = feed.offset
    head = yield from feed.take(27)
    if head[:5] != b"OggS\0":
        raise BadAudio(f"expected an Ogg page (OggS, version 0), found {show(head)}", offset)
    flags, granule, serial, _, crc, lace_count = struct.unpack_from("<BqIIIB", head, 5)
    laces = yield from feed.take(lace_count)
    body = yield from feed.take(sum(laces))
    if (found := checksum(head[:22] + bytes(4) + head[26:] + laces + body)) != crc:
        raise BadAudio(f"an Ogg page's checksum is {crc:08x}, its bytes give {found:08x}", offset)
    return Page(flags, granule, serial, laces, body, offset)


class _OpusStream:
    """The packets behind an Opus head. Its tags, a packet of any size, are passed over."""

    def __init__(self, serial: int) -> None:
        self.serial = serial
        self._packet = bytearray()  # that goes on in the next page
        self._tags_next = True
        self._granule = 0  # of the page before

    def packets(self, page: Page) -> Iterator[Packet]:
        whole = self._whole(page)
        # The last page's granule may say that its packets hold more than the recording did.
        left = max(page.granule - self._granule, 0) if page.flags & LAST and page.granule >= 0 else None
        for data in whole:
            keep = None
            if left is not None:
                keep = min(left, packet_samples(data))
                left -= keep
            yield Packet(data, page.offset, keep)
        if page.granule >= 0:
            self._granule = page.granule

    def _whole(self, page: Page) -> list[bytes]:
        """The packets that end in the page."""
        packet = self._packet
        if not page.flags & CONTINUED:
            packet.clear()
        whole: list[bytes] = []
        at = 0
        for lace in page.laces:
            # Tags may hold a picture of any size: nothing of them is kept.
            if not self._tags_next:
                packet += page.body[at : at + lace]
            at += lace
            if len(packet) > LARGEST_PACKET:
                raise BadAudio(f"an Opus packet of over {LARGEST_PACKET} bytes", page.offset)
            if lace < 255:
                if packet:
                    whole.append(bytes(packet))
                packet.clear()
                self._tags_next = False
        return whole
