"""What the passes made of a stream's utterances, to finals: which are ready, in order. Knows no device: it is told what
has come, or will not, and sends events, behind the stages if there are any; nothing of it goes back."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from parley.decoder.engine.outlet import Move
from parley.decoder.speech.vad import FRAME_MS
from parley.decoder.text.merge import decide
from parley.decoder.text.times import placed, placed_lattice
from parley.decoder.values import MOST_CONTEXT, Advanced, Final

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from parley.decoder.engine.outlet import Outlet
    from parley.decoder.engine.plan import Plan
    from parley.decoder.engine.staging import Staging
    from parley.decoder.engine.work import Outcome
    from parley.decoder.speech.endpoint import Endpointer, Utterance
    from parley.decoder.text.stage import Result
    from parley.decoder.values import Hypothesis

PENDING_FINALS = 2  # utterances of a live stream that may wait for the device before its client is held back
PENDING_SEGMENTS = 16  # likewise of a recording: enough to sort by length


@dataclass(slots=True)
class _Pending:
    """A closed utterance whose words are not sent yet; they may wait for the utterances before it. audio: for stages
    that need it. chunked, whole: what the first pass made of its chunks, and either pass of it whole. late: the whole
    one will not be waited for. final: behind the stages, if it has words; is_through: it is there, or there is none."""

    utterance: Utterance
    audio: NDArray[np.int16] | None
    since: float
    chunked: Outcome | None = None
    whole: Outcome | None = None
    late: bool = False
    final: Final | None = None
    is_through: bool = False


class Finals:
    """With the device's lock held: by the feeding thread, the device's or a stage's."""

    def __init__(self, plan: Plan, endpointer: Endpointer, staging: Staging, outlet: Outlet) -> None:
        """endpointer: only its cursors are read."""
        self._plan, self._endpointer, self._staging, self._outlet = plan, endpointer, staging, outlet
        self._pending: dict[int, _Pending] = {}  # by segment
        self._undecided = 0  # segment whose words are to be decided next
        self._next = 0  # segment that is to be sent next
        self._before: tuple[str, ...] = ()  # the last words of what is over, if readings are chosen by them
        self._error: Exception | None = None  # that the stream ends with

    @property
    def has_room(self) -> bool:
        """False while enough utterances wait for the device."""
        return len(self._pending) < (PENDING_SEGMENTS if self._plan.recording else PENDING_FINALS)

    @property
    def final_ms(self) -> int:
        """No final to come is of audio before this. Never falls."""
        if self._pending:
            return self._pending[self._next].utterance.start * FRAME_MS
        if self._outlet.listening:
            return self._endpointer.start * FRAME_MS  # in silence, what a word may begin in is not over yet
        return self._endpointer.frames * FRAME_MS

    def utterance(self, segment: int) -> Utterance:
        """One that was added and is not sent yet."""
        return self._pending[segment].utterance

    def add(self, segment: int, utterance: Utterance, audio: NDArray[np.int16] | None) -> None:
        """It has just ended; its words are to come. audio: if the plan keeps it."""
        self._pending[segment] = _Pending(utterance, audio, time.monotonic())

    def advance(self) -> None:
        """Tells how far the stream is: there was an utterance without words, or there is room again."""
        self._outlet.send(Advanced(self._outlet.channel, self.final_ms))

    def drain(self) -> None:
        """No more utterances come."""
        if self._outlet.move(Move.DRAIN):
            self._end_if_drained()

    def fail(self, error: Exception) -> None:
        """The stream cannot go on. What is decided is still sent, behind the stages, and Failed is the last."""
        self._error = self._error or error
        self._outlet.move(Move.DRAIN)
        self._end_if_drained()

    def on_chunked(self, segment: int, outcome: Outcome) -> None:
        """What the first pass heard, chunk by chunk."""
        self._pending[segment].chunked = outcome
        self._send_ready()

    def on_whole(self, segment: int, outcome: Outcome) -> None:
        if segment in self._pending:  # else it was too late
            self._pending[segment].whole = outcome
            self._send_ready()

    def on_late(self, segment: int) -> None:
        """The utterance's whole words will not be waited for."""
        if segment in self._pending:
            self._pending[segment].late = True
            self._send_ready()

    def on_failed(self, segment: int, error: Exception) -> None:
        """The utterance could not be decoded whole, or its words are here and could not be passed on."""
        pending = self._pending.get(segment)
        if self._plan.falls_back and (pending is None or pending.whole is None):
            self.on_late(segment)
        else:
            self.fail(error)

    def _send_ready(self) -> None:
        """Decides the words of utterances that are ready, in order, and sends them on."""
        while not self._is_over and (pending := self._pending.get(self._undecided)) and self._is_ready(pending):
            final = self._final(self._undecided, pending)
            self._undecided += 1
            if final.hypotheses:
                self._staging.send(final, pending.audio, partial(self._on_staged, pending))
            else:
                self._on_staged(pending, None)
        self._end_if_drained()

    def _on_staged(self, pending: _Pending, result: Result | None) -> None:
        """It is through the stages. Sends what is, in order: an utterance without words had nothing to do there."""
        pending.final, pending.is_through = result if isinstance(result, Final) else None, True
        while not self._outlet.over and (first := self._pending.get(self._next)) and first.is_through:
            if first.final is not None:
                self._outlet.send(replace(first.final, total_s=time.monotonic() - first.since))
            del self._pending[self._next]
            self._next += 1
            self.advance()
        self._end_if_drained()

    @property
    def _is_over(self) -> bool:
        """Nothing more is decided."""
        return self._error is not None or self._outlet.over

    def _end_if_drained(self) -> None:
        if self._error is None:
            if not self._pending:
                self._outlet.close()
        elif all(self._pending[segment].is_through for segment in range(self._next, self._undecided)):
            self._outlet.fail(self._error)

    def _is_ready(self, pending: _Pending) -> bool:
        chunked = pending.chunked is not None or not self._plan.live
        return chunked and (pending.whole is not None or pending.late or self._plan.whole is None)

    def _final(self, segment: int, pending: _Pending) -> Final:
        """The utterance's words; no hypotheses if it has none."""
        utterance, chunked, whole = pending.utterance, pending.chunked, pending.whole
        outcome = whole or chunked
        assert outcome is not None
        decided = decide(
            self._plan.whole,
            utterance,
            None if chunked is None else chunked.transcript.hypotheses,
            None if whole is None else self._chosen(whole.transcript.hypotheses),
        )
        start_ms = utterance.start * FRAME_MS
        return Final(
            channel=self._outlet.channel,
            segment=segment,
            start_ms=start_ms,
            end_ms=utterance.end * FRAME_MS,
            hypotheses=tuple(
                placed(hypothesis, start_ms, word_times=self._plan.word_times) for hypothesis in decided.hypotheses
            ),
            word_timing=decided.timing,
            source=decided.source,
            total_s=0.0,  # until it is sent
            queue_s=outcome.queue_s,
            batch_size=outcome.batch_size,
            lattice=placed_lattice(outcome.transcript.lattice, start_ms),
        )

    def _chosen(self, readings: tuple[Hypothesis, ...]) -> tuple[Hypothesis, ...]:
        """A whole utterance's n-best; of a recording's segments, which are searched side by side, behind the words
        before them."""
        wishes = self._plan.wishes
        if not self._plan.in_context or wishes is None:
            return readings[: self._plan.alternatives]
        from parley.decoder.search.seams import behind  # late: what it compiles with takes half a second and 50 MB

        readings = behind(self._before, readings, wishes)[: self._plan.alternatives]
        words = readings[0].text.split() if readings else []
        self._before = (*self._before, *words)[-MOST_CONTEXT:]
        return readings
