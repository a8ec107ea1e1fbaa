"""Decoder: all the state of one stream (one channel of a request). The unit that the pool lends.

Puts together what a stream is made of, and knows nothing of it. A stream's way in is intake.py: audio to utterances,
and those to the device; an open one chunk by chunk (live.py), a closed one whole, as its plan says. Its way back is
partials.py and finals.py, behind the stages if there are any (staging.py), and all of it leaves through outlet.py,
which has the table of states.

It is fed from one thread; results come on its device's thread, or on a stage's, under the device's lock, which also
guards what both sides touch.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from parley.decoder.engine.buffer import AudioBuffer
from parley.decoder.engine.chunker import Chunker
from parley.decoder.engine.finals import Finals
from parley.decoder.engine.intake import Intake
from parley.decoder.engine.live import LivePass
from parley.decoder.engine.outlet import Outlet, State
from parley.decoder.engine.pace import Pace
from parley.decoder.engine.partials import PartialResults
from parley.decoder.engine.staging import Staging
from parley.decoder.speech.endpoint import Endpointer
from parley.decoder.speech.vad import FRAME_MS, Vad

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from parley.decoder.engine.plan import Plan
    from parley.decoder.engine.worker import DeviceWorker
    from parley.decoder.models.acoustic import AcousticModel
    from parley.decoder.values import Sink


@dataclass(frozen=True, slots=True)
class _Stream:
    """The parts of an open stream that are asked from outside."""

    endpointer: Endpointer
    outlet: Outlet
    finals: Finals
    live: LivePass | None
    intake: Intake


class Decoder:
    def __init__(
        self, worker: DeviceWorker, slot: int, vad_aggressiveness: int, first_pass: AcousticModel | None = None
    ) -> None:
        """Allocates what outlives streams: the room for audio and the VAD. first_pass: the device's, if it has one."""
        self.slot, self.device = slot, worker.name
        self._worker, self._first_pass = worker, first_pass
        self._vad, self._audio = Vad(vad_aggressiveness), AudioBuffer()
        self._owner: int | None = None
        self._stream: _Stream | None = None

    def bind(self) -> None:
        """Called by the pool on lending: from here on the device delivers to this decoder."""
        self._owner = self._worker.bind()

    def reset(self) -> None:
        """Called by the pool on return: nothing of the stream is left, and nothing more of it will come."""
        owner, self._owner = self._owner, None
        if owner is not None:
            self._worker.unbind(owner, self.slot)
        if self._stream is not None:
            with self._worker.lock:
                self._stream.outlet.shut()
            self._stream = None
        self._vad.reset()
        self._audio.clear()

    def open(self, channel: int, plan: Plan, sink: Sink) -> None:
        """Begins a stream. `sink` gets its events from the feeding thread, the device's or a stage's, under the
        device's lock."""
        assert self._stream is None
        assert self._owner is not None
        endpointer, outlet, pace = Endpointer(plan.rules), Outlet(channel, sink), Pace(time.monotonic())
        worker, owner, audio = self._worker, self._owner, self._audio
        staging = Staging(plan.stages, plan.language, worker.lock, outlet)
        partials = PartialResults(plan, endpointer, staging, outlet)
        finals = Finals(plan, endpointer, staging, outlet)
        live = None
        if plan.live:
            assert self._first_pass is not None
            chunker = Chunker(self.slot, self._first_pass.shape, self._first_pass.chunks)
            live = LivePass(plan, worker, owner, chunker, audio, endpointer, pace, partials, finals, outlet)
        intake = Intake(plan, worker, owner, self._vad, audio, endpointer, pace, live, partials, finals, outlet)
        self._stream = _Stream(endpointer, outlet, finals, live, intake)

    def accept(self, samples: NDArray[np.int16]) -> None:
        """Takes the next samples `(n,)` at 16 kHz; any n."""
        if (stream := self._stream) is not None:  # read once: it may be reset meanwhile
            stream.intake.accept(samples)

    def finalize(self) -> None:
        """Ends the open utterance now; a frame begun stays for the next one."""
        if (stream := self._stream) is not None:
            stream.intake.finalize()

    def finish(self) -> None:
        """No more audio: ends the open utterance and, when all results are sent, the stream."""
        if (stream := self._stream) is not None:
            stream.intake.finish()

    @property
    def state(self) -> State:
        stream = self._stream
        return State.AWAITING_CONFIG if stream is None else stream.outlet.state

    @property
    def has_room(self) -> bool:
        """False while enough audio or enough utterances wait for the device."""
        stream = self._stream
        if stream is None:
            return True
        with self._worker.lock:
            return stream.finals.has_room and (stream.live is None or stream.live.has_room)

    @property
    def processed_ms(self) -> int:
        stream = self._stream
        return 0 if stream is None else stream.endpointer.frames * FRAME_MS

    @property
    def final_ms(self) -> int:
        """No final to come is of audio before this. Never falls."""
        stream = self._stream
        if stream is None:
            return 0
        with self._worker.lock:
            return stream.finals.final_ms
