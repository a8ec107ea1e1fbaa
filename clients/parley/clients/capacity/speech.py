"""Recordings as what a level plays: calls that end with their last word, and one file. Knows audio, sends nothing."""

from __future__ import annotations

import io
import wave
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from parley.clients import decoding
from parley.clients.config import Encoding, StreamConfig
from parley.clients.decoding import NotAudio
from parley.clients.simulator.call import CallSource

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

VAD_RATES = (8_000, 16_000, 32_000, 48_000)  # Hz; what has another rate is resampled to FILE_RATE
FILE_RATE = 16_000  # Hz
FRAME_MS = 30
PAUSE_FRAMES = 10  # 0.3 s: shorter ones stand within words and between them
SAMPLE = "<i2"
# Of a checkout; an installed package has no speech.
EXAMPLES = Path(__file__).resolve().parents[4] / "tests" / "data"


def examples() -> list[Path]:
    """The read speech that a checkout has, if this is one."""
    return sorted(EXAMPLES.glob("*.flac"))


def load_calls(paths: Sequence[Path], longest_s: float, *, separate_channels: bool = False) -> list[CallSource]:
    """Every recording as calls of at most `longest_s` seconds. Each ends with a word: how long the final takes after
    that is what is measured, and behind a silence there would be nothing left to wait for.

    They are sent as 16-bit samples at the recording's rate, mixed to one channel unless `separate_channels`.
    """
    calls = []
    for path in paths:
        samples, rate = read(path)
        if not separate_channels:
            samples = samples.mean(axis=1, keepdims=True).astype(SAMPLE)
        channels = samples.shape[1]
        config = StreamConfig(
            encoding=Encoding.LINEAR16, sample_rate=rate, channels=channels, separate_channels=separate_channels
        )
        frame = rate * FRAME_MS // 1000
        for number, (first, end) in enumerate(cut(speech(samples, rate), int(longest_s * 1000 / FRAME_MS))):
            audio = samples[first * frame : end * frame].tobytes()
            frame_bytes = 2 * channels
            calls.append(CallSource(f"{path.name} {number}", config, audio, rate * frame_bytes, frame_bytes))
    if not calls:
        raise NotAudio(f"{', '.join(map(str, paths))}: got recordings without speech, expected some that end in words")
    return calls


def load_file(paths: Sequence[Path], length_s: float) -> bytes:
    """All recordings one after the other, over and over up to `length_s`, as a WAV file."""
    pieces, have = [], 0
    wanted = round(length_s * FILE_RATE)
    for path in paths:
        if have < wanted:
            pieces.append(read(path, FILE_RATE)[0].mean(axis=1).astype(SAMPLE))
            have += len(pieces[-1])
    samples = np.resize(np.concatenate(pieces), wanted)
    container = io.BytesIO()
    with wave.open(container, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(FILE_RATE)
        file.writeframes(samples.tobytes())
    return container.getvalue()


def read(path: Path, rate: int | None = None) -> tuple[NDArray[np.int16], int]:
    """Samples (n, channels) and their rate; `rate` None: the recording's, if voice activity can be told at it."""
    form = decoding.form(path)
    rate = rate or (form.sample_rate if form.sample_rate in VAD_RATES else FILE_RATE)
    samples = np.frombuffer(b"".join(decoding.decoded(path, rate)), SAMPLE).reshape(-1, form.channels)
    if not len(samples):
        raise NotAudio(f"{path}: got a recording without a sample")
    return samples.astype(np.int16), rate


def speech(samples: NDArray[np.int16], rate: int) -> list[bool]:
    """Whether there is speech, a frame of FRAME_MS each; samples are (n, channels)."""
    import webrtcvad

    vad = webrtcvad.Vad(2)
    mono = samples.mean(axis=1).astype(SAMPLE)
    size = rate * FRAME_MS // 1000
    frames = (mono[at : at + size] for at in range(0, len(mono) - size + 1, size))
    return [vad.is_speech(frame.tobytes(), rate) for frame in frames]


def cut(spoken: Sequence[bool], longest: int) -> list[tuple[int, int]]:
    """Where calls begin and end, in frames: each of at most `longest`, ending with speech, before a pause if it can."""
    longest = max(1, longest)
    calls = []
    at = 0
    while any(spoken[at : at + longest]) or True in spoken[at:]:
        if not any(spoken[at : at + longest]):
            at = list(spoken).index(True, at)  # a silence longer than a call is nobody's
        words = [frame + 1 for frame in range(at, min(len(spoken), at + longest)) if spoken[frame]]
        pauses = [end for end in words if not any(spoken[end : end + PAUSE_FRAMES])]
        end = (pauses or words)[-1]
        calls.append((at, end))
        at = end
    return calls
