"""Samples to speech-or-silence, a frame at a time. Knows WebRTC's detector and its hysteresis, not utterances.

A detector per stream: WebRTC's adapts to the stream's noise floor, so it is rebuilt on reset.
"""

from __future__ import annotations

from collections import deque

import webrtcvad

SAMPLE_RATE = 16_000
FRAME_MS = 20
FRAME = SAMPLE_RATE * FRAME_MS // 1000
FRAME_BYTES = 2 * FRAME
WINDOW = 8  # frames the hysteresis looks back on
VOICED_TO_BEGIN = 5  # of the window: a click is not speech
VOICED_TO_STAY = 2  # of the window: a single blip in silence does not keep speech alive


class Vad:
    """Speech or silence, smoothed: it takes more voiced frames to begin than to go on."""

    def __init__(self, aggressiveness: int = 2) -> None:
        """aggressiveness: 0 (calls most things speech) to 3."""
        self._aggressiveness = aggressiveness
        self.reset()

    def reset(self) -> None:
        self._detector = webrtcvad.Vad(self._aggressiveness)
        self._window: deque[bool] = deque(maxlen=WINDOW)
        self.speech = False

    def accept(self, frames: bytes) -> list[tuple[bool, int]]:
        """frames: of FRAME 16-bit samples each. Returns by frame whether it is speech, and its onset: how many frames
        ago, counting it as 1, the window's first voiced frame was; 0: none."""
        return [self._accept(frames[at : at + FRAME_BYTES]) for at in range(0, len(frames), FRAME_BYTES)]

    def _accept(self, frame: bytes) -> tuple[bool, int]:
        voiced, window = self._detector.is_speech(frame, SAMPLE_RATE), self._window
        window.append(voiced)
        count = window.count(True)
        self.speech = count >= (VOICED_TO_STAY if self.speech else VOICED_TO_BEGIN)
        onset = len(window) - window.index(True) if count else 0
        return self.speech and (voiced or count >= VOICED_TO_BEGIN), onset
