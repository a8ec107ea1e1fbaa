"""A request's bytes -> samples, in any pieces. Knows what each encoding is read by, and holds header against request.

Held back from a live caller, besides what the encoder itself holds: nothing of LINEAR16, MULAW, ALAW and WAV, one
frame of FLAC, one page of Ogg, one block of WebM, one frame of MP3; and the resampler's part (shape.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from parley.decoder.audio import flac, mp3, ogg, webm
from parley.decoder.audio.codec import decode
from parley.decoder.audio.feed import Feed, Header, OutOfBytes, show
from parley.decoder.audio.pcm import headerless, is_wav, wav_header
from parley.decoder.audio.shape import Shaper
from parley.decoder.errors import BadAudio, Field, InvalidOption
from parley.decoder.values import HEADERLESS, MOST_CHANNELS, AudioFormat, Encoding

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    import numpy as np
    from numpy.typing import NDArray

    from parley.decoder.audio.feed import Packet

    Demuxer = Callable[[Feed], Generator[Header | Packet | None, None, None]]

RATE, CHANNELS = Field("format.sample_rate"), Field("format.channels")
LOWEST_HEADER_RATE, HIGHEST_HEADER_RATE = 8_000, 192_000  # Hz
DEMUXERS: dict[Encoding, Demuxer] = {
    Encoding.FLAC: flac.demux,
    Encoding.OGG_OPUS: ogg.demux,
    Encoding.WEBM_OPUS: webm.demux,
    Encoding.MP3: mp3.demux,
}
LONGEST_BLOCK_S = 0.5  # of audio, all channels together: 12 bytes of FLAC may hold seconds of silence
RECOGNIZED = "WAV (RIFF), FLAC (fLaC), Ogg Opus (OggS), WebM Opus (1a 45 df a3) or MP3 (ID3 or ff fb)"


class AudioReader(Protocol):
    """One request's bytes -> samples. Over after finish(), close() or an error.

    Blocks are (channels, n) at the rate asked for, read-only, at most LONGEST_BLOCK_S each, and made one by one as they
    are drawn; what is not drawn comes with the next bytes. Drawing raises BadAudio.
    """

    channels: int  # rows of a block
    encoding: Encoding  # AUTO until it is recognized

    def accept(self, data: bytes) -> Iterator[NDArray[np.int16]]:
        """The blocks of the next bytes, cut anywhere."""

    def finish(self) -> Iterator[NDArray[np.int16]]:
        """What was held back. A last sample, frame or page that is cut off is dropped."""

    def close(self) -> None:
        """Frees everything. May be called at any time, and again."""


def open_reader(fmt: AudioFormat, rate: int = 16_000) -> AudioReader:
    """Reads one stream into samples at `rate`. Raises InvalidOption."""
    if fmt.separate_channels and not fmt.channels:
        raise InvalidOption(CHANNELS, 0, f"1 to {MOST_CHANNELS} where channels are recognized separately")
    return StreamReader(fmt, rate, live=True)


class StreamReader:
    """See AudioReader. `header` is known as soon as a sample is, and `channels` with it if the request left it open."""

    def __init__(self, fmt: AudioFormat, rate: int, live: bool) -> None:
        self.channels = max(fmt.channels, 1) if fmt.separate_channels else 1
        self.encoding = fmt.encoding
        self.header: Header | None = None
        self._fmt = fmt
        self._rate = rate
        self._live = live
        self._feed = Feed()
        self._steps = _read(self._feed, fmt)
        self._shaper: Shaper | None = None
        self._error: BadAudio | None = None

    def accept(self, data: bytes) -> Iterator[NDArray[np.int16]]:
        self._feed.push(data)
        return self._blocks()

    def finish(self) -> Iterator[NDArray[np.int16]]:
        self._feed.ended = True
        yield from self._blocks()
        if self._shaper is not None:
            yield self._shaper.flush()

    def close(self) -> None:
        self._steps.close()
        self._feed = Feed()
        self._shaper = None

    def _blocks(self) -> Iterator[NDArray[np.int16]]:
        """Reads on until bytes are missing."""
        if self._error is not None:
            raise self._error
        try:
            for step in self._steps:
                if step is None:
                    break
                if isinstance(step, Encoding):
                    self.encoding = step
                elif isinstance(step, Header):
                    self._begin(step)
                else:
                    yield from self._shaped(step)
            else:
                # What comes after the audio's end, such as a WAV file's last chunks, is not audio.
                self._feed.drop(len(self._feed.buffer))
        except OutOfBytes:
            end = self._feed.offset + len(self._feed.buffer)
            self._error = BadAudio("the audio ends inside its header", end)
        except BadAudio as error:
            self._error = error
        if self._error is not None:
            raise self._error

    def _shaped(self, samples: NDArray[np.int16]) -> Iterator[NDArray[np.int16]]:
        assert self._shaper is not None
        assert self.header is not None
        longest = int(self.header.rate * LONGEST_BLOCK_S) // self.header.channels
        for start in range(0, len(samples), longest):
            yield self._shaper.shape(samples[start : start + longest])

    def _begin(self, header: Header) -> None:
        check_agrees(self._fmt, header)
        self.header = header
        self._shaper = Shaper(header.channels, header.rate, self._fmt.separate_channels, self._rate, self._live)
        self.channels = self._shaper.rows


def check_agrees(fmt: AudioFormat, header: Header) -> None:
    """Holds what the audio says of itself against the bounds and against the request."""
    rate, channels = header.rate, header.channels
    if not LOWEST_HEADER_RATE <= rate <= HIGHEST_HEADER_RATE:
        raise BadAudio(
            f"the header says {rate} Hz, expected {LOWEST_HEADER_RATE} to {HIGHEST_HEADER_RATE} Hz", header.offset
        )
    if not 1 <= channels <= MOST_CHANNELS:
        raise BadAudio(f"the header says {channels} channels, expected 1 to {MOST_CHANNELS}", header.offset)
    if fmt.sample_rate not in (0, rate) and not header.rate_is_free:
        raise BadAudio((f"the header says {rate} Hz, ", RATE, f" {fmt.sample_rate}"), header.offset)
    if fmt.channels not in (0, channels):
        raise BadAudio((f"the header says {channels} channels, ", CHANNELS, f" {fmt.channels}"), header.offset)


def _read(feed: Feed, fmt: AudioFormat) -> Generator[Encoding | Header | NDArray[np.int16] | None, None, None]:
    """Yields an encoding that was recognized, a header, then (samples, channels) as recorded; None where bytes are
    missing."""
    head = yield from feed.peek(12)
    if not head:
        return
    size = None
    if fmt.encoding in HEADERLESS or fmt.encoding is Encoding.AUTO:
        if is_wav(head):
            wav = yield from wav_header(feed)
            encoding, size = wav.encoding, wav.size
            header = Header(encoding.value, wav.rate, wav.channels, wav.offset)
            yield encoding
        elif fmt.encoding is Encoding.AUTO:
            encoding = _recognize(head)
            yield encoding
            yield from decode(DEMUXERS[encoding](feed))
            return
        elif not fmt.sample_rate:
            raise BadAudio((f"no RIFF header but {show(head)}, and ", RATE, " is not set"), 0)
        else:
            encoding = fmt.encoding
            header = Header(encoding.value, fmt.sample_rate, max(fmt.channels, 1), 0)
        yield header
        yield from headerless(feed, encoding, header.channels, size)
    else:
        yield from decode(DEMUXERS[fmt.encoding](feed))


def _recognize(head: bytes) -> Encoding:
    if head[:4] == b"fLaC":
        return Encoding.FLAC
    if head[:4] == b"OggS":
        return Encoding.OGG_OPUS
    if head[:4] == b"\x1a\x45\xdf\xa3":
        return Encoding.WEBM_OPUS
    if head[:3] == b"ID3" or mp3.parse_frame(head) is not None:
        return Encoding.MP3
    raise BadAudio(f"no encoding was given and the audio begins {show(head)}, expected {RECOGNIZED}", 0)
