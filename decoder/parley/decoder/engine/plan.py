"""What a request's streams do: all that they read of its options and of the node's config. Made once a request, by
policy.py. Values, and beside them the stages at work, which it hands on; models only by name."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from parley.decoder.engine.staging import StageWorker
    from parley.decoder.search.ctc import Wishes
    from parley.decoder.values import EndpointRules, Passes


class Partials(enum.Enum):
    """What the words of an open utterance are from."""

    NONE = enum.auto()
    CHUNKS = enum.auto()  # what the first pass has heard so far
    WHOLE = enum.auto()  # the utterance so far, decoded as if it were over


@dataclass(frozen=True, slots=True)
class Plan:
    """live: utterances go through the first pass's model as they come, chunk by chunk. whole: the model that decodes
    them when they are over, FIRST or SECOND; None: the live words are the final's. At least one of the two it is.

    falls_back: where there are both, the live words take the place of those that fail or are late. budget_s: for a live
    call's whole utterances, from their end on. recording: a file, whose segments wait as such.

    partials: interim results. partial_frames: of the VAD, between two by whole utterances at least. wishes: of the
    first pass's search. readings: asked of a whole utterance, of which `alternatives` are told; in_context: which of
    them, the words before the utterance decide, for it was searched without. rules, single_utterance: of its end.
    stages: that results go through, in this order, in this language.
    """

    live: bool
    whole: Passes | None
    rules: EndpointRules
    falls_back: bool = False
    budget_s: float = float("inf")
    recording: bool = False
    partials: Partials = Partials.NONE
    partial_frames: int = 0
    wishes: Wishes | None = None
    readings: int = 1
    in_context: bool = False
    alternatives: int = 1
    word_times: bool = True
    single_utterance: bool = False
    stages: tuple[StageWorker, ...] = ()
    language: str = ""

    @property
    def keeps_audio(self) -> bool:
        """Whether a stage needs that of finals."""
        return any(worker.stage.traits.needs_audio for worker in self.stages)
