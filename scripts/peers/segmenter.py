"""Cuts a stream at silence for libraries that take whole utterances only. Knows webrtcvad's verdicts, no words.

What a user of such a library writes: frames of 30 ms, an utterance from three frames of speech in a row to 0.5 s of
silence, a little of the silence before it kept, and nothing longer than the library likes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from scripts.peers.wire import RATE, SAMPLE_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable

FRAME_BYTES = RATE * SAMPLE_BYTES * 30 // 1000
BEGINS_AFTER = 3  # frames of speech in a row
ENDS_AFTER = 17  # frames of silence in a row: 0.5 s
KEPT = 10  # frames before the speech
LONGEST = 25 * 1000 // 30  # frames: 25 s


class Segmenter:
    def __init__(self, is_speech: Callable[[bytes], bool]) -> None:
        self._is_speech = is_speech
        self._odd = b""  # less than a frame
        self._frames: list[bytes] = []
        self._open = False
        self._run = 0  # frames in a row that speak against the state

    def accept(self, pcm: bytes) -> list[bytes]:
        """Utterances that this piece of audio has ended, as PCM."""
        pcm = self._odd + pcm
        whole = len(pcm) // FRAME_BYTES * FRAME_BYTES
        self._odd = pcm[whole:]
        ended = (self._frame(pcm[at : at + FRAME_BYTES]) for at in range(0, whole, FRAME_BYTES))
        return [utterance for utterance in ended if utterance]

    def finish(self) -> bytes:
        """The open utterance, or nothing."""
        return b"".join(self._frames) + self._odd if self._open else b""

    def _frame(self, frame: bytes) -> bytes:
        self._frames.append(frame)
        against = self._is_speech(frame) != self._open
        self._run = self._run + 1 if against else 0
        if not self._open:
            del self._frames[: -(KEPT + BEGINS_AFTER)]
            if self._run == BEGINS_AFTER:
                self._open, self._run = True, 0
        elif self._run == ENDS_AFTER or len(self._frames) == LONGEST:
            utterance = b"".join(self._frames)
            self._frames, self._open, self._run = [], False, 0
            return utterance
        return b""
