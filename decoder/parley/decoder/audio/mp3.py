"""MP3 frames out of a stream of them (ISO 11172-3 and 13818-3, layer III). Knows no samples.

A frame is passed on as soon as it is whole; the first waits for the second's header, so that no chance bytes are taken
for one. Tags are passed over, and so is up to 64 KiB of anything else between frames. An encoder's padding at
the end stays: it is known too late.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from parley.decoder.audio.feed import Feed, Header, Packet, show
from parley.decoder.errors import BadAudio

if TYPE_CHECKING:
    from collections.abc import Generator

MOST_GARBAGE = 1 << 16  # bytes between frames
BIT_RATES = {  # kbit/s by index, of MPEG 1 and of MPEG 2 and 2.5
    True: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    False: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
RATES = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}  # by version
DECODER_DELAY = 528 + 1  # samples that every decoder puts in front, besides the encoder's
BAD_FRAMES = 16  # in a row; a stream joined midway begins with frames that lean on lost ones


@dataclass(frozen=True, slots=True)
class Frame:
    version: int
    rate: int
    channels: int
    size: int  # bytes

    def follows(self, other: Frame | None) -> bool:
        return other is None or (self.version, self.rate, self.channels) == (other.version, other.rate, other.channels)


def parse_frame(head: bytes) -> Frame | None:
    """The frame whose header begins here, if one does."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE6 != 0xE2:
        return None
    version, bit_index, rate_index = head[1] >> 3 & 3, head[2] >> 4, head[2] >> 2 & 3
    if version == 1 or bit_index in (0, 15) or rate_index == 3:
        return None
    rate = RATES[version][rate_index]
    mpeg1 = version == 3
    size = (144 if mpeg1 else 72) * BIT_RATES[mpeg1][bit_index] * 1000 // rate + (head[2] >> 1 & 1)
    return Frame(version, rate, 1 if head[3] >> 6 == 3 else 2, size)


def demux(feed: Feed) -> Generator[Header | Packet | None, None, None]:
    while (tag := (yield from feed.peek(10)))[:3] == b"ID3" and len(tag) == 10:
        size = 0
        for byte in tag[6:10]:
            size = size << 7 | byte & 0x7F
        yield from feed.skip(10 + size + (10 if tag[5] & 0x10 else 0))

    stream: Frame | None = None
    while True:
        head = yield from feed.peek(4)
        frame = parse_frame(head)
        if stream is None or frame is None or not frame.follows(stream):
            if not (yield from _find_frame(feed, stream)):
                return
            frame = parse_frame((yield from feed.peek(4)))
            assert frame is not None
        offset = feed.offset
        data = yield from feed.take(frame.size)
        if stream is None:
            stream = frame
            is_info, delay = _info(data, frame)
            yield Header("mp3float", frame.rate, frame.channels, offset, skip=delay, bad_packets=BAD_FRAMES)
            if is_info:
                continue
        yield Packet(data, offset)


def _find_frame(feed: Feed, stream: Frame | None) -> Generator[None, None, bool]:
    """Goes to the next frame that another follows. False: the audio ends without one."""
    lost = feed.offset
    found = bytes(feed.buffer[:8])
    at = 0
    while True:
        at = feed.buffer.find(b"\xff", at)
        if at < 0:
            at = len(feed.buffer)
        frame = parse_frame(bytes(feed.buffer[at : at + 4]))
        if frame is not None and frame.follows(stream):
            there = at + frame.size
            next_frame = parse_frame(bytes(feed.buffer[there : there + 4]))
            if next_frame is not None and next_frame.follows(frame):
                feed.drop(at)
                return True
        else:
            there = at
        if len(feed.buffer) >= there + 4:
            at += 1
        elif not feed.ended:
            yield None
        elif at < len(feed.buffer):
            at += 1
        elif stream is None:
            raise BadAudio(f"expected MP3 frames, found {show(found)} and no two frames in a row after it", lost)
        else:
            return False
        if at > MOST_GARBAGE:
            raise BadAudio(f"expected an MP3 frame, found {show(found)} and no frame in {MOST_GARBAGE} bytes", lost)


def _info(data: bytes, frame: Frame) -> tuple[bool, int]:
    """Is this first frame no audio but an encoder's note (Xing, Info, VBRI)? And the delay in samples it tells of."""
    at = 4 + {(True, 2): 32, (True, 1): 17, (False, 2): 17, (False, 1): 9}[frame.version == 3, frame.channels]
    if data[at : at + 4] in (b"Xing", b"Info"):
        flags = int.from_bytes(data[at + 4 : at + 8], "big")
        lame = at + 8 + sum(size for bit, size in ((1, 4), (2, 4), (4, 100), (8, 4)) if flags & bit)
        if data[lame : lame + 4] in (b"LAME", b"Lavf", b"Lavc") and len(data) >= lame + 24:
            return True, (int.from_bytes(data[lame + 21 : lame + 24], "big") >> 12) + DECODER_DELAY
        return True, 0
    return data[36:40] == b"VBRI", 0
