"""Decoder: all the state of one stream (one channel of a request). The unit that the pool lends.

Knows samples, utterances and their results; not bytes, encodings or other channels. It is fed from one thread; results
come on its device's thread under the device's lock, which also guards what both sides touch.

    AWAITING_CONFIG --open--> SILENCE <--> UTTERANCE --finish--> DRAINING --last result--> CLOSED
    with single_utterance the first one's end, or silence for too long before it, is a finish
    any of them --a fault--> FAILED;  every one --reset--> AWAITING_CONFIG
"""

from __future__ import annotations

import enum
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from decoder.device import Job, Work
from decoder.endpoint import BEFORE_SPEECH, Endpointer, Step, Utterance
from decoder.types import (
    LONGEST_UTTERANCE_MS,
    Advanced,
    EndpointRules,
    Event,
    Failed,
    Final,
    Finished,
    NoSpeech,
    Partial,
    Sink,
    SpeechBegin,
    SpeechEnd,
    StreamOptions,
    Word,
    WordTiming,
)
from decoder.vad import FRAME, FRAME_MS, WINDOW, Vad

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from decoder.device import DeviceWorker, Outcome
    from decoder.second_pass import Transcript
    from decoder.types import Hypothesis

HELD_FRAMES = LONGEST_UTTERANCE_MS // FRAME_MS + BEFORE_SPEECH + WINDOW + 1
PENDING_FINALS = 2  # utterances of a live stream that may wait for the device before its client is held back
PENDING_SEGMENTS = 16  # likewise of a recording: enough to sort by length
REAL_TIME_SLACK_S = 2.0  # a stream this far ahead of the clock is a recording in a hurry, and waits as one
SHORTEST_SPEECH = 100 // FRAME_MS  # frames; less is a click


class State(enum.Enum):
    AWAITING_CONFIG = enum.auto()
    SILENCE = enum.auto()
    UTTERANCE = enum.auto()
    DRAINING = enum.auto()
    CLOSED = enum.auto()
    FAILED = enum.auto()


@dataclass(slots=True)
class _Pending:
    """An utterance whose words are not sent yet. `outcome` waits for the utterances before it."""

    utterance: Utterance
    since: float
    outcome: Outcome | None = None


@dataclass(frozen=True, slots=True)
class StreamSettings:
    """What the node decides for all its streams. `recording`: a file, whose segments wait as such."""

    partial_interval_ms: int = 300  # 0: none
    recording: bool = False


