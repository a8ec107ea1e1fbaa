"""Opus packets out of Ogg pages (RFC 3533, RFC 7845). Knows no Opus but its head and its packets' lengths.

Holds back a page until it is whole: its checksum covers all of it.
"""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING

from parley.decoder.audio.feed import Feed, Header, Packet, show
from parley.decoder.audio.opus import packet_samples, parse_head
from parley.decoder.errors import BadAudio

if TYPE_CHECKING:
    from collections.abc import Generator

CONTINUED, FIRST, LAST = 1, 2, 4  # a page's flags
MOST_STREAMS = 16  # side by side before an Opus one
LARGEST_PACKET = 1 << 18  # bytes; Opus allows 48 frames of 1275 a packet
REVERSED_BITS = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def checksum(page: bytes) -> int:
    """Ogg's CRC-32 is zlib's with the bits of every byte in the other order and without the inversions."""
    mirrored = zlib.crc32(page.translate(REVERSED_BITS), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int.from_bytes(mirrored.to_bytes(4, "little").translate(REVERSED_BITS), "big")


def demux(feed: Feed) -> Generator[Header | Packet | None, None, None]:
    """The packets of the first Opus stream, and of streams chained after it; others beside it are passed over."""
    serial: int | None = None  # of the Opus stream
    packet = bytearray()
    tags_next = False
    granule_before = 0
    beginning = False  # the last page began a stream
    others: list[str] = []
    while True:
        offset = feed.offset
        head = yield from feed.take(27)
        if head[:5] != b"OggS\0":
            raise BadAudio(f"expected an Ogg page (OggS, version 0), found {show(head)}", offset)
        flags, granule, page_serial, _, crc, lace_count = struct.unpack_from("<BqIIIB", head, 5)
        laces = yield from feed.take(lace_count)
        body = yield from feed.take(sum(laces))
        if (found := checksum(head[:22] + bytes(4) + head[26:] + laces + body)) != crc:
            raise BadAudio(f"an Ogg page's checksum is {crc:08x}, its bytes give {found:08x}", offset)

        if flags & FIRST:
            # Streams side by side begin side by side; one that begins after other pages is chained.
            if serial is None or not beginning:
                if body[:8] == b"OpusHead":
                    yield parse_head(body, offset)
                    serial, tags_next, granule_before = page_serial, True, 0
                    packet.clear()
                elif serial is None:
                    others.append(show(body))
                    if len(others) > MOST_STREAMS:
                        raise BadAudio(f"over {MOST_STREAMS} streams in the Ogg file, none of them Opus", offset)
            beginning = True
            continue
        beginning = False
        if serial is None:
            raise BadAudio(f"expected an Opus stream in the Ogg file, found {', '.join(others) or 'none'}", offset)
        if page_serial != serial:
            continue

        if not flags & CONTINUED:
            packet.clear()
        whole: list[bytes] = []
        at = 0
        for lace in laces:
            # Tags may hold a picture of any size: nothing of them is kept.
            if not tags_next:
                packet += body[at : at + lace]
            at += lace
            if len(packet) > LARGEST_PACKET:
                raise BadAudio(f"an Opus packet of over {LARGEST_PACKET} bytes", offset)
            if lace < 255:
                if packet:
                    whole.append(bytes(packet))
                packet.clear()
                tags_next = False

        # The last page's granule may say that its packets hold more than the recording did.
        left = max(granule - granule_before, 0) if flags & LAST and granule >= 0 else None
        for data in whole:
            keep = None
            if left is not None:
                keep = min(left, packet_samples(data))
                left -= keep
            yield Packet(data, offset, keep)
        if granule >= 0:
            granule_before = granule
