"""Layers in 8 bits against their float32 selves, and the published network in 8 bits. Runs where int8 pays: a CPU with
VNNI and torch 2."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from parley.decoder.device import CPU, Device
from parley.decoder.errors import ModelError
from parley.decoder.model_folder import ModelFolder
from parley.decoder.models import int8
from parley.decoder.models.int8 import Int8Conv1d, Int8Linear, in_int8, int8_pays
from parley.decoder.models.registry import load_acoustic_model, resolve_precision
from parley.decoder.models.streaming_ctc import StreamingCtc
from parley.decoder.values import Precision
from tests.decoder.chunks import alone, noise, taken_whole
from tests.decoder.reference import EN_STREAMING, PUBLISHED, crowd, every, published, recording

here = pytest.mark.skipif(not int8_pays(), reason="int8 needs a CPU with VNNI and torch 2")

IN, OUT = 48, 20
FINEST = 2.0**-7  # a step of 8 bits, of the largest number


def seeded(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@here
@given(rows=st.integers(1, 40), scale=st.floats(1e-4, 1e4), seed=st.integers(0, 99))
def test_a_linear_layer_is_near_its_float_self(rows: int, scale: float, seed: int) -> None:
    weight, bias, x = seeded(OUT, IN), seeded(OUT, seed=1), scale * seeded(rows, IN, seed=seed)
    found = Int8Linear(weight, bias)(x)
    # At most half a step off in each number: of the row's scale, of the output's, and their product.
    most_x, most_w = x.abs().amax(1, keepdim=True), weight.abs().amax(1)
    off = FINEST / 2 * (most_x * weight.abs().sum(1) + x.abs().sum(1, keepdim=True) * most_w + most_x * most_w)
    assert ((found - nn.functional.linear(x, weight, bias)).abs() <= off + 1e-4 * scale).all()


@here
@given(rows=st.integers(2, 40), seed=st.integers(0, 99))
def test_a_row_comes_out_the_same_to_the_bit_in_every_company(rows: int, seed: int) -> None:
    layer, x = Int8Linear(seeded(OUT, IN), seeded(OUT, seed=1)), seeded(rows, IN, seed=seed)
    x[0] *= 1_000  # a loud neighbour
    together = layer(x)
    for row in (0, rows - 1):
        assert torch.equal(together[row], layer(x[row : row + 1])[0])


@here
def test_silence_stays_silence() -> None:
    bias = seeded(OUT)
    assert torch.equal(Int8Linear(seeded(OUT, IN), bias)(torch.zeros(3, IN)), bias.expand(3, OUT))


@here
@pytest.mark.parametrize("stride", [1, 2])
def test_a_convolution_is_near_its_float_self(stride: int) -> None:
    convolution, x = nn.Conv1d(8, OUT, 3, stride=stride), seeded(2, 8, 31)
    with torch.no_grad():
        expected, found = convolution(x), Int8Conv1d(convolution)(x)
    assert found.shape == expected.shape
    assert (found - expected).abs().max() < 0.02 * expected.abs().max()


@here
def test_every_layer_inside_is_replaced() -> None:
    network = nn.Sequential(nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4)), nn.Conv1d(4, 4, 3))
    in_int8(network)
    assert [type(layer) for layer in network.modules() if not list(layer.children())] == [
        Int8Linear,
        nn.LayerNorm,
        Int8Linear,
    ]


# The published network.


@cache
def network() -> StreamingCtc:
    model = load_acoustic_model(ModelFolder.read(EN_STREAMING), CPU, 4, 320, 2, Precision.INT8)
    assert isinstance(model, StreamingCtc)
    return model


@here
@pytest.mark.parametrize("name", PUBLISHED)
def test_the_likeliest_tokens_are_those_of_float32(name: str) -> None:
    (row,), (count,) = taken_whole(network(), [recording(name)])
    for found, chunk in ((alone(network(), recording(name)), 16), (row[:count], 0)):
        expected = published(name, chunk)
        assert torch.equal(every(found).argmax(-1), torch.as_tensor(expected).argmax(-1))
        assert (every(found) - torch.as_tensor(expected)).abs().mean() < 0.1


@here
def test_chunks_among_strangers_are_those_of_a_stream_alone_to_the_bit() -> None:
    rng = np.random.default_rng(1)
    utterances = [noise(9_000, 1), *map(recording, PUBLISHED), noise(31_000, 2)]
    found = crowd(network(), utterances, rng)
    for at, name in enumerate(PUBLISHED, 1):
        assert torch.equal(found[at], alone(network(), recording(name)))


# Which it is.


def test_what_auto_means(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = ModelFolder.read(EN_STREAMING)
    monkeypatch.setattr(int8, "int8_pays", lambda: True)
    assert resolve_precision(folder, CPU, Precision.AUTO) is Precision.INT8
    assert resolve_precision(folder, CPU, Precision.FLOAT32) is Precision.FLOAT32
    assert resolve_precision(folder, Device.parse("cuda:0"), Precision.AUTO) is Precision.FLOAT32
    monkeypatch.setattr(int8, "int8_pays", lambda: False)
    assert resolve_precision(folder, CPU, Precision.AUTO) is Precision.FLOAT32
    with pytest.raises(
        ModelError, match=r"precision: got int8 for kind streaming-ctc on cpu, expected auto or float32"
    ):
        resolve_precision(folder, CPU, Precision.INT8)


@pytest.mark.parametrize(
    ("features", "pays"),
    [({"avx512_vnni": True}, True), ({"avx_vnni": True}, True), ({"avx512_f": True, "avx512_vnni": False}, False)],
)
def test_it_pays_with_vnni(monkeypatch: pytest.MonkeyPatch, features: dict[str, bool], pays: bool) -> None:
    monkeypatch.setattr(torch, "_int_mm", None, raising=False)
    monkeypatch.setattr(torch, "cpu", type("cpu", (), {"get_capabilities": staticmethod(lambda: features)}))
    assert int8_pays() is pays


def test_an_older_torch_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch, "_int_mm", raising=False)
    assert not int8_pays()
