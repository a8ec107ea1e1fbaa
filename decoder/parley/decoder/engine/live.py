"""A stream's utterances through the first pass while they are spoken: one chunk after the other to the device, what it
has heard back. Knows which chunk is out, not which is due (chunker.py), nor what becomes of the words."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from parley.decoder.engine.buffer import BLOCK_FRAMES, HELD_FRAMES, LAG_FRAMES
from parley.decoder.engine.work import Job, Outcome, Work
from parley.decoder.speech.vad import FRAME_MS
from parley.decoder.text.merge import own
from parley.decoder.values import MOST_CONTEXT, Transcript

if TYPE_CHECKING:
    from collections.abc import Sequence

    from parley.decoder.engine.buffer import AudioBuffer
    from parley.decoder.engine.chunker import Chunker, Spoken
    from parley.decoder.engine.finals import Finals
    from parley.decoder.engine.outlet import Outlet
    from parley.decoder.engine.pace import Pace
    from parley.decoder.engine.partials import PartialResults
    from parley.decoder.engine.plan import Plan
    from parley.decoder.engine.worker import DeviceWorker
    from parley.decoder.models.acoustic import Chunk
    from parley.decoder.speech.endpoint import Endpointer, Utterance
    from parley.decoder.values import Hypothesis


@dataclass(slots=True, eq=False)
class LivePass:
    """With the device's lock held: by the feeding thread, and by the device's in `_on_chunk`, which sends the next
    chunk at once: so a stream has one on the device as long as it has any to give."""

    plan: Plan
    worker: DeviceWorker
    owner: int
    chunker: Chunker
    audio: AudioBuffer
    endpointer: Endpointer  # only its cursors are read
    pace: Pace
    partials: PartialResults
    finals: Finals
    outlet: Outlet
    _outstanding: bool = False  # a chunk is on the device
    _heard: Outcome | None = None  # of the current utterance, so far
    _before: tuple[str, ...] = ()  # the last words of what is over: a language model goes on from them

    def begin(self, segment: int, start: int) -> None:
        """An utterance is open, from this frame on."""
        self.chunker.begin(segment, start)

    def settle(self) -> None:
        """The endpointer has taken a frame of the open utterance."""
        self.chunker.settle(self.endpointer.settled)

    def close(self, closed: Utterance, spoken: bool) -> None:
        """The open utterance is over. spoken: else it was none."""
        if spoken:
            if not closed.cut:
                self.chunker.settle(closed.end)
            self.chunker.close(closed.end)
        else:
            self.chunker.drop()
            if self.chunker.current is None:
                self._next_utterance()

    @property
    def has_room(self) -> bool:
        """False while enough audio waits for the device."""
        held = self.endpointer.frames - self.needed
        return self.chunker.waiting <= LAG_FRAMES and held <= HELD_FRAMES - BLOCK_FRAMES

    @property
    def needed(self) -> int:
        """The first frame that may still be asked for."""
        waiting, start = self.chunker.needed, self.endpointer.start
        return start if waiting is None else min(waiting, start)

    def feed(self) -> None:
        """Sends the next chunk to the device, if it is due and none is there; passes on what the first pass is through
        with."""
        while (spoken := self.chunker.current) is not None and not self._outstanding:
            chunk = self.chunker.take(self.audio.read)
            if chunk is not None:
                self._submit(spoken, chunk)
            elif not self.chunker.through:
                return
            else:
                self.chunker.pop()
                self._pass_on(spoken.segment)

    def _submit(self, spoken: Spoken, chunk: Chunk) -> None:
        self._outstanding = True
        if chunk.index == 0 and self.plan.wishes is not None:
            chunk = replace(chunk, wishes=replace(self.plan.wishes, before=self._before))
        hurry = self.pace.in_a_hurry(self.endpointer.frames * FRAME_MS, time.monotonic())
        job = Job(
            owner=self.owner,
            work=Work.CATCH_UP if hurry else Work.CHUNK,
            task=chunk,
            done=lambda outcome: self._on_chunk(spoken, outcome),
            failed=self.finals.fail,
            urgent=spoken.limit is not None,  # a final waits for it
        )
        self.worker.submit(job)

    def _on_chunk(self, spoken: Spoken, outcome: Outcome) -> None:
        if self.outlet.over:
            return
        had_room = self.has_room and self.finals.has_room
        self._outstanding = False
        if spoken is self.chunker.current:  # and not dropped meanwhile
            self._heard = outcome
            if spoken.limit is None:
                self.partials.of_chunks(spoken, outcome.transcript)
        self.feed()
        if not had_room and self.has_room and self.finals.has_room:
            self.finals.advance()

    def _pass_on(self, segment: int) -> None:
        """The first pass is through with an utterance."""
        outcome = Outcome(Transcript(()), 0.0, 0)
        if self._heard is not None:
            # Nothing of the slot is on the device now, so this thread may ask.
            said = self.worker.finish(self.chunker.slot, self.plan.alternatives)
            outcome = replace(self._heard, transcript=said)
            self._go_on_from(own(said.hypotheses[:1], self.finals.utterance(segment)))
        self._next_utterance()
        self.finals.on_chunked(segment, outcome)

    def _go_on_from(self, best: Sequence[Hypothesis]) -> None:
        words = best[0].text.split() if best else []
        self._before = (*self._before, *words)[-MOST_CONTEXT:]

    def _next_utterance(self) -> None:
        self._heard = None
        self.partials.forget()
