"""Files as audio to stream: as they are where that is possible, else decoded here."""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING

import av
import numpy as np
import pytest
import soundfile

from parley.clients import Encoding
from parley.clients.decoding import NoDecoder, NotAudio
from parley.clients.recordings import Recording, open_raw, open_recording, open_unpaced, recut

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


@pytest.fixture
def no_av(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where the extra is not installed."""
    monkeypatch.setitem(sys.modules, "av", None)


@pytest.mark.parametrize("form", ["WAV", "WAVEX"])
@pytest.mark.parametrize("codec", ["PCM_16", "ULAW", "ALAW"])
def test_wav_is_read_without_a_decoder(tmp_path: Path, no_av: None, form: str, codec: str) -> None:
    path = tmp_path / "call.wav"
    soundfile.write(path, np.zeros((SECONDS * 8_000, 2)), 8_000, codec, format=form)
    for recording in (open_recording(path), open_unpaced(path)):
        assert (recording.encoding, recording.sample_rate, recording.channels) == (Encoding.AUTO, 0, 2)
        assert whole(recording) == path.read_bytes()
        assert path.stat().st_size / recording.bytes_per_s == pytest.approx(SECONDS, abs=0.001)


def test_wav_of_a_live_recorder_has_the_pace_of_its_samples(tmp_path: Path) -> None:
    path = tmp_path / "call.wav"
    soundfile.write(path, np.zeros(SECONDS * 8_000, np.int16), 8_000)
    audio = bytearray(path.read_bytes())
    at = audio.index(b"data") + 4
    audio[at : at + 4] = bytes(4)
    path.write_bytes(audio)
    assert open_recording(path).bytes_per_s == pytest.approx(16_000, rel=0.01)


@pytest.mark.parametrize(
    ("name", "codec", "encoding"),
    [
        ("a.flac", "flac", Encoding.FLAC),
        ("a.ogg", "libopus", Encoding.OGG_OPUS),
        ("a.webm", "libopus", Encoding.WEBM_OPUS),
        ("a.mp3", "libmp3lame", Encoding.MP3),
        ("a.wav", "pcm_s24le", None),
        ("a.m4a", "aac", None),
    ],
)
def test_without_a_decoder_others_go_as_they_are_or_not_at_all(
    tmp_path: Path, request: pytest.FixtureRequest, name: str, codec: str, encoding: Encoding | None
) -> None:
    path = make(tmp_path / name, codec, 48_000)
    request.getfixturevalue("no_av")
    with pytest.raises(NoDecoder, match=rf"{name}: got no package av, .*pip install 'parley-asr\[audio\]'"):
        open_recording(path)  # nobody knows how fast to send it
    if encoding is None:
        with pytest.raises(NoDecoder):
            open_unpaced(path)
    else:
        recording = open_unpaced(path)
        assert (recording.encoding, recording.sample_rate, recording.channels) == (encoding, 0, 0)
        assert whole(recording) == path.read_bytes()


def test_unpaced_recording_is_the_same_where_there_is_a_decoder(tmp_path: Path) -> None:
    path = make(tmp_path / "a.flac", "flac", 48_000, "stereo")
    paced, unpaced = open_recording(path), open_unpaced(path)
    assert (unpaced.encoding, unpaced.channels, unpaced.bytes_per_s) == (paced.encoding, 2, paced.bytes_per_s)


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
