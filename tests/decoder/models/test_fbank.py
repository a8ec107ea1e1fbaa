"""Filter bank features: a frame from its own window, against kaldi-native-fbank fed a whole stream."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from parley.decoder.models.fbank import (
    BINS,
    HOP,
    ICEFALL,
    OVERHANG,
    WENET,
    WINDOW,
    Fbank,
    centred_frames,
    inner_frames,
    reflected,
)
from tests.decoder.chunks import kaldi_frames, noise

RECIPES = [
    pytest.param(WENET, True, 32768.0, 0.0, id="wenet"),
    pytest.param(ICEFALL, False, 1.0, -400.0, id="icefall"),
]


@pytest.mark.parametrize(("fbank", "snip_edges", "scale", "high"), RECIPES)
@given(samples=st.integers(0, 2_500), pieces=st.lists(st.integers(1, 700), min_size=1, max_size=5))
@example(samples=1_000, pieces=[1])
def test_every_length_in_any_pieces(
    fbank: Fbank, snip_edges: bool, scale: float, high: float, samples: int, pieces: list[int]
) -> None:
    utterance = noise(samples, seed=samples)
    expected = kaldi_frames(utterance, pieces, snip_edges, scale, high)
    if snip_edges:
        found = fbank(utterance, inner_frames(samples))
    else:
        edged = np.pad(utterance, (OVERHANG, WINDOW))
        found = fbank(reflected(edged, -OVERHANG, samples), centred_frames(samples))
    assert found.shape == expected.shape
    assert found.dtype == np.float32
    assert np.array_equal(found, expected)


@given(samples=st.integers(0, 4_000), hops=st.integers(1, 9), more=st.integers(0, 5))
def test_chunks_hold_the_frames_of_the_whole(samples: int, hops: int, more: int) -> None:
    """Bit for bit, with edges reflected from what a chunk's window holds. more: frames beyond the chunk's own."""
    utterance = noise(samples, seed=samples)
    whole = kaldi_frames(utterance, [4_000], False, 1.0, -400.0)
    for first in range(0, len(whole), hops):
        start = first * HOP - OVERHANG
        window = np.zeros((hops + more - 1) * HOP + WINDOW, np.int16)
        inside = utterance[max(start, 0) : start + len(window)]
        window[max(start, 0) - start :][: len(inside)] = inside
        length = samples if start + len(window) > samples else None
        count = min(hops + more, len(whole) - first)
        assert np.array_equal(ICEFALL(reflected(window, start, length), count), whole[first : first + count])


def test_silence_and_none() -> None:
    assert WENET(np.zeros(0, np.int16), 0).shape == (0, BINS)
    (quiet,) = WENET(np.zeros(WINDOW, np.int16), 1)
    assert np.allclose(quiet, np.log(np.finfo(np.float32).eps))


def test_the_models_worlds_differ_in_scale() -> None:
    samples = noise(WINDOW)
    int16 = Fbank(full_scale=32768, high_hz=0)(samples, 1)
    unit = Fbank(full_scale=1, high_hz=0)(samples, 1)
    assert np.allclose(int16 - unit, 2 * np.log(32768), atol=1e-4)  # of power


@pytest.mark.parametrize(
    ("window", "start", "length", "expected"),
    [
        ([1, 2, 3], 0, None, [1, 2, 3]),
        ([1, 2, 3], 5, 8, [1, 2, 3]),
        ([0, 0, 1, 2, 3], -2, None, [2, 1, 1, 2, 3]),
        ([7, 8, 9, 0, 0], 5, 8, [7, 8, 9, 9, 8]),
        ([0, 0, 0, 1, 2, 0, 0, 0, 0], -3, 2, [2, 2, 1, 1, 2, 2, 1, 1, 2]),  # shorter than its edges
        ([9, 0, 0, 0], 4, 5, [9, 9, 0, 0]),  # the mirror images are out of reach
        ([0, 0], 7, 5, [0, 0]),
        ([0, 0], -2, None, [0, 0]),
        ([0, 0, 0], -2, 0, [0, 0, 0]),
    ],
)
def test_reflected(window: list[int], start: int, length: int | None, expected: list[int]) -> None:
    found = reflected(np.array(window, np.int16), start, length)
    assert found.dtype == np.int16
    assert found.tolist() == expected
