"""Telephone calls of real speech, for what plays at a node. Knows recordings and encodings, not clients or nodes."""

from __future__ import annotations

import io
import itertools
from typing import TYPE_CHECKING

import numpy as np
import soundfile
import soxr

from parley.clients.config import Encoding, StreamConfig
from parley.clients.simulator.call import CallSource
from scripts.speech import recordings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from scripts.speech import Recording

TELEPHONE_RATE = 8_000  # Hz
LONGEST_CLIP_S = 12
PAUSES_S = (1.5, 2.5, 1.0, 3.0)  # between a call's utterances: somebody else talks


def make_calls(count: int, spoken: Sequence[Recording] | None = None) -> list[NDArray[np.int16]]:
    """Mono telephone calls (n,) at 8 kHz: utterances, `spoken` or all real ones, with pauses, the last word at the very
    end. Each call begins with another of them."""
    clips = []
    for recording in spoken or recordings():
        samples, rate = soundfile.read(recording.path, dtype="float32")
        samples = soxr.resample(samples[: LONGEST_CLIP_S * rate], rate, TELEPHONE_RATE)
        clips.append(np.clip(samples * 32768, -32768, 32767).astype(np.int16))
    noise = np.random.default_rng(0)
    calls = []
    for number in range(count):
        parts = []
        order = [clips[(number + k) % len(clips)] for k in range(len(clips))]
        for clip, pause_s in zip(order, itertools.cycle(PAUSES_S)):
            quiet = noise.normal(0, 8, int(pause_s * TELEPHONE_RATE))  # a line's hiss, about -72 dB
            parts += [quiet.astype(np.int16), clip]
        calls.append(np.concatenate(parts))
    return calls


def mulaw(samples: NDArray[np.int16], container: str) -> bytes:
    raw = io.BytesIO()
    soundfile.write(raw, samples, TELEPHONE_RATE, format=container, subtype="ULAW")
    return raw.getvalue()


def call_source(number: int, call: NDArray[np.int16]) -> CallSource:
    config = StreamConfig(
        encoding=Encoding.MULAW, sample_rate=TELEPHONE_RATE, channels=1, interim_results=True, words=True
    )
    return CallSource(f"call {number}", config, mulaw(call, "RAW"), float(TELEPHONE_RATE))
