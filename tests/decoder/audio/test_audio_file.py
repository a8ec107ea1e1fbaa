"""Recordings as files: whatever FFmpeg reads, in bounded memory, and nothing but the bytes given."""

from __future__ import annotations

import io
import tracemalloc
from typing import TYPE_CHECKING, cast

import av
import numpy as np
import pytest
import soundfile

from parley.decoder.audio import open_file
from parley.decoder.errors import BadAudio
from parley.decoder.values import AudioFormat, Encoding
from tests.decoder.recordings import as_recorded, encode, file, recording, stream, tune, vorbis, wav

if TYPE_CHECKING:
    from pathlib import Path

    from av.video.stream import VideoStream


def with_video(audio: bool) -> bytes:
    out = io.BytesIO()
    with av.open(out, "w", format="matroska") as output:
        video = cast("VideoStream", output.add_stream("mpeg4", rate=25))
        video.width = video.height = 64
        video.pix_fmt = "yuv420p"
        sound = output.add_stream("pcm_s16le", rate=16_000, layout="mono") if audio else None
        for index in range(25):
            picture = av.VideoFrame.from_ndarray(np.full((64, 64, 3), index, np.uint8), format="rgb24")
            output.mux(video.encode(picture))
        output.mux(video.encode(None))
        if sound is not None:
            frame = av.AudioFrame.from_ndarray(tune(1, 1, 16_000).T, format="s16", layout="mono")
            frame.sample_rate = 16_000
            output.mux(sound.encode(frame))
            output.mux(sound.encode(None))
    return out.getvalue()


@pytest.mark.parametrize(
    ("container", "codec", "rate"),
    [
        ("mp4", "aac", 44_100),
        ("adts", "aac", 16_000),
        ("aiff", "pcm_s16be", 22_050),
        ("wav", "pcm_f32le", 48_000),
        ("wav", "pcm_u8", 8_000),
        ("wav", "pcm_s24le", 96_000),
        ("w64", "pcm_s16le", 16_000),
        ("au", "pcm_s16be", 16_000),
        ("caf", "pcm_s16be", 192_000),
        ("matroska", "libopus", 48_000),
        ("mp3", "libmp3lame", 44_100),
        ("flac", "flac", 16_000),
        ("avi", "pcm_s16le", 16_000),
        ("mpegts", "aac", 48_000),
    ],
)
@pytest.mark.parametrize("channels", [1, 2])
def test_what_ffmpeg_reads(container: str, codec: str, rate: int, channels: int) -> None:
    data = encode(tune(1.5, channels, rate), rate, container, codec)
    audio = open_file(data, AudioFormat(channels=channels, separate_channels=True), rate=rate)
    assert (audio.channels, audio.sample_rate) == (channels, rate)
    assert audio.encoding == {"libopus": "opus", "libmp3lame": "mp3"}.get(codec, codec)
    assert (np.concatenate(list(audio.blocks()), axis=1) == as_recorded(data).T).all()
    assert file(data, AudioFormat()).shape[1] == pytest.approx(1.5 * 16_000, rel=0.1)


@pytest.mark.parametrize("encoding", [Encoding.LINEAR16, Encoding.MULAW, Encoding.ALAW])
def test_bare_samples(encoding: Encoding) -> None:
    data = recording(encoding, 16_000, 2, seconds=3.0)
    fmt = AudioFormat(encoding, 16_000, 2, separate_channels=True)
    assert (file(data, fmt) == stream(data, fmt)).all()
    audio = open_file(data, fmt)
    assert (audio.channels, audio.sample_rate, audio.encoding) == (2, 16_000, encoding.value)


def test_a_file_and_a_stream_of_it_are_the_same_samples() -> None:
    for encoding in (Encoding.FLAC, Encoding.MP3):
        data = recording(encoding, seconds=3.0)
        whole = file(data, AudioFormat())
        assert (stream(data, AudioFormat(encoding))[:, : whole.shape[1]] == whole).all()


def test_floats_out_of_range_are_clipped_and_what_is_no_number_is_silence() -> None:
    out = io.BytesIO()
    values = np.array([0.5, 2.0, -2.0, np.nan, np.inf, -np.inf, 1e38, 0.25], np.float32)
    soundfile.write(out, values, 16_000, format="WAV", subtype="FLOAT")
    assert file(out.getvalue(), AudioFormat())[0].tolist() == [16384, 32767, -32768, 0, 32767, -32768, 32767, 8192]


def test_the_sound_of_a_video() -> None:
    assert (file(with_video(audio=True), AudioFormat()) == tune(1, 1, 16_000).T).all()


def test_a_tag_that_is_no_utf8() -> None:
    info = b"INFOIART\x08\0\0\0Bj\xf6rk\0\0\0"
    data = wav(tune(0.1, 1, 16_000), 16_000, before=b"LIST" + len(info).to_bytes(4, "little") + info)
    assert file(data, AudioFormat()).shape == (1, 1600)


