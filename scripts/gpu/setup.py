"""What all parts are given and give: how much to measure, with what, and a row of the table. Knows no part."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import soundfile

from parley.decoder.config import RecognizerConfig
from parley.decoder.device import Device
from parley.decoder.model_folder import ModelFolder
from parley.decoder.models.registry import load_acoustic_model
from parley.decoder.recognizer import Recognizer
from parley.decoder.speech.vad import SAMPLE_RATE
from parley.decoder.values import Passes, Precision, SearchKind
from scripts.speech import ROOT, recordings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy as np
    from numpy.typing import NDArray

    from parley.decoder.models.acoustic import AcousticModel


FIRST, SECOND = ROOT / "models" / "en-streaming", ROOT / "models" / "moonshine-tiny-en"
CHUNK_MS = 320
MB = 1 << 20
Figure = str | float | int


@dataclass(frozen=True)
class Load:
    """Calls at once, more and more of them, shared out over so many nodes on the one device."""

    nodes: int
    search: str
    calls: tuple[int, ...]


@dataclass(frozen=True)
class Size:
    """How much of everything."""

    utterances: int = 64
    rows: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1_024)
    rounds: int = 30
    graph_rows: tuple[int, ...] = (1, 32, 256)
    streams: tuple[Load, ...] = (
        Load(1, "best_path", (64, 128, 256, 512)),
        Load(1, "beam", (64, 128, 256, 512)),
        Load(4, "beam", (256, 512, 1_024, 1_536)),
    )
    call_s: float = 12.0


REHEARSAL = Size(3, (1, 2), 2, (1,), (Load(1, "best_path", (2,)), Load(2, "beam", (4,))), 3.0)


@dataclass(frozen=True)
class Row:
    """ok: None where there is nothing to be right or wrong."""

    part: str
    what: str
    figures: dict[str, Figure]
    ok: bool | None = None

    @property
    def text(self) -> str:
        return ", ".join(str(value) if name == "" else f"{name} {value}" for name, value in self.figures.items())


@dataclass
class Setup:
    device: str
    size: Size
    until: float  # on the monotonic clock
    rows: list[Row] = field(default_factory=list)

    @property
    def on_card(self) -> bool:
        return self.device != "cpu"

    @property
    def left_s(self) -> float:
        return self.until - time.monotonic()

    def model(self, device: str, slots: int) -> AcousticModel:
        return load_acoustic_model(ModelFolder.read(FIRST), Device.parse(device), slots, CHUNK_MS, os.cpu_count() or 1)

    def recognizer(self, device: str, **more: Any) -> Recognizer:
        made = RecognizerConfig(
            first_model_dir=FIRST,
            passes=Passes.FIRST,
            devices=(device,),
            decoders=self.size.utterances,
            precision=Precision.FLOAT32,  # as a card has it
            search=SearchKind.BEST_PATH,
        )
        return Recognizer(replace(made, **more))


Part = tuple[str, "Callable[[Setup], Iterator[Row]]"]


def essence(error: Exception) -> str:
    """The last line that says something: of a node it is its log's, of TorchScript the error behind its call stack."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if "error" in line.lower()] or lines or [""]
    return telling[-1][:300]


def speech(count: int, shortest_s: float = 2.0) -> list[NDArray[np.int16]]:
    """So many utterances (n,), no two alike: pieces of real speech, 2 to 6 s."""
    whole = [soundfile.read(recording.path, dtype="int16")[0] for recording in recordings()]
    pieces = []
    for number in range(count):
        source, turn = whole[number % len(whole)], number // len(whole)
        start = int(turn * 0.41 * SAMPLE_RATE) % max(1, len(source) - int(shortest_s * SAMPLE_RATE))
        pieces.append(source[start : start + int((shortest_s + number % 5) * SAMPLE_RATE)])
    return pieces
