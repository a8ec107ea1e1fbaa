"""What of a stream was sent and may have to be sent again. Bounded in bytes; knows places in the stream, not times."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from parley.asr.v1 import speech_pb2 as pb

HELD_LIMIT = 16 << 20  # bytes of audio held for sending again: 8 minutes of 16 kHz, 17 of an 8 kHz stereo G.711 call


class Held:
    """Messages of audio and controls, the newest of them always, whatever its size: it may be yet to be sent."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._messages: deque[tuple[int, int, pb.StreamingRecognizeRequest]] = deque()  # first byte, bytes, message
        self._bytes = 0
        self.sent = 0  # bytes ever kept
        self.count = 0  # messages ever kept
        self.lost_before = 0  # bytes of the stream before this one are no longer held

    def keep(self, message: pb.StreamingRecognizeRequest, size: int) -> None:
        """`size`: its bytes of audio, 0 for a control."""
        self._messages.append((self.sent, size, message))
        self.count += 1
        self.sent += size
        self._bytes += size
        self._make_room()

    def message(self, number: int) -> pb.StreamingRecognizeRequest | None:
        """The one of that number, from 0; None: not kept yet."""
        back = self.count - number
        return self._messages[-back][2] if back else None

    def since(self, start: int) -> Iterator[tuple[int, pb.StreamingRecognizeRequest]]:
        """Controls and audio from that byte on, each with its first byte's place; the first may begin before it."""
        for first, size, message in self._messages:
            if not message.HasField("audio") or first + size > start:
                yield first, message

    def forget_before(self, byte: int) -> None:
        while self._messages and self._end_of_oldest() <= byte and self._drop_oldest():
            pass

    def forget_all(self) -> None:
        """Nothing will have to be sent again."""
        self._limit = 0

    def _make_room(self) -> None:
        while self._bytes > self._limit and self._drop_oldest():
            pass

    def _end_of_oldest(self) -> int:
        first, size, _ = self._messages[0]
        return first + size

    def _drop_oldest(self) -> bool:
        if len(self._messages) == 1:
            return False
        self.lost_before = self._end_of_oldest()
        _, size, _ = self._messages.popleft()
        self._bytes -= size
        return True
