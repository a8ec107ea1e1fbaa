"""What in a beam search suits a model, from its model.toml. Knows names and defaults, not the search."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from parley.decoder.model_folder import ModelFolder


@dataclass(frozen=True, slots=True)
class BeamSettings:
    """What suits a model; of model.toml's [search]. blank_penalty: natural logarithm taken off every blank, where there
    is a language model, for a network that is too sure of silence. language_weight, word_bonus: unless a request says
    otherwise. unknown_word: log-probability of a word that the language model does not have. token_beam: how much less
    likely than a frame's best a token may be; tokens: that are tried in a frame, at most. score_beam: how much worse
    than the best a hypothesis may be."""

    blank_penalty: float = 0.0
    language_weight: float = 0.5
    word_bonus: float = 1.0
    unknown_word: float = -20.0
    token_beam: float = 8.0
    tokens: int = 16
    score_beam: float = 14.0


RANGES: dict[str, tuple[float, float]] = {
    "blank_penalty": (-20, 20),
    "language_weight": (0, 5),
    "word_bonus": (-10, 10),
    "unknown_word": (-100, 0),
    "token_beam": (0, 1_000),
    "tokens": (1, 1_000),
    "score_beam": (0, 1_000),
}


def beam_settings(folder: ModelFolder) -> BeamSettings:
    """Of model.toml's [search]; what is not there has its default. Raises ModelError."""
    given = folder.value("search", dict) if "search" in folder.config else {}
    kinds = {field.name: int if field.name == "tokens" else float for field in fields(BeamSettings)}
    for name in given:
        if name not in kinds:
            raise folder.fault(f"search.{name}: no such setting, expected one of {', '.join(kinds)}")
    values: dict[str, Any] = {name: folder.value(name, kinds[name], "search") for name in given}
    for name, value in values.items():
        low, high = RANGES[name]
        if not low <= value <= high:
            raise folder.fault(f"search.{name}: got {value!r}, expected {low} to {high}")
    return BeamSettings(**values)
