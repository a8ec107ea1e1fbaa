"""A stream's way in: samples to frames, frames to utterances, utterances to what the device is to do. Knows no words:
results go on to partials.py and finals.py, and none comes back here."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from parley.decoder.engine.buffer import BLOCK_FRAMES
from parley.decoder.engine.outlet import Move, State
from parley.decoder.engine.work import Job, Whole, Work
from parley.decoder.speech.endpoint import Step
from parley.decoder.speech.vad import FRAME, FRAME_MS
from parley.decoder.values import NoSpeech, SpeechBegin, SpeechEnd

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from parley.decoder.engine.buffer import AudioBuffer
    from parley.decoder.engine.finals import Finals
    from parley.decoder.engine.live import LivePass
    from parley.decoder.engine.outlet import Outlet
    from parley.decoder.engine.pace import Pace
    from parley.decoder.engine.partials import PartialResults
    from parley.decoder.engine.plan import Plan
    from parley.decoder.engine.worker import DeviceWorker
    from parley.decoder.speech.endpoint import Endpointer, Utterance
    from parley.decoder.speech.vad import Vad

NOTHING = np.empty(0, np.int16)
SHORTEST_SPEECH = 100 // FRAME_MS  # frames; less is a click


@dataclass(slots=True, eq=False)
class Intake:
    """Fed from one thread, without the device's lock: it takes it for what both threads touch, and not while it hears
    whether there is speech. live: if the plan has it."""

    plan: Plan
    worker: DeviceWorker
    owner: int
    vad: Vad
    audio: AudioBuffer
    endpointer: Endpointer
    pace: Pace
    live: LivePass | None
    partials: PartialResults
    finals: Finals
    outlet: Outlet
    _carry: NDArray[np.int16] = field(default_factory=lambda: NOTHING)  # the part of a frame that has come
    _segment: int = 0  # of the open utterance, or of the next

    def accept(self, samples: NDArray[np.int16]) -> None:
        """Takes the next samples (n,), any n."""
        if len(self._carry):
            samples = np.concatenate((self._carry, samples))
        whole = len(samples) // FRAME * FRAME
        for at in range(0, whole, BLOCK_FRAMES * FRAME):
            self._accept_frames(samples[at : min(at + BLOCK_FRAMES * FRAME, whole)])
        self._carry = samples[whole:].copy() if whole < len(samples) else NOTHING
        with self.worker.lock:
            if self.live is not None:
                self.live.feed()
            elif self.partials.due():
                self._ask_for_partial()

    def finalize(self) -> None:
        """Ends the open utterance now; a frame begun stays for the next one."""
        with self.worker.lock:
            if self.outlet.state is State.UTTERANCE:
                self._end_utterance(self.endpointer.close())

    def finish(self) -> None:
        """No more audio comes."""
        with self.worker.lock:
            if not self.outlet.listening:
                return
            if len(self._carry):  # the last word's end may lie in it
                last = np.zeros(FRAME, np.int16)
                last[: len(self._carry)] = self._carry
                self._accept_frames(last)
            self.finalize()
            self.finals.drain()

    def _accept_frames(self, samples: NDArray[np.int16]) -> None:
        """Takes whole frames, BLOCK_FRAMES at most."""
        if not self.outlet.listening:
            return
        if not self.audio.append(samples):
            self._make_space(samples)
        heard = self.vad.accept(samples.tobytes())
        with self.worker.lock:  # the device's thread reads the state and the cursors: they change in one
            for speech, onset in heard:
                if not self.outlet.listening:
                    return
                self._accept_frame(speech, onset)

    def _make_space(self, samples: NDArray[np.int16]) -> None:
        """Of frames that nobody can want any more, for these."""
        with self.worker.lock:  # the device's thread takes chunks from there
            needed = self.endpointer.start if self.live is None else self.live.needed
            self.audio.forget(needed)
            if not self.audio.append(samples):
                held_ms = (self.endpointer.frames - needed) * FRAME_MS
                raise BufferError(f"audio came although has_room is False: {held_ms} ms of it are held")

    def _accept_frame(self, speech: bool, onset: int) -> None:
        endpointer, outlet = self.endpointer, self.outlet
        step, closed = endpointer.accept(speech, onset, self.audio.energies)
        if step is Step.BEGIN:
            outlet.move(Move.BEGIN)
            self.partials.wait()
            if self.live is not None:
                self.live.begin(self._segment, endpointer.start)
            outlet.send(SpeechBegin(outlet.channel, endpointer.speech_start * FRAME_MS))
        elif step is Step.NO_SPEECH:
            outlet.send(NoSpeech(outlet.channel, endpointer.frames * FRAME_MS))
            if self.plan.single_utterance:
                self.finals.drain()
        elif closed is not None:
            self._end_utterance(closed)
        if self.live is not None and endpointer.open:
            self.live.settle()

    def _end_utterance(self, closed: Utterance) -> None:
        """Sends a closed utterance to the device and goes on with what follows it."""
        spoken = closed.spoken >= SHORTEST_SPEECH
        if not closed.cut:
            self.outlet.move(Move.END)
            self.outlet.send(SpeechEnd(self.outlet.channel, closed.speech_end * FRAME_MS))
        self.partials.wait()
        segment, self._segment = self._segment, self._segment + spoken
        if self.live is not None:
            self.live.close(closed, spoken)
            if closed.cut:
                self.live.begin(self._segment, closed.end)
        if not spoken:
            self.finals.advance()
            return
        self._want_final(segment, closed)
        if self.live is not None:
            self.live.feed()
        if self.plan.single_utterance and not closed.cut:
            self.finals.drain()

    def _want_final(self, segment: int, closed: Utterance) -> None:
        """Its words are to come. Its audio is copied once, for the device and for stages."""
        whole, keeps = self.plan.whole is not None, self.plan.keeps_audio
        samples = self._samples(closed.start, closed.end) if whole or keeps else NOTHING
        self.finals.add(segment, closed, samples if keeps else None)
        if whole:
            self._ask_for_final(segment, samples)

    def _ask_for_final(self, segment: int, samples: NDArray[np.int16]) -> None:
        plan, finals, now = self.plan, self.finals, time.monotonic()
        waits = plan.recording or self.pace.in_a_hurry(self.endpointer.frames * FRAME_MS, now)
        job = Job(
            self.owner,
            Work.FILE if waits else Work.FINAL,
            self._whole(samples, plan.readings, plan.word_times),
            done=lambda outcome: finals.on_whole(segment, outcome),
            failed=lambda error: finals.on_failed(segment, error),
            late=lambda: finals.on_late(segment),
            deadline=math.inf if waits else now + plan.budget_s,
        )
        self.worker.submit(job)

    def _ask_for_partial(self) -> None:
        partials, segment = self.partials, self._segment
        start, end = self.endpointer.start, self.endpointer.frames
        job = Job(
            self.owner,
            Work.PARTIAL,
            self._whole(self._samples(start, end), readings=1, word_times=False),
            done=lambda outcome: partials.of_whole(segment, start, end, outcome.transcript),
            failed=self.finals.fail,
        )
        self.worker.submit(job)

    def _whole(self, samples: NDArray[np.int16], readings: int, word_times: bool) -> Whole:
        """An utterance to be decoded whole."""
        assert self.plan.whole is not None
        return Whole(
            samples=samples,
            by=self.plan.whole,
            beam=readings,
            word_times=word_times,
            wishes=self.plan.wishes,
        )

    def _samples(self, start: int, end: int) -> NDArray[np.int16]:
        """Of frames [start, end), for others to keep and not to change."""
        samples: NDArray[np.int16] = self.audio.read(start * FRAME, end * FRAME).copy()
        samples.setflags(write=False)
        return samples
