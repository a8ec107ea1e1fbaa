"""Fits what a model's search says of itself to what came true: confidence of words, stability of interim results.

Every recording goes through the first pass chunk by chunk, as a call does, and whole, as a file does. The coefficients
are found on every other utterance and judged on those between; they go into the model's model.toml. Knows logistic
regression, and parley.decoder.search.calibration's figures.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import soundfile
from rich.progress import track

from parley.decoder.device import CPU
from parley.decoder.model_folder import ModelFolder
from parley.decoder.models.registry import load_acoustic_model
from parley.decoder.search.beam import Beam
from parley.decoder.search.calibration import Calibration, confidence_figures, stability_figures
from parley.decoder.search.ctc import Wishes
from parley.decoder.search.hotwords import automaton
from parley.decoder.search.language_model import LanguageModel
from parley.decoder.search.settings import beam_settings
from scripts.chunks import chunk_of, taken_whole
from scripts.reliability import kept, reliability, survival
from scripts.scoring import normalize

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import torch
    from numpy.typing import NDArray

RIDGE = 1e-3  # keeps coefficients finite where one figure decides alone
STEPS = 50
THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9)
CHUNK_MS = 320


@dataclass
class Figures:
    """Rows of figures, and by row whether it came true."""

    rows: list[tuple[float, ...]] = field(default_factory=list)
    true: list[bool] = field(default_factory=list)

    def arrays(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        rows = np.array(self.rows, np.float64)
        return np.concatenate((np.ones((len(rows), 1)), rows), 1), np.array(self.true, np.float64)


class Recorder:
    """Stands in for a search's Calibration, and keeps the figures that it is asked about."""

    def __init__(self) -> None:
        self.confidences: list[tuple[float, ...]] = []
        self.stabilities: list[tuple[float, ...]] = []

    def confidence_of(self, posterior: float, mean_log_prob: float, tokens: int, known: bool) -> float:
        self.confidences.append(confidence_figures(posterior, mean_log_prob, tokens, known))
        return 0.0

    def stability_of(self, posterior: float, quiet: int, words: int, known: bool) -> float:
        self.stabilities.append(stability_figures(posterior, quiet, words, known))
        return 0.0


class Listener:
    """One utterance after the other through a model and its search."""

    def __init__(self, folder: ModelFolder, language_model: LanguageModel, beam: int) -> None:
        self._model = load_acoustic_model(folder, CPU, 1, CHUNK_MS)
        settings = beam_settings(folder)
        self._recorder = Recorder()
        calibration = cast("Calibration", self._recorder)
        self._search = Beam(1, self._model.vocabulary, self._model.blank, settings, calibration)
        none = automaton((), language_model.lower)
        self._wishes = Wishes(language_model, none, beam, settings.language_weight, settings.word_bonus)

    def hear(
        self, pieces: Iterator[tuple[torch.Tensor, list[int]]], text: str, words: Figures, partials: Figures
    ) -> None:
        """pieces: log_probs and frames, as the model gives them."""
        self._search.begin(0, self._wishes)
        shown: list[tuple[list[str], tuple[float, ...]]] = []
        for log_probs, frames in pieces:
            self._search.advance([0], log_probs, frames)
            self._recorder.stabilities.clear()
            said = self._words(self._search.best(0).tokens)
            if said and self._recorder.stabilities and (not shown or said != shown[-1][0]):
                shown.append((said, self._recorder.stabilities[0]))
        self._recorder.confidences.clear()
        (best,) = self._search.n_best(0, 1)
        final = self._words(best.tokens)
        words.rows += self._recorder.confidences
        words.true += kept(normalize(text), final)
        for said, figures in shown:
            partials.rows.append(figures)
            partials.true.append(final[: len(said)] == said)

    def _words(self, tokens: Sequence[int]) -> list[str]:
        return [text for text, _ in self._model.vocabulary.words(tokens)]

    def chunks(self, samples: NDArray[np.int16]) -> Iterator[tuple[torch.Tensor, list[int]]]:
        for index in range(self._model.chunks(len(samples))):
            yield self._model.forward([chunk_of(self._model, 0, samples, index)])

    def whole(self, samples: NDArray[np.int16]) -> Iterator[tuple[torch.Tensor, list[int]]]:
        yield taken_whole(self._model, [samples])


def fit(figures: Figures) -> NDArray[np.float64]:
    """Logistic regression by Newton's method: the constant, then a coefficient a figure."""
    rows, true = figures.arrays()
    coefficients = np.zeros(rows.shape[1])
    for _ in range(STEPS):
        chance = chances(rows, coefficients)
        slope = rows.T @ (true - chance) - RIDGE * coefficients
        bend = (rows * (chance * (1 - chance))[:, None]).T @ rows + RIDGE * np.eye(len(coefficients))
        coefficients = coefficients + np.linalg.solve(bend, slope)
    return coefficients


def chances(rows: NDArray[np.float64], coefficients: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(1 / (1 + np.exp(-rows @ coefficients)))


def report(name: str, found: NDArray[np.float64], judged: dict[str, Figures]) -> None:
    print(f"{name} = [{', '.join(f'{value:.4f}' for value in found)}]")
    for source, figures in judged.items():
        pairs = list(zip(chances(figures.arrays()[0], found).tolist(), figures.true, strict=True))
        whole = reliability(pairs)
        print(f"  # {source}: {whole.count}, true {whole.share:.3f}, calibration error {whole.error:.3f}")
        shares = (
            f"{row.threshold}: {row.share:.3f} of {row.count}" for row in survival(pairs, THRESHOLDS) if row.share
        )
        print(f"  #   true of those said to be at least {'; '.join(shares)}")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m scripts.calibrate", description=__doc__)
    parser.add_argument("manifests", type=Path, nargs="+", metavar="MANIFEST", help="as scripts.wer takes them")
    parser.add_argument("--model", type=Path, default=Path("models/en-streaming"), help="default: %(default)s")
    parser.add_argument("--language-model", type=Path, default=Path("models/lm-en/en.lm"), help="default: %(default)s")
    parser.add_argument("--beam", type=int, default=24, help="default: %(default)s")
    arguments = parser.parse_args()

    listener = Listener(ModelFolder.read(arguments.model), LanguageModel.read(arguments.language_model), arguments.beam)
    fitted, judged_words, judged_partials = (Figures(), Figures()), dict[str, Figures](), dict[str, Figures]()
    for manifest in arguments.manifests:
        lines = manifest.read_text(encoding="utf-8").splitlines()
        for number, line in enumerate(track(lines, manifest.parent.name)):
            entry = json.loads(line)
            samples, _ = soundfile.read(manifest.parent / entry["audio"], dtype="int16")
            for way, pieces in (("chunks", listener.chunks(samples)), ("whole", listener.whole(samples))):
                source = f"{manifest.parent.name}, {way}"
                words, partials = fitted
                if number % 2:
                    words = judged_words.setdefault(source, Figures())
                    partials = judged_partials.setdefault(source, Figures())
                # What a whole utterance shows before its end is nobody's interim result.
                listener.hear(pieces, entry["text"], words, partials if way == "chunks" else Figures())
    print("\n[calibration]")
    report("confidence", fit(fitted[0]), judged_words)
    report("stability", fit(fitted[1]), {name: one for name, one in judged_partials.items() if one.rows})
    return 0


if __name__ == "__main__":
    sys.exit(main())
