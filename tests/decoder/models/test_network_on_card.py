"""What the streaming CTC network does on a card and not on a CPU, as far as it can be seen without one.

A tensor that says it is on a card takes the network's way for cards, where it really lies. And what lies nowhere, on
torch's meta device, cannot be mixed with what lies on the host, nor looked at: as little as a card's without waiting.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from parley.decoder.device import CPU, Device
from parley.decoder.model_folder import ModelFolder
from parley.decoder.models import network as module
from parley.decoder.models.acoustic import CARD_ROWS, Chunk
from parley.decoder.models.network import Network, Sizes
from parley.decoder.models.streaming_ctc import StreamingCtc
from tests.decoder.reference import CHUNKS_MS, EN_STREAMING, assert_near, crowd
from tests.speech import RATE, pcm_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

CHUNK = 16  # frames of the encoder


class OnCard(torch.Tensor):
    is_cuda = True


def on_card(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.as_subclass(OnCard)  # type: ignore[no-any-return, attr-defined, unused-ignore]


@pytest.fixture
def whole_python(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without TorchScript, which knows where a tensor really lies."""
    monkeypatch.setattr(torch.jit, "script", lambda network: network)
    put = StreamingCtc._put
    monkeypatch.setattr(StreamingCtc, "_put", lambda self, values: on_card(put(self, values)))


def speech() -> list[NDArray[np.int16]]:
    whole = np.frombuffer(pcm_of("austen_2.flac"), np.int16)
    return [whole, whole[: RATE // 2], whole[RATE:], whole[: 2 * RATE]]


@pytest.mark.usefixtures("whole_python")
@pytest.mark.parametrize("chunk_ms", CHUNKS_MS)
def test_attention_over_gathered_caches_is_attention_where_they_lie(
    monkeypatch: pytest.MonkeyPatch, chunk_ms: int
) -> None:
    rows: list[int] = []
    attend = module.attend

    def noted(query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        rows.append(len(query))
        return attend(query, keys, values, bias)

    monkeypatch.setattr(module, "attend", noted)
    model = StreamingCtc(ModelFolder.read(EN_STREAMING), CPU, 3, chunk_ms)
    gathered = crowd(model, speech(), np.random.default_rng(0))
    assert max(rows) > 1
    monkeypatch.setattr(OnCard, "is_cuda", False)
    rows.clear()
    for mine, plain in zip(gathered, crowd(model, speech(), np.random.default_rng(0)), strict=True):
        assert_near(mine, plain)
    assert max(rows) == 1


def nowhere(*shape: int, dtype: torch.dtype = torch.int64) -> torch.Tensor:
    return on_card(torch.empty(*shape, dtype=dtype, device="meta"))


@pytest.fixture
def network() -> Iterator[Network]:
    with torch.no_grad():
        sizes = Sizes.read(EN_STREAMING / "config.json")
        yield Network(sizes, 8, CHUNK, torch.device("meta")).to("meta")


def arguments(rows: int) -> list[Any]:
    samples = nowhere(rows, 520 + CHUNK * 320 + 200, dtype=torch.int16)
    return [samples, nowhere(rows), nowhere(rows), nowhere(rows), [(row, 1) for row in range(rows)]]


def test_a_step_needs_nothing_of_the_host_and_does_not_wait(network: Network) -> None:
    assert network(*arguments(4)).shape == (4, CHUNK // 2, 257)
    x = nowhere(2, RATE, dtype=torch.int16)
    for step in range(network.whole_steps):
        x = network.whole_step(x, nowhere(2), step)
    assert x.device.type == "meta"
    network.clear(3)


@pytest.mark.parametrize("misplaced", [0, 1, 2])
def test_what_lies_on_the_host_would_be_seen(network: Network, misplaced: int) -> None:
    wrong = arguments(4)
    wrong[misplaced] = torch.zeros(wrong[misplaced].shape, dtype=wrong[misplaced].dtype)
    with pytest.raises(RuntimeError, match="meta"):
        network(*wrong)


def test_what_waits_would_be_seen(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    def waiting(query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        return query * float(query.sum())

    monkeypatch.setattr(module, "attend", waiting)
    with pytest.raises((RuntimeError, NotImplementedError)):
        network(*arguments(4))


def test_a_card_is_warmed_for_all_sizes_of_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """And the caches are where it is from the start."""
    asked: list[int] = []
    forward = StreamingCtc.forward
    arenas: list[torch.device] = []
    arena = module._arena

    def noted(self: StreamingCtc, chunks: list[Chunk]) -> Any:
        asked.append(len(chunks))
        self._device = torch.device("cpu")  # from here on
        return forward(self, chunks)

    def here(device: torch.device, *shape: int) -> torch.Tensor:
        arenas.append(device)
        return arena(torch.device("cpu"), *shape)

    card = torch.device("cuda:0")
    monkeypatch.setattr("parley.decoder.models.streaming_ctc.torch_device", lambda name: card)
    monkeypatch.setattr(Network, "to", lambda self, device: self)
    monkeypatch.setattr(module, "_arena", here)
    monkeypatch.setattr(StreamingCtc, "forward", noted)
    model = StreamingCtc(ModelFolder.read(EN_STREAMING), Device.parse("cuda:0"), 20, 320, threads=2)
    assert asked == [1, 1, 1, 2, 4, 8, 16]
    assert arenas == [card] * 3
    assert model.side_by_side == CARD_ROWS
    assert not any(cache.any() for cache in (model._network.encoder_cache, model._network.past))
