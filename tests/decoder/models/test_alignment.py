"""The path through the cross-attention, against all paths there are."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from parley.decoder.models.alignment import align, share_on_path, spread

Attention = NDArray[np.float32]


@st.composite
def attentions(draw: st.DrawFn, most_tokens: int = 4, most_frames: int = 7) -> Attention:
    """(tokens, frames): each row sums to 1, some of it 0."""
    tokens, frames = draw(st.integers(1, most_tokens)), draw(st.integers(1, most_frames))
    weights = draw(st.lists(st.integers(0, 9), min_size=tokens * frames, max_size=tokens * frames))
    rows = np.array(weights, np.float32).reshape(tokens, frames) + 1e-6
    return np.asarray(rows / rows.sum(axis=1, keepdims=True), np.float32)


def on_path(attention: Attention, edges: tuple[int, ...]) -> float:
    return sum(
        float(row[start:end].sum()) for row, (start, end) in zip(attention, itertools.pairwise(edges), strict=True)
    )


@given(attentions())
def test_no_path_holds_more_attention(attention: Attention) -> None:
    tokens, frames = attention.shape
    edges = tuple(align(attention))
    assert len(edges) == tokens + 1
    assert (edges[0], edges[-1]) == (0, frames)
    if frames < tokens:
        assert list(edges) == sorted(edges)
        return
    assert all(start < end for start, end in itertools.pairwise(edges))
    every = [(0, *inner, frames) for inner in itertools.combinations(range(1, frames), tokens - 1)]
    assert on_path(attention, edges) == pytest.approx(max(on_path(attention, each) for each in every), abs=1e-5)
    assert share_on_path(attention, edges) == pytest.approx(on_path(attention, edges) / tokens, abs=1e-6)


def test_a_clear_path_is_found() -> None:
    attention = np.zeros((3, 9), np.float32)
    attention[0, 1:3] = attention[1, 3:4] = attention[2, 4:8] = 1.0
    edges = align(attention)
    assert edges == [0, 3, 4, 9]
    assert share_on_path(attention, edges) == pytest.approx((2 + 1 + 4) / 3)


def test_more_tokens_than_frames_share_them() -> None:
    assert align(np.full((4, 2), 0.5, np.float32)) == [0, 0, 1, 1, 2]


def test_spread() -> None:
    assert spread(np.full((3, 8), 1 / 8, np.float32)) == pytest.approx(1.0)
    assert spread(np.eye(5, dtype=np.float32)) == pytest.approx(0.0)
    half = np.array([[0.5, 0.5, 0, 0], [0.25, 0.25, 0.25, 0.25]], np.float32)
    assert spread(half) == pytest.approx((math.log(2) / math.log(4) + 1) / 2)
    assert spread(np.ones((3, 1), np.float32)) == 0.0
    assert spread(np.full((3, 2), 0.5, np.float32)) == pytest.approx(1.0)


@given(attentions())
def test_spread_and_share_are_shares(attention: Attention) -> None:
    assert -1e-6 <= spread(attention) <= 1 + 1e-6
    assert 0 <= share_on_path(attention, align(attention)) <= 1 + 1e-6
