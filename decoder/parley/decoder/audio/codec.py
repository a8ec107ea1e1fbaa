"""Packets -> samples, through FFmpeg's decoders by way of PyAV. Knows no containers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import av
import numpy as np

from parley.decoder.audio.feed import Header, OutOfBytes, Packet
from parley.decoder.errors import BadAudio

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable

    from av.audio.codeccontext import AudioCodecContext
    from av.audio.frame import AudioFrame
    from numpy.typing import NDArray

# Silence packs into FLAC at 20 bytes a second; less than this is made to fill memory.
DENSEST_S_PER_BYTE = 1 / 16
DENSE_ALLOWANCE_S = 60


def to_int16(frame: AudioFrame) -> NDArray[np.int16]:
    """(samples, channels), whatever the frame's form."""
    data = cast("NDArray[Any]", frame.to_ndarray())
    channels = frame.layout.nb_channels
    data = data.T if frame.format.is_planar else data.reshape(-1, channels)
    name = frame.format.name.removesuffix("p")
    if name == "s16":
        return data
    if name in ("s32", "s64"):
        return (data >> (data.itemsize * 8 - 16)).astype(np.int16)
    if name == "u8":
        return (data.astype(np.int16) - 128) << 8
    # A float file may hold anything, not-a-number too.
    scaled = np.nan_to_num(data.clip(-1, 1), nan=0.0) * 32768
    return cast("NDArray[np.int16]", np.rint(scaled).clip(max=32767).astype(np.int16))


def decode(steps: Iterable[Header | Packet | None]) -> Generator[Header | NDArray[np.int16] | None, None, None]:
    """Yields the first header, then (samples, channels) of every packet; None where bytes are missing."""
    decoder: _PacketDecoder | None = None
    decoded = 0
    for step in _until_cut(steps):
        if step is None:
            yield None
        elif isinstance(step, Header):
            if decoder is None:
                yield step
            elif step.channels != decoder.header.channels:
                raise BadAudio(
                    f"the audio changes from {decoder.header.channels} to {step.channels} channels", step.offset
                )
            decoder = _PacketDecoder(step)
        else:
            assert decoder is not None
            for samples in decoder.decode(step):
                decoded += len(samples)
                if decoded > decoder.header.rate * (DENSE_ALLOWANCE_S + step.offset * DENSEST_S_PER_BYTE):
                    raise BadAudio(
                        f"{decoded / decoder.header.rate:.0f} s of audio up to here, expected at most "
                        f"{DENSE_ALLOWANCE_S} s and 1 s more every {1 / DENSEST_S_PER_BYTE:.0f} bytes",
                        step.offset,
                    )
                yield samples
    if decoder is not None and decoder.bad_in_a_row and not decoded:
        raise BadAudio(f"no packet is decodable as {decoder.header.codec}", decoder.header.offset)


def _until_cut(steps: Iterable[Header | Packet | None]) -> Generator[Header | Packet | None, None, None]:
    """Lets audio that is cut off behind its header just end."""
    begun = False
    try:
        for step in steps:
            begun = begun or step is not None
            yield step
    except OutOfBytes:
        if not begun:
            raise


class _PacketDecoder:
    """One FFmpeg decoder, for the packets behind one header."""

    def __init__(self, header: Header) -> None:
        self.header = header
        self.bad_in_a_row = 0
        self._skip = header.skip
        self._context = cast("AudioCodecContext", av.CodecContext.create(header.codec, "r"))
        # Its threads would take the cores from the model and hold back frames.
        self._context.thread_count = 1
        self._context.extradata = header.extradata or None
        self._context.options = {"err_detect": "crccheck+explode", "flags2": "skip_manual"}

    def decode(self, packet: Packet) -> list[NDArray[np.int16]]:
        try:
            blocks = [to_int16(frame) for frame in self._context.decode(av.Packet(packet.data))]
        except av.FFmpegError as error:
            if packet.cut:
                return []
            self.bad_in_a_row += 1
            if self.bad_in_a_row > self.header.bad_packets:
                raise BadAudio(f"not decodable as {self.header.codec}: {error.strerror}", packet.offset) from error
            return []
        self.bad_in_a_row = 0
        return [self._trim(block, packet) for block in blocks]

    def _trim(self, samples: NDArray[np.int16], packet: Packet) -> NDArray[np.int16]:
        if samples.shape[1] != self.header.channels:
            raise BadAudio(
                f"the header says {self.header.channels} channels, the audio has {samples.shape[1]}", packet.offset
            )
        if packet.keep is not None:
            samples = samples[: packet.keep]
        skipped = min(self._skip, len(samples))
        self._skip -= skipped
        return samples[skipped:]
