"""The one wire on which peers are spoken to, so that each costs its callers the same. Knows bytes, not who recognizes.

gRPC without messages: audio is 16 kHz PCM16, mono, little-endian, a result is a mark and its text. The half-close of a
stream brings its last final; a recording's answer is its text.
"""

from __future__ import annotations

from dataclasses import dataclass

RATE = 16_000  # Hz
SAMPLE_BYTES = 2
SERVICE = "peers.Recognizer"
STREAM = f"/{SERVICE}/Stream"
FILE = f"/{SERVICE}/File"
CHANNEL_OPTIONS = (("grpc.max_receive_message_length", 256 << 20), ("grpc.max_send_message_length", 256 << 20))


@dataclass(frozen=True)
class Heard:
    """What a stream's server says: the final of an utterance, or what it thinks so far."""

    text: str
    is_final: bool

    def to_wire(self) -> bytes:
        return (b"F" if self.is_final else b"P") + self.text.encode()

    @classmethod
    def from_wire(cls, message: bytes) -> Heard:
        """Raises ValueError for what `to_wire` does not write."""
        if message[:1] not in (b"F", b"P"):
            raise ValueError(f"got a result that begins with {message[:1]!r}, expected b'F' or b'P'")
        return cls(message[1:].decode(), message[:1] == b"F")


def duration_s(pcm: bytes) -> float:
    return len(pcm) / (RATE * SAMPLE_BYTES)
