from __future__ import annotations

import io
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley.clients.wav import ALAW, MULAW, PCM, WavHeader, read_header

EXTENSIBLE = 0xFFFE


def chunk(name: bytes, body: bytes, length: int | None = None) -> bytes:
    return struct.pack("<4sI", name, len(body) if length is None else length) + body + b"\0" * (len(body) % 2)


def format_chunk(form: int, channels: int, rate: int, bits: int, *, extensible: bool = False) -> bytes:
    frame = channels * bits // 8
    body = struct.pack("<HHIIHH", EXTENSIBLE if extensible else form, channels, rate, rate * frame, frame, bits)
    if extensible:
        body += struct.pack("<HHIH", 22, bits, 0, form) + bytes.fromhex("000000001000800000aa00389b71")
    return chunk(b"fmt ", body)


def wav(*chunks: bytes) -> io.BytesIO:
    body = b"WAVE" + b"".join(chunks)
    return io.BytesIO(chunk(b"RIFF", body))


others = st.lists(
    st.builds(chunk, st.sampled_from([b"LIST", b"fact", b"JUNK", b"bext"]), st.binary(max_size=50)), max_size=3
)


@given(
    st.sampled_from([(PCM, 16), (PCM, 24), (MULAW, 8), (ALAW, 8)]),
    st.integers(1, 8),
    st.sampled_from([8_000, 44_100, 48_000]),
    st.booleans(),
    others,
    others,
    st.integers(0, 1000),
)
def test_header_is_read_whatever_stands_round_it(
    form: tuple[int, int],
    channels: int,
    rate: int,
    extensible: bool,
    before: list[bytes],
    between: list[bytes],
    frames: int,
) -> None:
    kind, bits = form
    data = chunk(b"data", bytes(frames * channels * bits // 8))
    file = wav(*before, format_chunk(kind, channels, rate, bits, extensible=extensible), *between, data)
    assert read_header(file) == WavHeader(kind, channels, rate, bits, frames / rate)


@pytest.mark.parametrize("length", [0, 0xFFFFFFFF, 1 << 20])
def test_duration_is_that_of_the_samples_that_are_there(length: int) -> None:
    header = read_header(wav(format_chunk(PCM, 1, 8_000, 16), chunk(b"data", bytes(8_000), length)))
    assert header
    assert header.duration_s == 0.5


@given(st.binary(max_size=200))
def test_what_is_no_wav_has_no_header(data: bytes) -> None:
    assert read_header(io.BytesIO(data)) is None


@given(st.binary(max_size=60))
def test_broken_header_does_no_harm(data: bytes) -> None:
    read_header(wav(data))
    read_header(wav(chunk(b"fmt ", data), chunk(b"data", b"")))


def test_header_without_samples_or_channels_is_none() -> None:
    assert read_header(wav(format_chunk(PCM, 1, 8_000, 16))) is None
    assert read_header(wav(format_chunk(PCM, 0, 8_000, 16), chunk(b"data", bytes(4)))) is None
