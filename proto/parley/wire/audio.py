"""Headerless audio: how its bytes map to time, how its silence looks. Knows the wire's encodings, decodes nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from parley.asr.v1 import speech_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Mapping

SAMPLE_BYTES: dict[pb.AudioEncoding.ValueType, int] = {
    pb.AUDIO_ENCODING_LINEAR16: 2,
    pb.AUDIO_ENCODING_MULAW: 1,
    pb.AUDIO_ENCODING_ALAW: 1,
}
_SILENCE: dict[pb.AudioEncoding.ValueType, int] = {  # each byte of a sample at rest
    pb.AUDIO_ENCODING_LINEAR16: 0x00,
    pb.AUDIO_ENCODING_MULAW: 0xFF,
    pb.AUDIO_ENCODING_ALAW: 0xD5,
}
_NANOS = 1_000_000_000  # in a second


@dataclass(frozen=True, slots=True)
class Headerless:
    """Audio whose frames, each a sample of every channel, have a time and a place, from the stream's start."""

    rate: int  # Hz
    sample_bytes: int
    channels: int
    silence: int  # a byte

    @classmethod
    def of(cls, config: pb.RecognitionConfig) -> Headerless | None:
        """None where the config alone does not map bytes to time."""
        if config.encoding not in SAMPLE_BYTES or not config.sample_rate_hertz:
            return None
        return cls(
            config.sample_rate_hertz,
            SAMPLE_BYTES[config.encoding],
            config.audio_channel_count or 1,
            _SILENCE[config.encoding],
        )

    @property
    def frame_bytes(self) -> int:
        return self.sample_bytes * self.channels

    def frame_at(self, nanos: int) -> int:
        """The last frame that begins by then."""
        return nanos * self.rate // _NANOS

    def nanos_at(self, frame: int) -> int:
        """When it begins, to the nanosecond."""
        return round(frame * _NANOS / self.rate)

    def silenced(self, audio: bytes, at: int, until: Mapping[int, int]) -> bytes:
        """The audio with silence on some channels, by number from 1 each up to a frame. It begins at byte `at`."""
        silenced = bytearray(audio)
        for channel, end_frame in until.items():
            stop = min(end_frame * self.frame_bytes - at, len(audio))
            if stop <= 0:
                continue
            for byte in range((channel - 1) * self.sample_bytes, channel * self.sample_bytes):
                first = (byte - at) % self.frame_bytes
                count = len(range(first, stop, self.frame_bytes))
                silenced[first : stop : self.frame_bytes] = bytes([self.silence]) * count
        return bytes(silenced)
