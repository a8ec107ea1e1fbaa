"""Our streaming CTC network behind AcousticModel: a folder's files to weights, chunks to tensors. Knows no streams."""

from __future__ import annotations

import warnings
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch.nn import functional

from parley.decoder.errors import ModelError
from parley.decoder.models.acoustic import CARD_ROWS, Chunk, ChunkShape, check_rate
from parley.decoder.models.features import HOP, WINDOW
from parley.decoder.models.int8 import in_int8
from parley.decoder.models.network import FRAME_MS, Network, Sizes
from parley.decoder.side_by_side import SideBySide
from parley.decoder.text.vocabulary import Vocabulary
from parley.decoder.torch_device import memory_errors, running, torch_device
from parley.decoder.values import CHUNKS_MS, Precision

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import Tensor

    from parley.decoder.device import Device
    from parley.decoder.model_folder import ModelFolder

MEL_MS = 10
WARM_UPS = 3  # calls in which TorchScript still compiles: not in a caller's time
MEL_PAST = 2  # mel frames before a chunk that its first encoder frame hears


class StreamingCtc:
    """The network behind AcousticModel, from a folder with config.json, model.safetensors and tokens.txt."""

    def __init__(
        self,
        folder: ModelFolder,
        device: Device,
        slots: int,
        chunk_ms: int,
        threads: int = 1,
        precision: Precision = Precision.FLOAT32,
    ) -> None:
        """precision: FLOAT32 or INT8.

        Raises ModelError if a file is missing or of another shape than config.json says.
        """
        sizes = Sizes.read(folder.file("config.json"))
        if chunk_ms not in CHUNKS_MS:
            raise ModelError(f"chunk_ms: got {chunk_ms}, expected one of {', '.join(map(str, CHUNKS_MS))}")
        self.info = folder.info
        check_rate(folder)
        self.vocabulary = Vocabulary.read_tokens(folder.file("tokens.txt"))
        if len(self.vocabulary.pieces) != sizes.vocabulary:
            found = f"got {len(self.vocabulary.pieces)} tokens, expected config.json's {sizes.vocabulary}"
            raise ModelError(f"{folder.file('tokens.txt')}: {found}")
        self.blank, self.slots = sizes.blank, slots
        self.frame_ms = 2.0 * FRAME_MS
        step = chunk_ms * self.info.sample_rate // 1000
        self.shape = ChunkShape(step, before=MEL_PAST * HOP + WINDOW // 2, after=WINDOW // 2)
        self.longest_samples = sizes.max_frames * 2 * HOP
        self._mel_frames = chunk_ms // MEL_MS
        self._device = torch_device(device)
        torch.backends.cudnn.allow_tf32 = False  # 10 bits in a card's convolutions: 5e-3 off, emulated
        on_cpu = device.on_cpu
        self.side_by_side = threads if on_cpu else CARD_ROWS
        torch.set_num_threads(1)  # inside an operation
        self._shared = SideBySide(threads if on_cpu else 1, "first-pass")
        with memory_errors():
            network = Network(sizes, slots, chunk_ms // FRAME_MS, self._device)
        caches = (network.encoder_cache, network.head_cache, network.past)
        self.slot_bytes = sum(cache.numel() * cache.element_size() for cache in caches) // slots
        _fill(network, folder.file("model.safetensors"))
        network.requires_grad_(False).eval()
        if precision is Precision.INT8:
            in_int8(network)
        with memory_errors():
            network.to(self._device)
        self._network = _scripted(network)
        self._warm_up(on_cpu)

    def _warm_up(self, on_cpu: bool) -> None:
        """So that no caller waits for TorchScript, nor for what a card prepares, and takes memory for, at each size of
        batch."""
        warm_ups = [1] * WARM_UPS
        if not on_cpu:
            warm_ups += [1 << power for power in range(1, min(self.slots, CARD_ROWS).bit_length())]
        silence = np.zeros(self.shape.window, np.int16)
        for rows in warm_ups:
            self.forward([Chunk(slot, 0, silence) for slot in range(rows)])
        for slot in range(warm_ups[-1]):
            self.clear(slot)

    def chunks(self, samples: int) -> int:
        return max(1, -(-(samples // HOP) // self._mel_frames))

    def clear(self, slot: int) -> None:
        with torch.no_grad():
            self._network.clear(slot)

    def forward(self, chunks: Sequence[Chunk]) -> tuple[Tensor, list[int]]:
        return _joined(self._shared.run(self._step, self._shared.shares(chunks)))

    def whole_steps(self, utterances: Sequence[NDArray[np.int16]]) -> Iterator[tuple[Tensor, list[int]] | None]:
        shares = self._shared.run(self._padded, self._shared.shares(utterances))
        for step in range(self._network.whole_steps):
            if step:
                yield None
            shares = self._shared.run(partial(self._whole_step, step), shares)
        yield _joined([(x, [-(-frames // 4) for frames in mel_frames.tolist()]) for x, mel_frames in shares])

    def _step(self, chunks: Sequence[Chunk]) -> tuple[Tensor, list[int]]:
        left = [  # mel frames from the chunk's start on; the one behind the chunk is heard, what follows is not
            self._mel_frames + 1
            if chunk.length is None
            else min(self._mel_frames + 1, max(0, chunk.length // HOP - chunk.index * self._mel_frames))
            for chunk in chunks
        ]
        with running():
            log_probs = self._network(
                self._put(np.stack([chunk.samples for chunk in chunks])),
                self._put([chunk.index for chunk in chunks]),
                self._put(left),
                self._put([chunk.slot for chunk in chunks]),
                [(chunk.slot, chunk.index) for chunk in chunks],
            )
        return log_probs, [-(-min(frames, self._mel_frames) // 4) for frames in left]

    def _padded(self, utterances: Sequence[NDArray[np.int16]]) -> tuple[Tensor, Tensor]:
        """What whole_step begins with: samples, and their mel frames."""
        mel_frames = [len(samples) // HOP for samples in utterances]
        padded = np.zeros((len(utterances), max(1, *mel_frames) * HOP + WINDOW - HOP), np.int16)
        for row, samples in zip(padded, utterances, strict=True):
            kept = samples[: len(row) - WINDOW // 2]
            row[WINDOW // 2 : WINDOW // 2 + len(kept)] = kept
        with memory_errors():
            return self._put(padded), self._put(mel_frames)

    def _whole_step(self, step: int, share: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        x, mel_frames = share
        with running():
            return self._network.whole_step(x, mel_frames, step), mel_frames

    def _put(self, values: Any) -> Tensor:
        return torch.as_tensor(values).to(self._device, non_blocking=True)


def _scripted(network: Network) -> Any:
    with warnings.catch_warnings():
        # It is to go some day, but what is to take its place needs a compiler where the node runs.
        warnings.filterwarnings("ignore", message=".*torch.jit.script", category=DeprecationWarning)
        return torch.jit.script(network)


def _joined(shares: Sequence[tuple[Tensor, list[int]]]) -> tuple[Tensor, list[int]]:
    """log_probs and frames of all rows."""
    if len(shares) == 1:
        return shares[0]
    longest = max(log_probs.size(1) for log_probs, _ in shares)
    with memory_errors():
        padded = [functional.pad(share, (0, 0, 0, longest - share.size(1))) for share, _ in shares]
        return torch.cat(padded), [count for _, frames in shares for count in frames]


def _fill(network: Network, path: Path) -> None:
    """The file's weights into the network's. Raises ModelError with what was found and expected."""
    try:
        weights = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path}: not a readable safetensors file: {error}") from None
    wanted = {_published(name): tensor for name, tensor in network.state_dict().items() if "cache" not in name}
    wanted = {name: tensor for name, tensor in wanted.items() if name not in ("past", "log_mel.taper")}
    shapes = {name: tuple(tensor.shape) for name, tensor in wanted.items()}
    found = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    shapes["mel_filters"] = shapes["mel_filters"][::-1]
    faults = [f"{name} is missing, expected shape {shapes[name]}" for name in sorted(shapes.keys() - found.keys())]
    faults += [f"{name} is not of this network" for name in sorted(found.keys() - shapes.keys())]
    faults += [
        f"{name}: got shape {found[name]}, expected {shapes[name]}"
        for name in sorted(shapes.keys() & found.keys())
        if found[name] != shapes[name]
    ]
    if faults:
        more = f"; and {len(faults) - 3} more" if len(faults) > 3 else ""
        raise ModelError(f"{path}: {'; '.join(faults[:3])}{more}")
    for name, tensor in weights.items():
        value = tensor.float()
        if not torch.isfinite(value).all():
            raise ModelError(f"{path}: {name} holds numbers that are not finite")
        wanted[name].copy_(value.T if name == "mel_filters" else value)


def _published(name: str) -> str:
    """Our name of a weight to the file's."""
    if name == "log_mel.filters":
        return "mel_filters"
    for ours, theirs in (("encoder_ln.", "enc.ln."), ("encoder.", "enc.blocks."), ("head.", "blocks.")):
        if name.startswith(ours):
            return theirs + name[len(ours) :]
    return f"enc.{name}" if name.partition(".")[0] in ("c1", "c2", "pos") else name
