"""A WAV file's header: what its samples are. Knows RIFF's chunks; decodes nothing."""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import BinaryIO

PCM, ALAW, MULAW = 1, 6, 7  # WAVE_FORMAT_*
_EXTENSIBLE = 0xFFFE  # the form stands further behind, as the first two bytes of a GUID
_CHUNK = struct.Struct("<4sI")
_FORMAT = struct.Struct("<HHIIHH")
_SUBFORMAT_AT = 24  # bytes into the chunk
_UNKNOWN_LENGTHS = (0, 0xFFFFFFFF)  # what a recorder writes that cannot go back to its header
_FORMAT_LIMIT = 1 << 10  # bytes; a longer chunk is none


@dataclass(frozen=True, slots=True)
class WavHeader:
    form: int  # PCM, ALAW, MULAW, or what else there is
    channels: int
    sample_rate: int  # Hz
    sample_bits: int
    duration_s: float  # of the samples that are there, whatever the header says


def read_header(file: BinaryIO) -> WavHeader | None:
    """None: this is no WAV, or one without samples. Leaves the file somewhere else."""
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    riff = file.read(12)
    if riff[:4] != b"RIFF" or riff[8:] != b"WAVE":
        return None
    format_chunk = b""
    while len(head := file.read(_CHUNK.size)) == _CHUNK.size:
        name, length = _CHUNK.unpack(head)
        if name == b"data":
            # What was recorded live, or cut off, has another length in its header.
            there = size - file.tell()
            return _header(format_chunk, there if length in _UNKNOWN_LENGTHS else min(length, there))
        if name == b"fmt ":
            format_chunk = file.read(min(length, _FORMAT_LIMIT))
            length -= len(format_chunk)
        file.seek(length + length % 2, os.SEEK_CUR)  # chunks begin at even places
    return None


def _header(format_chunk: bytes, data_bytes: int) -> WavHeader | None:
    if len(format_chunk) < _FORMAT.size:
        return None
    form, channels, rate, _, _, bits = _FORMAT.unpack_from(format_chunk)
    if form == _EXTENSIBLE and len(format_chunk) >= _SUBFORMAT_AT + 2:
        (form,) = struct.unpack_from("<H", format_chunk, _SUBFORMAT_AT)
    if not (channels and rate and bits):
        return None
    return WavHeader(form, channels, rate, bits, data_bytes * 8 / (channels * bits) / rate)
