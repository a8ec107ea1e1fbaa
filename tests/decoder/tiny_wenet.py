"""A model with the interface of WeNet's streaming exports, small and with random weights, and what it must compute.

The real ones are conformers of some 30 to 120 million parameters. This has what can go wrong in the hands of a caller:
convolutions that hear features beyond the chunk, positions that count from the utterance's start, keys and values of
the frames behind, causal convolutions with a cache. `reference` computes the same without a cache, by masks.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

WIDTH, HEADS, LAYERS, KERNEL, TOKENS = 16, 2, 2, 5, 7


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.conv = nn.Conv1d(WIDTH, WIDTH, KERNEL, groups=WIDTH)
        self.heads, self.lorder = HEADS, KERNEL - 1

    def forward(self, x: Tensor, att_cache: Tensor, cnn_cache: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """x: (1, n, width). att_cache: (1, heads, t, 2 * width / heads), or empty. mask: (n, t + n) of what is seen, or
        empty: everything."""
        q, k, v = self.qkv(x).view(1, x.size(1), 3, self.heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        kv = torch.cat([k, v], dim=-1)
        if att_cache.size(0) > 0:
            kv = torch.cat([att_cache, kv], dim=2)
        k, v = kv.chunk(2, dim=-1)
        scores = torch.matmul(q, k.transpose(-2, -1)) * 2.0
        if mask.size(0) > 0:
            scores = scores.masked_fill(mask == 0, float("-inf"))
        x = x + self.out(torch.matmul(scores.softmax(-1), v).transpose(1, 2).reshape(x.shape))
        y = x.transpose(1, 2)
        y = functional.pad(y, [self.lorder, 0]) if cnn_cache.size(0) == 0 else torch.cat([cnn_cache, y], dim=2)
        new_cnn_cache = y[:, :, y.size(2) - self.lorder :]
        return x + torch.tanh(self.conv(y)).transpose(1, 2), kv, new_cnn_cache


class TinyWenet(nn.Module):
    def __init__(self, positions: int = 5_000, right_context: int = 6) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.conv1, self.conv2 = nn.Conv2d(1, 4, 3, 2), nn.Conv2d(4, 4, 3, 2)
        self.embed = nn.Linear(4 * 19, WIDTH)
        self.layers = nn.ModuleList([Layer() for _ in range(LAYERS)])
        self.ctc = nn.Linear(WIDTH, TOKENS)
        self.context = right_context
        angle = torch.arange(positions)[:, None] * torch.exp(torch.arange(0, WIDTH, 2) * (-math.log(1e4) / WIDTH))
        self.pe = torch.cat([angle.sin(), angle.cos()], 1)

    @torch.jit.export
    def subsampling_rate(self) -> int:
        return 4

    @torch.jit.export
    def right_context(self) -> int:
        return self.context

    @torch.jit.export
    def sos_symbol(self) -> int:
        return 6

    @torch.jit.export
    def eos_symbol(self) -> int:
        return 6

    @torch.jit.export
    def is_bidirectional_decoder(self) -> bool:
        return False

    @torch.jit.export
    def forward_encoder_chunk(
        self,
        xs: Tensor,
        offset: int,
        required_cache_size: int,
        att_cache: Tensor = torch.zeros(0, 0, 0, 0),  # noqa: B008
        cnn_cache: Tensor = torch.zeros(0, 0, 0, 0),  # noqa: B008
    ) -> tuple[Tensor, Tensor, Tensor]:
        assert xs.size(0) == 1, "one row"
        x = self.embedded(xs, offset)
        past = att_cache.size(2)
        keys = past + x.size(1)
        start = 0
        if required_cache_size == 0:
            start = keys
        elif required_cache_size > 0:
            start = max(keys - required_cache_size, 0)
        everything = torch.zeros(0, 0)
        att: list[Tensor] = []
        cnn: list[Tensor] = []
        for i, layer in enumerate(self.layers):
            x, new_att, new_cnn = layer(
                x,
                att_cache[i : i + 1] if att_cache.size(0) > 0 else att_cache,
                cnn_cache[i] if cnn_cache.size(0) > 0 else cnn_cache,
                everything,
            )
            att.append(new_att[:, :, start:])
            cnn.append(new_cnn.unsqueeze(0))
        return x, torch.cat(att, 0), torch.cat(cnn, 0)

    @torch.jit.export
    def ctc_activation(self, xs: Tensor) -> Tensor:
        return torch.log_softmax(self.ctc(xs) * 3.0, dim=2)

    def embedded(self, xs: Tensor, offset: int) -> Tensor:
        x = (xs - 12.0) / 4.0  # as the global mean and variance do
        x = torch.relu(self.conv2(torch.relu(self.conv1(x.unsqueeze(1)))))
        x = self.embed(x.transpose(1, 2).reshape(1, x.size(2), -1))
        assert offset + x.size(1) <= self.pe.size(0), "positions run out"
        return torch.add(x, self.pe[offset : offset + x.size(1)])

    @torch.no_grad()
    def reference(self, features: Tensor, chunk: int, left_chunks: int) -> Tensor:
        """log_probs (frames, tokens) of a whole utterance's features (n, 80), by masks; chunk 0: all frames see all."""
        if len(features) < 7:
            return torch.zeros(0, TOKENS)
        x = self.embedded(features[None], 0)
        of = torch.arange(x.size(1)) // (chunk or x.size(1))
        back = of[:, None] - of[None]
        mask = ((back >= 0) & (back <= left_chunks)).int()
        for layer in self.layers:
            x, _, _ = layer(x, torch.zeros(0, 0, 0, 0), torch.zeros(0, 0, 0), mask)
        log_probs: Tensor = self.ctc_activation(x)
        return log_probs[0]
