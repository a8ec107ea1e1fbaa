"""Opus packets out of WebM and Matroska. Knows no Opus but its head and its packets' lengths.

Reads EBML flat: containers are entered, never left, everything unknown is passed over. So it needs no sizes of
segments and clusters, which a live recorder does not know.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from parley.decoder.audio.feed import Feed, Header, OutOfBytes, Packet, show
from parley.decoder.audio.opus import RATE, packet_samples, parse_head
from parley.decoder.errors import BadAudio

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

EBML, SEGMENT, TRACKS, CLUSTER = 0x1A45DFA3, 0x18538067, 0x1654AE6B, 0x1F43B675
DOC_TYPE = 0x4282
TRACK_ENTRY, TRACK_NUMBER, TRACK_TYPE, CODEC_ID, CODEC_PRIVATE = 0xAE, 0xD7, 0x83, 0x86, 0x63A2
SIMPLE_BLOCK, BLOCK_GROUP, BLOCK, DISCARD_PADDING = 0xA3, 0xA0, 0xA1, 0x75A2
ENTERED = frozenset({SEGMENT, TRACKS, CLUSTER})
READ = frozenset({TRACK_ENTRY, SIMPLE_BLOCK, BLOCK_GROUP})
AUDIO_TRACK = 2
LARGEST_ELEMENT = 1 << 20  # bytes, of those that are read whole


def demux(feed: Feed) -> Generator[Header | Packet | None, None, None]:
    """The packets of the first audio track."""
    offset = feed.offset
    head = yield from feed.peek(4)
    if int.from_bytes(head, "big") != EBML:
        raise BadAudio(f"expected WebM (1a 45 df a3), found {show(head)}", offset)
    yield from _element_id(feed)
    kind = _children((yield from _read(feed, offset, (yield from _element_size(feed)))), offset).get(DOC_TYPE, b"")
    if kind.rstrip(b"\0") not in (b"webm", b"matroska"):
        raise BadAudio(f"expected a document of type webm or matroska, found {show(kind)}", offset)

    track: int | None = None
    while True:
        offset = feed.offset
        element = yield from _element_id(feed)
        size = yield from _element_size(feed)
        if element in ENTERED:
            if element == CLUSTER and track is None:
                raise BadAudio("expected an audio track before the first cluster, found none", offset)
        elif element not in READ:
            if size is None:
                raise BadAudio(f"element {element:#x} has no size", offset)
            yield from feed.skip(size)
        elif element == TRACK_ENTRY:
            entry = _children((yield from _read(feed, offset, size)), offset)
            if track is None and _number(entry.get(TRACK_TYPE, b"")) == AUDIO_TRACK:
                if (codec := entry.get(CODEC_ID, b"")) != b"A_OPUS":
                    raise BadAudio(f"expected an audio track of A_OPUS, found {show(codec)}", offset)
                track = _number(entry.get(TRACK_NUMBER, b""))
                yield parse_head(entry.get(CODEC_PRIVATE, b""), offset)
        else:
            payload = yield from _read(feed, offset, size)
            padding_ns = 0
            if element == BLOCK_GROUP:
                group = _children(payload, offset)
                payload = group.get(BLOCK, b"")
                padding_ns = int.from_bytes(group.get(DISCARD_PADDING, b""), "big", signed=True)
            if payload:
                yield from _packets(payload, offset, track, max(padding_ns, 0) * RATE // 10**9)


def _packets(block: bytes, offset: int, track: int | None, padding: int) -> Iterator[Packet]:
    """A block's packets; `padding` samples at its end are not the recording's."""
    number, at = _vint(block, 0, offset)
    if number != track or len(block) < at + 3:
        return
    frames = _laced(block, at + 3, block[at + 2] >> 1 & 3, offset)
    total = sum(packet_samples(frame) for frame in frames)
    left = max(total - padding, 0)
    for frame in frames:
        keep = min(left, packet_samples(frame))
        left -= keep
        yield Packet(frame, offset, keep if padding else None)


def _laced(block: bytes, at: int, lacing: int, offset: int) -> list[bytes]:
    """Splits a block into its frames: none, Xiph (1), fixed (2) or EBML (3) lacing."""
    if lacing == 0:
        return [block[at:]] if block[at:] else []
    try:
        count = block[at] + 1
        at += 1
        sizes: list[int] = []
        if lacing == 2:
            sizes = [(len(block) - at) // count] * (count - 1)
        for index in range(count - 1 if lacing != 2 else 0):
            if lacing == 1:
                size = 0
                while block[at] == 255:
                    size, at = size + 255, at + 1
                size, at = size + block[at], at + 1
            else:
                width = 9 - block[at].bit_length()
                size, at = _vint(block, at, offset)
                if index:
                    size += sizes[-1] - ((1 << (7 * width - 1)) - 1)
            sizes.append(size)
    except IndexError:
        raise BadAudio("a block's lacing goes past its end", offset) from None
    sizes.append(len(block) - at - sum(sizes))
    if min(sizes) < 0:
        raise BadAudio("a block's lacing goes past its end", offset)
    frames = []
    for size in sizes:
        frames.append(block[at : at + size])
        at += size
    return [frame for frame in frames if frame]


def _element_id(feed: Feed) -> Generator[None, None, int]:
    offset = feed.offset
    first = yield from feed.peek(1)
    if not first:
        raise OutOfBytes
    width = 9 - first[0].bit_length()
    if width > 4:
        raise BadAudio(f"expected an EBML element, found {show(bytes(feed.buffer))}", offset)
    return int.from_bytes((yield from feed.take(width)), "big")


def _element_size(feed: Feed) -> Generator[None, None, int | None]:
    """None: not known."""
    offset = feed.offset
    first = yield from feed.peek(1)
    if not first:
        raise OutOfBytes
    width = 9 - first[0].bit_length()
    size, _ = _vint((yield from feed.take(min(width, 8))), 0, offset)
    return None if size == (1 << 7 * width) - 1 else size


def _read(feed: Feed, offset: int, size: int | None) -> Generator[None, None, bytes]:
    if size is None or size > LARGEST_ELEMENT:
        raise BadAudio(
            f"an element of {'unknown size' if size is None else f'{size} bytes'}, expected at most {LARGEST_ELEMENT}",
            offset,
        )
    return (yield from feed.take(size))


def _children(payload: bytes, offset: int) -> dict[int, bytes]:
    """The elements in an element, the first of each kind."""
    found: dict[int, bytes] = {}
    at = 0
    while at < len(payload):
        width = 9 - payload[at].bit_length()
        element = int.from_bytes(payload[at : at + width], "big")
        size, start = _vint(payload, at + width, offset)
        at = start + size
        if width > 4 or at > len(payload):
            raise BadAudio("an element goes past the end of the one around it", offset)
        found.setdefault(element, payload[start:at])
    return found


def _vint(data: bytes, at: int, offset: int) -> tuple[int, int]:
    """An EBML number and the place after it."""
    width = 9 - data[at].bit_length() if at < len(data) else 9
    if width > 8 or at + width > len(data):
        raise BadAudio("a broken EBML number", offset)
    return int.from_bytes(data[at : at + width], "big") & ((1 << 7 * width) - 1), at + width


def _number(data: bytes) -> int:
    return int.from_bytes(data, "big")
