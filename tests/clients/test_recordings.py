"""Files as audio to stream: as they are where that is possible, else decoded here."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import av
import numpy as np
import pytest

from parley.clients import Encoding
from parley.clients.recordings import NotAudio, Recording, open_raw, open_recording, recut

if TYPE_CHECKING:
    from pathlib import Path

SECONDS = 2


def make(path: Path, codec: str, rate: int, layout: str = "mono") -> Path:
    """A tone of SECONDS."""
    with av.open(path, "w") as container:
        stream = container.add_stream(codec, rate=rate, layout=layout)
        channels = stream.codec_context.channels
        tone = np.sin(np.arange(SECONDS * rate) * 2 * math.pi * 440 / rate) * 8000
        frame = av.AudioFrame.from_ndarray(
            np.repeat(tone.astype(np.int16), channels).reshape(1, -1), format="s16", layout=layout
        )
        frame.sample_rate = rate
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def whole(recording: Recording) -> bytes:
    return b"".join(recording.read(1000))


@pytest.mark.parametrize(
    ("name", "codec", "encoding"),
    [
        ("a.wav", "pcm_s16le", Encoding.AUTO),
        ("a.wav", "pcm_mulaw", Encoding.AUTO),
        ("a.wav", "pcm_alaw", Encoding.AUTO),
        ("a.flac", "flac", Encoding.FLAC),
        ("a.ogg", "libopus", Encoding.OGG_OPUS),
        ("a.webm", "libopus", Encoding.WEBM_OPUS),
        ("a.mp3", "libmp3lame", Encoding.MP3),
    ],
)
def test_what_a_server_takes_is_sent_as_it_is(tmp_path: Path, name: str, codec: str, encoding: Encoding) -> None:
    path = make(tmp_path / name, codec, 48_000, "stereo")
    recording = open_recording(path)
    assert (recording.encoding, recording.sample_rate, recording.channels) == (encoding, 0, 2)
    assert whole(recording) == path.read_bytes()
    assert path.stat().st_size / recording.bytes_per_s == pytest.approx(SECONDS, abs=0.1)


@pytest.mark.parametrize(
    ("name", "codec", "rate", "sent_rate"),
    [
        ("a.wav", "pcm_s24le", 44_100, 44_100),
        ("a.wav", "pcm_f32le", 96_000, 48_000),
        ("a.wav", "pcm_u8", 4_000, 8_000),
        ("a.m4a", "aac", 16_000, 16_000),
    ],
)
def test_what_no_server_takes_is_decoded(tmp_path: Path, name: str, codec: str, rate: int, sent_rate: int) -> None:
    recording = open_recording(make(tmp_path / name, codec, rate, "stereo"))
    assert (recording.encoding, recording.sample_rate, recording.channels) == (Encoding.LINEAR16, sent_rate, 2)
    assert recording.bytes_per_s == sent_rate * 4
    samples = np.frombuffer(whole(recording), "<i2").reshape(-1, 2)
    assert len(samples) / sent_rate == pytest.approx(SECONDS, abs=0.2)  # a codec pads
    assert np.allclose(samples[:, 0], samples[:, 1], atol=300)
    assert 5_000 < np.abs(samples).max() < 12_000


def test_duration_is_measured_where_the_header_has_none(tmp_path: Path) -> None:
    path = tmp_path / "live.webm"
    with av.open(path, "w", options={"live": "1"}) as container:
        stream = container.add_stream("libopus", rate=48_000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, SECONDS * 48_000), np.int16), format="s16", layout="mono")
        frame.sample_rate = 48_000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with av.open(path) as container:
        assert container.duration is None
    recording = open_recording(path)
    assert path.stat().st_size / recording.bytes_per_s == pytest.approx(SECONDS, abs=0.1)


def test_no_audio_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "letter.wav"
    path.write_text("Dear sir or madam, this is no recording at all.", encoding="utf-8")
    with pytest.raises(NotAudio, match=r"letter\.wav: got what FFmpeg cannot read"):
        open_recording(path)


def test_pictures_alone_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "silent.mp4"
    with av.open(path, "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 16, 16, "yuv420p"
        container.mux(stream.encode(av.VideoFrame(16, 16, "yuv420p")))
        container.mux(stream.encode(None))
    with pytest.raises(NotAudio, match="without audio, expected a recording"):
        open_recording(path)


def test_missing_file_is_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        open_recording(tmp_path / "none.wav")


def test_damage_in_the_middle_is_told(tmp_path: Path) -> None:
    path = make(tmp_path / "a.m4a", "aac", 16_000)
    data = bytearray(path.read_bytes())
    at = data.index(b"mdat") + 200
    data[at : at + 4000] = b"\xff" * 4000
    path.write_bytes(data)
    with pytest.raises(NotAudio, match="FFmpeg cannot read on from here"):
        whole(open_recording(path))


def test_raw_audio_is_what_one_says_it_is(tmp_path: Path) -> None:
    path = tmp_path / "call.ul"
    path.write_bytes(bytes(range(256)) * 10)
    recording = open_raw(path, Encoding.MULAW, 8_000, 2)
    assert recording.bytes_per_s == 16_000
    assert whole(recording) == path.read_bytes()


def test_recut_loses_nothing() -> None:
    pieces = [b"", b"1", b"23456789", b"", b"abc"]
    assert list(recut(pieces, 4)) == [b"1234", b"5678", b"9abc"]
    assert list(recut([b"12345"], 4)) == [b"1234", b"5"]
    assert list(recut([], 4)) == []
