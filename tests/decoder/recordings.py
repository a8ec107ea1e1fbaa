"""Recordings in every form, made here, and the short ways to read them. For the tests of parley.decoder.audio."""

from __future__ import annotations

import io
import itertools
import struct
from functools import cache
from typing import TYPE_CHECKING, cast

import av
import numpy as np
import soundfile

from parley.decoder.audio import open_file, open_reader
from parley.decoder.audio.codec import to_int16
from parley.decoder.audio.reader import LONGEST_BLOCK_S
from parley.decoder.values import AudioFormat, Encoding

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from av.audio.stream import AudioStream
    from numpy.typing import NDArray

COMPRESSED = (Encoding.FLAC, Encoding.OGG_OPUS, Encoding.WEBM_OPUS, Encoding.MP3)
CONTAINERS = {  # FFmpeg's names of container and encoder
    Encoding.FLAC: ("flac", "flac"),
    Encoding.OGG_OPUS: ("ogg", "libopus"),
    Encoding.WEBM_OPUS: ("webm", "libopus"),
    Encoding.MP3: ("mp3", "libmp3lame"),
    Encoding.MULAW: ("mulaw", "pcm_mulaw"),
    Encoding.ALAW: ("alaw", "pcm_alaw"),
}
LAYOUTS = {1: "mono", 2: "stereo"}


def tune(seconds: float, channels: int, rate: int) -> NDArray[np.int16]:
    """(samples, channels): a tone of its own a channel that swells and fades, and some noise."""
    t = np.arange(int(seconds * rate)) / rate
    noise = np.random.default_rng(7).normal(0, 200, (len(t), channels))
    pitches = 300 + 250 * np.arange(channels)  # Hz
    tones = 4000 * np.sin(2 * np.pi * np.outer(t, pitches)) * (1.2 + np.sin(5 * t))[:, None]
    return (tones + noise).astype(np.int16)


def encode(
    samples: NDArray[np.int16],
    rate: int,
    container: str,
    codec: str,
    options: dict[str, str] | None = None,
    codec_options: dict[str, str] | None = None,
) -> bytes:
    """What FFmpeg writes."""
    file = io.BytesIO()
    layout = LAYOUTS[samples.shape[1]]
    with av.open(file, "w", format=container, options=options or {}) as output:
        stream = cast("AudioStream", output.add_stream(codec, rate=rate, layout=layout, options=codec_options))
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples.reshape(1, -1)), format="s16", layout=layout)
        frame.sample_rate = rate
        # Opening tells the encoder's frame size.
        stream.codec_context.open()
        fit = av.AudioResampler(stream.format, stream.layout, stream.rate, stream.codec_context.frame_size or None)
        for part in [*fit.resample(frame), *fit.resample(None), None]:
            output.mux(stream.encode(part))
    return file.getvalue()


def vorbis(samples: NDArray[np.int16], rate: int) -> bytes:
    """In Ogg, as libsndfile writes it: FFmpeg's wheel has no encoder."""
    out = io.BytesIO()
    soundfile.write(out, samples, rate, format="OGG", subtype="VORBIS")
    return out.getvalue()


def wav(
    samples: NDArray[np.int16],
    rate: int,
    *,
    tag: int = 1,
    bits: int = 16,
    channels: int | None = None,
    size: int | None = None,
    before: bytes = b"",
    after: bytes = b"",
    extensible: bool = False,
    body: bytes | None = None,
    align: int | None = None,
) -> bytes:
    channels = samples.shape[1] if channels is None else channels
    align = channels * bits // 8 if align is None else align
    body = samples.astype("<i2").tobytes() if body is None else body
    fmt = struct.pack("<HHIIHH", 0xFFFE if extensible else tag, channels, rate, rate * align & 0xFFFFFFFF, align, bits)
    if extensible:
        guid = struct.pack("<H", tag) + bytes.fromhex("000000001000800000aa00389b71")
        fmt += struct.pack("<HHI", 22, bits, 0) + guid
    chunks = before + b"fmt " + struct.pack("<I", len(fmt)) + fmt
    chunks += b"data" + struct.pack("<I", len(body) if size is None else size) + body + after
    return b"RIFF" + struct.pack("<I", len(chunks) + 4 if size is None else size) + b"WAVE" + chunks


@cache
def recording(encoding: Encoding, rate: int = 16_000, channels: int = 1, seconds: float = 1.0) -> bytes:
    samples = tune(seconds, channels, rate)
    if encoding is Encoding.LINEAR16:
        return samples.tobytes()
    return encode(samples, rate, *CONTAINERS[encoding])


def as_recorded(data: bytes, container: str | None = None) -> NDArray[np.int16]:
    """(samples, channels), as FFmpeg decodes it whole."""
    with av.open(io.BytesIO(data), "r", format=container) as file:
        return np.concatenate([to_int16(frame) for frame in file.decode(audio=0)])


def pieces(data: bytes, cuts: list[int]) -> Iterator[bytes]:
    """`data` cut at the given places."""
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    for start, end in itertools.pairwise(edges):
        yield data[start:end]


def every(data: bytes, size: int) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


def stream(data: bytes | list[bytes], fmt: AudioFormat, rate: int = 16_000) -> NDArray[np.int16]:
    """(channels, samples) of a whole stream."""
    reader = open_reader(fmt, rate)
    try:
        blocks = [block for piece in ([data] if isinstance(data, bytes) else data) for block in reader.accept(piece)]
        blocks += reader.finish()
    finally:
        reader.close()
    assert all(block.dtype == np.int16 and block.shape[0] == reader.channels for block in blocks)
    assert all(block.size <= (LONGEST_BLOCK_S + 0.1) * rate for block in blocks)  # 0.1: of the resampler
    return joined(blocks, reader.channels)


def joined(blocks: Iterable[NDArray[np.int16]], channels: int = 1) -> NDArray[np.int16]:
    return np.concatenate([np.empty((channels, 0), np.int16), *blocks], axis=1)


def file(data: bytes, fmt: AudioFormat, rate: int = 16_000) -> NDArray[np.int16]:
    audio = open_file(data, fmt, rate)
    blocks = list(audio.blocks())
    assert all(block.shape[0] == audio.channels and block.shape[1] <= rate for block in blocks)
    return joined(blocks, audio.channels)


def described(encoding: Encoding, rate: int = 16_000, channels: int = 1, *, separate: bool = False) -> AudioFormat:
    """What a request must say for this recording."""
    bare = encoding in (Encoding.LINEAR16, Encoding.MULAW, Encoding.ALAW)
    return AudioFormat(encoding, rate if bare else 0, channels, separate)


def packets(data: bytes) -> tuple[bytes, list[bytes]]:
    """A container's codec header and packets, as FFmpeg finds them."""
    with av.open(io.BytesIO(data)) as file:
        found = [bytes(packet) for packet in file.demux(audio=0) if packet.size]
        return file.streams.audio[0].codec_context.extradata or b"", found
