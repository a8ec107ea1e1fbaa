"""CUDA cards that a pass can use, told without loading torch: that takes a second. Knows no model."""

from __future__ import annotations

import importlib.metadata
import itertools
import os
import re
from pathlib import Path

import onnxruntime as ort

from parley.decoder.values import Passes


def usable_cards(passes: Passes) -> int:
    """Cards that what these passes run on can use."""
    if passes is not Passes.FIRST and "CUDAExecutionProvider" not in ort.get_available_providers():
        return 0
    if passes is not Passes.SECOND and not _torch_has_cuda():
        return 0
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        named = (card.strip() for card in visible.split(","))
        return sum(1 for _ in itertools.takewhile(lambda card: card not in ("", "-1"), named))  # CUDA stops there too
    return sum(1 for entry in Path("/dev").iterdir() if re.fullmatch(r"nvidia\d+", entry.name))


def _torch_has_cuda() -> bool:
    try:
        return not importlib.metadata.version("torch").endswith("+cpu")
    except importlib.metadata.PackageNotFoundError:  # who loads a model says so
        return False
