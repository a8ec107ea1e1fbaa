"""What Opus says of itself: its head and the length of its packets. Knows no containers."""

from __future__ import annotations

from parley.decoder.audio.feed import Header, show
from parley.decoder.errors import BadAudio

RATE = 48_000  # Hz, of every Opus decoder's output
HEAD_SIZE = 19


def parse_head(head: bytes, offset: int) -> Header:
    if head[:8] != b"OpusHead" or len(head) < HEAD_SIZE:
        raise BadAudio(f"expected an Opus header (OpusHead, {HEAD_SIZE} bytes or more), found {show(head)}", offset)
    if head[8] >> 4:
        raise BadAudio(f"Opus header: version {head[8]}, expected 0 to 15", offset)
    return Header(
        codec="libopus",
        rate=RATE,
        channels=head[9],
        offset=offset,
        extradata=head,
        skip=int.from_bytes(head[10:12], "little"),
        rate_is_free=True,
    )


def packet_samples(packet: bytes) -> int:
    """A packet's length in samples at 48 kHz, from its first bytes (RFC 6716, 3.1). 0 for a broken one."""
    config, code = packet[0] >> 3, packet[0] & 3
    if config < 12:  # SILK: 10, 20, 40, 60 ms
        frame = (480, 960, 1920, 2880)[config & 3]
    elif config < 16:  # hybrid: 10, 20 ms
        frame = (480, 960)[config & 1]
    else:  # CELT: 2.5, 5, 10, 20 ms
        frame = 120 << (config & 3)
    if code < 3:
        return frame * (1, 2, 2)[code]
    return frame * (packet[1] & 63) if len(packet) > 1 else 0