def test_vorbis() -> None:
    assert file(vorbis(tune(1, 2, 44_100), 44_100), AudioFormat()).shape == (1, 16_000)


def test_an_empty_recording() -> None:
    assert file(wav(tune(0, 1, 16_000), 16_000), AudioFormat()).shape == (1, 0)
    with pytest.raises(BadAudio, match=r"header says 1 channels, format\.channels 2"):
        file(wav(tune(0, 1, 16_000), 16_000), AudioFormat(channels=2))


def test_memory_does_not_grow_with_the_recording() -> None:
    hour = bytes(range(256)) * (8_000 * 3600 // 256)
    flac = io.BytesIO()
    soundfile.write(flac, np.zeros((8_000 * 1200, 2), np.int16), 8_000, format="FLAC")
    for data, fmt, seconds in (
        (hour, AudioFormat(Encoding.MULAW, 8_000), 3600),
        (flac.getvalue(), AudioFormat(), 1200),
    ):
        tracemalloc.start()
        try:
            samples = sum(block.shape[1] for block in open_file(data, fmt).blocks())
            assert tracemalloc.get_traced_memory()[1] < 4_000_000
        finally:
            tracemalloc.stop()
        assert samples == seconds * 16_000


@pytest.mark.parametrize("container", ["mp4", "matroska", "flac", "ogg", "mp3", "wav"])
def test_a_cut_off_file_is_decoded_up_to_there(container: str) -> None:
    codec = {"mp4": "aac", "matroska": "libopus", "ogg": "libopus", "mp3": "libmp3lame", "wav": "pcm_s16le"}
    # An MP4's index stands at its end if it isn't told otherwise.
    options = (
        {"movflags": "faststart+frag_keyframe+empty_moov", "frag_duration": "200000"} if container == "mp4" else {}
    )
    data = encode(tune(4, 1, 48_000), 48_000, container, codec.get(container, "flac"), options)
    assert file(data[: len(data) * 3 // 4], AudioFormat()).shape[1] > 1.5 * 16_000


@pytest.mark.parametrize(
    ("encoding", "data", "problem"),
    [
        (Encoding.OGG_OPUS, vorbis(tune(0.5, 1, 48_000), 48_000), "expected opus in this ogg file, found vorbis"),
        (Encoding.WEBM_OPUS, with_video(audio=True), "expected opus in this matroska file, found pcm_s16le"),
        (
            Encoding.FLAC,
            vorbis(tune(0.5, 1, 48_000), 48_000),
            "can decode in this flac file, found .*; it begins 4f 67",
        ),
    ],
)
def test_another_codec_than_said(encoding: Encoding, data: bytes, problem: str) -> None:
    with pytest.raises(BadAudio, match=problem):
        file(data, AudioFormat(encoding))


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"just text, no audio at all", r"begins 6a 75 73 74 20 74 65 78 \('just tex'\), expected WAV, FLAC, Ogg"),
        (np.random.default_rng(0).bytes(100_000), "expected WAV"),
        (bytes(100_000), "expected WAV"),
        (with_video(audio=False), "can decode in this matroska,webm file, found video; it"),
        (wav(tune(0.1, 1, 16_000), 4_000), "header says 4000 Hz, expected 8000 to 192000 Hz"),
        (wav(tune(0.1, 1, 16_000), 384_000), "header says 384000 Hz, expected 8000 to 192000 Hz"),
        (wav(tune(0.1, 12, 16_000), 16_000), "header says 12 channels, expected 1 to 8"),
        (recording(Encoding.FLAC)[:8288] + bytes(4000), "nothing is decodable as flac"),
    ],
)
def test_refused(data: bytes, problem: str) -> None:
    with pytest.raises(BadAudio, match=problem):
        file(data, AudioFormat())


def test_audio_that_changes_its_rate() -> None:
    first, second = (recording(Encoding.MP3, rate, seconds=0.5) for rate in (16_000, 24_000))
    audio = open_file(first + second, AudioFormat())
    with pytest.raises(BadAudio, match="changes from 16000 Hz and 1 channels to 24000 Hz") as caught:
        list(audio.blocks())
    assert caught.value.offset > len(first) - 1000


def test_nothing_but_the_bytes_is_opened(tmp_path: Path) -> None:
    secret = tmp_path / "secret.wav"
    secret.write_bytes(wav(tune(1, 1, 16_000), 16_000))
    for playlist in (
        f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{secret}\n#EXT-X-ENDLIST\n",
        f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nfile://{secret}\n#EXT-X-ENDLIST\n",
        f"ffconcat version 1.0\nfile '{secret}'\n",
        f"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 9 RTP/AVP 0\na=control:file://{secret}\n",
        f'<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><BaseURL>{secret}</BaseURL></MPD>',
        f"[playlist]\nFile1={secret}\nNumberOfEntries=1\n",
    ):
        with pytest.raises(BadAudio):
            file(playlist.encode(), AudioFormat())
