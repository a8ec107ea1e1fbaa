"""What the shipped model's search says of itself comes true, on speech that it was not calibrated on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from parley.decoder.device import CPU
from parley.decoder.model_folder import ModelFolder
from parley.decoder.models.registry import load_acoustic_model
from parley.decoder.search.calibration import Calibration
from parley.decoder.search.language_model import LanguageModel
from scripts.calibrate import CHUNK_MS, Figures, Listener, chances, fit
from scripts.chunks import chunk_of
from scripts.reliability import reliability
from tests.speech import RATE, RECORDINGS, pcm_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from numpy.typing import NDArray

    from parley.decoder.models.acoustic import AcousticModel

MODELS = Path(__file__).parents[3] / "models"
PIECE = 8 * RATE  # samples: an utterance of usual length
SHIFTS = range(0, 5_120, 512)  # samples: chunks that fall elsewhere hear other things


@pytest.fixture(scope="module")
def folder() -> ModelFolder:
    return ModelFolder.read(MODELS / "en-streaming")


@pytest.fixture(scope="module")
def heard(folder: ModelFolder) -> Figures:
    """Of interim results."""
    partials = Figures()
    listener = Listener(folder, LanguageModel.read(MODELS / "lm-en" / "en.lm"), beam=24)
    model = load_acoustic_model(folder, CPU, len(SHIFTS), CHUNK_MS)
    for name in RECORDINGS:
        samples = np.frombuffer(pcm_of(name), np.int16)
        for shifted in zip(*(pieces(samples[shift:]) for shift in SHIFTS), strict=True):
            for chunks in side_by_side(model, shifted):
                listener.hear(iter(chunks), "", Figures(), partials)
    return partials


def side_by_side(
    model: AcousticModel, utterances: Sequence[NDArray[np.int16]]
) -> list[list[tuple[torch.Tensor, list[int]]]]:
    """Of each utterance its chunks' log_probs and frames, from a slot each: a batch takes a third of their own time."""
    answers: list[list[tuple[torch.Tensor, list[int]]]] = [[] for _ in utterances]
    for index in range(max(model.chunks(len(samples)) for samples in utterances)):
        slots = [slot for slot, samples in enumerate(utterances) if index < model.chunks(len(samples))]
        log_probs, frames = model.forward([chunk_of(model, slot, utterances[slot], index) for slot in slots])
        for slot, row, count in zip(slots, log_probs, frames, strict=True):
            answers[slot].append((row[None].clone(), [count]))
    return answers


def pieces(samples: NDArray[np.int16]) -> list[NDArray[np.int16]]:
    return [samples[at : at + PIECE] for at in range(0, max(1, len(samples) - 3 * RATE), PIECE)]


def test_interim_results_said_to_be_stable_stay(folder: ModelFolder, heard: Figures) -> None:
    stability = np.array(Calibration.read(folder).stability)
    rows, stayed = heard.arrays()
    said = chances(rows, stability)
    assert (said >= 0.85).sum() >= 10, "too few to judge by"
    assert stayed[said >= 0.9].mean() >= 0.85
    assert stayed[said >= 0.85].mean() >= 0.85
    assert stayed[said < 0.5].mean() < 0.5
    assert reliability(zip(said.tolist(), heard.true, strict=True)).error < 0.1


def test_a_fit_finds_the_coefficients_that_chances_were_drawn_by() -> None:
    random = np.random.default_rng(3)
    coefficients = np.array([-0.5, 2.0, -1.0])
    rows = random.normal(size=(20_000, 2))
    drawn = random.random(len(rows)) < chances(np.concatenate((np.ones((len(rows), 1)), rows), 1), coefficients)
    found = fit(Figures([tuple(row) for row in rows.tolist()], drawn.tolist()))
    assert np.allclose(found, coefficients, atol=0.1)
