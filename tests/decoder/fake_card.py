"""A CUDA card's place taken by the CPU: computes what the model computes, and fails as CUDA fails when told to."""

from __future__ import annotations

import threading
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from parley.decoder.device import CPU
from parley.decoder.models.registry import ACOUSTIC
from parley.decoder.torch_device import memory_errors
from tests.decoder.fakes import WAIT_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import pytest
    import torch
    from numpy.typing import NDArray

    from parley.decoder.device import Device
    from parley.decoder.model_folder import ModelFolder
    from parley.decoder.models.acoustic import AcousticModel, Chunk

SHORT = "CUDA out of memory. Tried to allocate 20.00 MiB (GPU 0; 79.15 GiB total capacity; 5.38 MiB free)"
ADVICE = "CUDA kernel errors might be asynchronously reported at some other API call, so the stacktrace may be wrong."


class FakeCard:
    """Behind AcousticModel. It waits in a call while `open` is not set; what happens in a call is told beforehand."""

    def __init__(self, model: AcousticModel) -> None:
        self._model = model
        self.open, self.entered = threading.Event(), threading.Event()
        self.open.set()
        self.batches: list[int] = []  # rows of each call for chunks that was computed
        self.most_rows = 1_000  # in more there is no memory
        self.hungry: int | None = None  # the slot that there is never memory for
        self.sticky: str | None = None  # what every call fails with, once one has

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def forward(self, chunks: Sequence[Chunk]) -> tuple[torch.Tensor, list[int]]:
        self._enter()
        with memory_errors():
            if len(chunks) > self.most_rows or self.hungry in [chunk.slot for chunk in chunks]:
                raise RuntimeError(SHORT)
        self.batches.append(len(chunks))
        return self._model.forward(chunks)

    def whole_steps(self, utterances: Sequence[NDArray[Any]]) -> Iterator[tuple[torch.Tensor, list[int]] | None]:
        self._enter()
        return self._model.whole_steps(utterances)

    def clear(self, slot: int) -> None:
        self._fail()
        self._model.clear(slot)

    def _enter(self) -> None:
        self.entered.set()
        assert self.open.wait(2 * WAIT_S)
        self._fail()

    def _fail(self) -> None:
        if self.sticky is not None:
            with memory_errors():
                raise RuntimeError(f"CUDA error: {self.sticky}\n{ADVICE}")


def put_in(patch: pytest.MonkeyPatch, at_start: Exception | None = None) -> dict[str, FakeCard]:
    """From here on models for cards are loaded onto fake ones; by their devices' names, once they are loaded.

    at_start: what loading fails with.
    """
    cards: dict[str, FakeCard] = {}

    def load_onto(load: Callable[..., AcousticModel], folder: ModelFolder, device: Device, *how: Any) -> AcousticModel:
        assert not device.on_cpu
        if at_start is not None:
            raise at_start
        card = cards[str(device)] = FakeCard(load(folder, CPU, *how))
        return cast("AcousticModel", card)

    for name, kind in ACOUSTIC.items():
        patch.setitem(ACOUSTIC, name, replace(kind, load=partial(load_onto, kind.load)))
    return cards
