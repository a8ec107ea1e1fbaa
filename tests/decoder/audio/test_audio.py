"""Audio in every form, whole and in pieces, against what FFmpeg and libsndfile make of it."""

from __future__ import annotations

import io
import struct
from typing import TYPE_CHECKING

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from parley.decoder.audio import open_reader
from parley.decoder.audio.opus import packet_samples
from parley.decoder.audio.reader import LONGEST_BLOCK_S
from parley.decoder.errors import BadAudio, InvalidOption
from parley.decoder.values import AudioFormat, Encoding
from tests.decoder.recordings import (
    COMPRESSED,
    CONTAINERS,
    as_recorded,
    described,
    encode,
    every,
    file,
    joined,
    packets,
    pieces,
    recording,
    stream,
    tune,
    wav,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray


OPUS_KINDS = [
    *({"application": "lowdelay", "frame_duration": ms} for ms in ("2.5", "5", "10", "20")),
    *({"application": "voip", "frame_duration": ms, "b": "9000"} for ms in ("10", "20", "40", "60", "120")),
    *({"application": "voip", "frame_duration": ms, "b": "24000"} for ms in ("10", "20")),
]


def strongest(samples: NDArray[np.int16], rate: int = 16_000) -> float:
    """The frequency in Hz that is strongest."""
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(spectrum.argmax() * rate / len(samples))


# --- what comes out is what was recorded


def test_linear16_comes_out_as_it_went_in() -> None:
    samples = tune(0.5, 1, 16_000)
    assert (stream(samples.tobytes(), AudioFormat(Encoding.LINEAR16, 16_000)) == samples.T).all()


@pytest.mark.parametrize("encoding", [Encoding.MULAW, Encoding.ALAW])
def test_g711_is_ffmpegs_for_every_code(encoding: Encoding) -> None:
    codes = bytes(range(256))
    # FFmpeg takes no rate for a bare file: 44.1 kHz is its default, and changes no sample.
    expected = as_recorded(codes, encoding.value.lower())
    assert (stream(codes, AudioFormat(encoding, 16_000)) == expected.T).all()


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("encoding", COMPRESSED)
def test_compressed_streams_are_what_ffmpeg_decodes(encoding: Encoding, channels: int) -> None:
    data = recording(encoding, 48_000, channels, seconds=2.5)
    expected = as_recorded(data).T
    found = stream(data, AudioFormat(encoding, 0, channels, separate_channels=True), rate=48_000)
    if encoding is Encoding.MP3:  # the encoder's padding at the end stays
        assert 0 <= found.shape[1] - expected.shape[1] < 2 * 1152
        found = found[:, : expected.shape[1]]
    assert found.shape == expected.shape
    # Files go through another Opus decoder, which rounds otherwise.
    assert np.abs(found.astype(int) - expected).max() <= (0 if "OPUS" not in encoding.value else 1)


@pytest.mark.parametrize("subtype", ["PCM_S8", "PCM_16", "PCM_24"])
@pytest.mark.parametrize("channels", [1, 3, 8])
def test_flac_of_any_depth(subtype: str, channels: int) -> None:
    out = io.BytesIO()
    soundfile.write(out, tune(0.6, channels, 16_000), 16_000, format="FLAC", subtype=subtype)
    expected = soundfile.read(io.BytesIO(out.getvalue()), dtype="int16", always_2d=True)[0]
    found = stream(every(out.getvalue(), 1000), AudioFormat(Encoding.FLAC, 0, channels, separate_channels=True))
    assert (found == expected.T).all()


@pytest.mark.parametrize("rate", [8_000, 11_025, 12_000, 96_000, 100_010, 176_400])
def test_flac_of_any_rate(rate: int) -> None:
    out = io.BytesIO()
    samples = tune(30_000 / rate, 1, rate)
    soundfile.write(out, samples, rate, format="FLAC")
    assert (stream(every(out.getvalue(), 1000), AudioFormat(Encoding.FLAC), rate) == samples.T).all()


@pytest.mark.parametrize("options", OPUS_KINDS, ids=str)
def test_opus_of_any_kind(options: dict[str, str]) -> None:
    data = encode(tune(1.013, 1, 48_000), 48_000, "ogg", "libopus", codec_options=options)
    _, opus = packets(data)
    # FFmpeg's decoder begins with fewer samples: it leaves out the encoder's delay.
    lengths = [packet_samples(packet) for packet in opus]
    assert sum(lengths) - 48_000 * 1.013 < lengths[0] + 960
    assert set(lengths) == {int(float(options["frame_duration"]) * 48)}
    assert stream(data, AudioFormat(Encoding.OGG_OPUS), 48_000).shape == as_recorded(data).T.shape


def test_channels_are_mixed_to_their_mean_or_kept_apart() -> None:
    samples = np.array([[100, 300], [-32768, -32768], [32767, 32767], [5, -5]], np.int16)
    mixed = stream(samples.tobytes(), AudioFormat(Encoding.LINEAR16, 16_000, 2))
    assert mixed.tolist() == [[200, -32768, 32767, 0]]
    apart = stream(samples.tobytes(), AudioFormat(Encoding.LINEAR16, 16_000, 2, separate_channels=True))
    assert (apart == samples.T).all()


@pytest.mark.parametrize("rate", [8_000, 11_025, 22_050, 44_100, 48_000])
def test_other_rates_are_resampled_in_tune_and_in_time(rate: int) -> None:
    samples = tune(2, 2, rate)
    fmt = AudioFormat(Encoding.LINEAR16, rate, 2, separate_channels=True)
    for resampled in (stream(every(samples.tobytes(), 1234), fmt), file(samples.tobytes(), fmt)):
        assert abs(resampled.shape[1] - 2 * 16_000) <= 1
        assert strongest(resampled[0]) == pytest.approx(300, abs=1)
        assert strongest(resampled[1]) == pytest.approx(550, abs=1)
        # The tone of 300 Hz must not move by a tenth of its period.
        t = np.arange(resampled.shape[1]) / 16_000
        expected = np.sin(2 * np.pi * 300 * t) * (1.2 + np.sin(5 * t))
        assert np.corrcoef(resampled[0], expected)[0, 1] > 0.99


def test_a_full_scale_square_wave_does_not_wrap_round() -> None:
    square = np.where(np.arange(8000) // 20 % 2, 32767, -32768).astype(np.int16)
    resampled = stream(square.tobytes(), AudioFormat(Encoding.LINEAR16, 8_000))[0]
    assert (np.sign(resampled[200:-200].reshape(-1, 40)[:, 10:30]).std(axis=1) == 0).all()


# --- in pieces


CASES = [
    *((encoding, rate, channels) for encoding in COMPRESSED for rate, channels in ((16_000, 1), (48_000, 2))),
    (Encoding.LINEAR16, 16_000, 1),
    (Encoding.LINEAR16, 44_100, 3),
    (Encoding.MULAW, 8_000, 1),
    (Encoding.ALAW, 8_000, 2),
]


@pytest.mark.parametrize(("encoding", "rate", "channels"), CASES)
@settings(max_examples=12, deadline=None)
@given(cuts=st.lists(st.integers(0, 1 << 20), max_size=40), separate=st.booleans())
def test_pieces_do_not_matter(encoding: Encoding, rate: int, channels: int, cuts: list[int], separate: bool) -> None:
    fmt = described(encoding, rate, channels, separate=separate)
    samples = tune(0.4, channels, rate).tobytes() if encoding is Encoding.LINEAR16 else None
    data = samples or recording(encoding, rate, min(channels, 2), seconds=0.4)
    assert (stream(list(pieces(data, cuts)), fmt) == stream(data, fmt)).all()


@pytest.mark.parametrize(("encoding", "rate", "channels"), CASES)
def test_byte_by_byte(encoding: Encoding, rate: int, channels: int) -> None:
    fmt = described(encoding, rate, min(channels, 2))
    data = recording(encoding, rate, min(channels, 2), seconds=0.1)
    assert (stream(every(data, 1), fmt) == stream(data, fmt)).all()


@given(cuts=st.lists(st.integers(0, 20_000), max_size=20))
@settings(max_examples=30, deadline=None)
def test_pieces_of_a_wav_stream(cuts: list[int]) -> None:
    data = wav(tune(0.3, 2, 8_000), 8_000, before=b"JUNK" + struct.pack("<I", 7) + bytes(8), after=b"LIST\4\0\0\0abcd")
    fmt = AudioFormat(Encoding.AUTO, 0, 2, separate_channels=True)
    assert (stream(list(pieces(data, cuts)), fmt) == stream(data, fmt)).all()


def test_a_sample_cut_off_by_the_end_is_dropped() -> None:
    samples = tune(0.1, 2, 16_000)
    fmt = AudioFormat(Encoding.LINEAR16, 16_000, 2, separate_channels=True)
    for extra in (b"x", b"xy", b"xyz"):
        assert (stream([samples.tobytes(), extra], fmt) == samples.T).all()


@pytest.mark.parametrize(
    ("encoding", "options", "most_s"),
    [
        (Encoding.FLAC, {}, 0.11),  # a frame of FFmpeg's at 48 kHz
        (Encoding.OGG_OPUS, {"page_duration": "20000"}, 0.03),  # us
        (Encoding.WEBM_OPUS, {"live": "1"}, 0.03),
        (Encoding.MP3, {}, 0.03),
    ],
)
def test_a_live_stream_is_not_held_back(encoding: Encoding, options: dict[str, str], most_s: float) -> None:
    container, codec = CONTAINERS[encoding]
    reader = open_reader(AudioFormat(encoding), rate=48_000)
    early = sum(
        joined(reader.accept(piece)).shape[1]
        for piece in every(encode(tune(2, 1, 48_000), 48_000, container, codec, options), 100)
    )
    held = joined(reader.finish()).shape[1]
    assert early + held >= 2 * 48_000
    assert held <= most_s * 48_000


def test_telephone_audio_is_held_back_3_ms_at_most() -> None:
    reader = open_reader(AudioFormat(Encoding.MULAW, 8_000))
    held_ms = 0.0
    for piece in every(recording(Encoding.MULAW, 8_000), 160):
        held_ms += 20 - joined(reader.accept(piece)).shape[1] / 16
        assert held_ms <= 3


@pytest.mark.parametrize("tone", [300, 1_000, 3_400, 3_600])
def test_a_telephones_tone_keeps_its_level_and_gets_no_image(tone: int) -> None:
    """Twice the rate has room for a mirrored tone above 4 kHz, which nobody said."""
    samples = np.rint(10_000 * np.sin(2 * np.pi * tone * np.arange(16_000) / 8_000)).astype("<i2")
    doubled = stream(every(samples.tobytes(), 333), AudioFormat(Encoding.LINEAR16, 8_000))[0]
    middle = doubled[8_000:24_000] * np.hanning(16_000)
    spectrum = 20 * np.log10(np.abs(np.fft.rfft(middle)) / (10_000 * 4_000) + 1e-9)
    assert spectrum[tone] == pytest.approx(0, abs=0.1)
    assert spectrum[4_000:].max() < -55


def test_a_few_bytes_of_much_audio_come_block_by_block() -> None:
    """And what is not drawn now comes with the next bytes."""
    samples = np.zeros((50 * 16_000, 2), np.int16)
    data = encode(samples, 16_000, "flac", "flac")
    fmt = AudioFormat(channels=2, separate_channels=True)
    whole = stream(data, fmt)
    assert whole.shape == samples.T.shape
    reader = open_reader(fmt)
    blocks = reader.accept(data)
    first = next(blocks)
    assert first.size <= LONGEST_BLOCK_S * 16_000
    assert joined([first, *reader.accept(b""), *reader.finish()], 2).shape == whole.shape


@pytest.mark.parametrize("encoding", [*COMPRESSED, Encoding.LINEAR16])
def test_an_encoding_is_known_once_it_is_recognized(encoding: Encoding) -> None:
    data = wav(tune(0.1, 1, 8_000), 8_000) if encoding is Encoding.LINEAR16 else recording(encoding)
    reader = open_reader(AudioFormat())
    assert reader.encoding is Encoding.AUTO
    joined(reader.accept(data))
    assert reader.encoding is encoding


@pytest.mark.parametrize("encoding", Encoding)
@pytest.mark.parametrize("rows", [1, 2])
def test_no_audio_is_no_samples(encoding: Encoding, rows: int) -> None:
    fmt = AudioFormat(encoding, 16_000, 2, separate_channels=rows == 2)
    assert stream([], fmt).shape == (rows, 0)
    assert stream([b"", b""], fmt).shape == (rows, 0)
    assert file(b"", fmt).shape == (rows, 0)


def test_64_streams_at_once_do_not_mix() -> None:
    cases = CASES * 6
    data = [recording(encoding, rate, min(channels, 2), seconds=0.3) for encoding, rate, channels in cases][:64]
    formats = [described(encoding, rate, min(channels, 2)) for encoding, rate, channels in cases][:64]
    readers = [open_reader(fmt) for fmt in formats]
    made: list[list[NDArray[np.int16]]] = [[] for _ in readers]
    for start in range(0, max(map(len, data)), 700):
        for reader, blocks, whole in zip(readers, made, data, strict=True):
            blocks += reader.accept(whole[start : start + 700])
    for reader, blocks, whole, fmt in zip(readers, made, data, formats, strict=True):
        blocks += reader.finish()
        reader.close()
        assert (joined(blocks) == stream(whole, fmt)).all()


# --- RIFF headers


SAMPLES = tune(0.25, 1, 8_000)
LIST_CHUNK = b"LIST" + struct.pack("<I", 10) + b"INFOabcdef"


@pytest.mark.parametrize("said", [Encoding.AUTO, Encoding.LINEAR16, Encoding.MULAW])
@pytest.mark.parametrize(
    "data",
    [
        wav(SAMPLES, 8_000),
        wav(SAMPLES, 8_000, after=LIST_CHUNK),
        wav(SAMPLES, 8_000, size=0),
        wav(SAMPLES, 8_000, size=0xFFFFFFFF),
        wav(SAMPLES, 8_000, size=0x7FFFF000),
        wav(SAMPLES, 8_000, before=LIST_CHUNK),
        wav(SAMPLES, 8_000, before=b"JUNK" + struct.pack("<I", 5) + bytes(6)),
        wav(SAMPLES, 8_000, extensible=True),
    ],
    ids=["plain", "chunk-after", "size-0", "size-max", "size-sox", "chunk-before", "odd-chunk", "extensible"],
)
def test_wav_headers(data: bytes, said: Encoding) -> None:
    for cut in (1, 13, 60, len(data)):
        assert (stream(every(data, cut), AudioFormat(said), rate=8_000) == SAMPLES.T).all()
    assert (file(data, AudioFormat(said), rate=8_000) == SAMPLES.T).all()


@pytest.mark.parametrize(("tag", "encoding"), [(6, Encoding.ALAW), (7, Encoding.MULAW)])
@pytest.mark.parametrize("extensible", [False, True])
def test_wav_with_g711(tag: int, encoding: Encoding, extensible: bool) -> None:
    body = recording(encoding, 8_000, seconds=0.2)
    data = wav(SAMPLES, 8_000, tag=tag, bits=8, body=body, extensible=extensible)
    bare = stream(body, AudioFormat(encoding, 8_000))
    assert (stream(data, AudioFormat(Encoding.LINEAR16, 8_000, 1)) == bare).all()


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (wav(SAMPLES, 8_000, tag=3, bits=32), "byte 12: RIFF header: format tag 0x3 with 32 bits a sample is not supp"),
        (wav(SAMPLES, 8_000, bits=24), "format tag 0x1 with 24 bits"),
        (wav(SAMPLES, 8_000, tag=0x55, bits=0), "format tag 0x55 with 0 bits"),
        (wav(SAMPLES, 0), "header says 0 Hz, expected 8000 to 192000 Hz"),
        (wav(SAMPLES, 4_000_000_000), "header says 4000000000 Hz"),
        (wav(SAMPLES, 8_000, channels=0), "header says 0 channels, expected 1 to 8"),
        (wav(SAMPLES, 8_000, channels=255), "header says 255 channels, expected 1 to 8"),
        (wav(SAMPLES, 8_000, align=3), "3 bytes for 1 channels of 16 bits, expected 2"),
        (b"RIFF\0\0\0\0WAVEdata\0\0\0\0", "byte 12: RIFF header: the data chunk comes before"),
        (b"RIFF\0\0\0\0WAVEfmt \xff\xff\xff\xff", "a fmt chunk of 4294967295 bytes, expected 16 to 1024"),
        (wav(SAMPLES, 8_000)[:30], "byte 30: the audio ends inside its header"),
    ],
)
def test_wav_headers_refused_in_streams(data: bytes, problem: str) -> None:
    with pytest.raises(BadAudio, match=problem):
        stream(data, AudioFormat(Encoding.LINEAR16))


