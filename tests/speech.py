"""The recordings in tests/data as samples and words."""

from __future__ import annotations

from functools import cache

import soundfile

from scripts.speech import DATA, recordings

RATE = 16_000  # Hz, of every recording
RECORDINGS = tuple(recording.path.name for recording in recordings())


def words_of(recording: str) -> str:
    return next(each.text for each in recordings() if each.path.name == recording)


@cache
def pcm_of(recording: str) -> bytes:
    """Signed 16-bit little-endian samples, mono, at RATE."""
    samples, rate = soundfile.read(DATA / recording, dtype="int16")
    assert rate == RATE
    assert samples.ndim == 1
    return bytes(samples.astype("<i2").tobytes())
