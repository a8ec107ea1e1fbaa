"""WeNet's streaming models (U2, U2++) as TorchScript exports: `export_jit.py`'s final.zip. Knows no tokens' meaning.

model.toml says `kind = "wenet"` and, in `[wenet]`, `model` and `units` (files) and `left_chunks` (chunks seen behind
the present one, 0 or more). The interface is that of WeNet's own runtime: `subsampling_rate`, `right_context`,
`forward_encoder_chunk` and `ctc_activation`; the attention decoder is not used. Its caches have no batch dimension, so
the rows of a batch run one after the other: a batch costs as much as its chunks do alone.

The runtime carries feature frames over from chunk to chunk; here a chunk brings the samples of all its frames, and the
frames come out the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import torch

from parley.decoder.errors import ModelError
from parley.decoder.models.acoustic import Chunk, ChunkShape, check_rate
from parley.decoder.models.fbank import BINS, HOP, RATE, WENET, WINDOW, inner_frames
from parley.decoder.models.torchscript import (
    LONGEST_SAMPLES,
    check,
    check_log_probs,
    check_tokens,
    load_export,
    stacked,
    trial,
)
from parley.decoder.text.vocabulary import Vocabulary
from parley.decoder.torch_device import memory_errors, running, torch_device

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from parley.decoder.device import Device
    from parley.decoder.model_folder import ModelFolder

Caches: TypeAlias = tuple[torch.Tensor, torch.Tensor]  # of attention (layers, heads, frames, width), of convolutions

INTERFACE = (
    "WeNet's streaming export: subsampling_rate(), right_context(), ctc_activation(xs) and forward_encoder_chunk("
    f"xs, offset, required_cache_size, att_cache, cnn_cache) over {BINS} features"
)


@dataclass(frozen=True, slots=True)
class Subsampling:
    """What frames hear: one every `rate` features, each hears `context` of them."""

    rate: int
    context: int

    def frames(self, samples: int) -> int:
        """How many frames an utterance has; 0 if it is shorter than what the first one hears."""
        return max(0, (inner_frames(samples) - self.context) // self.rate + 1)

    def features(self, frames: int) -> int:
        """How many features so many frames hear."""
        return (frames - 1) * self.rate + self.context

    def samples(self, frames: int) -> int:
        """How many samples so many frames hear."""
        return WINDOW + (self.features(frames) - 1) * HOP


class WenetModel:
    """The export behind AcousticModel."""

    def __init__(self, folder: ModelFolder, device: Device, slots: int, chunk_ms: int, threads: int = 1) -> None:
        """Raises ModelError with what was found and expected."""
        check_rate(folder)
        path = folder.file(folder.value("model", str, "wenet"))
        units = folder.file(folder.value("units", str, "wenet"))
        left_chunks = folder.value("left_chunks", int, "wenet")
        if left_chunks < 0:
            raise folder.fault(
                f"wenet.left_chunks: got {left_chunks}, expected 0 or more: caches are allocated at start"
            )
        self.info, self.slots, self.side_by_side = folder.info, slots, 1
        self.vocabulary = Vocabulary.read_tokens(units)
        self.longest_samples = LONGEST_SAMPLES
        self._device = torch_device(device)
        self._export = load_export(path, self._device, threads, INTERFACE)
        with trial(path, INTERFACE):
            rate, right_context = int(self._export.subsampling_rate()), int(self._export.right_context())
        if rate < 1 or right_context < 0:
            raise ModelError(
                f"{path}: got subsampling_rate {rate}, right_context {right_context}, expected 1 and 0 or more"
            )
        self._subsampling = Subsampling(rate, right_context + 1)
        self.frame_ms = rate * HOP * 1000 / RATE
        if chunk_ms % self.frame_ms:
            raise ModelError(
                f"{path}: chunk_ms: got {chunk_ms}, expected a multiple of its {self.frame_ms:g} ms a frame"
            )
        self._chunk = int(chunk_ms / self.frame_ms)  # frames
        self._left = left_chunks * self._chunk
        step = self._chunk * rate * HOP
        self.shape = ChunkShape(step, before=0, after=max(0, self._subsampling.samples(self._chunk) - step))
        with trial(path, INTERFACE):
            attention, convolution, outputs = self._try(path)
        self.blank = check_tokens(units, self.vocabulary, outputs)
        with memory_errors():
            # The frames seen behind the present chunk end at the right: a young utterance's are the last few.
            self._attention = attention.new_zeros(slots, *attention.shape[:2], self._left, attention.shape[3])
            self._convolution = convolution.new_zeros(slots, *convolution.shape)
        self.slot_bytes = (
            sum(arena.numel() * arena.element_size() for arena in (self._attention, self._convolution)) // slots
        )

    def chunks(self, samples: int) -> int:
        return max(1, -(-self._subsampling.frames(samples) // self._chunk))

    def clear(self, slot: int) -> None:
        self._attention[slot] = 0
        self._convolution[slot] = 0

    def forward(self, chunks: Sequence[Chunk]) -> tuple[torch.Tensor, list[int]]:
        frames = [self._frames_of(chunk) for chunk in chunks]
        rows, kept = [], []
        with running():
            for chunk, count in zip(chunks, frames, strict=True):
                offset = chunk.index * self._chunk
                row, caches = self._encode(chunk.samples, count, offset, self._left, self._caches(chunk))
                rows.append(row)
                if count == self._chunk:  # nothing follows a shorter one
                    kept.append((chunk.slot, *caches))
            log_probs = stacked(rows, self._chunk)
            for slot, attention, convolution in kept:  # at the very end: until here the chunks can be given again
                self._attention[slot, :, :, self._left - attention.size(2) :] = attention
                self._convolution[slot] = convolution
        return log_probs, frames

    def whole_steps(self, utterances: Sequence[NDArray[np.int16]]) -> Iterator[tuple[torch.Tensor, list[int]]]:
        """One chunk as long as the utterance: every frame sees every other."""
        frames = [self._subsampling.frames(len(samples)) for samples in utterances]
        with running():
            rows = [
                self._encode(samples, count, 0, 0, self._nothing())[0]
                for samples, count in zip(utterances, frames, strict=True)
            ]
            log_probs = stacked(rows, max(1, *frames))
        yield log_probs, frames

    def _encode(
        self, samples: NDArray[np.int16], frames: int, offset: int, left: int, caches: Caches
    ) -> tuple[torch.Tensor, Caches]:
        """log_probs (frames, tokens) of the samples, the first of which begin frame `offset`, and the caches then."""
        if frames == 0:
            return torch.zeros(0, len(self.vocabulary.pieces), device=self._device), caches
        features = torch.from_numpy(WENET(samples, self._subsampling.features(frames))).to(self._device)
        log_probs, caches = self._run(features, offset, left, caches)
        return log_probs[0], caches

    def _run(self, features: torch.Tensor, offset: int, left: int, caches: Caches) -> tuple[torch.Tensor, Caches]:
        """features (n, BINS) to log_probs (1, frames, tokens)."""
        encoded, attention, convolution = self._export.forward_encoder_chunk(features[None], offset, left, *caches)
        return self._export.ctc_activation(encoded), (attention, convolution)

    def _try(self, path: Path) -> tuple[torch.Tensor, torch.Tensor, int]:
        """The caches after a first chunk, and how many tokens the model knows. Raises ModelError."""
        shortest, _ = self._run(self._silence(1), 0, self._left, self._nothing())
        check(path, "frames of the shortest chunk", shortest.size(1), 1)
        log_probs, (attention, convolution) = self._run(self._silence(self._chunk), 0, self._left, self._nothing())
        check(path, "frames of a chunk", log_probs.size(1), self._chunk)
        check(path, "frames that attention remembers", attention.size(2), min(self._left, self._chunk))
        full = attention.new_zeros(*attention.shape[:2], self._left, attention.shape[3])
        last = self._subsampling.frames(self.longest_samples) - self._chunk  # positions must reach as far
        log_probs, after = self._run(self._silence(self._chunk), last, self._left, (full, convolution))
        found, expected = [[tuple(cache.shape) for cache in caches] for caches in (after, (full, convolution))]
        check(path, "shapes of the caches", found, expected)
        return attention, convolution, check_log_probs(path, log_probs)

    def _caches(self, chunk: Chunk) -> Caches:
        """What the chunk's utterance left behind; of a slot's last utterance nothing."""
        if chunk.index == 0:
            return self._nothing()
        seen = min(self._left, chunk.index * self._chunk)
        return self._attention[chunk.slot, :, :, self._left - seen :], self._convolution[chunk.slot]

    def _nothing(self) -> Caches:
        return torch.zeros(0, 0, 0, 0, device=self._device), torch.zeros(0, 0, 0, 0, device=self._device)

    def _silence(self, frames: int) -> torch.Tensor:
        return torch.zeros(self._subsampling.features(frames), BINS, device=self._device)

    def _frames_of(self, chunk: Chunk) -> int:
        if chunk.length is None:
            return self._chunk
        return min(self._chunk, max(0, self._subsampling.frames(chunk.length) - chunk.index * self._chunk))
