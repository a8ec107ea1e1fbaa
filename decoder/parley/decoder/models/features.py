"""Samples to log-mel frames, batched. Knows Whisper's front end, not streams: a frame depends on its window alone.

So nothing is carried from chunk to chunk: whoever has the samples of a frame's window gets the frame, and the same one
whether the audio came sample by sample or whole.
"""

# No `from __future__ import annotations`: TorchScript wants the types themselves.

import torch
from torch import Tensor, nn

WINDOW = 400  # samples, 25 ms
HOP = 160  # samples, 10 ms


class LogMel(nn.Module):
    """Whisper's log-mel spectrum without its utterance-wide normalization: log10 power, floor -7, (x + 4) / 4."""

    filters: Tensor
    taper: Tensor

    def __init__(self, filters: Tensor) -> None:
        """filters: (bins, WINDOW // 2 + 1), the mel weights of the power spectrum."""
        super().__init__()
        self.window, self.hop = WINDOW, HOP  # TorchScript sees attributes, not globals
        self.register_buffer("filters", filters.T.contiguous())
        self.register_buffer("taper", torch.hann_window(WINDOW, device=filters.device))

    def forward(self, samples: Tensor) -> Tensor:
        """samples: (rows, n) int16 to (rows, (n - WINDOW) // HOP + 1, bins); frame t is of samples from HOP * t on."""
        frames = (samples.to(torch.float32) / 32768.0).unfold(1, self.window, self.hop) * self.taper
        spectrum = torch.view_as_real(torch.fft.rfft(frames))
        power = spectrum.square().sum(-1)
        log_mel = torch.log10((power @ self.filters).clamp(min=1e-10)).clamp(min=-7.0)
        return (log_mel + 4.0) / 4.0
