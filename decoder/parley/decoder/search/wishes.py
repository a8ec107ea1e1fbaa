"""What requests' searches are made of: the language model, the hotwords, their weights. Knows files, no search itself.

The language model and the recognizer's own hotwords can be read anew while calls run: utterances of requests that were
there before go on with the old ones, whose memory is free when the last such request has ended.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from parley.decoder.errors import InvalidOption, ModelError
from parley.decoder.search.ctc import Wishes
from parley.decoder.search.hotwords import Automaton, automaton
from parley.decoder.search.language_model import LanguageModel, no_language_model
from parley.decoder.values import MOST_PHRASES, Phrase

if TYPE_CHECKING:
    from pathlib import Path

    from parley.decoder.values import SearchOptions

NO_LATTICES = 'none: only a node with search = "k2" has lattices and grammars'


@dataclass(frozen=True, slots=True)
class Weights:
    """Unless a request says otherwise; see SearchOptions."""

    beam: int
    language_weight: float
    word_bonus: float


@dataclass(frozen=True, slots=True, eq=False)
class Sources:
    """Read together, replaced together. phrases: the recognizer's own hotwords."""

    language_model: LanguageModel
    phrases: tuple[Phrase, ...]
    hotwords: Automaton


class WishMaker:
    def __init__(
        self, weights: Weights, language_model: Path | None, hotwords: Path | None, graphs: tuple[str, ...] = ()
    ) -> None:
        """graphs: names of what lattices are searched over, the usual one first; none: there are no lattices. Raises
        ModelError if a file is not what it should be."""
        self.weights, self._language_model, self._hotwords = weights, language_model, hotwords
        self._graphs = graphs
        self.sources = self._read()

    def reload(self) -> None:
        """Reads the files anew, for requests from now on. Raises ModelError, and then all is as it was."""
        self.sources = self._read()

    def _read(self) -> Sources:
        model = no_language_model() if self._language_model is None else LanguageModel.read(self._language_model)
        phrases = () if self._hotwords is None else read_phrases(self._hotwords)
        return Sources(model, phrases, automaton(phrases, model.lower))

    def wishes(self, options: SearchOptions) -> Wishes:
        """A request's, for all its utterances. Raises InvalidOption."""
        sources, ours = self.sources, self.weights  # once: it may be replaced meanwhile
        if options.language_weight and not (sources.language_model.order or self._graphs):
            expected = "0: no language model is loaded"
            raise InvalidOption("options.search.language_weight", options.language_weight, expected)
        graph = self._graph(options)
        hotwords = sources.hotwords
        if options.hotwords:
            hotwords = automaton((*sources.phrases, *options.hotwords), sources.language_model.lower)
        return Wishes(
            sources.language_model,
            hotwords,
            beam=ours.beam if options.beam is None else options.beam,
            language_weight=ours.language_weight if options.language_weight is None else options.language_weight,
            word_bonus=ours.word_bonus if options.word_bonus is None else options.word_bonus,
            graph=graph,
            lattice=options.lattice,
        )

    def _graph(self, options: SearchOptions) -> str | None:
        if not self._graphs:
            if options.grammar:
                raise InvalidOption("options.search.grammar", repr(options.grammar), NO_LATTICES)
            if options.lattice:
                raise InvalidOption("options.search.lattice", "true", NO_LATTICES)
            return None
        if options.grammar and options.grammar not in self._graphs:
            raise InvalidOption("options.search.grammar", repr(options.grammar), f"one of {', '.join(self._graphs)}")
        return options.grammar or self._graphs[0]


def read_phrases(path: Path) -> tuple[Phrase, ...]:
    """A phrase a line, behind a tab its boost if it is to have another than the usual; `#` begins a comment line.
    Raises ModelError."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"{path}: not a readable list of hotwords: {error}") from None
    phrases = []
    for number, line in enumerate(lines, 1):
        text, tab, boost = line.partition("\t")
        if not text.strip() or text.startswith("#"):
            continue
        try:
            phrases.append(Phrase(text.strip(), float(boost)) if tab else Phrase(text.strip()))
        except InvalidOption as error:
            raise ModelError(f"{path}: line {number}: got {error.found}, expected {error.expected}") from None
        except ValueError as error:
            raise ModelError(f"{path}: line {number}: {error}") from None
    if len(phrases) > MOST_PHRASES:
        raise ModelError(f"{path}: got {len(phrases)} phrases, expected at most {MOST_PHRASES}")
    return tuple(phrases)
