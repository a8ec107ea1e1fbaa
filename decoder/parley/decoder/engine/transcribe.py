"""Whole recordings: block by block through a request's decoders, in the thread that asks. Knows no file."""

from __future__ import annotations

import queue
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from parley.decoder.engine.request import Request
from parley.decoder.errors import Cancelled
from parley.decoder.values import EndpointRules, Failed, Final, Finished

if TYPE_CHECKING:
    from parley.decoder.audio import FileAudio
    from parley.decoder.engine.plan import Plan
    from parley.decoder.engine.pool import Lease
    from parley.decoder.values import Event

# A recording is cut where it pauses long, so that the model hears whole sentences.
FILE_RULES = EndpointRules(silence_after_speech_ms=1_500, longest_utterance_ms=24_000)
CANCEL_POLL_S = 0.1


@dataclass(frozen=True, slots=True)
class FileResult:
    """A recording's finals, sorted by start time, then channel."""

    finals: tuple[Final, ...]
    audio_ms: int


class Transcriber:
    def __init__(self) -> None:
        # Recordings are heard one after the other: if all their threads wanted Python's lock at once, whoever takes the
        # audio of live calls would wait for each of them in turn.
        self._hearing = threading.Lock()

    def transcribe(
        self,
        lease: Lease,
        audio: FileAudio,
        plan: Plan,
        max_audio_s: float,
        cancelled: threading.Event | None = None,
    ) -> FileResult:
        """The lease has `audio.channels` decoders. Raises BadAudio, AudioTooLong, DeviceError, or Cancelled soon after
        `cancelled` is set."""
        results = _Results(cancelled)
        request = Request(lease, plan, results.events.put, max_audio_s)
        blocks = audio.blocks()
        while True:
            with self._hearing:
                if (block := next(blocks, None)) is None:
                    break
                request.accept_samples(block)
            while not request.has_room or not results.events.empty():
                results.take()
            results.check()
        for _ in request.finish():
            pass
        while results.take():
            pass
        finals = sorted(results.finals, key=lambda final: (final.start_ms, final.channel))
        return FileResult(tuple(finals), request.cursors.received_ms)


class _Results:
    """What a recording's decoders say, for the thread that waits for it."""

    def __init__(self, cancelled: threading.Event | None) -> None:
        self.events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self.finals: list[Final] = []
        self._cancelled = cancelled

    def check(self) -> None:
        """Raises Cancelled."""
        if self._cancelled is not None and self._cancelled.is_set():
            raise Cancelled

    def take(self) -> bool:
        """Waits for an event; False for the last. Raises what the stream failed with, or Cancelled."""
        while True:
            self.check()
            try:
                event = self.events.get(timeout=CANCEL_POLL_S)
            except queue.Empty:
                continue
            if isinstance(event, Final):
                self.finals.append(event)
            elif isinstance(event, Failed):
                raise event.error
            return not isinstance(event, Finished)
