"""icefall's streaming zipformer with a CTC head, as a TorchScript export: `zipformer/export.py --causal 1 --use-ctc 1
--jit 1`. Knows no tokens' meaning.

model.toml says `kind = "zipformer"` and, in `[zipformer]`, `model` and `tokens` (files). The export has one chunk size
of its own. Its state is a list of tensors, some with the batch as their first dimension and some as their second: an
arena holds each with a place a slot there, and one more with the initial state, which every utterance begins from.

An utterance is padded as icefall's streaming_decode.py does: with 0.3 s of the quietest feature, so that words said
last come out, and with what the convolutions look ahead. So the last frames lie behind the utterance's end.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch

from parley.decoder.errors import ModelError
from parley.decoder.models.acoustic import CARD_ROWS, Chunk, ChunkShape, check_rate
from parley.decoder.models.fbank import BINS, HOP, ICEFALL, OVERHANG, RATE, WINDOW, centred_frames, reflected
from parley.decoder.models.torchscript import LONGEST_SAMPLES, check, check_log_probs, check_tokens, load_export, trial
from parley.decoder.text.vocabulary import Vocabulary
from parley.decoder.torch_device import memory_errors, running, torch_device

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from parley.decoder.device import Device
    from parley.decoder.model_folder import ModelFolder

INTERFACE = (
    "icefall's streaming zipformer with a CTC head (export.py --causal 1 --use-ctc 1 --jit 1): encoder(features, "
    "feature_lengths, states), encoder.get_init_states(), encoder.chunk_size, encoder.pad_length and ctc_output(x)"
)
SUBSAMPLING = 2  # features a frame of encoder.chunk_size
QUIETEST = math.log(1e-10)
TAIL = 30  # features of it behind an utterance


class ZipformerModel:
    """The export behind AcousticModel."""

    def __init__(self, folder: ModelFolder, device: Device, slots: int, chunk_ms: int, threads: int = 1) -> None:
        """Raises ModelError with what was found and expected."""
        check_rate(folder)
        path = folder.file(folder.value("model", str, "zipformer"))
        tokens = folder.file(folder.value("tokens", str, "zipformer"))
        self.info, self.slots = folder.info, slots
        self.vocabulary = Vocabulary.read_tokens(tokens)
        self.longest_samples = LONGEST_SAMPLES
        self._device = torch_device(device)
        self.side_by_side = 1 if device.on_cpu else CARD_ROWS
        self._export = load_export(path, self._device, threads, INTERFACE)
        with trial(path, INTERFACE):
            self._step = SUBSAMPLING * int(self._export.encoder.chunk_size)  # features
            self._ahead = int(self._export.encoder.pad_length)
        step_ms = self._step * HOP * 1000 // RATE
        if chunk_ms != step_ms:
            raise ModelError(f"{path}: chunk_ms: got {chunk_ms}, expected {step_ms}, which the export was made for")
        self._features_a_chunk = self._step + self._ahead
        step = self._step * HOP
        after = WINDOW + (self._features_a_chunk - 1) * HOP - OVERHANG - step
        self.shape = ChunkShape(step, before=OVERHANG, after=after)
        with trial(path, INTERFACE):
            initial, self._dims, self._frames, outputs = self._try(path)
        self.frame_ms = step_ms / self._frames
        self.blank = check_tokens(tokens, self.vocabulary, outputs)
        with memory_errors():
            self._arena = [
                state.repeat_interleave(slots + 1, dim).contiguous()
                for state, dim in zip(initial, self._dims, strict=True)
            ]
        self.slot_bytes = sum(state.numel() * state.element_size() for state in self._arena) // (slots + 1)

    def chunks(self, samples: int) -> int:
        return -(-(centred_frames(samples) + TAIL + self._ahead) // self._step)

    def clear(self, slot: int) -> None:
        for state, dim in zip(self._arena, self._dims, strict=True):
            state.select(dim, slot).copy_(state.select(dim, self.slots))

    def forward(self, chunks: Sequence[Chunk]) -> tuple[torch.Tensor, list[int]]:
        features = np.stack([self._features_of(chunk) for chunk in chunks])
        with running():
            # The place behind the slots holds the initial state: a slot's last utterance is not even read.
            states = self._selected(self._arena, [chunk.slot if chunk.index else self.slots for chunk in chunks])
            log_probs, states = self._run(features, states)
            log_probs = log_probs.float()
            slots = torch.tensor([chunk.slot for chunk in chunks], device=self._device)
            for arena, state, dim in zip(self._arena, states, self._dims, strict=True):
                arena.index_copy_(dim, slots, state)  # at the very end: until here the chunks can be given again
        return log_probs, [self._frames] * len(chunks)

    def whole_steps(self, utterances: Sequence[NDArray[np.int16]]) -> Iterator[tuple[torch.Tensor, list[int]]]:
        """Chunk by chunk, as the export can no other way, all utterances together."""
        chunks = [self.chunks(len(samples)) for samples in utterances]
        features = np.full((len(utterances), max(chunks) * self._step + self._ahead, BINS), QUIETEST, np.float32)
        for row, samples in zip(features, utterances, strict=True):
            count = centred_frames(len(samples))
            edged = np.pad(samples, (OVERHANG, WINDOW))
            row[:count] = ICEFALL(reflected(edged, -OVERHANG, len(samples)), count)
        frames = [count * self._frames for count in chunks]
        with running():
            out = torch.zeros(len(utterances), max(frames), len(self.vocabulary.pieces), device=self._device)
            rows = list(range(len(utterances)))
            states = self._selected(self._arena, [self.slots] * len(rows))
            for index in range(max(chunks)):
                lasting = [place for place, row in enumerate(rows) if chunks[row] > index]
                if len(lasting) < len(rows):
                    states, rows = self._selected(states, lasting), [rows[place] for place in lasting]
                window = features[rows, index * self._step : index * self._step + self._features_a_chunk]
                log_probs, states = self._run(window, states)
                out[rows, index * self._frames : (index + 1) * self._frames] = log_probs.float()
        yield out, frames

    def _features_of(self, chunk: Chunk) -> NDArray[np.float32]:
        """(features a chunk, BINS)."""
        count = self._features_a_chunk
        if chunk.length is not None:
            count = min(count, max(0, centred_frames(chunk.length) - chunk.index * self._step))
        samples = reflected(chunk.samples, self.shape.start(chunk.index), chunk.length)
        features = np.full((self._features_a_chunk, BINS), QUIETEST, np.float32)
        features[:count] = ICEFALL(samples, count)
        return features

    def _run(
        self, features: NDArray[np.float32], states: Sequence[torch.Tensor]
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """features (rows, features a chunk, BINS) to log_probs (rows, frames, tokens), and the states then."""
        lengths = torch.full((len(features),), features.shape[1], dtype=torch.int32, device=self._device)
        on_device = torch.from_numpy(features).to(self._device)
        encoded, _, states = self._export.encoder(on_device, lengths, list(states))
        return self._export.ctc_output(encoded), list(states)

    def _selected(self, states: Sequence[torch.Tensor], places: Sequence[int]) -> list[torch.Tensor]:
        """Those places of each tensor's batch, copied."""
        index = torch.tensor(places, device=self._device)
        return [state.index_select(dim, index) for state, dim in zip(states, self._dims, strict=True)]

    def _try(self, path: Path) -> tuple[list[torch.Tensor], list[int], int, int]:
        """The initial state, where each of its tensors has the batch, a chunk's frames and how many tokens the model
        knows. Raises ModelError."""
        one, two, three = (self._export.encoder.get_init_states(rows, self._device) for rows in (1, 2, 3))
        dims = [
            _batch_dimension(path, number, list(a.shape), list(b.shape))
            for number, (a, b) in enumerate(zip(two, three, strict=True))
        ]
        features = np.full((2, self._features_a_chunk, BINS), QUIETEST, np.float32)
        log_probs, after = self._run(features, two)
        found, expected = [[(tuple(state.shape), state.dtype) for state in states] for states in (after, two)]
        check(path, "shapes and types of the states", found, expected)
        outputs = check_log_probs(path, log_probs)
        check(path, "rows for a batch of 2", log_probs.size(0), 2)
        return list(one), dims, log_probs.size(1), outputs


def _batch_dimension(path: Path, number: int, two: list[int], three: list[int]) -> int:
    """Where a state has its batch, from its shapes for 2 rows and for 3. Raises ModelError."""
    dims = [dim for dim, (a, b) in enumerate(zip(two, three, strict=True)) if a != b]
    if len(dims) != 1:
        raise ModelError(
            f"{path}: state {number}: got shapes {two} and {three} for 2 and 3 rows, expected one difference"
        )
    return dims[0]
