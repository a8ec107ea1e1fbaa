"""Our streaming CTC network: Whisper's encoder with chunked attention, a head at 40 ms, its caches. Knows no tokens.

What it remembers of an utterance lies in an arena, a slot a decoder, allocated once. Keys and values are rings:
positions are added at the network's input, so attention does not care in what order the frames lie, and a chunk simply
takes the place of the oldest one. What of a ring belongs to the present utterance and may be seen follows from the
chunk's index alone; a chunk that is computed twice writes the same twice.

The network runs as TorchScript, one call a batch: Python's lock is free for the event loop while it computes.
"""

# No `from __future__ import annotations`: TorchScript wants the types themselves.

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

import torch
from torch import Tensor, nn
from torch.nn import functional

from parley.decoder.errors import ModelError
from parley.decoder.models.features import WINDOW, LogMel

RATE = 16_000  # Hz
FRAME_MS = 20  # of the encoder; the log-probabilities have one every two


@dataclass(frozen=True, slots=True)
class Sizes:
    """config.json."""

    width: int
    heads: int
    encoder_blocks: int
    head_blocks: int
    left_frames: int
    max_frames: int
    vocabulary: int
    blank: int

    @classmethod
    def read(cls, path: Path) -> "Sizes":
        """Raises ModelError with what was found and expected."""
        try:
            config = json.loads(path.read_text(encoding="utf8"))
        except (OSError, ValueError) as error:
            raise ModelError(f"{path}: not a readable JSON file: {error}") from None
        if not isinstance(config, dict):
            raise ModelError(f"{path}: got {type(config).__name__}, expected a JSON object")
        for name, expected in (("sample_rate", RATE), ("subsampling", 4), ("frame_ms", 2 * FRAME_MS)):
            if config.get(name) != expected:
                raise ModelError(f"{path}: {name}: got {config.get(name)!r}, expected {expected}")
        values = {}
        for name in cls.__slots__:
            value, least = config.get(name), 0 if name in ("left_frames", "blank") else 1
            if type(value) is not int or value < least:
                raise ModelError(f"{path}: {name}: got {value!r}, expected a whole number from {least} up")
            values[name] = value
        sizes = cls(**values)
        if sizes.width % sizes.heads or sizes.left_frames % 2 or sizes.blank >= sizes.vocabulary:
            raise ModelError(
                f"{path}: got width {sizes.width} for {sizes.heads} heads, left_frames {sizes.left_frames}, blank "
                f"{sizes.blank} of {sizes.vocabulary}; expected heads to divide width, left_frames even, blank inside"
            )
        return sizes


def attend(query: Tensor, keys: Tensor, values: Tensor, bias: Tensor) -> Tensor:
    """(rows, heads, n, width) from keys and values (rows, heads, m, width); bias: (rows, 1, 1, m), -inf hides."""
    scores = torch.matmul(query * query.size(-1) ** -0.5, keys.transpose(-2, -1)) + bias
    return torch.matmul(scores.softmax(-1), values)


if hasattr(functional, "scaled_dot_product_attention"):  # from torch 2.0 on

    def attend(query: Tensor, keys: Tensor, values: Tensor, bias: Tensor) -> Tensor:
        """The same, in one kernel."""
        return functional.scaled_dot_product_attention(query, keys, values, attn_mask=bias)


