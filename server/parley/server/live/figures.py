"""What becomes of one stream in numbers: for its summary, its log line and the metrics. Knows no stream, no wire."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field

from parley.decoder.values import Source

MOST_MARKS = 1_024  # messages: 20 s of audio in pieces of 20 ms, longer than any interim result lags


class Arrivals:
    """Which audio came when. Forgets what is long past."""

    def __init__(self) -> None:
        self._marks: deque[tuple[int, float]] = deque(maxlen=MOST_MARKS)

    def mark(self, received_ms: int, at: float) -> None:
        """Audio up to `received_ms` is here since `at`."""
        self._marks.append((received_ms, at))

    def of(self, time_ms: int) -> float | None:
        """When the audio at `time_ms` came; None if that is forgotten, or it never came."""
        found: float | None = None
        for received_ms, at in reversed(self._marks):  # what is asked for is seldom old, and asked for with every chunk
            if received_ms < time_ms:
                break
            found = at
        return found


@dataclass(frozen=True, slots=True)
class Summary:
    """A stream in numbers. half_close_to_last_final_s: 0 if every final was out before the half-close, None without
    one. speech_to_first_result_s: None without speech, or without a result."""

    audio_ms: int
    finals: int
    interims: int
    worst_final_s: float
    half_close_to_last_final_s: float | None
    speech_to_first_result_s: float | None


@dataclass(slots=True)
class Figures:
    """Monotonic clock, seconds."""

    finals: int = 0
    finals_in_time: int = 0  # of those, from the first pass because the second would have been late
    interims: int = 0
    worst_final_s: float = 0.0
    arrivals: Arrivals = field(default_factory=Arrivals)
    first_speech_at: float | None = None  # when its audio came
    first_result_at: float | None = None
    last_final_at: float | None = None
    half_closed_at: float | None = None

    def speech_began(self, time_ms: int) -> None:
        """Speech at `time_ms` was seen."""
        if self.first_speech_at is None:
            self.first_speech_at = self.arrivals.of(time_ms)

    def interim_sent(self, end_ms: int) -> float | None:
        """Counts an interim result; returns how far it lags behind the arrival of its last audio."""
        now = time.monotonic()
        self.interims += 1
        self.first_result_at = self.first_result_at or now
        arrived_at = self.arrivals.of(end_ms)
        return None if arrived_at is None else now - arrived_at

    def final_sent(self, total_s: float, source: Source) -> None:
        """Counts a final result."""
        self.last_final_at = time.monotonic()
        self.finals += 1
        self.finals_in_time += source is Source.FIRST_IN_TIME
        self.first_result_at = self.first_result_at or self.last_final_at
        self.worst_final_s = max(self.worst_final_s, total_s)

    @property
    def half_close_to_last_final_s(self) -> float | None:
        """See Summary."""
        if self.half_closed_at is None:
            return None
        return max(0.0, (self.last_final_at or 0.0) - self.half_closed_at)

    @property
    def speech_to_first_result_s(self) -> float | None:
        """See Summary."""
        if self.first_speech_at is None or self.first_result_at is None:
            return None
        return self.first_result_at - self.first_speech_at

    def summary(self, audio_ms: int) -> Summary:
        """What the client is told of it."""
        return Summary(
            audio_ms,
            self.finals,
            self.interims,
            self.worst_final_s,
            self.half_close_to_last_final_s,
            self.speech_to_first_result_s,
        )

    def as_log(self) -> dict[str, object]:
        """The figures as log fields, seconds to the millisecond."""
        seconds = {
            "worst_final_s": self.worst_final_s,
            "half_close_to_last_final_s": self.half_close_to_last_final_s,
            "speech_to_first_result_s": self.speech_to_first_result_s,
        }
        known = {name: round(value, 3) for name, value in seconds.items() if value is not None}
        in_time = {"finals_in_time": self.finals_in_time} if self.finals_in_time else {}
        return {"finals": self.finals, **in_time, "interims": self.interims, **known}
