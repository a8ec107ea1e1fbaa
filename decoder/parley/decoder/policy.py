"""Which model a request gets, and the plan of its streams. Knows names, options and what this node has; no device and
no audio. Of stages it asks which a request wants, of the search what it may wish for."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from parley.decoder.engine.plan import Partials, Plan
from parley.decoder.engine.transcribe import FILE_RULES
from parley.decoder.errors import InvalidOption, UnknownModel
from parley.decoder.speech.vad import FRAME_MS
from parley.decoder.values import Passes, SearchOptions, StreamOptions

if TYPE_CHECKING:
    from collections.abc import Mapping

    from parley.decoder.config import RecognizerConfig
    from parley.decoder.engine.staging import StageWorker
    from parley.decoder.model_folder import ModelInfo
    from parley.decoder.search.ctc import Wishes
    from parley.decoder.search.wishes import Weights, WishMaker

SEAM_BEST = 8  # readings of a recording's segment, of which the words before it choose
NO_SEARCH = "none: nothing here searches; a first pass by beams or lattices does, with its model named"


def plan_of(
    passes: Passes,
    options: StreamOptions,
    *,
    recording: bool = False,
    wishes: Wishes | None = None,
    partial_interval_ms: int,
    final_budget_ms: int,
    stages: tuple[StageWorker, ...] = (),
) -> Plan:
    """What streams of these passes do, or of those that the options name. partial_interval_ms: 0 for none.
    final_budget_ms: for the second pass where there are both; 0: any time."""
    passes = options.passes or passes
    live = passes is not Passes.SECOND and not recording  # a recording is decoded whole, of both passes by the second
    by_lattice = wishes is not None and wishes.graph is not None
    partials = Partials.NONE
    if options.interim_results and partial_interval_ms:
        partials = Partials.CHUNKS if live else Partials.WHOLE
    whole: Passes | None = Passes.FIRST if passes is Passes.FIRST else Passes.SECOND
    if live and passes is Passes.FIRST and not by_lattice:
        whole = None
    searched = whole is Passes.FIRST and wishes is not None
    return Plan(
        live=live,
        whole=whole,
        rules=options.rules,
        falls_back=live and not options.search.grammar,  # nothing but what the grammar says may be heard
        budget_s=final_budget_ms / 1000 if live and final_budget_ms else math.inf,
        recording=recording,
        partials=partials,
        partial_frames=partial_interval_ms // FRAME_MS,
        wishes=wishes,
        readings=max(options.max_alternatives, SEAM_BEST if searched else 1),
        in_context=searched and not live and not by_lattice,
        alternatives=options.max_alternatives,
        word_times=options.word_times,
        single_utterance=options.single_utterance,
        stages=stages,
        language=options.language,
    )


@dataclass(frozen=True, slots=True)
class SearchFigures:
    """ngrams: of the language model, how many of each order; () without one. hotwords: phrases of the recognizer's
    own."""

    ngrams: tuple[int, ...]
    language_model_bytes: int
    hotwords: int
    weights: Weights

    @classmethod
    def of(cls, maker: WishMaker) -> SearchFigures:
        model = maker.sources.language_model
        return cls(model.counts, model.file_bytes, len(maker.sources.phrases), maker.weights)


class Policy:
    def __init__(
        self,
        config: RecognizerConfig,
        models: Mapping[Passes, ModelInfo],
        wish_maker: WishMaker | None,
        stages: tuple[StageWorker, ...],
    ) -> None:
        """models: by pass. wish_maker: of the first pass's search, if it has one but best path. stages: of which a
        request's results go through those that it wants, in this order."""
        self._config, self._by_pass, self._wish_maker, self._stages = config, models, wish_maker, stages
        # The first is the default: finals are its words.
        self.models = tuple(models[by] for by in (Passes.SECOND, Passes.FIRST) if by in models)

    def find_model(self, name: str, language: str) -> tuple[ModelInfo, Passes]:
        """The model of that name if it knows the language ("": any; "en-US" is "en"), and the passes it means.

        "": what the config says; its name is then that of the model that finals are from. A model asked for by name
        decodes alone. Raises UnknownModel.
        """
        passes = {model.name: by for by, model in self._by_pass.items()}
        if name not in ("", *passes):
            raise UnknownModel("model", name, tuple(passes))
        wanted = [model for model in self.models if name in ("", model.name)]
        for info in wanted:
            if language and language.lower().split("-")[0] not in {known.lower() for known in info.languages}:
                raise UnknownModel("language", language, info.languages)
        info = wanted[0]
        return info, passes[name] if name else self._config.passes

    def plan(self, options: StreamOptions, *, recording: bool = False) -> Plan:
        """Raises InvalidOption for a search that the passes do not have."""
        if recording:
            options = replace(options, rules=FILE_RULES, interim_results=False)
        passes = options.passes or self._config.passes
        return plan_of(
            passes,
            options,
            recording=recording,
            wishes=self._wishes(passes, options.search, recording),
            partial_interval_ms=self._config.partial_interval_ms,
            final_budget_ms=self._config.final_budget_ms,
            stages=tuple(worker for worker in self._stages if worker.stage.wanted(options)),
        )

    def reload(self) -> None:
        """Reads what wishes are made of anew, for plans from now on. Raises ModelError, and then all is as it was."""
        if self._wish_maker is not None:
            self._wish_maker.reload()

    @property
    def search(self) -> SearchFigures | None:
        """What new requests' searches go by; None if there are none but best path."""
        return None if self._wish_maker is None else SearchFigures.of(self._wish_maker)

    def _wishes(self, passes: Passes, search: SearchOptions, recording: bool) -> Wishes | None:
        # With both passes the first gives a live call its interim results, and a recording nothing.
        if self._wish_maker is None or passes is Passes.SECOND or (passes is Passes.BOTH and recording):
            if search.hotwords:
                raise InvalidOption("options.search.hotwords", f"{len(search.hotwords)} phrases", NO_SEARCH)
            if search != SearchOptions():
                raise InvalidOption("options.search", "options", NO_SEARCH)
            return None
        if passes is Passes.BOTH and (search.grammar or search.lattice):
            field = "options.search.grammar" if search.grammar else "options.search.lattice"
            raise InvalidOption(field, "one", "none where finals are the second pass's: name the first pass's model")
        wishes = self._wish_maker.wishes(search)
        wanted = self._config.lattice_finals or search.grammar or search.lattice
        if passes is Passes.BOTH or not (recording or wanted):
            wishes = replace(wishes, graph=None)
        return wishes
