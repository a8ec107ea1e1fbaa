"""Linear layers and convolutions in 8 bits, for processors that multiply those fast. Knows matrices, not networks.

Weights have a scale an output, inputs one a row, found as they come (dynamic quantization, symmetric). Sums of products
are whole numbers and exact, so a row comes out the same to the bit whatever else is in the batch.
"""

# No `from __future__ import annotations`: TorchScript wants the types themselves.

import torch
from torch import Tensor, nn

MOST = 127.0  # -128 is left out: the scale is the same on both sides
LEAST = 1e-8  # of a row's largest number: a row of zeros stays one


def int8_pays() -> bool:
    """Whether this torch multiplies 8-bit numbers on a CPU, and this processor has the instructions for it (VNNI).

    Without those it would be slow, and not exact either: sums of two products are cut to 16 bits.
    """
    if not (hasattr(torch, "_int_mm") and hasattr(torch.cpu, "get_capabilities")):  # an older torch: not 2.13
        return False
    can = torch.cpu.get_capabilities()
    return bool(can.get("avx512_vnni") or can.get("avx_vnni"))


class Int8Linear(nn.Module):
    """A Linear's weights in 8 bits."""

    weight: Tensor
    scale: Tensor
    bias: Tensor

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        """weight: (outputs, inputs), bias: (outputs,), as nn.Linear has them."""
        super().__init__()
        scale = weight.abs().amax(1).clamp(min=LEAST) / MOST
        self.register_buffer("weight", (weight / scale[:, None]).round().to(torch.int8).t())
        self.register_buffer("scale", scale)
        self.register_buffer("bias", bias.clone())
        self.most, self.least = MOST, LEAST  # TorchScript sees attributes, not globals

    def forward(self, x: Tensor) -> Tensor:
        """(..., inputs) to (..., outputs)."""
        rows = x.reshape(-1, x.size(-1))
        scale = rows.abs().amax(1, keepdim=True).clamp_(min=self.least).div_(self.most)
        products = torch._int_mm(rows.div(scale).round_().to(torch.int8), self.weight)
        # In place and one by one: with two rows to broadcast, addcmul_ takes three times as long.
        out = products.to(torch.float32).mul_(scale).mul_(self.scale).add_(self.bias)
        return out.view(x.shape[:-1] + self.scale.shape)


class Int8Conv1d(nn.Module):
    """A Conv1d without padding in 8 bits: a linear layer over each window."""

    def __init__(self, convolution: nn.Conv1d) -> None:
        super().__init__()
        weight = convolution.weight  # (outputs, channels, window)
        self.window, self.stride = weight.size(2), int(convolution.stride[0])
        assert convolution.bias is not None
        self.linear = Int8Linear(weight.transpose(1, 2).flatten(1), convolution.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(rows, channels, n) to (rows, outputs, n')."""
        frames = x.transpose(1, 2).contiguous()
        rows, n, channels = frames.size(0), frames.size(1), frames.size(2)
        windows = frames.as_strided(  # a window's frames lie one behind the other
            [rows, (n - self.window) // self.stride + 1, self.window * channels],
            [n * channels, self.stride * channels, 1],
        )
        out: Tensor = self.linear(windows)
        return out.transpose(1, 2)


def in_int8(module: nn.Module) -> None:
    """Puts the 8-bit kind in the place of every Linear and Conv1d inside."""
    for name, child in module.named_children():
        if isinstance(child, nn.Linear):
            setattr(module, name, Int8Linear(child.weight, child.bias))
        elif isinstance(child, nn.Conv1d):
            setattr(module, name, Int8Conv1d(child))
        else:
            in_int8(child)
