"""Recordings through FFmpeg: what they are, and their samples. Knows PyAV, an extra, and imports it when it is asked.

Knows nothing of streams or servers.
"""

from __future__ import annotations

import importlib
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import ModuleType

    from av.container import InputContainer


class NotAudio(ValueError):
    """A file that FFmpeg finds no audio in."""


class NoDecoder(ValueError):
    """PyAV is not installed, and only it can tell. Says which extra brings it."""


@dataclass(frozen=True, slots=True)
class Form:
    """What a recording is. `container` and `codec` by FFmpeg's names."""

    container: str
    codec: str
    sample_rate: int  # Hz
    channels: int


def form(path: Path) -> Form:
    with _opened(path) as container:
        codec = container.streams.audio[0].codec_context
        return Form(container.format.name, codec.name, codec.sample_rate, codec.channels)


def duration_s(path: Path) -> float:
    with _opened(path) as container:
        if container.duration is not None:
            return container.duration / 1_000_000
        # What was recorded live, as by a browser, has no duration in its header.
        ends = [
            float((packet.pts + (packet.duration or 0)) * packet.time_base)
            for packet in container.demux(audio=0)
            if packet.pts is not None and packet.time_base is not None
        ]
        return max(ends, default=0.0)


def decoded(path: Path, rate: int) -> Iterator[bytes]:
    """The samples at this rate, 16 bits each, little-endian, one of every channel after the other."""
    av = _av(path)
    with _opened(path) as container:
        resampler = av.AudioResampler(format="s16", rate=rate)
        try:
            for frame in container.decode(audio=0):
                yield from (each.to_ndarray().tobytes() for each in resampler.resample(frame))
        except av.FFmpegError as error:
            raise NotAudio(f"{path}: FFmpeg cannot read on from here ({error.strerror})") from error
        yield from (each.to_ndarray().tobytes() for each in resampler.resample(None))


@contextmanager
def _opened(path: Path) -> Iterator[InputContainer]:
    """With audio in it."""
    av = _av(path)
    path.stat()  # else it is FFmpeg that finds it missing
    try:
        with av.open(path) as container:
            if not container.streams.audio:
                raise NotAudio(f"{path}: got {container.format.name} without audio, expected a recording")
            yield container
    except av.FFmpegError as error:
        raise NotAudio(f"{path}: got what FFmpeg cannot read ({error.strerror}), expected a recording") from error


def _av(path: Path) -> ModuleType:
    try:
        return importlib.import_module("av")  # slow to import, and of no use to those who stream WAV or raw audio
    except ModuleNotFoundError:
        raise NoDecoder(
            f"{path}: got no package av, expected it to tell length, channels and samples of what is no WAV of 16 bits "
            "or G.711: pip install 'parley-asr[audio]'"
        ) from None
