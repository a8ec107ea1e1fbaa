"""A whole recording in memory -> samples, block by block, through FFmpeg. Knows containers only by FFmpeg's names."""

from __future__ import annotations

import io
from functools import lru_cache
from typing import TYPE_CHECKING, cast

import av

from parley.decoder.audio.codec import to_int16
from parley.decoder.audio.feed import Header, show
from parley.decoder.audio.pcm import is_wav
from parley.decoder.audio.reader import StreamReader, check_agrees
from parley.decoder.audio.shape import Shaper
from parley.decoder.errors import BadAudio
from parley.decoder.values import HEADERLESS, AudioFormat, Encoding

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from av.audio.frame import AudioFrame
    from av.audio.stream import AudioStream
    from av.container import InputContainer
    from numpy.typing import NDArray

# Containers that hold their audio themselves. FFmpeg has others, playlists and the like, that open what they name.
CONTAINERS = (
    "aac,ac3,aiff,amr,amrnb,amrwb,ape,asf,au,avi,caf,dts,eac3,flac,flv,gsm,latm,loas,matroska,mov,mp3,mpc,mpc8,mpeg,"
    "mpegts,nistsphere,nut,ogg,rm,sox,tak,tta,voc,w64,wav,wv,xwma"
)
SAID = {  # FFmpeg's names of container and codec
    Encoding.LINEAR16: ("wav", ""),
    Encoding.MULAW: ("wav", ""),
    Encoding.ALAW: ("wav", ""),
    Encoding.FLAC: ("flac", "flac"),
    Encoding.OGG_OPUS: ("ogg", "opus"),
    Encoding.WEBM_OPUS: ("matroska", "opus"),
    Encoding.MP3: ("mp3", "mp3"),
}
RECOGNIZED = (
    "WAV, FLAC, Ogg, WebM, MP3, MP4 or another container of FFmpeg's, or the encoding (LINEAR16, MULAW, ALAW) said"
)
SLICE = 1 << 16  # bytes of headerless audio at a time


class FileAudio:
    """A recording whose first samples could be decoded. Read `blocks` once."""

    def __init__(self, header: Header, separate: bool, rate: int, samples: Iterator[NDArray[np.int16]]) -> None:
        self.channels = header.channels if separate else 1
        self.sample_rate = header.rate
        self.encoding = header.codec
        self._rate = rate
        self._samples = samples

    def blocks(self) -> Iterator[NDArray[np.int16]]:
        """(channels, n) at the rate asked for, at most a second each. Raises BadAudio where it can't go on."""
        for block in self._samples:
            for start in range(0, block.shape[1], self._rate):
                yield block[:, start : start + self._rate]


def open_file(data: bytes, fmt: AudioFormat, rate: int = 16_000) -> FileAudio:
    """Decodes up to the first samples, so that what isn't audio is refused here. Raises BadAudio."""
    contained = data and (fmt.encoding not in HEADERLESS or is_wav(data[:12]))
    steps = _contained(data, fmt, rate) if contained else _headerless(data, fmt, rate)
    header = next(steps)
    assert isinstance(header, Header)
    return FileAudio(header, fmt.separate_channels, rate, cast("Iterator[NDArray[np.int16]]", steps))


def _headerless(data: bytes, fmt: AudioFormat, rate: int) -> Iterator[Header | NDArray[np.int16]]:
    reader = StreamReader(fmt, rate, live=False)
    first = list(reader.accept(data[:SLICE]))
    yield reader.header or Header(fmt.encoding.value, fmt.sample_rate or rate, max(fmt.channels, 1), 0)
    yield from first
    for start in range(SLICE, len(data), SLICE):
        yield from reader.accept(data[start : start + SLICE])
    yield from reader.finish()


def _contained(data: bytes, fmt: AudioFormat, rate: int) -> Iterator[Header | NDArray[np.int16]]:
    with _open(data, fmt) as container:
        stream = _audio_stream(container, fmt, data)
        codec = stream.codec.canonical_name
        shaper: Shaper | None = None
        header: Header | None = None
        for frame, offset in _frames(container, stream):
            # The frame knows best: a container may tell an AAC stream's rate halved.
            found = (frame.sample_rate, frame.layout.nb_channels)
            if header is None or shaper is None:
                header = Header(codec, *found, offset, rate_is_free=codec == "opus")
                check_agrees(fmt, header)
                shaper = Shaper(header.channels, header.rate, fmt.separate_channels, rate, live=False)
                yield header
            elif found != (header.rate, header.channels):
                raise BadAudio(
                    f"the audio changes from {header.rate} Hz and {header.channels} channels to {found[0]} Hz and "
                    f"{found[1]} channels",
                    offset,
                )
            yield shaper.shape(to_int16(frame))
        if shaper is None:
            context = stream.codec_context
            header = Header(codec, context.sample_rate, context.channels, 0, rate_is_free=codec == "opus")
            check_agrees(fmt, header)
            yield header
        else:
            yield shaper.flush()


def _open(data: bytes, fmt: AudioFormat) -> InputContainer:
    container, _ = SAID.get(fmt.encoding, (None, ""))
    options = {"format_whitelist": CONTAINERS, "protocol_whitelist": "none", "codec_whitelist": _audio_codecs()}
    try:
        # A tag in another character set than UTF-8 is no reason to refuse the recording.
        return av.open(io.BytesIO(data), "r", format=container, options=options, metadata_errors="replace")
    except av.FFmpegError as error:
        expected = f"a {container} file" if container else RECOGNIZED
        raise BadAudio(f"the file begins {show(data)}, expected {expected} ({error.strerror})", 0) from error


@lru_cache(maxsize=1)
def _audio_codecs() -> str:
    """FFmpeg opens decoders of all streams to see what they are; no picture is worth that."""
    audio = []
    for name in sorted(av.codecs_available):
        try:
            codec = av.Codec(name, "r")
        except av.codec.codec.UnknownCodecError:  # it only encodes
            continue
        if codec.type == "audio":
            audio.append(name)
    return ",".join(audio)


def _audio_stream(container: InputContainer, fmt: AudioFormat, data: bytes) -> AudioStream:
    kind = container.format.name
    stream = container.streams.best("audio")
    # Not as it is typed: a stream whose codec FFmpeg doesn't know has none.
    if stream is None or not hasattr(stream, "codec"):
        others = ", ".join(other.type for other in container.streams) or "no stream"
        raise BadAudio(
            f"expected audio that FFmpeg can decode in this {kind} file, found {others}; it begins {show(data)}", 0
        )
    audio = cast("AudioStream", stream)
    _, codec = SAID.get(fmt.encoding, ("", ""))
    if codec not in ("", audio.codec.canonical_name):
        raise BadAudio(f"expected {codec} in this {kind} file, found {audio.codec.canonical_name}", 0)
    # Its threads would take the cores from the model.
    audio.codec_context.thread_count = 1
    return audio


def _frames(container: InputContainer, stream: AudioStream) -> Iterator[tuple[AudioFrame, int]]:
    """Frames and their places in the file. What is broken is passed over, unless nothing else is there."""
    offset = 0
    decoded = False
    problem = "no frame found" if stream.duration else ""
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
            if packet is None:
                break
            offset = packet.pos or offset
            frames = packet.decode()
        except av.FFmpegError as error:
            problem = error.strerror or str(error)
            continue
        for frame in frames:
            decoded = True
            yield frame, offset
    if problem and not decoded:
        raise BadAudio(f"nothing is decodable as {stream.codec.canonical_name}: {problem}", offset)
