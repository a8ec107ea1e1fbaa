"""Samples as recorded -> samples as the model wants them: rows of channels, at its rate. Knows no bytes.

soxr works in float: in int16 it dithers with noise that depends on how the samples were cut. For a live stream that
must be raised in rate its variable-rate engine is taken: it holds back 30 ms always, where the usual one holds back up
to 115 ms of 8 kHz audio. Lowering the rate holds back up to 40 ms. A telephone's rate, which is to be doubled, has its
own way: it holds back 3 ms, and takes less time.
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
    def take(self, samples: NDArray[np.int16], last: bool) -> NDArray[np.int16]:
        """The next samples (n, rows) to (rows, m) at the other rate. last: nothing follows, give what was held back."""
        ...


class Doubler:
    """Twice the rate: every sample as it is, and one between it and the next."""

    def __init__(self, rows: int) -> None:
        self._held = np.zeros((rows, REACH - 1), np.int16)

    def take(self, samples: NDArray[np.int16], last: bool) -> NDArray[np.int16]:
        behind = [np.zeros((len(self._held), REACH), np.int16)] if last else []
        heard = np.concatenate((self._held, samples.T, *behind), axis=1)
        count = max(0, heard.shape[1] - len(BETWEEN) + 1)
        self._held = heard[:, count:]
        made = np.empty((len(heard), 2 * count), np.int16)
        if count:
            made[:, ::2] = heard[:, REACH - 1 : REACH - 1 + count]
            for row, out in zip(heard.astype(np.float32), made, strict=True):
                out[1::2] = _whole(np.correlate(row, BETWEEN))
        return made


class Soxr:
    """Any rate."""

    def __init__(self, rows: int, rate: int, out_rate: int, live: bool) -> None:
        self._rows = rows
        self._stream = soxr.ResampleStream(
            rate, out_rate, rows, dtype="float32", quality=QUALITY, vr=live and rate < out_rate
        )

    def take(self, samples: NDArray[np.int16], last: bool) -> NDArray[np.int16]:
        flat = samples[:, 0] if self._rows == 1 else samples  # it takes one channel flat only
        made = self._stream.resample_chunk(np.ascontiguousarray(flat, np.float32), last=last)
        return np.ascontiguousarray(_whole(made).astype(np.int16).reshape(-1, self._rows).T)


def _whole(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rounds them, in place, to numbers that an int16 holds."""
    np.rint(samples, out=samples)
    np.minimum(samples, 32767, out=samples)  # the two take a third of np.clip's time
    np.maximum(samples, -32768, out=samples)
    return samples


class Shaper:
    def __init__(self, channels: int, rate: int, separate: bool, out_rate: int, live: bool) -> None:
        self.rows = channels if separate else 1
        self._mix = channels > 1 and not separate
        self._resampler: Resampler | None = None
        if live and out_rate == 2 * rate:
            self._resampler = Doubler(self.rows)
        elif rate != out_rate:
            self._resampler = Soxr(self.rows, rate, out_rate, live)

    def shape(self, samples: NDArray[np.int16]) -> NDArray[np.int16]:
        """(samples, channels) -> (rows, samples)."""
        if self._mix:
            mixed = samples.sum(axis=1, keepdims=True, dtype=np.int32) // samples.shape[1]
            samples = mixed.astype(np.int16)
        if self._resampler is None:
            return np.ascontiguousarray(samples.T)
        return self._resampler.take(samples, last=False)

    def flush(self) -> NDArray[np.int16]:
        nothing = np.empty((0, self.rows), np.int16)
        return nothing.T if self._resampler is None else self._resampler.take(nothing, last=True)
