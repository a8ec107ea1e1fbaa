"""Samples to Kaldi's filter bank features, by kaldi-native-fbank. Knows windows of samples, not streams or models.

A frame depends on its own 25 ms alone, so nothing is carried from chunk to chunk: whoever has a frame's samples gets
the frame, and the same one, bit for bit, whether the audio came sample by sample or whole. Where Kaldi reflects an
utterance's edges (snip_edges = false), `reflected` writes the mirrored samples out before the frames are cut.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import kaldi_native_fbank as knf
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

RATE = 16_000
BINS = 80
WINDOW = RATE // 40  # 25 ms
HOP = RATE // 100  # 10 ms
OVERHANG = (WINDOW - HOP) // 2  # of a frame's window on either side of its hop, where edges are reflected


@dataclass(frozen=True, slots=True)
class Fbank:
    """A filter bank as a recipe has it; what is not said here is Kaldi's default, without dither.

    full_scale: what the loudest sample counts. high_hz: the filters' upper end; 0 or less: from the Nyquist frequency.
    """

    full_scale: float
    high_hz: float

    def __call__(self, samples: NDArray[np.int16], frames: int) -> NDArray[np.float32]:
        """(frames, BINS) of samples (n,) with n of WINDOW + (frames - 1) * HOP or more; frame t begins at HOP * t."""
        if frames < 1:
            return np.zeros((0, BINS), np.float32)
        computer = knf.OnlineFbank(self._options())
        used = samples[: WINDOW + (frames - 1) * HOP].astype(np.float32) * np.float32(self.full_scale / 32768)
        computer.accept_waveform(RATE, used.tolist())  # a list: arrays are taken over slower
        return np.stack([computer.get_frame(t) for t in range(frames)])

    def _options(self) -> knf.FbankOptions:
        options = knf.FbankOptions()
        options.frame_opts.samp_freq = RATE
        options.frame_opts.dither = 0
        options.mel_opts.num_bins = BINS
        options.mel_opts.high_freq = self.high_hz
        return options


WENET = Fbank(full_scale=32768, high_hz=0)
ICEFALL = Fbank(full_scale=1, high_hz=-400)


def inner_frames(samples: int) -> int:
    """How many frames lie wholly inside an utterance of so many samples: Kaldi's snip_edges = true."""
    return max(0, (samples - WINDOW) // HOP + 1)


def centred_frames(samples: int) -> int:
    """How many frames an utterance has where edges are reflected: snip_edges = false. Frame t is of the samples from
    HOP * t - OVERHANG on."""
    return (samples + HOP // 2) // HOP


def reflected(window: NDArray[np.int16], start: int, length: int | None) -> NDArray[np.int16]:
    """The window with the samples that its utterance does not have mirrored at the utterance's edges.

    start: the window's first sample, below 0 where it reaches ahead of the utterance. length: the utterance's samples;
    None: it does not end within the window. Samples whose mirror image is not in the window come out as 0.
    """
    end = start + len(window)
    if start >= 0 and (length is None or end <= length):
        return window
    span = end if length is None else length
    if span <= 0:
        return np.zeros_like(window)
    at = np.arange(start, end) % (2 * span)  # an utterance and its mirror image take turns, endlessly
    at = np.where(at < span, at, 2 * span - 1 - at) - start
    inside = (at >= 0) & (at < len(window))
    return np.where(inside, window[np.where(inside, at, 0)], window.dtype.type(0))
