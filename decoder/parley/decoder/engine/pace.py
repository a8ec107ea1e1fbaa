"""A stream's lead on the clock: whether its audio comes faster than it was spoken. Knows times, told by who asks."""

from __future__ import annotations

SLACK_S = 2.0  # a stream this far ahead of the clock is a recording in a hurry, and waits as one
LEAD_HALVED_S = 5.0  # an old lead fades: a burst is forgiven
OWED_S = 10.0  # of audio that a stream may be behind and catch up: the node itself may have held it back


class Pace:
    def __init__(self, now: float) -> None:
        """now: when the stream begins, in seconds of a clock that never goes back."""
        self._lead_s = 0.0
        self._marked_ms, self._marked = 0, now  # audio and clock when it was last asked

    def in_a_hurry(self, audio_ms: int, now: float) -> bool:
        """audio_ms: of the stream, that has come by `now`. Neither may go back from one call to the next."""
        elapsed_s = now - self._marked
        gained_s = (audio_ms - self._marked_ms) / 1000 - elapsed_s
        self._lead_s = max(-OWED_S, self._lead_s * 0.5 ** (elapsed_s / LEAD_HALVED_S) + gained_s)
        self._marked_ms, self._marked = audio_ms, now
        return self._lead_s > SLACK_S