@pytest.mark.parametrize("encoding", [*COMPRESSED, Encoding.LINEAR16])
def test_a_header_that_disagrees_with_the_request(encoding: Encoding) -> None:
    data = wav(tune(0.1, 2, 16_000), 16_000) if encoding is Encoding.LINEAR16 else recording(encoding, 16_000, 2)
    for read in (stream, file):
        with pytest.raises(BadAudio, match=r"header says 2 channels, format\.channels 1"):
            read(data, AudioFormat(encoding, 0, 1))
        if "OPUS" in encoding.value:  # its rate is always 48 kHz, so what the request says means nothing
            assert read(data, AudioFormat(encoding, 16_000, 2)).size
        else:
            with pytest.raises(BadAudio, match=r"header says 16000 Hz, format\.sample_rate 8000"):
                read(data, AudioFormat(encoding, 8_000, 2))


# --- recognized by the first bytes


@pytest.mark.parametrize("encoding", COMPRESSED)
def test_auto(encoding: Encoding) -> None:
    data = recording(encoding)
    assert (stream(every(data, 5), AudioFormat()) == stream(data, AudioFormat(encoding))).all()
    assert (file(data, AudioFormat()) == file(data, AudioFormat(encoding))).all()


def test_auto_without_a_header_says_what_it_found() -> None:
    for read in (stream, file):
        with pytest.raises(BadAudio, match=r"byte 0: .*01 02 03 41 42 43 44 45 \('...ABCDE'\), expected WAV") as caught:
            read(b"\1\2\3ABCDEFGHIJKLM", AudioFormat())
        assert caught.value.offset == 0


def test_bare_audio_needs_a_rate() -> None:
    for read in (stream, file):
        with pytest.raises(BadAudio, match=r"no RIFF header but 00 .*format\.sample_rate is not set"):
            read(bytes(100), AudioFormat(Encoding.LINEAR16))


def test_separate_channels_of_a_stream_need_a_count() -> None:
    with pytest.raises(InvalidOption, match=r"format\.channels: got 0, expected 1 to 8"):
        open_reader(AudioFormat(Encoding.FLAC, separate_channels=True))


@pytest.mark.parametrize(
    ("said", "found"),
    [(said, found) for said in COMPRESSED for found in (*COMPRESSED, Encoding.LINEAR16) if said is not found],
)
def test_another_encoding_than_said(said: Encoding, found: Encoding) -> None:
    data = wav(SAMPLES, 8_000) if found is Encoding.LINEAR16 else recording(found)
    for read in (stream, file):
        with pytest.raises(BadAudio):
            read(data, AudioFormat(said))
