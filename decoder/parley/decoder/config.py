"""What a recognizer is made of. Knows names, meanings, ranges and defaults; builds nothing.

Written once: a node's settings, their `--help` and the reference of settings are derived from these fields.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path  # noqa: TC003  # read at run time, by who derives settings from the fields' types
from typing import TYPE_CHECKING

from parley.decoder.bounds import Choices, Fault, Range, described, out_of_bounds
from parley.decoder.device import Device
from parley.decoder.values import (
    BEAM,
    CHUNKS_MS,
    LANGUAGE_WEIGHT,
    MOST_BEAM,
    TOKENS,
    WORD_BONUS,
    Passes,
    Precision,
    SearchKind,
)

if TYPE_CHECKING:
    from collections.abc import Iterator


class BadConfig(ValueError):
    """Everything that is wrong with a config."""

    def __init__(self, faults: tuple[Fault, ...]) -> None:
        super().__init__("; ".join(map(str, faults)))
        self.faults = faults


@dataclass(frozen=True, slots=True)
class RecognizerConfig:
    """What a recognizer is made of. Each pass that decodes needs its model's folder."""

    passes: Passes = described(
        Passes.SECOND,
        "what decodes: first (as the audio comes), second (whole utterances, better words), or both (interim results "
        "from the first, finals from the second)",
    )
    first_model_dir: Path | None = described(
        None, "folder of the first pass's model, with its model.toml; unused with second"
    )
    second_model_dir: Path | None = described(
        None, "folder of the second pass's model, with its model.toml; unused with first"
    )
    devices: tuple[str, ...] = described(
        ("auto",),
        "devices to decode on: auto, cpu, or cuda:0, cuda:1, ...; cpu:0, cpu:1, ...: the CPU in shares, each with "
        "decoders of its own, which under load do more together and alone are slower",
    )
    decoders: int = described(64, "streams and files decoded at once, a device", Range(1, 100_000))
    threads: int = described(
        0,
        "processor threads of a device; 0: one a core, or of a share of the CPU as many as come to it",
        Range(0, 1_024),
    )
    chunk_ms: int = described(
        320,
        "audio in a step of the first pass, ms: 160, 320 or 640; shorter is sooner, longer costs less",
        Choices(CHUNKS_MS),
    )
    max_chunk_batch: int = described(32, "calls in a step of the first pass, at most", Range(1, 100_000))
    precision: Precision = described(
        Precision.AUTO,
        "arithmetic of the first pass's own network: int8 (on a CPU with VNNI: twice as fast), float32, or auto: int8 "
        "where it can be had",
    )
    final_budget_ms: int = described(
        2_000,
        "with both passes, longest wait of a live final for the second, ms; then it is the first's; 0: any",
        Range(0, 60_000, "ms"),
    )
    partial_interval_ms: int = described(
        300,
        "least time between interim results of a stream by the second pass, ms; 0: none by either pass",
        Range(100, 10_000, "ms", zero="none"),
    )
    max_batch: int = described(8, "whole utterances in a batch, at most", Range(1, 1_024))
    max_batch_s: float = described(
        160.0, "audio in a batch of files, at most, s; padding counts", Range(1, 36_000, "s")
    )
    max_live_batch_s: float = described(
        20.0,
        "audio in a batch of live calls, at most, s; the next final may wait for it",
        Range(1, 36_000, "s"),
    )
    search: SearchKind = described(
        SearchKind.BEAM,
        "how the first pass's words are found: best_path (the likeliest token of each frame), beam (hypotheses, with a "
        "language model and hotwords) or k2 (for finals and files lattices of whole utterances)",
    )
    beam: int = described(24, f"hypotheses that an utterance keeps open, 1 to {MOST_BEAM}; unused with best_path", BEAM)
    language_model: Path | None = described(
        None,
        "file of the first pass's language model, as `parley lm build` makes it; an empty string for none",
    )
    language_weight: float | None = described(
        None,
        "how much the language model counts, 0 to 5; none: as the first pass's model.toml says",
        LANGUAGE_WEIGHT,
    )
    word_bonus: float | None = described(
        None,
        "added for every word beside a language model, natural logarithm, -10 to 10; none: as the first pass's "
        "model.toml says",
        WORD_BONUS,
    )
    hotwords: Path | None = described(
        None, "phrases heard more readily in every call, one a line, its boost behind a tab"
    )
    graphs_dir: Path | None = described(
        None,
        "with k2, folder of graphs that lattices are searched over: NAME.graph, by `parley graph build`",
    )
    graph: str = described(
        TOKENS,
        "with k2, name of the graph for recordings, unless a request names one; tokens: all that the model can say, "
        "which is always there",
    )
    lattice_finals: bool = described(False, "with k2, finals of live calls are searched so too")
    vad_aggressiveness: int = described(2, "how readily sound is called noise, 0 to 3", Range(0, 3))

    def __post_init__(self) -> None:
        """Raises BadConfig that names every fault."""
        faults = (*out_of_bounds(self), *self._without_model(), *self._devices())
        if faults:
            raise BadConfig(faults)

    def model_dirs(self) -> dict[Passes, Path]:
        """The folders of the models that decode, by the pass that each is for."""
        folders = {Passes.FIRST: self.first_model_dir, Passes.SECOND: self.second_model_dir}
        return {by: path for by, path in folders.items() if path is not None and self.passes in (by, Passes.BOTH)}

    def _without_model(self) -> Iterator[Fault]:
        for by in (Passes.FIRST, Passes.SECOND):
            if self.passes in (by, Passes.BOTH) and by not in self.model_dirs():
                yield Fault(f"{by.value}_model_dir", None, f"a folder: passes = {self.passes.value} needs it")

    def _devices(self) -> Iterator[Fault]:
        found = self.devices
        if not found or len(set(found)) < len(found):
            yield Fault("devices", found, "one or more, each once")
        if "auto" in found and len(found) > 1:
            yield Fault("devices", found, '"auto" alone, or devices by name')
        if "cpu" in found and any(device.startswith("cpu:") for device in found):
            yield Fault("devices", found, 'either "cpu", the whole of it, or shares such as "cpu:0"')
        for device in found:
            if device != "auto" and not _is_device(device):
                yield Fault("devices", device, '"auto", "cpu", "cuda:N" or "cpu:N"')


def _is_device(text: str) -> bool:
    try:
        Device.parse(text)
    except ValueError:
        return False
    return True
