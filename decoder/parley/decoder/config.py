"""What a recognizer is made of. Knows names, ranges and defaults; builds nothing."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from parley.decoder.values import (
    CHUNKS_MS,
    MOST_BEAM,
    TOKENS,
    Passes,
    Precision,
    SearchKind,
)

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class RecognizerConfig:
    """What a recognizer is made of.

    passes: what decodes; each pass named needs its model's folder. devices: "cpu", "cuda:N", or "auto" alone: every
    CUDA card, else the CPU; or "cpu:0", "cpu:1" and so on: the CPU in so many shares, each with a model of its own.
    decoders: preallocated, a device. threads: cores a device's models may use; 0: all, a share of the CPU its share.
    chunk_ms: audio in a step of the first pass. max_chunk_batch: calls in such a step, at most. precision: of our own
    network in it, on a CPU. final_budget_ms: with both passes, how long a live final may wait for the second; 0: as
    long as it takes. partial_interval_ms: the least time between a stream's partials by the second pass, 0 for no
    partials at all. vad_aggressiveness: 0 to 3, how readily sound is called noise. max_batch: utterances decoded
    together. max_batch_s, max_live_batch_s: seconds of audio in them, padding counted, of files and of live calls; a
    live final may have to wait for another live batch.

    search: how the first pass's words are found. beam: hypotheses that an utterance has. language_model: a file, None
    for none; language_weight and word_bonus: None for what its model.toml says. hotwords: a file of them.
    graphs_dir: of what lattices may be searched over, NAME.graph each. graph: the name of the one for recordings,
    unless a request names another; "tokens": all that the model can say. lattice_finals: live finals are searched over
    it too.
    """

    first_model_dir: Path | None = None
    second_model_dir: Path | None = None
    passes: Passes = Passes.SECOND
    devices: tuple[str, ...] = ("auto",)
    decoders: int = 64
    threads: int = 0
    chunk_ms: int = 320
    max_chunk_batch: int = 32
    precision: Precision = Precision.AUTO
    final_budget_ms: int = 2_000
    partial_interval_ms: int = 300
    vad_aggressiveness: int = 2
    max_batch: int = 8
    max_batch_s: float = 160.0
    max_live_batch_s: float = 20.0
    search: SearchKind = SearchKind.BEAM
    beam: int = 24
    language_model: Path | None = None
    language_weight: float | None = None
    word_bonus: float | None = None
    hotwords: Path | None = None
    graphs_dir: Path | None = None
    graph: str = TOKENS
    lattice_finals: bool = False

    def __post_init__(self) -> None:
        """Raises ValueError that names every fault."""
        faults = []
        ranges = (
            ("decoders", self.decoders, 1, 100_000),
            ("threads", self.threads, 0, 1_024),
            ("max_chunk_batch", self.max_chunk_batch, 1, 100_000),
            ("final_budget_ms", self.final_budget_ms, 0, 60_000),
            ("vad_aggressiveness", self.vad_aggressiveness, 0, 3),
            ("max_batch", self.max_batch, 1, 1_024),
            ("max_batch_s", self.max_batch_s, 1, 36_000),
            ("max_live_batch_s", self.max_live_batch_s, 1, 36_000),
            ("beam", self.beam, 1, MOST_BEAM),
            ("language_weight", self.language_weight or 0, 0, 5),
            ("word_bonus", self.word_bonus or 0, -10, 10),
        )
        faults += [f"{name}: got {n}, need {low} to {high}" for name, n, low, high in ranges if not low <= n <= high]
        if self.chunk_ms not in CHUNKS_MS:
            faults.append(f"chunk_ms: got {self.chunk_ms}, need one of {', '.join(map(str, CHUNKS_MS))}")
        for name, folder, other in (
            ("first_model_dir", self.first_model_dir, Passes.SECOND),
            ("second_model_dir", self.second_model_dir, Passes.FIRST),
        ):
            if folder is None and self.passes is not other:
                faults.append(f"{name}: not set, but passes = {self.passes.value} needs it")
        if self.partial_interval_ms and not 100 <= self.partial_interval_ms <= 10_000:
            faults.append(f"partial_interval_ms: got {self.partial_interval_ms}, need 0 (none) or 100 to 10000")
        if not self.devices or len(set(self.devices)) < len(self.devices):
            faults.append(f"devices: got {list(self.devices)}, need one or more, each once")
        if "auto" in self.devices and len(self.devices) > 1:
            faults.append('devices: "auto" stands alone')
        if "cpu" in self.devices and any(device.startswith("cpu:") for device in self.devices):
            faults.append('devices: "cpu" is the whole of it, need it without shares such as "cpu:0"')
        faults += [
            f'devices: got {device!r}, need "auto", "cpu", "cuda:N" or "cpu:N"'
            for device in self.devices
            if device not in ("auto", "cpu") and re.fullmatch(r"(cuda|cpu):(0|[1-9][0-9]{0,3})", device) is None
        ]
        if faults:
            raise ValueError("; ".join(faults))
