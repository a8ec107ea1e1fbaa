"""Utterances to chunks as a stream gives them to an acoustic model, noise to make them of, and Kaldi's own frames."""

from __future__ import annotations

from typing import TYPE_CHECKING

import kaldi_native_fbank as knf
import numpy as np
import torch

from scripts.chunks import chunk_of as chunk_of
from scripts.chunks import taken_whole as taken_whole

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from parley.decoder.models.acoustic import AcousticModel


def noise(samples: int, seed: int = 0) -> NDArray[np.int16]:
    """Loud and quiet by turns, so that no two places are alike."""
    rng = np.random.default_rng(seed)
    swell = 1 + np.sin(np.arange(samples) / 700 + seed)
    return np.asarray(rng.normal(size=samples) * 3000 * swell).clip(-32768, 32767).astype(np.int16)


def kaldi_frames(
    samples: NDArray[np.int16], pieces: Sequence[int], snip_edges: bool, scale: float, high: float
) -> NDArray[np.float32]:
    """The frames that Kaldi's own streaming computer gives for the samples in pieces of these sizes, over and over."""
    options = knf.FbankOptions()
    options.frame_opts.dither = 0
    options.frame_opts.snip_edges = snip_edges
    options.mel_opts.num_bins = 80
    options.mel_opts.high_freq = high
    computer = knf.OnlineFbank(options)
    values, at, turn = samples.astype(np.float32) / 32768 * scale, 0, 0
    while at < len(values):
        size = pieces[turn % len(pieces)]
        computer.accept_waveform(16_000, values[at : at + size].tolist())
        at, turn = at + size, turn + 1
    computer.input_finished()
    frames = [computer.get_frame(t).copy() for t in range(computer.num_frames_ready)]
    return np.stack(frames) if frames else np.zeros((0, 80), np.float32)


def together(
    model: AcousticModel, utterances: Mapping[int, NDArray[np.int16]], rng: np.random.Generator
) -> dict[int, torch.Tensor]:
    """The log_probs (frames, tokens) of utterances by slot, whose chunks come as chance will have it."""
    index, parts = dict.fromkeys(utterances, 0), {slot: list[torch.Tensor]() for slot in utterances}
    while index:
        slots = [slot for slot in rng.permutation(list(index)).tolist() if rng.random() < 0.6]
        if not slots:
            continue
        log_probs, frames = model.forward([chunk_of(model, slot, utterances[slot], index[slot]) for slot in slots])
        for slot, row, count in zip(slots, log_probs, frames, strict=True):
            parts[slot].append(row[:count].clone())
            index[slot] += 1
            if index[slot] == model.chunks(len(utterances[slot])):
                del index[slot]
    return {slot: torch.cat(rows) for slot, rows in parts.items()}


def alone(model: AcousticModel, samples: NDArray[np.int16], slot: int = 0) -> torch.Tensor:
    """The log_probs (frames, tokens) of an utterance, chunk by chunk with nobody beside it."""
    return together(model, {slot: samples}, np.random.default_rng(0))[slot]


def assert_same(found: torch.Tensor, expected: torch.Tensor) -> None:
    """Equal but for the order of sums; NaN is never the same."""
    assert found.shape == expected.shape
    assert torch.allclose(found, expected, atol=1e-4, rtol=0), (found - expected).abs().max()
