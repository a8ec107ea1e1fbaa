"""Files as audio to stream: sent as they are where a server takes that in a stream, else decoded to LINEAR16 here.

Reads WAV by itself; what else a file is, and how long, decoding finds out. Knows which encodings a stream may have;
paces nothing, sends nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from parley.clients import decoding, wav
from parley.clients.config import SAMPLE_BYTES, Encoding
from parley.clients.decoding import NoDecoder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

LOWEST_RATE, HIGHEST_RATE = 8_000, 48_000  # Hz, of LINEAR16 in a stream
UNPACED_BYTES_PER_S = 160_000.0  # of what nobody paces: messages of 16 kB

_WAVS = {(wav.PCM, 16), (wav.MULAW, 8), (wav.ALAW, 8)}  # whose own header tells the server which of the three it is

# By FFmpeg's names of container and codec.
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

# By a file's first bytes, of what may hold another codec too: that the server finds out.
_HEADS = {
    b"fLaC": Encoding.FLAC,
    b"OggS": Encoding.OGG_OPUS,
    b"\x1aE\xdf\xa3": Encoding.WEBM_OPUS,
    b"ID3": Encoding.MP3,
    **dict.fromkeys((b"\xff\xfb", b"\xff\xfa", b"\xff\xf3", b"\xff\xf2"), Encoding.MP3),
}


@dataclass(frozen=True, slots=True)
class Recording:
    """Audio that can be streamed. `sample_rate` and `channels` are 0 where the bytes say it themselves."""

    encoding: Encoding
    sample_rate: int
    channels: int
    bytes_per_s: float  # of what `read` gives, on average
    read: Callable[[int], Iterator[bytes]]  # the bytes in pieces of that size, the last one shorter


def open_recording(path: Path) -> Recording:
    """A recording that can be paced: a WAV, or with PyAV whatever FFmpeg reads. Raises NotAudio, NoDecoder."""
    with path.open("rb") as file:
        header = wav.read_header(file)
    if header and (header.form, header.sample_bits) in _WAVS:
        return _as_it_is(path, Encoding.AUTO, header.channels, _bytes_per_s(path, header.duration_s))
    form = decoding.form(path)
    encoding = _AS_IT_IS.get((form.container, form.codec))
    if encoding is not None:
        return _as_it_is(path, encoding, form.channels, _bytes_per_s(path, decoding.duration_s(path)))
    rate = min(max(form.sample_rate, LOWEST_RATE), HIGHEST_RATE)
    return Recording(
        Encoding.LINEAR16,
        rate,
        form.channels,
        rate * form.channels * SAMPLE_BYTES[Encoding.LINEAR16],
        lambda piece: recut(decoding.decoded(path, rate), piece),
    )


def open_unpaced(path: Path) -> Recording:
    """The same for a recording whose pace does not matter: without PyAV one that a server takes goes as it is."""
    try:
        return open_recording(path)
    except NoDecoder:
        with path.open("rb") as file:
            head = file.read(4)
        encoding = next((encoding for first, encoding in _HEADS.items() if head.startswith(first)), None)
        if encoding is None:
            raise
        return _as_it_is(path, encoding, 0, UNPACED_BYTES_PER_S)


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


def _bytes_per_s(path: Path, duration_s: float) -> float:
    return path.stat().st_size / max(duration_s, 0.001)


def _as_it_is(path: Path, encoding: Encoding, channels: int, bytes_per_s: float) -> Recording:
    return Recording(encoding, 0, channels, bytes_per_s, lambda piece: _read(path, piece))


def _read(path: Path, size: int) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(size):
            yield piece
