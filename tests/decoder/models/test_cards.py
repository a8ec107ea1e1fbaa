"""Which CUDA cards count."""

from __future__ import annotations

import importlib.metadata
from typing import TYPE_CHECKING

import onnxruntime as ort
import pytest

from parley.decoder.models import cards as module
from parley.decoder.models.cards import usable_cards
from parley.decoder.values import Passes

if TYPE_CHECKING:
    from pathlib import Path

CPU_ONLY, BOTH = ["CPUExecutionProvider"], ["CUDAExecutionProvider", "CPUExecutionProvider"]


@pytest.fixture(autouse=True)
def three_cards(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("nvidia0", "nvidia1", "nvidia11", "nvidiactl", "nvidia-uvm", "sda1"):
        (tmp_path / name).touch()
    monkeypatch.setattr(module, "Path", {"/dev": tmp_path}.__getitem__)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@pytest.mark.parametrize(
    ("providers", "torch", "first", "second", "both"),
    [
        (CPU_ONLY, "2.13.0+cpu", 0, 0, 0),
        (BOTH, "2.13.0+cpu", 0, 3, 0),
        (CPU_ONLY, "2.13.0", 3, 0, 0),
        (BOTH, "1.13.1+cu117", 3, 3, 3),
    ],
)
def test_a_card_counts_if_all_that_runs_can_use_it(
    monkeypatch: pytest.MonkeyPatch, providers: list[str], torch: str, first: int, second: int, both: int
) -> None:
    monkeypatch.setattr(ort, "get_available_providers", lambda: providers)
    monkeypatch.setattr(importlib.metadata, "version", {"torch": torch}.__getitem__)
    assert [usable_cards(passes) for passes in (Passes.FIRST, Passes.SECOND, Passes.BOTH)] == [first, second, both]


@pytest.mark.parametrize(
    ("visible", "count"), [("0", 1), ("2,0", 2), ("2,-1,0", 1), ("", 0), ("-1", 0), ("GPU-8932f937", 1)]
)
def test_the_environment_may_hide_cards(monkeypatch: pytest.MonkeyPatch, visible: str, count: int) -> None:
    monkeypatch.setattr(ort, "get_available_providers", lambda: BOTH)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert usable_cards(Passes.SECOND) == count


def test_without_torch_a_first_pass_has_no_cards(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(ort, "get_available_providers", lambda: BOTH)
    monkeypatch.setattr(importlib.metadata, "version", version)
    assert [usable_cards(passes) for passes in (Passes.FIRST, Passes.SECOND, Passes.BOTH)] == [0, 3, 0]
