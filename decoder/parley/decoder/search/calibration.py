"""What a search's own figures are worth as chances. Knows logistic functions, fitted to a model; no words, no tokens.

The coefficients stand in a model's model.toml, and `python -m scripts.calibrate` finds them. Without any the figures go
out as they are.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from parley.decoder.model_folder import ModelFolder

SURE = 1 - 1e-4  # a posterior is never nearer to 0 or 1: what the beam has dropped is not counted in it
LONG_QUIET = 25  # frames of silence behind a word, from which on more of it says no more


@dataclass(frozen=True, slots=True)
class Calibration:
    """Each the coefficients of a logistic function, the constant first, or () for none.

    confidence: of the log-odds of a word's posterior, its mean log-probability a token, its tokens, and whether the
    language model knows it. stability: of the log-odds of the best hypothesis's posterior, the frames behind its last
    token, its words, and whether the last word is known.
    """

    confidence: tuple[float, ...] = ()
    stability: tuple[float, ...] = ()

    @classmethod
    def read(cls, folder: ModelFolder) -> Calibration:
        """Of model.toml's [calibration], if there is one. Raises ModelError."""
        if "calibration" not in folder.config:
            return cls()
        return cls(*(folder.numbers(name, 5, "calibration") for name in ("confidence", "stability")))

    def confidence_of(self, posterior: float, mean_log_prob: float, tokens: int, known: bool) -> float:
        """0..1, the chance that a word is right."""
        if not self.confidence:
            return posterior
        return _logistic(self.confidence, confidence_figures(posterior, mean_log_prob, tokens, known))

    def stability_of(self, posterior: float, quiet: int, words: int, known: bool) -> float:
        """0..1, the chance that words so far stay as they are; 0: not known."""
        if not self.stability:
            return 0.0
        return _logistic(self.stability, stability_figures(posterior, quiet, words, known))


def confidence_figures(posterior: float, mean_log_prob: float, tokens: int, known: bool) -> tuple[float, ...]:
    return _log_odds(posterior), mean_log_prob, math.log(tokens), float(known)


def stability_figures(posterior: float, quiet: int, words: int, known: bool) -> tuple[float, ...]:
    return _log_odds(posterior), min(quiet, LONG_QUIET) / LONG_QUIET, math.log(words), float(known)


def _log_odds(chance: float) -> float:
    bounded = min(max(chance, 1 - SURE), SURE)
    return math.log(bounded / (1 - bounded))


def _logistic(coefficients: tuple[float, ...], figures: tuple[float, ...]) -> float:
    constant, *slopes = coefficients
    x = constant + sum(map(float.__mul__, slopes, figures))
    return 0.5 + 0.5 * math.tanh(x / 2)  # which no x is too large for
