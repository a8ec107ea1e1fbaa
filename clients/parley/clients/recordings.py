"""Files as audio to stream: sent as they are where a server takes that in a stream, else decoded to LINEAR16 here.

Knows FFmpeg (through PyAV) and which encodings a stream may have; paces nothing, sends nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from parley.clients.config import SAMPLE_BYTES, Encoding

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from av.container import InputContainer

LOWEST_RATE, HIGHEST_RATE = 8_000, 48_000  # Hz, of LINEAR16 in a stream

# By FFmpeg's names of container and codec. A WAV's own header tells the server which of the three it is.
_AS_IT_IS = {
    ("wav", "pcm_s16le"): Encoding.AUTO,
    ("wav", "pcm_mulaw"): Encoding.AUTO,
    ("wav", "pcm_alaw"): Encoding.AUTO,
    ("flac", "flac"): Encoding.FLAC,
    ("ogg", "opus"): Encoding.OGG_OPUS,
    ("matroska,webm", "opus"): Encoding.WEBM_OPUS,
    ("mp3", "mp3float"): Encoding.MP3,
    ("mp3", "mp3"): Encoding.MP3,
}


class NotAudio(ValueError):
    """A file that FFmpeg finds no audio in."""


@dataclass(frozen=True, slots=True)
class Recording:
    """Audio that can be streamed. `sample_rate` is 0 where the bytes say it themselves."""

    encoding: Encoding
    sample_rate: int
    channels: int
    bytes_per_s: float  # of what `read` gives, on average
    read: Callable[[int], Iterator[bytes]]  # the bytes in pieces of that size, the last one shorter


def open_recording(path: Path) -> Recording:
    """A recording in any container that FFmpeg reads."""
    import av  # slow to import, and of no use to those who stream raw audio

    size = path.stat().st_size
    try:
        with av.open(path) as container:
            if not container.streams.audio:
                raise NotAudio(f"{path}: got {container.format.name} without audio, expected a recording")
            stream = container.streams.audio[0]
            encoding = _AS_IT_IS.get((container.format.name, stream.codec_context.name))
            channels, rate = stream.codec_context.channels, stream.codec_context.sample_rate
            duration_s = _duration_s(container)
    except av.FFmpegError as error:
        raise NotAudio(f"{path}: got what FFmpeg cannot read ({error.strerror}), expected a recording") from error
    if encoding is not None:
        return Recording(encoding, 0, channels, size / max(duration_s, 0.001), lambda piece: _read(path, piece))
    rate = min(max(rate, LOWEST_RATE), HIGHEST_RATE)
    return Recording(
        Encoding.LINEAR16,
        rate,
        channels,
        rate * channels * SAMPLE_BYTES[Encoding.LINEAR16],
        lambda piece: recut(_decode(path, rate), piece),
    )


def open_raw(path: Path, encoding: Encoding, sample_rate: int, channels: int) -> Recording:
    """Headerless audio in a file, or in anything else that has a path."""
    bytes_per_s = sample_rate * channels * SAMPLE_BYTES[encoding]
    return Recording(encoding, sample_rate, channels, bytes_per_s, lambda piece: _read(path, piece))


def recut(pieces: Iterable[bytes], size: int) -> Iterator[bytes]:
    """The same bytes in pieces of `size`, the last one shorter."""
    rest = b""
    for piece in pieces:
        rest += piece
        whole = len(rest) // size * size
        yield from (rest[at : at + size] for at in range(0, whole, size))
        rest = rest[whole:]
    if rest:
        yield rest


def _read(path: Path, size: int) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(size):
            yield piece


def _duration_s(container: InputContainer) -> float:
    if container.duration is not None:
        return container.duration / 1_000_000
    # What was recorded live, as by a browser, has no duration in its header.
    ends = [
        float((packet.pts + (packet.duration or 0)) * packet.time_base)
        for packet in container.demux(audio=0)
        if packet.pts is not None and packet.time_base is not None
    ]
    return max(ends, default=0.0)


def _decode(path: Path, rate: int) -> Iterator[bytes]:
    import av

    with av.open(path) as container:
        resampler = av.AudioResampler(format="s16", rate=rate)
        try:
            for frame in container.decode(audio=0):
                yield from (each.to_ndarray().tobytes() for each in resampler.resample(frame))
        except av.FFmpegError as error:
            raise NotAudio(f"{path}: FFmpeg cannot read on from here ({error.strerror})") from error
        yield from (each.to_ndarray().tobytes() for each in resampler.resample(None))