class Block(nn.Module):
    """A pre-norm transformer block."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.ln1, self.ln2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.o = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.f1, self.f2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(
        self,
        x: Tensor,
        bias: Tensor,
        cache: Optional[Tensor],  # noqa: UP045 - torch 1.13 scripts no `|`
        place: Tensor,
        slots: Tensor,
        lies: list[tuple[int, int]],
    ) -> Tensor:
        """x: (rows, n, width), the same on return. bias: (rows, 1, 1, m) over the frames seen.

        Without a cache those are the n themselves. Else their keys and values go to `place` (rows, n) in the rings of
        cache (2, slots, heads, m, width / heads), and what lies in the row's ring then is seen. lies: by row, its slot,
        and how much of the ring has been filled.
        """
        qkv = self.qkv(self.ln1(x)).view(x.size(0), x.size(1), 3, self.heads, -1)
        query, keys, values = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        if cache is None:
            attended = attend(query, keys, values, bias)
        else:
            cache[0][slots[:, None], :, place] = keys.transpose(1, 2)
            cache[1][slots[:, None], :, place] = values.transpose(1, 2)
            if x.is_cuda:
                attended = attend(query, cache[0].index_select(0, slots), cache[1].index_select(0, slots), bias)
            else:  # row by row where they lie: on a CPU gathering them costs as much as attention itself
                rows = [
                    attend(
                        query[r : r + 1],
                        cache[0, s : s + 1, :, :m],
                        cache[1, s : s + 1, :, :m],
                        bias[r : r + 1, :, :, :m],
                    )
                    for r, (s, m) in enumerate(lies)
                ]
                attended = torch.cat(rows)
        y = x + self.o(attended.transpose(1, 2).reshape(x.size(0), x.size(1), -1))
        out: Tensor = y + self.f2(functional.gelu(self.f1(self.ln2(y))))
        return out


def _arena(device: torch.device, *shape: int) -> Tensor:
    """Zeros that are written, so that the memory is taken now and not under load."""
    return torch.empty(shape, device=device).zero_()


class Network(nn.Module):
    """The network with its arena. Frames are the encoder's (20 ms) where nothing else is said."""

    encoder_cache: Tensor
    head_cache: Tensor
    past: Tensor

    def __init__(self, sizes: Sizes, slots: int, chunk: int, device: torch.device) -> None:
        """chunk: frames, even. device: where the arena is; the weights are to follow."""
        super().__init__()
        width = sizes.width
        self.chunk, self.left = chunk, sizes.left_frames
        self.whole_steps = 1 + sizes.encoder_blocks + sizes.head_blocks
        self.ring = sizes.left_frames + chunk
        self.log_mel = LogMel(torch.zeros(80, WINDOW // 2 + 1))
        self.c1 = nn.Conv1d(80, width, 3)
        self.c2 = nn.Conv1d(width, width, 3, stride=2)
        self.pos = nn.Parameter(torch.zeros(sizes.max_frames, width))
        self.encoder = nn.ModuleList(Block(width, sizes.heads) for _ in range(sizes.encoder_blocks))
        self.encoder_ln = nn.LayerNorm(width)
        self.down = nn.Conv1d(width, width, 3, stride=2)
        self.head = nn.ModuleList(Block(width, sizes.heads) for _ in range(sizes.head_blocks))
        self.ln = nn.LayerNorm(width)
        self.out = nn.Linear(width, sizes.vocabulary)
        cache = (2, slots, sizes.heads, self.ring, width // sizes.heads)  # keys and values
        half = (2, slots, sizes.heads, self.ring // 2, width // sizes.heads)
        self.register_buffer("encoder_cache", _arena(device, sizes.encoder_blocks, *cache))
        self.register_buffer("head_cache", _arena(device, sizes.head_blocks, *half))
        # For `down`: the last encoder frames of the two newest chunks, so that the newest can be computed again.
        self.register_buffer("past", _arena(device, slots, 2, width))

    def forward(
        self, samples: Tensor, index: Tensor, mel_frames: Tensor, slots: Tensor, lies: list[tuple[int, int]]
    ) -> Tensor:
        """log_probs (rows, chunk / 2, tokens) of one chunk in each of the slots.

        samples: (rows, window) int16. index: (rows,) of the chunk. mel_frames: (rows,) that the utterance still has
        from the chunk's start on. slots: (rows,). lies: by row, the slot again and the chunk's index.
        """
        first = index * self.chunk
        frames = ((mel_frames + 1) // 2).clamp(max=self.chunk)
        x = self._convolved(self.log_mel(samples), -2, 2 * first, mel_frames)
        x = x + self.pos[(first[:, None] + torch.arange(self.chunk, device=x.device)).clamp(max=self.pos.size(0) - 1)]
        place, bias = self._ring(first, frames, self.chunk, self.ring, self.left)
        filled = [(slot, min(self.ring, (chunk + 1) * self.chunk)) for slot, chunk in lies]
        for number, block in enumerate(self.encoder):
            x = block(x, bias, self.encoder_cache[number], place, slots, filled)
        x = self._ended(self.encoder_ln(x), frames)
        past = torch.where(index[:, None] > 0, self.past[slots, (index + 1) % 2], torch.zeros_like(x[:, 0]))
        self.past[slots, index % 2] = x[:, -1]
        x = functional.gelu(self.down(torch.cat((past[:, None], x), 1).transpose(1, 2))).transpose(1, 2)
        place, bias = self._ring(first // 2, (frames + 1) // 2, self.chunk // 2, self.ring // 2, self.left // 2)
        filled = [(slot, m // 2) for slot, m in filled]
        for number, block in enumerate(self.head):
            x = block(x, bias, self.head_cache[number], place, slots, filled)
        log_probs: Tensor = self.out(self.ln(x)).log_softmax(-1)
        return log_probs

    @torch.jit.export
    def whole_step(self, x: Tensor, mel_frames: Tensor, step: int) -> Tensor:
        """Step 0 to whole_steps - 1 of whole utterances, every frame seeing every other: each takes what the one before
        it gave, the first samples, and the last gives log_probs (rows, frames / 2, tokens).

        samples: (rows, n) int16, from WINDOW / 2 before the utterances on. mel_frames: (rows,) of the utterances.
        """
        if step == 0:
            x = self._convolved(self.log_mel(x), 0, torch.zeros_like(mel_frames), mel_frames)
            return x + self.pos[: x.size(1)]
        frames, blocks = (mel_frames + 1) // 2, len(self.encoder)
        unused: list[tuple[int, int]] = []
        for number, block in enumerate(self.encoder, 1):
            if number == step:
                x = block(x, self._padding(frames, x.size(1)), None, mel_frames, mel_frames, unused)
        if step == blocks:
            x = self._ended(self.encoder_ln(x), frames)
            return functional.gelu(self.down(functional.pad(x.transpose(1, 2), [1, x.size(1) % 2]))).transpose(1, 2)
        for number, block in enumerate(self.head, 1):
            if number + blocks == step:
                x = block(x, self._padding((frames + 1) // 2, x.size(1)), None, mel_frames, mel_frames, unused)
        if step == self.whole_steps - 1:
            x = self.out(self.ln(x)).log_softmax(-1)
        return x

    @torch.jit.export
    def clear(self, slot: int) -> None:
        """Wipes a slot."""
        self.encoder_cache[:, :, slot] = 0.0
        self.head_cache[:, :, slot] = 0.0
        self.past[slot] = 0.0

    def _convolved(self, log_mel: Tensor, offset: int, first: Tensor, mel_frames: Tensor) -> Tensor:
        """The two convolutions, (rows, n, bins) to (rows, n', width).

        log_mel's frame 0 is mel frame first + offset of the utterance, which still has mel_frames from `first` on; the
        convolutions see zeros where it has none. An offset of 0 stands for an utterance's beginning: zeros before it.
        """
        x = log_mel.transpose(1, 2)
        if offset == 0:
            x = functional.pad(x, [2, 2])
            offset = -2
        x = self._inside(x, offset, first, mel_frames)
        x = self._inside(functional.gelu(self.c1(x)), offset + 1, first, mel_frames)
        return functional.gelu(self.c2(x)).transpose(1, 2)

    def _inside(self, x: Tensor, offset: int, first: Tensor, mel_frames: Tensor) -> Tensor:
        """x (rows, width, n), with zeros in the frames that the utterance does not have."""
        frame = torch.arange(offset, offset + x.size(2), device=x.device)
        inside = (frame >= -first[:, None]) & (frame < mel_frames[:, None])
        return x * inside[:, None]

    def _ended(self, x: Tensor, frames: Tensor) -> Tensor:
        """x (rows, n, width), with zeros from `frames` on."""
        return x * (torch.arange(x.size(1), device=x.device) < frames[:, None])[:, :, None]

    def _padding(self, frames: Tensor, most: int) -> Tensor:
        """The bias (rows, 1, 1, most) that hides what is behind the rows' frames."""
        end = frames.clamp(min=1)  # attention over nothing is NaN
        hidden = torch.arange(most, device=frames.device) >= end[:, None]
        return torch.zeros(hidden.shape, device=frames.device).masked_fill(hidden, float("-inf"))[:, None, None]

    def _ring(self, first: Tensor, frames: Tensor, chunk: int, ring: int, left: int) -> tuple[Tensor, Tensor]:
        """Where in the ring the chunk's frames go, (rows, chunk), and the bias (rows, 1, 1, ring) over it then."""
        place = (first[:, None] + torch.arange(chunk, device=first.device)) % ring
        newest = first + chunk - 1
        age = (newest[:, None] - torch.arange(ring, device=first.device)) % ring
        frame = newest[:, None] - age  # that lies in each place; from before the utterance if it is below 0
        end = first + frames.clamp(min=1)  # attention over nothing is NaN
        seen = (frame >= (first - left).clamp(min=0)[:, None]) & (frame < end[:, None])
        bias = torch.zeros(seen.shape, device=first.device).masked_fill(~seen, float("-inf"))
        return place, bias[:, None, None]
