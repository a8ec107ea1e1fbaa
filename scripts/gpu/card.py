"""What there is: versions, the card, and how busy it is. Knows nvidia-smi; computes nothing."""

from __future__ import annotations

import os
import subprocess
import threading
from typing import TYPE_CHECKING

import numpy as np
import onnxruntime as ort
import torch

from scripts.gpu.setup import MB, Figure, Row, Setup

if TYPE_CHECKING:
    from collections.abc import Iterator


def versions(setup: Setup) -> Iterator[Row]:
    providers = ", ".join(ort.get_available_providers())
    yield Row("here", "versions", {"torch": torch.__version__, "onnxruntime": ort.__version__, "providers": providers})
    if not setup.on_card:
        return
    found = torch.cuda.get_device_properties(setup.device)
    free, total = torch.cuda.mem_get_info(setup.device)
    figures: dict[str, Figure] = {"": found.name, "CUDA": str(torch.version.cuda), "driver": smi("driver_version")}
    figures |= {"compute": f"{found.major}.{found.minor}", "free_MB": free // MB, "total_MB": total // MB}
    yield Row("here", "card", figures | {"processors": found.multi_processor_count, "cores": os.cpu_count() or 0})


def smi(what: str) -> str:
    """A figure of the first card, as nvidia-smi has it."""
    asked = ["nvidia-smi", f"--query-gpu={what}", "--format=csv,noheader,nounits", "--id=0"]
    try:
        return subprocess.run(asked, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError) as error:
        return f"unknown ({type(error).__name__})"


class Utilisation:
    """The card's, once a second while the block runs."""

    def __init__(self, setup: Setup) -> None:
        self._seen: list[float] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._on_card = setup.on_card

    def __enter__(self) -> Utilisation:
        if self._on_card:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        if self._on_card:
            self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(1.0):
            value = smi("utilization.gpu")
            if value.isdigit():
                self._seen.append(float(value))

    @property
    def figures(self) -> dict[str, Figure]:
        if not self._seen:
            return {}
        return {"card_busy_%": round(float(np.mean(self._seen))), "at_most_%": round(max(self._seen))}
