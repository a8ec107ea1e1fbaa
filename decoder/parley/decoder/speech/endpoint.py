"""Frames of speech and silence to utterances: Kaldi's endpoint rules. Knows frames, not audio or words.

Rules: so much silence before any speech; so much silence after speech; an utterance too long, which is cut at its best
pause. Frames are the VAD's, counted from the stream's start.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING

from parley.decoder.speech.vad import FRAME_MS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from parley.decoder.values import EndpointRules

BEFORE_SPEECH = 300 // FRAME_MS  # frames of audio kept before the first speech: soft first sounds live there
AFTER_SPEECH = 300 // FRAME_MS  # and after the last
SHORTEST_PAUSE = 60 // FRAME_MS  # silence that counts as a pause when a long utterance is cut
SMOOTHING = 100 // FRAME_MS  # without any pause, the quietest stretch of this length serves


class Step(enum.Enum):
    """What a frame did."""

    NOTHING = enum.auto()
    BEGIN = enum.auto()
    END = enum.auto()
    CUT = enum.auto()
    NO_SPEECH = enum.auto()


@dataclass(frozen=True, slots=True)
class Utterance:
    """Frames [start, end) are the audio to decode; `speech` says which of them are speech, the last before
    `speech_end`. `cut`: speech goes on behind it."""

    start: int
    end: int
    speech_end: int
    speech: tuple[bool, ...]
    cut: bool = False

    @property
    def spoken(self) -> int:
        """Frames of speech."""
        return sum(self.speech)


class Endpointer:
    """The open utterance of one stream, or the silence since the last one."""

    def __init__(self, rules: EndpointRules) -> None:
        self._silence_before = -(-rules.silence_before_speech_ms // FRAME_MS)
        self._silence_after = -(-rules.silence_after_speech_ms // FRAME_MS)
        self._longest = rules.longest_utterance_ms // FRAME_MS
        self.frames = 0  # seen so far
        self.open = False
        self.start = 0  # of the open utterance's audio, or of what the next one may still take
        self.speech_start = 0
        self._speech_end = 0
        self._quiet_since = 0
        self._speech: list[bool] = []  # of the open utterance, from self.start

    def accept(
        self, speech: bool, onset: int, energies: Callable[[int, int], Sequence[float]]
    ) -> tuple[Step, Utterance | None]:
        """Takes the next frame; an END or CUT brings what it closed. onset: frames since speech may have begun
        (Vad.accept), 1 or more for speech. energies: of the stream's frames [from, to), of any unit; asked for the open
        utterance's, and only where a cut finds no pause."""
        self.frames += 1
        if not self.open:
            return self._in_silence(speech, onset), None
        self._speech.append(speech)
        if speech:
            self._speech_end = self.frames
        if self.frames - self._speech_end >= self._silence_after:
            return Step.END, self.close()
        if self.frames - self.start >= self._longest:
            return Step.CUT, self._cut(energies)
        return Step.NOTHING, None

    @property
    def settled(self) -> int:
        """The open utterance's audio before this frame is part of it, whatever comes."""
        # A cut may have left nothing but silence: then it ends where it starts.
        return max(self.start, min(self.frames, self._speech_end + AFTER_SPEECH))

    def close(self) -> Utterance:
        """Ends the open utterance here."""
        end = self.settled
        closed = Utterance(self.start, end, self._speech_end, tuple(self._speech[: end - self.start]))
        self.open = False
        self.start = end
        self._quiet_since = self.frames
        self._speech = []
        return closed

    def _in_silence(self, speech: bool, onset: int) -> Step:
        self.start = max(self.start, self.frames - onset - BEFORE_SPEECH)
        if speech:
            self.open = True
            self.speech_start = max(self.start, self.frames - onset)
            self._speech_end = self.frames
            before = self.speech_start - self.start
            self._speech = [False] * before + [True] * (self.frames - self.speech_start)
            return Step.BEGIN
        if self._silence_before and self.frames - self._quiet_since >= self._silence_before:
            self._quiet_since = self.frames
            return Step.NO_SPEECH
        return Step.NOTHING

    def _cut(self, energies: Callable[[int, int], Sequence[float]]) -> Utterance:
        at = self.start + best_pause(self._speech, lambda: energies(self.start, self.frames))
        kept = at - self.start
        closed = Utterance(self.start, at, min(at, self._speech_end), tuple(self._speech[:kept]), cut=True)
        self.start = at
        self._speech = self._speech[kept:]
        return closed


def best_pause(speech: Sequence[bool], energies: Callable[[], Sequence[float]]) -> int:
    """Where to cut a long utterance, a frame in its last 60 %: the middle of the longest silence there, or of the
    quietest stretch when nobody pauses. energies: of its frames."""
    first = len(speech) * 2 // 5
    longest, at, run = 0, 0, 0
    for frame in range(first, len(speech)):
        run = 0 if speech[frame] else run + 1
        if run >= longest and run >= SHORTEST_PAUSE:
            longest, at = run, frame + 1 - run // 2
    if longest:
        return at
    energy = energies()
    stretches = range(first, len(energy) - SMOOTHING + 1)
    return min(stretches, key=lambda k: sum(energy[k : k + SMOOTHING])) + SMOOTHING // 2
