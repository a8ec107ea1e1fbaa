"""A stream's interim results: when one is due, and whether it is still true when it comes. Knows no final."""

from __future__ import annotations

from typing import TYPE_CHECKING

from parley.decoder.engine.outlet import State
from parley.decoder.engine.plan import Partials
from parley.decoder.speech.vad import FRAME_MS
from parley.decoder.text.times import placed
from parley.decoder.values import Partial

if TYPE_CHECKING:
    from parley.decoder.engine.chunker import Spoken
    from parley.decoder.engine.outlet import Outlet
    from parley.decoder.engine.plan import Plan
    from parley.decoder.engine.staging import Staging
    from parley.decoder.speech.endpoint import Endpointer
    from parley.decoder.text.stage import Result
    from parley.decoder.values import Hypothesis, Transcript


class PartialResults:
    """With the device's lock held."""

    def __init__(self, plan: Plan, endpointer: Endpointer, staging: Staging, outlet: Outlet) -> None:
        """endpointer: only its cursors are read."""
        self._plan, self._endpointer, self._staging, self._outlet = plan, endpointer, staging, outlet
        self._every = plan.partial_frames if plan.partials is Partials.WHOLE else None  # frames between two
        self._asked = 0  # frames at the last one asked for
        self._shown = ""  # of the utterance in the first pass

    def wait(self) -> None:
        """An utterance begins: the next one is due an interval from now."""
        self._asked = self._endpointer.frames

    def due(self) -> bool:
        """Whether the open utterance is to be decoded as it is; then it is taken as asked for."""
        frames = self._endpointer.frames
        if self._every is None or frames - self._asked < self._every or self._outlet.state is not State.UTTERANCE:
            return False
        self._asked = frames
        return True

    def of_whole(self, segment: int, start: int, end: int, transcript: Transcript) -> None:
        """Of frames [start, end), decoded whole."""
        if transcript.hypotheses:
            self._send(segment, start, end, transcript.hypotheses[0])

    def of_chunks(self, spoken: Spoken, transcript: Transcript) -> None:
        """Of what the first pass has of its open utterance; sent if the words are new."""
        if self._plan.partials is not Partials.CHUNKS or not transcript.hypotheses:
            return
        hypothesis = transcript.hypotheses[0]
        if hypothesis.text != self._shown:
            self._shown = hypothesis.text
            self._send(spoken.segment, spoken.start, spoken.start + spoken.fed, hypothesis)

    def forget(self) -> None:
        """The first pass is at another utterance."""
        self._shown = ""

    def _send(self, segment: int, start: int, end: int, hypothesis: Hypothesis) -> None:
        start_ms, end_ms = start * FRAME_MS, end * FRAME_MS
        said = placed(hypothesis, start_ms, word_times=self._plan.word_times)
        result = Partial(self._outlet.channel, segment, start_ms, end_ms, said, hypothesis.stability)
        self._staging.send(result, None, self._on_staged)

    def _on_staged(self, result: Result | None) -> None:
        """It is dropped if its utterance is over."""
        open_ms = self._endpointer.start * FRAME_MS
        if isinstance(result, Partial) and self._outlet.state is State.UTTERANCE and result.start_ms == open_ms:
            self._outlet.send(result)