class Decoder:
    def __init__(self, worker: DeviceWorker, slot: int, vad_aggressiveness: int) -> None:
        """Allocates all that the slot will ever hold."""
        self.slot, self.device = slot, worker.name
        self._worker = worker
        self._vad = Vad(vad_aggressiveness)
        self._audio = np.empty(HELD_FRAMES * FRAME, np.int16)  # frames [self._first, self._endpointer.frames)
        self._audio.fill(0)  # written, so that the memory is taken now and not under load
        self._carry = np.zeros(FRAME, np.int16)  # the part of a frame that has come
        self._owner: int | None = None
        self._clear()

    def _clear(self) -> None:
        self.state = State.AWAITING_CONFIG
        self._first = self._carried = 0
        self._endpointer = Endpointer(EndpointRules())
        self._pending: dict[int, _Pending] = {}
        self._segment = self._next_final = 0
        self._partial_at = 0  # frames at the last partial asked for
        self._lead_s, self._marked_ms, self._marked = 0.0, 0, 0.0
        self._options, self._settings, self._channel = StreamOptions(), StreamSettings(), 0
        self._sink: Sink = _nobody

    def bind(self) -> None:
        """Called by the pool on lending: from here on the device delivers to this decoder."""
        self._owner = self._worker.bind()

    def reset(self) -> None:
        """Called by the pool on return: nothing of the stream is left, and nothing more of it will come."""
        owner, self._owner = self._owner, None
        if owner is not None:
            self._worker.unbind(owner)
        self._vad.reset()
        self._clear()

    def open(self, channel: int, options: StreamOptions, settings: StreamSettings, sink: Sink) -> None:
        """Begins a stream. `sink` gets its events, from the feeding thread or the device's."""
        assert self.state is State.AWAITING_CONFIG
        assert self._owner is not None
        self._options, self._settings, self._channel, self._sink = options, settings, channel, sink
        self._endpointer = Endpointer(options.rules)
        self._marked = time.monotonic()
        self.state = State.SILENCE

    def accept(self, samples: NDArray[np.int16]) -> None:
        """Takes the next samples `(n,)` at 16 kHz; any n."""
        at = 0
        while at < len(samples) and self.state in (State.SILENCE, State.UTTERANCE):
            took = min(FRAME - self._carried, len(samples) - at)
            self._carry[self._carried : self._carried + took] = samples[at : at + took]
            self._carried += took
            at += took
            if self._carried == FRAME:
                self._carried = 0
                self._accept_frame(self._carry)
        with self._worker.lock:
            if self.state is State.UTTERANCE:
                self._offer_partial()

    def finalize(self) -> None:
        """Ends the open utterance now; a frame begun stays for the next one."""
        with self._worker.lock:
            if self.state is State.UTTERANCE:
                self._end_utterance(self._endpointer.close())

    def finish(self) -> None:
        """No more audio: ends the open utterance and, when all results are sent, the stream."""
        with self._worker.lock:
            if self.state not in (State.SILENCE, State.UTTERANCE):
                return
            if self._carried:  # the last word's end may lie in it
                self._carry[self._carried :] = 0
                self._carried = 0
                self._accept_frame(self._carry)
            self.finalize()
            self._drain()

    @property
    def has_room(self) -> bool:
        """False while enough utterances wait for the device."""
        return len(self._pending) < (PENDING_SEGMENTS if self._settings.recording else PENDING_FINALS)

    @property
    def processed_ms(self) -> int:
        return self._endpointer.frames * FRAME_MS

    @property
    def final_ms(self) -> int:
        """No final to come is of audio before this. Never falls."""
        with self._worker.lock:
            if self._pending:
                return self._pending[self._next_final].utterance.start * FRAME_MS
            if self.state in (State.SILENCE, State.UTTERANCE):
                return self._endpointer.start * FRAME_MS  # in silence, what a word may begin in is not over yet
            return self.processed_ms

    def _accept_frame(self, frame: NDArray[np.int16]) -> None:
        endpointer = self._endpointer
        self._hold(frame)
        speech = self._vad.accept(frame.tobytes())
        energy = float(np.square(frame, dtype=np.float32).sum()) if endpointer.open else 0.0
        with self._worker.lock:  # the device's thread reads the state and the cursors: they change in one
            if self._failed():
                return
            step, closed = endpointer.accept(speech, energy, self._vad.onset)
            if step is Step.BEGIN:
                self.state = State.UTTERANCE
                self._partial_at = endpointer.frames
                self._sink(SpeechBegin(self._channel, endpointer.speech_start * FRAME_MS))
            elif step is Step.NO_SPEECH:
                self._sink(NoSpeech(self._channel, endpointer.frames * FRAME_MS))
                if self._options.single_utterance:
                    self._drain()
            elif closed is not None:
                self._end_utterance(closed)

    def _hold(self, frame: NDArray[np.int16]) -> None:
        """Keeps the frame; frames that no utterance can want any more make room when the buffer is full."""
        endpointer = self._endpointer
        held = endpointer.frames - self._first
        if held == HELD_FRAMES:
            keep = endpointer.frames - endpointer.start
            self._audio[: keep * FRAME] = self._audio[(held - keep) * FRAME : held * FRAME].copy()
            self._first, held = endpointer.start, keep
        self._audio[held * FRAME : (held + 1) * FRAME] = frame

    def _end_utterance(self, closed: Utterance) -> None:
        """Sends a closed utterance to the device and goes on with what follows it."""
        if not self._endpointer.open:  # not merely cut
            self.state = State.SILENCE
            self._sink(SpeechEnd(self._channel, closed.speech_end * FRAME_MS))
        self._partial_at = self._endpointer.frames
        if closed.spoken < SHORTEST_SPEECH:
            self._sink(Advanced(self._channel, self.final_ms))
            return
        segment, self._segment = self._segment, self._segment + 1
        self._pending[segment] = _Pending(closed, time.monotonic())
        self._submit(
            Work.FILE if self._settings.recording or self._in_a_hurry() else Work.FINAL,
            closed.start,
            closed.end,
            done=lambda outcome: self._on_final(segment, outcome),
        )
        if self._options.single_utterance and not self._endpointer.open:
            self._drain()

    def _in_a_hurry(self) -> bool:
        """Whether the audio has come faster than it was spoken. An old lead fades: a burst is forgiven."""
        audio_ms, now = self.processed_ms, time.monotonic()
        gained_s = (audio_ms - self._marked_ms) / 1000 - (now - self._marked)
        self._lead_s = max(0.0, self._lead_s / 2 + gained_s)
        self._marked_ms, self._marked = audio_ms, now
        return self._lead_s > REAL_TIME_SLACK_S

    def _offer_partial(self) -> None:
        interval = self._settings.partial_interval_ms // FRAME_MS
        endpointer = self._endpointer
        if not (self._options.interim_results and interval) or endpointer.frames - self._partial_at < interval:
            return
        self._partial_at = endpointer.frames
        segment, start, end = self._segment, endpointer.start, endpointer.frames
        self._submit(
            Work.PARTIAL, start, end, done=lambda outcome: self._on_partial(segment, start, end, outcome.transcript)
        )

    def _submit(self, work: Work, start: int, end: int, done: Callable[[Outcome], None]) -> None:
        assert self._owner is not None
        samples = self._audio[(start - self._first) * FRAME : (end - self._first) * FRAME].copy()
        options = self._options
        final = work is not Work.PARTIAL
        job = Job(
            owner=self._owner,
            work=work,
            samples=samples,
            beam=options.max_alternatives if final else 1,
            word_times=options.word_times and final,
            done=done,
            failed=self._on_failed,
        )
        self._worker.submit(job)

    def _on_partial(self, segment: int, start: int, end: int, transcript: Transcript) -> None:
        if start != self._endpointer.start or self.state is not State.UTTERANCE or not transcript.hypotheses:
            return  # its utterance is over
        hypothesis = transcript.hypotheses[0]
        self._sink(Partial(self._channel, segment, start * FRAME_MS, end * FRAME_MS, hypothesis))

    def _on_final(self, segment: int, outcome: Outcome) -> None:
        if self._failed():
            return
        self._pending[segment].outcome = outcome
        while (pending := self._pending.get(self._next_final)) and pending.outcome:
            if pending.outcome.transcript.hypotheses:
                self._sink(self._final(self._next_final, pending, pending.outcome))
            del self._pending[self._next_final]
            self._next_final += 1
            self._sink(Advanced(self._channel, self.final_ms))
        self._close_if_drained()

    def _final(self, segment: int, pending: _Pending, outcome: Outcome) -> Final:
        return Final(
            channel=self._channel,
            segment=segment,
            start_ms=pending.utterance.start * FRAME_MS,
            end_ms=pending.utterance.end * FRAME_MS,
            hypotheses=tuple(self._placed(hypothesis, pending) for hypothesis in outcome.transcript.hypotheses),
            word_timing=WordTiming.ATTENTION,
            total_s=time.monotonic() - pending.since,
            queue_s=outcome.queue_s,
            batch_size=outcome.batch_size,
        )

    def _placed(self, hypothesis: Hypothesis, pending: _Pending) -> Hypothesis:
        """With words in the stream's time; without, if they were made only for a neighbour in the batch."""
        words = hypothesis.words if self._options.word_times else ()
        return replace(hypothesis, words=tuple(_placed_word(word, pending.utterance) for word in words))

    def _on_failed(self, error: Exception) -> None:
        if self.state not in (State.CLOSED, State.FAILED):
            self.state = State.FAILED
            self._sink(Failed(error))

    def _failed(self) -> bool:
        return self.state is State.FAILED

    def _drain(self) -> None:
        """Takes no more audio; closes when all results are sent."""
        if self.state in (State.SILENCE, State.UTTERANCE):
            self.state = State.DRAINING
            self._close_if_drained()

    def _close_if_drained(self) -> None:
        if self.state is State.DRAINING and not self._pending:
            self.state = State.CLOSED
            self._sink(Finished())


def _placed_word(word: Word, utterance: Utterance) -> Word:
    """The word in the stream's time, without the silence that its place in the utterance begins or ends with."""
    first = word.start_ms // FRAME_MS
    inside = utterance.speech[first : -(-word.end_ms // FRAME_MS)]
    speech = [frame for frame, is_speech in enumerate(inside) if is_speech]
    start_ms, end_ms = word.start_ms, word.end_ms
    if speech:
        start_ms = max(start_ms, (first + speech[0]) * FRAME_MS)
        end_ms = min(end_ms, (first + speech[-1] + 1) * FRAME_MS)
    offset_ms = utterance.start * FRAME_MS
    return replace(word, start_ms=start_ms + offset_ms, end_ms=end_ms + offset_ms)


def _nobody(_: Event) -> None:
    raise AssertionError("a decoder that is not open has no events")
