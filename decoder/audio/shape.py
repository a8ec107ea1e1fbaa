"""Samples as recorded -> samples as the model wants them: rows of channels, at its rate. Knows no bytes.

soxr works in float: in int16 it dithers with noise that depends on how the samples were cut. For a live stream that
must be raised in rate its variable-rate engine is taken: it holds back 30 ms always, where the usual one holds back up
to 115 ms of 8 kHz audio. Lowering the rate holds back up to 40 ms. A telephone's rate, which is to be doubled, has its
own way: it holds back 3 ms, and takes a third of the engine's time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np
import soxr

if TYPE_CHECKING:
    from numpy.typing import NDArray

QUALITY = "HQ"
REACH = 24  # samples to either side of one that is put between them


def _between() -> NDArray[np.float32]:
    """A half-band filter's taps there: of 8 kHz, 3.6 kHz pass whole, and from 4.45 kHz on all is below -70 dB."""
    taps: NDArray[np.float64] = np.sinc(np.arange(0.5 - REACH, REACH)) * np.kaiser(4 * REACH - 1, 8.0)[::2]
    taps /= taps.sum()
    return taps.astype(np.float32)


BETWEEN = _between()


class Resampler(Protocol):
    """soxr.ResampleStream, or Doubler."""

    def resample_chunk(self, samples: NDArray[np.float32], last: bool = ...) -> NDArray[np.float32]:
        """(n,) or (n, channels), the same on return. last: nothing follows, give what was held back."""
        ...


class Doubler:
    """Twice the rate: every sample as it is, and one between it and the next."""

    def __init__(self, channels: int) -> None:
        self._held = np.zeros((REACH - 1, channels), np.float32)

    def resample_chunk(self, samples: NDArray[np.float32], last: bool = False) -> NDArray[np.float32]:
        fresh = samples.reshape(-1, self._held.shape[1])
        parts = (self._held, fresh, np.zeros((REACH, fresh.shape[1]), np.float32)) if last else (self._held, fresh)
        heard = np.concatenate(parts)
        count = max(0, len(heard) - len(BETWEEN) + 1)
        self._held = heard[count:]
        made = np.empty((count, 2, fresh.shape[1]), np.float32)
        if count:
            made[:, 0] = heard[REACH - 1 : REACH - 1 + count]
            for channel, row in enumerate(heard.T):
                made[:, 1, channel] = np.correlate(row, BETWEEN)
        return made.reshape(2 * count, *samples.shape[1:])


class Shaper:
    def __init__(self, channels: int, rate: int, separate: bool, out_rate: int, live: bool) -> None:
        self.rows = channels if separate else 1
        self._mix = channels > 1 and not separate
        self._resampler: Resampler | None = None
        if live and out_rate == 2 * rate:
            self._resampler = Doubler(self.rows)
        elif rate != out_rate:
            self._resampler = soxr.ResampleStream(
                rate, out_rate, self.rows, dtype="float32", quality=QUALITY, vr=live and rate < out_rate
            )

    def shape(self, samples: NDArray[np.int16]) -> NDArray[np.int16]:
        """(samples, channels) -> (rows, samples)."""
        if self._mix:
            mixed = samples.sum(axis=1, keepdims=True, dtype=np.int32) // samples.shape[1]
            samples = mixed.astype(np.int16)
        if self._resampler is None:
            return np.ascontiguousarray(samples.T)
        return self._resample(samples.astype(np.float32), last=False)

    def flush(self) -> NDArray[np.int16]:
        if self._resampler is None:
            return np.empty((self.rows, 0), np.int16)
        return self._resample(np.empty((0, self.rows), np.float32), last=True)

    def _resample(self, samples: NDArray[np.float32], last: bool) -> NDArray[np.int16]:
        assert self._resampler is not None
        # It takes one channel flat only.
        flat = samples[:, 0] if self.rows == 1 else samples
        made = self._resampler.resample_chunk(np.ascontiguousarray(flat), last=last)
        np.rint(made, out=made)
        np.minimum(made, 32767, out=made)  # the two take a third of np.clip's time
        np.maximum(made, -32768, out=made)
        return np.ascontiguousarray(made.astype(np.int16).reshape(-1, self.rows).T)
