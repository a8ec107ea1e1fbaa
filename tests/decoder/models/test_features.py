"""Log-mel frames: the plain mathematics' own, whichever way the samples come."""

from __future__ import annotations

import itertools
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from parley.decoder.models.features import HOP, WINDOW, LogMel
from tests.decoder.chunks import noise
from tests.decoder.reference import DEVICES, EN_STREAMING, Plain, recording

if TYPE_CHECKING:
    from numpy.typing import NDArray

ROUNDING = 1e-6  # a matrix product rounds as its shape has it

over_devices = pytest.mark.parametrize("device", DEVICES)


@cache
def front_end(device: str) -> LogMel:
    return LogMel(load_file(EN_STREAMING / "model.safetensors")["mel_filters"]).to(device)


@cache
def plain() -> Plain:
    return Plain(EN_STREAMING)


def log_mel(samples: NDArray[np.int16], device: str = "cpu") -> torch.Tensor:
    """(frames, 80)"""
    frames: torch.Tensor = front_end(device)(torch.from_numpy(samples)[None].to(device))
    return frames[0].cpu()


def square(samples: int) -> NDArray[np.int16]:
    """As loud as can be."""
    return np.where(np.arange(samples) % 50 < 25, 32_767, -32_768).astype(np.int16)


def impulse(samples: int) -> NDArray[np.int16]:
    made = np.zeros(samples, np.int16)
    made[samples // 2] = 1
    return made


@over_devices
@pytest.mark.parametrize(
    "samples",
    [recording("austen_2"), noise(16_000), square(16_000), impulse(16_000), np.zeros(8_000, np.int16), noise(161)],
    ids=["speech", "noise", "loudest", "faintest", "silence", "one frame"],
)
def test_it_is_the_plain_mathematics(device: str, samples: NDArray[np.int16]) -> None:
    found = log_mel(np.pad(samples, WINDOW // 2), device)[: len(samples) // HOP]
    expected = plain().log_mel(samples).T
    assert found.shape == expected.shape
    assert torch.allclose(found, expected, atol=1e-4, rtol=0), (found - expected).abs().max()


def test_silence_is_the_floor() -> None:
    assert set(log_mel(np.zeros(3_280, np.int16)).flatten().tolist()) == {-0.75}


@pytest.mark.parametrize(
    ("samples", "frames"), [(400, 1), (559, 1), (560, 2), (719, 2), (720, 3), (3_280, 19), (10_960, 67)]
)
def test_a_frame_comes_with_the_last_sample_of_its_window(samples: int, frames: int) -> None:
    assert log_mel(noise(samples)).shape == (frames, 80)


@pytest.mark.parametrize("at", [0, 399, 400, 4_000, 7_999])
def test_a_frame_depends_on_its_window_alone(at: int) -> None:
    samples = noise(8_000)
    before = log_mel(samples)
    samples[at] += 8_000
    moved = torch.nonzero((log_mel(samples) != before).any(-1)).flatten().tolist()
    windows = [frame for frame in range(len(before)) if frame * HOP <= at < frame * HOP + WINDOW]
    # The taper is 0 at a window's first sample.
    assert moved == [frame for frame in windows if at > frame * HOP]


@over_devices
@settings(max_examples=25)
@given(cuts=st.sets(st.integers(1, 199), max_size=20), seed=st.integers(0, 100))
def test_in_pieces_it_is_the_same(device: str, cuts: set[int], seed: int) -> None:
    """Whoever has the samples of some frames' windows gets these frames."""
    samples = noise(200 * HOP + WINDOW - HOP, seed)
    whole = log_mel(samples, device)
    borders = [0, *sorted(cuts), 200]
    pieces = [
        log_mel(samples[start * HOP : (end - 1) * HOP + WINDOW], device) for start, end in itertools.pairwise(borders)
    ]
    assert torch.allclose(torch.cat(pieces), whole, atol=ROUNDING, rtol=0)


@over_devices
def test_a_row_is_the_same_in_a_batch(device: str) -> None:
    rows = [noise(3_280, 1), square(3_280), np.zeros(3_280, np.int16), impulse(3_280)]
    batch = front_end(device)(torch.from_numpy(np.stack(rows)).to(device)).cpu()
    for row, samples in zip(batch, rows, strict=True):
        assert torch.allclose(row, log_mel(samples, device), atol=ROUNDING, rtol=0)


@over_devices
@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")
def test_as_torch_script_it_is_the_same(device: str) -> None:
    samples = torch.from_numpy(noise(3_280))[None].to(device)
    assert torch.equal(torch.jit.script(front_end(device))(samples), front_end(device)(samples))
