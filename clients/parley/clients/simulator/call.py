"""One simulated call: what it says, when each piece of it is sent, and what is heard when. Without I/O of its own."""

from __future__ import annotations

import asyncio
import bisect
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from parley.clients.config import StreamConfig
from parley.clients.pacing import piece_bytes, schedule
from parley.clients.recordings import open_recording

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from parley.clients.results import Result, Summary


@dataclass(frozen=True, slots=True)
class CallSource:
    """What one call says."""

    name: str
    config: StreamConfig
    audio: bytes
    bytes_per_s: float
    frame_bytes: int = 1  # 1 also for a container, which may be cut anywhere

    @classmethod
    def load(cls, path: Path, wishes: StreamConfig | None = None) -> CallSource:
        """A recording's call. `wishes` says what is wanted of the stream; what the audio is, the file says."""
        recording = open_recording(path)
        config = replace(
            wishes or StreamConfig(),
            encoding=recording.encoding,
            sample_rate=recording.sample_rate,
            channels=recording.channels,
        )
        return cls(path.name, config, b"".join(recording.read(1 << 20)), recording.bytes_per_s)


@dataclass(frozen=True, slots=True)
class Pace:
    """How calls are played."""

    message_ms: float = 100.0  # of audio in a message
    speed: float = 1.0  # times real time
    spread_s: float = 1.0  # over which the first calls begin: real callers do not pick up the phone together


@dataclass(frozen=True, slots=True)
class Send:
    """One message, in seconds since the call began."""

    audio_s: float  # where its audio ends, in the call's time
    due_s: float
    begun_s: float
    done_s: float  # gRPC has taken it: later than `begun_s` where flow control held it back

    def late_s(self, free_s: float) -> float:
        """By how much the simulator missed the time, having been free to send since `free_s`."""
        return max(0.0, self.begun_s - max(self.due_s, free_s))


@dataclass(frozen=True, slots=True)
class CallReport:
    """What came of one call. Times in seconds; lags count from the sending of the audio that they are about."""

    name: str
    number: int
    words: dict[int, str]  # by channel
    finals: int
    sends: tuple[Send, ...]
    partial_lags_s: tuple[float, ...]  # from the audio at an interim result's end to its arrival
    final_lags_s: tuple[float, ...]  # from the audio at an utterance's end to its final: holds the endpointer's silence
    half_close_to_last_final_s: float | None  # None: the last final came before the half-close, or there was none
    half_close_to_end_s: float | None  # None: it was not reached
    summary: Summary | None
    error: str | None

    @property
    def late_s(self) -> tuple[float, ...]:
        """How late the simulator was with each message, by its own fault."""
        free = [0.0, *(send.done_s for send in self.sends)]
        return tuple(send.late_s(since) for send, since in zip(self.sends, free, strict=False))


class Line:
    """One call on the line: its audio at its pace, and what is heard."""

    def __init__(
        self,
        source: CallSource,
        pace: Pace,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._source = source
        self._pace = pace
        self._clock = clock
        self._sleep = sleep
        self._began = clock()
        self._sends: list[Send] = []
        self._audio_ends: list[float] = []
        self._begun: list[float] = []
        self._words: dict[int, list[str]] = {}
        self._partial_lags: list[float] = []
        self._final_lags: list[float] = []
        self._last_final_s: float | None = None
        self._half_close_s: float | None = None

    async def audio(self) -> AsyncIterator[bytes]:
        """The call's audio, each message when its last sample has been spoken."""
        source = self._source
        size = piece_bytes(source.bytes_per_s, self._pace.message_ms / 1000, source.frame_bytes)
        pieces = (source.audio[at : at + size] for at in range(0, len(source.audio), size))
        for audio_s, piece in schedule(pieces, source.bytes_per_s):
            due_s = audio_s / self._pace.speed
            if (wait_s := due_s - self._now()) > 0:
                await self._sleep(wait_s)
            begun_s = self._now()
            self._audio_ends.append(audio_s)
            self._begun.append(begun_s)
            yield piece
            self._sends.append(Send(audio_s, due_s, begun_s, self._now()))
        self._half_close_s = self._now()

    def heard(self, result: Result) -> None:
        now = self._now()
        sent = bisect.bisect_left(self._audio_ends, result.end_s)
        # A server's time may be a rounding error past the audio's end.
        lag_s = now - self._begun[min(sent, len(self._begun) - 1)]
        if result.is_final:
            self._words.setdefault(result.channel, []).append(result.text)
            self._final_lags.append(lag_s)
            self._last_final_s = now
        elif result.text:
            self._partial_lags.append(lag_s)

    def report(self, number: int, summary: Summary | None, error: str | None) -> CallReport:
        """The call is over."""
        closed, last = self._half_close_s, self._last_final_s
        return CallReport(
            name=self._source.name,
            number=number,
            words={channel: " ".join(texts) for channel, texts in sorted(self._words.items())},
            finals=len(self._final_lags),
            sends=tuple(self._sends),
            partial_lags_s=tuple(self._partial_lags),
            final_lags_s=tuple(self._final_lags),
            half_close_to_last_final_s=None if closed is None or last is None or last < closed else last - closed,
            half_close_to_end_s=None if closed is None or error else self._now() - closed,
            summary=summary,
            error=error,
        )

    def _now(self) -> float:
        return self._clock() - self._began
