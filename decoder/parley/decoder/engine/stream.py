"""Decoder: all the state of one stream (one channel of a request). The unit that the pool lends.

Knows samples, utterances and their results; not bytes, encodings or other channels. It is fed from one thread; results
come on its device's thread under the device's lock, which also guards what both sides touch.

An open utterance goes through the first pass chunk by chunk, a closed one through the second pass whole; either may be
absent. With both, the first gives the partials, the second the words of the final, and the first again what the second
cannot give in time.

    AWAITING_CONFIG --open--> SILENCE <--> UTTERANCE --finish--> DRAINING --last result--> CLOSED
    with single_utterance the first one's end, or silence for too long before it, is a finish
    any of them --a fault--> FAILED;  every one --reset--> AWAITING_CONFIG
"""

from __future__ import annotations

import enum
import math
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from parley.decoder.engine.chunker import Chunker
from parley.decoder.engine.work import Job, Outcome, Whole, Work
from parley.decoder.speech.endpoint import BEFORE_SPEECH, Endpointer, Step, Utterance
from parley.decoder.speech.vad import FRAME, FRAME_MS, WINDOW, Vad
from parley.decoder.text.inverse_text import written
from parley.decoder.text.merge import decide, own
from parley.decoder.values import (
    LONGEST_UTTERANCE_MS,
    MOST_CONTEXT,
    Advanced,
    EndpointRules,
    Event,
    Failed,
    Final,
    Finished,
    NoSpeech,
    Partial,
    Passes,
    Sink,
    Source,
    SpeechBegin,
    SpeechEnd,
    StreamOptions,
    Transcript,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from parley.decoder.engine.chunker import Spoken
    from parley.decoder.engine.worker import DeviceWorker
    from parley.decoder.models.acoustic import AcousticModel, Chunk
    from parley.decoder.search.ctc import Wishes
    from parley.decoder.values import Hypothesis, WordLattice

LAG_FRAMES = 2_000 // FRAME_MS  # of audio that may wait for the first pass before its client is held back
BLOCK_FRAMES = 1_000 // FRAME_MS  # that come after `has_room` was asked, at most
HELD_FRAMES = LONGEST_UTTERANCE_MS // FRAME_MS + BEFORE_SPEECH + WINDOW + 1 + LAG_FRAMES + BLOCK_FRAMES
AUDIO_BYTES = 2 * HELD_FRAMES * FRAME  # that a decoder holds
PENDING_FINALS = 2  # utterances of a live stream that may wait for the device before its client is held back
PENDING_SEGMENTS = 16  # likewise of a recording: enough to sort by length
REAL_TIME_SLACK_S = 2.0  # a stream this far ahead of the clock is a recording in a hurry, and waits as one
LEAD_HALVED_S = 5.0  # an old lead fades: a burst is forgiven
OWED_S = 10.0  # of audio that a stream may be behind and catch up: the node itself may have held it back
SEAM_BEST = 8  # readings of a recording's segment, of which the words before it choose
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
    """A closed utterance whose words are not sent yet; they may wait for the utterances before it. chunked, whole: what
    the first pass made of its chunks, and either pass of it whole. late: the second pass will not be waited for."""

    utterance: Utterance
    since: float
    chunked: Outcome | None = None
    whole: Outcome | None = None
    late: bool = False


@dataclass(frozen=True, slots=True)
class StreamSettings:
    """What the node decides for all its streams. passes: unless the request says otherwise. final_budget_ms: for the
    second pass, where there are both; 0: any time. recording: a file, whose segments wait as such; one pass decodes
    them whole, of both the second. wishes: of the first pass's search."""

    passes: Passes = Passes.SECOND
    partial_interval_ms: int = 300  # 0: none
    final_budget_ms: int = 0
    recording: bool = False
    wishes: Wishes | None = None


class Decoder:
    def __init__(
        self, worker: DeviceWorker, slot: int, vad_aggressiveness: int, first_pass: AcousticModel | None = None
    ) -> None:
        """Allocates all that the slot will ever hold. first_pass: the device's, if it has one."""
        self.slot, self.device = slot, worker.name
        self._chunker = Chunker(slot, first_pass.shape, first_pass.chunks) if first_pass else None
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
        self._passes = Passes.SECOND
        self._first_pass: Chunker | None = None  # the chunker, if this stream's audio goes through the first pass
        self._twice = False  # its utterances are decoded again, whole
        self._outstanding = False  # a chunk is on the device
        self._heard: Outcome | None = None  # of the utterance in the first pass, so far
        self._shown = ""  # of that, as a partial
        self._before: tuple[str, ...] = ()  # the last words of what is over: a language model goes on from them
        self._sink: Sink = _nobody

    def bind(self) -> None:
        """Called by the pool on lending: from here on the device delivers to this decoder."""
        self._owner = self._worker.bind()

    def reset(self) -> None:
        """Called by the pool on return: nothing of the stream is left, and nothing more of it will come."""
        owner, self._owner = self._owner, None
        if owner is not None:
            self._worker.unbind(owner, self.slot)
        if self._chunker is not None:
            self._chunker.reset()
        self._vad.reset()
        self._clear()

    def open(self, channel: int, options: StreamOptions, settings: StreamSettings, sink: Sink) -> None:
        """Begins a stream. `sink` gets its events, from the feeding thread or the device's."""
        assert self.state is State.AWAITING_CONFIG
        assert self._owner is not None
        self._options, self._settings, self._channel, self._sink = options, settings, channel, sink
        self._passes = options.passes or settings.passes
        if self._passes is not Passes.SECOND and not settings.recording:
            assert self._chunker is not None
            self._first_pass = self._chunker
            by_lattice = settings.wishes is not None and settings.wishes.graph is not None
            self._twice = self._passes is Passes.BOTH or by_lattice
        self._endpointer = Endpointer(options.rules)
        self._marked = time.monotonic()
        self.state = State.SILENCE

    def accept(self, samples: NDArray[np.int16]) -> None:
        """Takes the next samples `(n,)` at 16 kHz; any n."""
        if self._carried:
            samples = np.concatenate((self._carry[: self._carried], samples))
        whole = len(samples) // FRAME * FRAME
        for at in range(0, whole, BLOCK_FRAMES * FRAME):
            self._accept_frames(samples[at : min(at + BLOCK_FRAMES * FRAME, whole)])
        self._carried = len(samples) - whole
        self._carry[: self._carried] = samples[whole:]
        with self._worker.lock:
            if self._first_pass is not None:
                self._feed()
            elif self.state is State.UTTERANCE:
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
                self._accept_frames(self._carry)
            self.finalize()
            self._drain()

    @property
    def has_room(self) -> bool:
        """False while enough audio waits for the device."""
        with self._worker.lock:
            if len(self._pending) >= (PENDING_SEGMENTS if self._settings.recording else PENDING_FINALS):
                return False
            held = self._endpointer.frames - self._needed
            waiting = 0 if self._first_pass is None else self._first_pass.waiting
            return waiting <= LAG_FRAMES and held <= HELD_FRAMES - BLOCK_FRAMES

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

    def _accept_frames(self, samples: NDArray[np.int16]) -> None:
        """Takes whole frames, BLOCK_FRAMES at most."""
        if self.state not in (State.SILENCE, State.UTTERANCE):
            return
        self._hold(samples)
        heard = self._vad.accept(samples.tobytes())
        with self._worker.lock:  # the device's thread reads the state and the cursors: they change in one
            for speech, onset in heard:
                if self.state not in (State.SILENCE, State.UTTERANCE):
                    return
                self._accept_frame(speech, onset)

    def _accept_frame(self, speech: bool, onset: int) -> None:
        endpointer = self._endpointer
        step, closed = endpointer.accept(speech, onset, self._energies)
        if step is Step.BEGIN:
            self.state = State.UTTERANCE
            self._partial_at = endpointer.frames
            if self._first_pass is not None:
                self._first_pass.begin(self._segment, endpointer.start)
            self._sink(SpeechBegin(self._channel, endpointer.speech_start * FRAME_MS))
        elif step is Step.NO_SPEECH:
            self._sink(NoSpeech(self._channel, endpointer.frames * FRAME_MS))
            if self._options.single_utterance:
                self._drain()
        elif closed is not None:
            self._end_utterance(closed)
        if self._first_pass is not None and endpointer.open:
            self._first_pass.settle(endpointer.settled)

    def _hold(self, samples: NDArray[np.int16]) -> None:
        """Keeps the frames; those that nobody can want any more make room when the buffer is full."""
        frames, more = self._endpointer.frames, len(samples) // FRAME
        held = frames - self._first
        if held + more > HELD_FRAMES:
            with self._worker.lock:  # the device's thread takes chunks from there
                first = self._needed
                keep = frames - first
                if keep + more > HELD_FRAMES:
                    raise BufferError(f"audio came although has_room is False: {keep * FRAME_MS} ms of it are held")
                self._audio[: keep * FRAME] = self._audio[(held - keep) * FRAME : held * FRAME].copy()
                self._first, held = first, keep
        self._audio[held * FRAME : (held + more) * FRAME] = samples

    @property
    def _needed(self) -> int:
        """The first frame that may still be asked for."""
        waiting = None if self._first_pass is None else self._first_pass.needed
        return self._endpointer.start if waiting is None else min(waiting, self._endpointer.start)

    def _end_utterance(self, closed: Utterance) -> None:
        """Sends a closed utterance to the device and goes on with what follows it."""
        cut, spoken = self._endpointer.open, closed.spoken >= SHORTEST_SPEECH
        if not cut:
            self.state = State.SILENCE
            self._sink(SpeechEnd(self._channel, closed.speech_end * FRAME_MS))
        self._partial_at = self._endpointer.frames
        if self._first_pass is not None:
            self._close_in_first_pass(closed, cut, spoken)
        if not spoken:
            self._sink(Advanced(self._channel, self.final_ms))
            return
        segment, self._segment = self._segment, self._segment + 1
        self._pending[segment] = _Pending(closed, time.monotonic())
        if self._first_pass is None or self._twice:
            self._submit_final(segment, closed)
        self._feed()
        if self._options.single_utterance and not cut:
            self._drain()

    def _close_in_first_pass(self, closed: Utterance, cut: bool, spoken: bool) -> None:
        first_pass = self._first_pass
        assert first_pass is not None
        if spoken:
            if not cut:
                first_pass.settle(closed.end)
            first_pass.close(closed.end)
        else:
            first_pass.drop()
            if first_pass.current is None:
                self._heard, self._shown = None, ""
        if cut:
            first_pass.begin(self._segment + spoken, closed.end)

    def _submit_final(self, segment: int, closed: Utterance) -> None:
        work = Work.FILE if self._settings.recording or self._in_a_hurry() else Work.FINAL
        budget_s = self._settings.final_budget_ms / 1000 if self._first_pass is not None and work is Work.FINAL else 0.0
        self._submit(
            work,
            closed.start,
            closed.end,
            done=lambda outcome: self._on_whole(segment, outcome),
            failed=lambda error: self._on_whole_failed(segment, error),
            late=lambda: self._on_late(segment),
            deadline=time.monotonic() + budget_s if budget_s else math.inf,
        )

    def _in_a_hurry(self) -> bool:
        """Whether the audio has come faster than it was spoken."""
        audio_ms, now = self.processed_ms, time.monotonic()
        elapsed_s = now - self._marked
        gained_s = (audio_ms - self._marked_ms) / 1000 - elapsed_s
        self._lead_s = max(-OWED_S, self._lead_s * 0.5 ** (elapsed_s / LEAD_HALVED_S) + gained_s)
        self._marked_ms, self._marked = audio_ms, now
        return self._lead_s > REAL_TIME_SLACK_S

    def _feed(self) -> None:
        """Sends the next chunk to the device, if it is due and none is there; passes on what the first pass is through
        with."""
        first_pass = self._first_pass
        while first_pass is not None and (spoken := first_pass.current) is not None and not self._outstanding:
            chunk = first_pass.take(self._read)
            if chunk is not None:
                self._submit_chunk(spoken, chunk)
            elif not first_pass.through:
                return
            else:
                first_pass.pop()
                self._close_heard(self._pending[spoken.segment])
                self._send_finals()

    def _close_heard(self, pending: _Pending) -> None:
        """The first pass is through with an utterance."""
        if self._heard is None:
            pending.chunked = Outcome(Transcript(()), 0.0, 0)
        else:
            # Nothing of the slot is on the device now, so this thread may ask.
            said = self._worker.finish(self.slot, self._options.max_alternatives)
            pending.chunked = replace(self._heard, transcript=said)
            self._goes_on_from(own(said.hypotheses[:1], pending.utterance))
        self._heard, self._shown = None, ""

    def _goes_on_from(self, hypotheses: Sequence[Hypothesis]) -> None:
        words = hypotheses[0].text.split() if hypotheses else []
        self._before = (*self._before, *words)[-MOST_CONTEXT:]

    def _submit_chunk(self, spoken: Spoken, chunk: Chunk) -> None:
        assert self._owner is not None
        self._outstanding = True
        if chunk.index == 0 and self._settings.wishes is not None:
            chunk = replace(chunk, wishes=replace(self._settings.wishes, before=self._before))
        job = Job(
            owner=self._owner,
            work=Work.CATCH_UP if self._in_a_hurry() else Work.CHUNK,
            task=chunk,
            done=lambda outcome: self._on_chunk(spoken, outcome),
            failed=self._on_failed,
            urgent=spoken.limit is not None,  # a final waits for it
        )
        self._worker.submit(job)

    def _on_chunk(self, spoken: Spoken, outcome: Outcome) -> None:
        first_pass = self._first_pass
        if first_pass is None or self._failed():
            return
        had_room, self._outstanding = self.has_room, False
        if spoken is first_pass.current:  # and not dropped meanwhile
            self._heard = outcome
            if spoken.limit is None:
                self._show(spoken, outcome.transcript)
        self._feed()
        if self.has_room and not had_room and self.state not in (State.CLOSED, State.FAILED):
            self._sink(Advanced(self._channel, self.final_ms))

    def _show(self, spoken: Spoken, transcript: Transcript) -> None:
        """Sends the words so far as a partial, if they are new."""
        if not (self._options.interim_results and self._settings.partial_interval_ms and transcript.hypotheses):
            return
        hypothesis = transcript.hypotheses[0]
        if hypothesis.text != self._shown:
            self._shown = hypothesis.text
            start_ms, end_ms = spoken.start * FRAME_MS, (spoken.start + spoken.fed) * FRAME_MS
            placed = self._placed(hypothesis, start_ms)
            self._sink(Partial(self._channel, spoken.segment, start_ms, end_ms, placed, hypothesis.stability))

    def _read(self, start: int, end: int) -> NDArray[np.int16]:
        """Samples [start, end) of the stream."""
        offset = self._first * FRAME
        return self._audio[start - offset : end - offset]

    def _energies(self, start: int, end: int) -> list[float]:
        """Of frames [start, end) of the stream."""
        frames = self._read(start * FRAME, end * FRAME).reshape(-1, FRAME)
        energies: list[float] = np.square(frames, dtype=np.float32).sum(1).tolist()
        return energies

    def _offer_partial(self) -> None:
        """Asks the second pass for the words so far, now and then."""
        interval = self._settings.partial_interval_ms // FRAME_MS
        endpointer = self._endpointer
        if not (self._options.interim_results and interval) or endpointer.frames - self._partial_at < interval:
            return
        self._partial_at = endpointer.frames
        segment, start, end = self._segment, endpointer.start, endpointer.frames
        self._submit(
            Work.PARTIAL,
            start,
            end,
            done=lambda outcome: self._on_partial(segment, start, end, outcome.transcript),
            failed=self._on_failed,
        )

    def _submit(
        self,
        work: Work,
        start: int,
        end: int,
        done: Callable[[Outcome], None],
        failed: Callable[[Exception], None],
        late: Callable[[], None] | None = None,
        deadline: float = math.inf,
    ) -> None:
        """Sends frames [start, end) to the device to be decoded whole."""
        assert self._owner is not None
        options, final = self._options, work is not Work.PARTIAL
        by_first = self._passes is Passes.FIRST
        chosen_from = SEAM_BEST if by_first and self._settings.wishes is not None else 1
        whole = Whole(
            samples=self._read(start * FRAME, end * FRAME).copy(),
            by=Passes.FIRST if by_first else Passes.SECOND,
            beam=max(options.max_alternatives, chosen_from) if final else 1,
            word_times=final and options.word_times,
            wishes=self._settings.wishes,
        )
        job = Job(self._owner, work, whole, done=done, failed=failed, late=late, deadline=deadline)
        self._worker.submit(job)

    def _on_partial(self, segment: int, start: int, end: int, transcript: Transcript) -> None:
        if start != self._endpointer.start or self.state is not State.UTTERANCE or not transcript.hypotheses:
            return  # its utterance is over
        hypothesis = transcript.hypotheses[0]
        self._sink(Partial(self._channel, segment, start * FRAME_MS, end * FRAME_MS, hypothesis))

    def _on_whole(self, segment: int, outcome: Outcome) -> None:
        if segment in self._pending:  # else it was too late
            self._pending[segment].whole = outcome
            self._send_finals()

    def _on_whole_failed(self, segment: int, error: Exception) -> None:
        pending = self._pending.get(segment)
        if (
            self._first_pass is None  # there is nothing else,
            or self._options.search.grammar  # or nothing else may be heard,
            or (pending is not None and pending.whole is not None)  # or its words are here and could not be passed on
        ):
            self._on_failed(error)
        else:
            self._on_late(segment)

    def _on_late(self, segment: int) -> None:
        if segment in self._pending:
            self._pending[segment].late = True
            self._send_finals()

    def _send_finals(self) -> None:
        """Sends the finals that are ready, in order."""
        while not self._failed() and (pending := self._pending.get(self._next_final)) and self._is_ready(pending):
            final = self._final(self._next_final, pending)
            if final.hypotheses:
                self._sink(final)
            del self._pending[self._next_final]
            self._next_final += 1
            self._sink(Advanced(self._channel, self.final_ms))
        self._close_if_drained()

    def _is_ready(self, pending: _Pending) -> bool:
        if self._first_pass is None:
            return pending.whole is not None
        whole = pending.late or pending.whole is not None
        return pending.chunked is not None and (whole or not self._twice)

    def _final(self, segment: int, pending: _Pending) -> Final:
        """The utterance's words; no hypotheses if it has none."""
        utterance, chunked, whole = pending.utterance, pending.chunked, pending.whole
        outcome = whole or chunked
        assert outcome is not None
        decided = decide(self._passes, utterance, _hypotheses(chunked), self._in_context(whole))
        hypotheses = self._written(decided.hypotheses)
        start_ms = utterance.start * FRAME_MS
        return Final(
            channel=self._channel,
            segment=segment,
            start_ms=start_ms,
            end_ms=utterance.end * FRAME_MS,
            hypotheses=tuple(self._placed(hypothesis, start_ms) for hypothesis in hypotheses),
            word_timing=decided.timing,
            source=Source.FIRST_IN_TIME if self._twice and whole is None else decided.source,
            total_s=time.monotonic() - pending.since,
            queue_s=outcome.queue_s,
            batch_size=outcome.batch_size,
            lattice=_moved(outcome.transcript.lattice, start_ms),
        )

    def _in_context(self, whole: Outcome | None) -> tuple[Hypothesis, ...] | None:
        """A whole utterance's n-best; of a recording's segments, which are searched side by side, behind the words
        before them."""
        if whole is None:
            return None
        hypotheses, wishes = whole.transcript.hypotheses, self._settings.wishes
        if wishes is None or wishes.graph is not None or self._first_pass is not None:
            return hypotheses[: self._options.max_alternatives]
        from parley.decoder.search.seams import behind  # late: what it compiles with takes half a second and 50 MB

        hypotheses = behind(self._before, hypotheses, wishes)[: self._options.max_alternatives]
        self._goes_on_from(hypotheses)
        return hypotheses

    def _written(self, hypotheses: Sequence[Hypothesis]) -> tuple[Hypothesis, ...]:
        """In written form, if that is wanted; readings that then are the same are one."""
        language = self._options.written
        if not language:
            return tuple(hypotheses)
        by_text: dict[str, Hypothesis] = {}
        for hypothesis in hypotheses:
            one = written(hypothesis, language)
            by_text.setdefault(one.text, one)
        return tuple(by_text.values())

    def _placed(self, hypothesis: Hypothesis, offset_ms: int) -> Hypothesis:
        """With words in the stream's time; without, if nobody asked for them."""
        words = hypothesis.words if self._options.word_times else ()
        moved = (replace(w, start_ms=w.start_ms + offset_ms, end_ms=w.end_ms + offset_ms) for w in words)
        return replace(hypothesis, words=tuple(moved))

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


def _moved(lattice: WordLattice | None, offset_ms: int) -> WordLattice | None:
    """In the stream's time."""
    if lattice is None:
        return None
    arcs = (replace(a, start_ms=a.start_ms + offset_ms, end_ms=a.end_ms + offset_ms) for a in lattice.arcs)
    return replace(lattice, arcs=tuple(arcs))


def _hypotheses(outcome: Outcome | None) -> tuple[Hypothesis, ...] | None:
    return None if outcome is None else outcome.transcript.hypotheses


def _nobody(_: Event) -> None:
    raise AssertionError("a decoder that is not open has no events")
