"""Containers at their edges and beyond: odd but right, cut off, damaged, made to harm, random."""

from __future__ import annotations

import struct
import threading
import tracemalloc
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from parley.decoder.audio import open_reader
from parley.decoder.audio.flac import CRC8
from parley.decoder.audio.ogg import MOST_STREAMS, checksum
from parley.decoder.errors import BadAudio
from parley.decoder.values import AudioFormat, Encoding
from tests.decoder.recordings import (
    COMPRESSED,
    encode,
    every,
    file,
    joined,
    packets,
    recording,
    stream,
    tune,
    vorbis,
    wav,
)

FUZZ = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
HEAD, _ = packets(recording(Encoding.OGG_OPUS))
ID3 = b"ID3\4\0\0" + bytes([0, 0, 2, 44]) + bytes(300)


def ogg_page(serial: int, flags: int, granule: int, *bodies: bytes) -> bytes:
    laces = b"".join(bytes([255] * (len(body) // 255) + [len(body) % 255]) for body in bodies)
    page = b"OggS\0" + struct.pack("<BqIIIB", flags, granule, serial, 0, 0, len(laces)) + laces + b"".join(bodies)
    return page[:22] + struct.pack("<I", checksum(page)) + page[26:]


def unended_page(serial: int) -> bytes:
    """Full, and its one packet goes on."""
    page = b"OggS\0" + struct.pack("<BqIIIB", 1, -1, serial, 0, 0, 255) + b"\xff" * 255 + bytes(65_025)
    return page[:22] + struct.pack("<I", checksum(page)) + page[26:]


def ogg_pages(data: bytes) -> list[bytes]:
    return [b"OggS" + page for page in data.split(b"OggS")[1:]]


# --- MP3


def test_mp3_tags_are_passed_over() -> None:
    mp3 = recording(Encoding.MP3)
    expected = stream(mp3, AudioFormat(Encoding.MP3))
    tagged = ID3 + ID3 + mp3 + b"TAG" + bytes(125)
    assert (stream(every(tagged, 100), AudioFormat(Encoding.MP3)) == expected).all()


def test_mp3_is_decoded_around_garbage() -> None:
    mp3 = recording(Encoding.MP3, seconds=3.0)
    whole = stream(mp3, AudioFormat(Encoding.MP3))
    for garbage in (bytes(1000), b"\xff" * 1000, np.random.default_rng(1).bytes(30_000)):
        found = stream(every(mp3[:3000] + garbage + mp3[3000:], 777), AudioFormat(Encoding.MP3))
        assert whole.shape[1] - 5 * 576 <= found.shape[1] <= whole.shape[1]
        assert (found[:, -20_000:] == whole[:, -20_000:]).all()


def test_mp3_with_too_much_garbage_names_where_it_begins() -> None:
    mp3 = recording(Encoding.MP3)
    with pytest.raises(BadAudio, match=r"expected an MP3 frame, found 00 00 .* and no frame in 65536 bytes") as caught:
        stream(every(mp3 + bytes(70_000), 1000), AudioFormat(Encoding.MP3))
    assert caught.value.offset == len(mp3)


@pytest.mark.parametrize("size", [3, 50, 5_000, 300_000])
def test_random_bytes_are_no_mp3(size: int) -> None:
    noise = np.random.default_rng(size).bytes(size)
    with pytest.raises(BadAudio, match="byte 0: expected"):
        stream(every(noise, 4096), AudioFormat(Encoding.MP3))


def test_mp3_frames_of_noise() -> None:
    """Headers that are right and nothing behind them."""
    frame = b"\xff\xf3\x38\xc4" + b"\xff" * 104
    with pytest.raises(BadAudio, match=r"not? .*decodable as mp3float"):
        stream(frame * 40, AudioFormat(Encoding.MP3))
    with pytest.raises(BadAudio, match="no packet is decodable as mp3float"):
        stream(frame * 4, AudioFormat(Encoding.MP3))


# --- FLAC


def test_flac_with_a_flipped_bit_names_the_frame() -> None:
    data = recording(Encoding.FLAC)
    frame = data.index(b"\xff\xf8", 8200)
    following = data.index(b"\xff\xf8\x35\x08\x01")
    for place in range(frame + 8, following, 97):
        broken = data[:place] + bytes([data[place] ^ 16]) + data[place + 1 :]
        with pytest.raises(BadAudio, match="not decodable as flac") as caught:
            stream(every(broken, 500), AudioFormat(Encoding.FLAC))
        assert caught.value.offset == frame


def test_flac_with_a_frame_lost() -> None:
    data = recording(Encoding.FLAC, seconds=3.0)
    lost, following = (data.index(bytes([0xFF, 0xF8, 0x35, 0x08, number])) for number in (5, 6))
    before = data.index(b"\xff\xf8\x35\x08\x04")
    with pytest.raises(BadAudio, match="no FLAC frame 5 in the") as caught:
        stream(every(data[:lost] + data[following:], 500), AudioFormat(Encoding.FLAC))
    assert caught.value.offset == before


def flac_of_silence(frames: int, samples: int = 65_535) -> bytes:
    """Eight seconds of 8 kHz in every 16 bytes."""
    info = struct.pack(">HH", samples, samples) + bytes(6) + (8000 << 44 | 15 << 36).to_bytes(8, "big") + bytes(16)
    data = bytearray(b"fLaC\x80\0\0\x22" + info)
    for number in range(frames):
        frame = bytearray(b"\xff\xf8\x74\x08" + chr(number).encode() + struct.pack(">H", samples - 1))
        crc8 = 0
        for byte in frame:
            crc8 = CRC8[crc8 ^ byte]
        frame += bytes([crc8, 0, 0, 0])
        crc16 = 0
        for byte in frame:
            crc16 ^= byte << 8
            for _ in range(8):
                crc16 = (crc16 << 1 ^ (0x8005 if crc16 & 0x8000 else 0)) & 0xFFFF
        data += frame + struct.pack(">H", crc16)
    return bytes(data)


def test_silence_packs_well() -> None:
    assert stream(flac_of_silence(100, 4096), AudioFormat(Encoding.FLAC)).shape == (1, 2 * 100 * 4096)


def test_flac_of_many_frames() -> None:
    assert stream(every(flac_of_silence(5000, 64), 100), AudioFormat(Encoding.FLAC)).shape == (1, 2 * 5000 * 64)


def test_a_decompression_bomb_is_refused() -> None:
    with pytest.raises(BadAudio, match="s of audio up to here, expected at most 60 s and 1 s more every 16 bytes"):
        stream(flac_of_silence(2000), AudioFormat(Encoding.FLAC))


# --- Ogg


def test_ogg_with_a_flipped_bit_names_the_page() -> None:
    data = recording(Encoding.OGG_OPUS, seconds=2.5)
    first, tags, audio, *_ = ogg_pages(data)
    offset = len(first + tags + audio)
    broken = data[: offset + 900] + bytes([data[offset + 900] ^ 1]) + data[offset + 901 :]
    with pytest.raises(BadAudio, match="an Ogg page's checksum is") as caught:
        stream(every(broken, 500), AudioFormat(Encoding.OGG_OPUS))
    assert caught.value.offset == offset


@pytest.mark.parametrize("ends", [True, False])
def test_chained_ogg(ends: bool) -> None:
    data = recording(Encoding.OGG_OPUS)
    once = stream(data, AudioFormat(Encoding.OGG_OPUS))
    pages = ogg_pages(data)
    if not ends:  # as when a live source comes back
        pages[-1] = b""
    twice = stream(b"".join(pages) + data, AudioFormat(Encoding.OGG_OPUS), rate=48_000)
    at_48 = stream(data, AudioFormat(Encoding.OGG_OPUS), rate=48_000)
    assert once.shape[1]
    assert (twice[:, -at_48.shape[1] :] == at_48).all()
    assert twice.shape[1] == at_48.shape[1] * 2 or not ends


def test_chained_ogg_with_other_channels() -> None:
    data = recording(Encoding.OGG_OPUS) + recording(Encoding.OGG_OPUS, channels=2)
    with pytest.raises(BadAudio, match="changes from 1 to 2 channels") as caught:
        stream(data, AudioFormat(Encoding.OGG_OPUS))
    assert caught.value.offset == len(recording(Encoding.OGG_OPUS))


def test_other_streams_in_ogg_are_passed_over() -> None:
    data = recording(Encoding.OGG_OPUS)
    first, tags, *audio = ogg_pages(data)
    other = 0x5EE1
    mixed = [ogg_page(other, 2, 0, b"fishead\0" + bytes(60)), first, ogg_page(other, 0, 0, b"fisbone"), tags]
    for page in audio:
        mixed += [page, ogg_page(other, 0, -1, b"OpusHead")]
    assert (
        stream(b"".join(mixed), AudioFormat(Encoding.OGG_OPUS)) == stream(data, AudioFormat(Encoding.OGG_OPUS))
    ).all()


def test_tags_over_many_pages() -> None:
    data = recording(Encoding.OGG_OPUS)
    first, _, *audio = ogg_pages(data)
    serial = struct.unpack_from("<I", first, 14)[0]
    tagged = b"".join([first, *[unended_page(serial)] * 20, ogg_page(serial, 1, 0, b"rest"), *audio])
    assert (stream(tagged, AudioFormat(Encoding.OGG_OPUS)) == stream(data, AudioFormat(Encoding.OGG_OPUS))).all()


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (vorbis(tune(1, 1, 16_000), 16_000), r"expected an Opus stream .*\('.vorbis"),
        (ogg_page(1, 0, 0, b"x"), "expected an Opus stream in the Ogg file, found none"),
        (
            b"".join(ogg_page(serial, 2, 0, b"fishead") for serial in range(MOST_STREAMS + 1)),
            "over 16 streams in the Ogg file, none of them Opus",
        ),
        (ogg_page(1, 2, 0, b"OpusHead\1"), r"expected an Opus header \(OpusHead, 19 bytes or more\)"),
        (ogg_page(1, 2, 0, b"OpusHead\xff" + bytes(10)), "Opus header: version 255, expected 0 to 15"),
        (ogg_page(1, 2, 0, b"OpusHead\1\0" + bytes(9)), "header says 0 channels, expected 1 to 8"),
        (ogg_page(1, 2, 0, b"OpusHead\1\xff" + bytes(9)), "header says 255 channels, expected 1 to 8"),
        (
            b"".join([ogg_page(1, 2, 0, HEAD), ogg_page(1, 0, 0, b"OpusTags"), *[unended_page(1)] * 6]),
            "an Opus packet of over 262144 bytes",
        ),
        (recording(Encoding.OGG_OPUS)[:40], "byte 40: the audio ends inside its header"),
        (recording(Encoding.OGG_OPUS) + b"no page " * 9, r"expected an Ogg page \(OggS, version 0\), found 6e 6f 20"),
    ],
    ids=lambda value: value if isinstance(value, str) else "data",  # a stream's serial number is drawn anew each time
)
def test_ogg_refused(data: bytes, problem: str) -> None:
    with pytest.raises(BadAudio, match=problem):
        stream(data, AudioFormat(Encoding.OGG_OPUS))


# --- WebM


def element(name: int, *payload: bytes, size: int | None = None) -> bytes:
    body = b"".join(payload)
    coded = (1 << 56 | (len(body) if size is None else size)).to_bytes(8, "big")
    return name.to_bytes((name.bit_length() + 7) // 8, "big") + coded + body


UNKNOWN = (1 << 56) - 1
EBML = element(0x1A45DFA3, element(0x4282, b"webm"))


def webm(head: bytes, *blocks: bytes, codec: bytes = b"A_OPUS") -> bytes:
    entry = element(0xAE, element(0xD7, b"\7"), element(0x83, b"\2"), element(0x86, codec), element(0x63A2, head))
    cluster = element(0x1F43B675, size=UNKNOWN) + element(0xE7, b"\0") + b"".join(blocks)
    return EBML + element(0x18538067, size=UNKNOWN) + element(0xEC, bytes(30)) + element(0x1654AE6B, entry) + cluster


def block(flags: int, payload: bytes, track: int = 7) -> bytes:
    return bytes([0x80 | track, 0, 0, flags]) + payload


def test_webm_of_a_live_recorder() -> None:
    """Segment and clusters of unknown size, nothing known at the start."""
    data = encode(tune(2, 1, 48_000), 48_000, "webm", "libopus", {"live": "1", "cluster_time_limit": "500"})
    assert data.count(b"\x1f\x43\xb6\x75") >= 3
    found = stream(every(data, 333), AudioFormat(Encoding.WEBM_OPUS))
    assert found.shape[1] == pytest.approx(2 * 16_000, abs=350)


def test_webm_lacing_groups_and_other_tracks() -> None:
    head, opus = packets(recording(Encoding.OGG_OPUS))
    plain = webm(head, *[element(0xA3, block(0, packet)) for packet in opus])
    expected = stream(plain, AudioFormat(Encoding.WEBM_OPUS))
    assert expected.shape[1] > 15_000

    a, b, c, *rest = opus
    xiph = b"\2" + b"".join(b"\xff" * (len(p) // 255) + bytes([len(p) % 255]) for p in (a, b)) + a + b + c
    step = len(b) - len(a) + (1 << 13) - 1
    ebml = b"\2" + (1 << 14 | len(a)).to_bytes(2, "big") + (1 << 14 | step).to_bytes(2, "big") + a + b + c
    groups = [element(0xA0, element(0x9B, b"\1"), element(0xA1, block(0, packet))) for packet in rest]
    others = [element(0xA3, block(0, b"not ours", track=3)), element(0xA0, element(0xA1, block(0, b"nor", track=4)))]
    for first in (element(0xA3, block(2, xiph)), element(0xA0, element(0xA1, block(6, ebml)))):
        laced = webm(head, first, *others, *groups)
        assert (stream(every(laced, 71), AudioFormat(Encoding.WEBM_OPUS)) == expected).all()

    same = webm(head, element(0xA3, block(4, b"\2" + a + a + a)))
    thrice = webm(head, *[element(0xA3, block(0, a))] * 3)
    assert (stream(same, AudioFormat(Encoding.WEBM_OPUS)) == stream(thrice, AudioFormat(Encoding.WEBM_OPUS))).all()


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (webm(HEAD, codec=b"A_VORBIS"), r"expected an audio track of A_OPUS, found .*\('A_VORBIS'\)"),
        (webm(b"short"), r"expected an Opus header \(OpusHead, 19 bytes or more\), found"),
        (
            EBML + element(0x18538067) + element(0x1F43B675),
            "expected an audio track before the first cluster, found no",
        ),
        (element(0x1A45DFA3, element(0x4282, b"exe")), "document of type webm or matroska, found 65 78 65"),
        (element(0x1A45DFA3, size=1 << 30), "an element of 1073741824 bytes, expected at most 1048576"),
        (webm(HEAD, element(0xA3, size=UNKNOWN)), "an element of unknown size"),
        (webm(HEAD, element(0xEC, size=UNKNOWN)), "element 0xec has no size"),
        (webm(HEAD, b"\0\0\0\0"), "expected an EBML element, found 00 00 00"),
        (webm(HEAD, b"\xa3" + bytes(8)), "a broken EBML number"),
        (webm(HEAD, element(0xA3, block(2, b"\xff\xff"))), "a block's lacing goes past its end"),
        (webm(HEAD, element(0xA3, block(6, b"\2\x84\x10" + bytes(9)))), "a block's lacing goes past its end"),
        (webm(HEAD, element(0xA0, b"\xa1\x88abc")), "an element goes past the end of the one around it"),
        (webm(HEAD, element(0xA3, block(0, b"\xff" * 50))), "not decodable as libopus"),
        (EBML[:9], "the audio ends inside its header"),
    ],
)
def test_webm_refused(data: bytes, problem: str) -> None:
    with pytest.raises(BadAudio, match=problem):
        stream(every(data, 17), AudioFormat(Encoding.WEBM_OPUS))


# --- all of them


@pytest.mark.parametrize("encoding", COMPRESSED)
def test_cut_off_audio_is_decoded_up_to_there(encoding: Encoding) -> None:
    data = recording(encoding, seconds=3.0)
    whole = stream(data, AudioFormat(encoding), rate=48_000)
    for part in (0.7, 0.9):
        found = stream(data[: int(len(data) * part)], AudioFormat(encoding), rate=48_000)
        # An Ogg page holds a second.
        assert part - 0.4 < found.shape[1] / whole.shape[1] < part + 0.05
        same = found.shape[1] - 2_000  # the resampler's end
        assert (found[:, :same] == whole[:, :same]).all()


@pytest.mark.parametrize("encoding", COMPRESSED)
def test_what_is_passed_over_is_not_kept(encoding: Encoding) -> None:
    start = {
        Encoding.FLAC: recording(Encoding.FLAC)[:4] + b"\0" + recording(Encoding.FLAC)[5:42] + b"\2\xff\xff\xff",
        Encoding.OGG_OPUS: ogg_pages(recording(Encoding.OGG_OPUS))[0],
        Encoding.WEBM_OPUS: webm(HEAD, element(0xEC, size=1 << 40)),
        Encoding.MP3: b"ID3\4\0\0\x7f\x7f\x7f\x7f",
    }[encoding]
    filler = ogg_page(99, 0, 0, bytes(5000)) if encoding is Encoding.OGG_OPUS else bytes(5000)
    reader = open_reader(AudioFormat(encoding))
    assert joined(reader.accept(start)).size == 0
    tracemalloc.start()
    try:
        for _ in range(1000):
            assert joined(reader.accept(filler)).size == 0
        assert tracemalloc.get_traced_memory()[1] < 200_000
    finally:
        tracemalloc.stop()
        reader.close()


def test_an_error_stays() -> None:
    reader = open_reader(AudioFormat(Encoding.FLAC))
    with pytest.raises(BadAudio) as first:
        joined(reader.accept(b"this is no FLAC"))
    with pytest.raises(BadAudio) as second:
        joined(reader.accept(recording(Encoding.FLAC)))
    with pytest.raises(BadAudio):
        joined(reader.finish())
    assert str(first.value) == str(second.value)
    reader.close()


@pytest.mark.parametrize("encoding", Encoding)
def test_close_at_any_time_leaves_nothing(encoding: Encoding) -> None:
    def threads() -> int:
        system = Path("/proc/self/task")
        return len(list(system.iterdir())) if system.is_dir() else threading.active_count()

    data = recording(encoding, 16_000) if encoding is not Encoding.AUTO else recording(Encoding.FLAC)
    stream(data, AudioFormat(encoding, 16_000 if "OPUS" not in encoding.value else 0))
    before = threads()
    for fed in (0, 3, 30, 1000, len(data)):
        reader = open_reader(AudioFormat(encoding, 16_000))
        joined(reader.accept(data[:fed]))
        assert threads() == before
        reader.close()
        reader.close()
    with pytest.raises(BadAudio):
        file(b"\1", AudioFormat())
    assert threads() == before


def read_or_refuse(data: bytes, fmt: AudioFormat) -> None:
    """Anything but samples or BadAudio fails the test."""
    with suppress(BadAudio):
        stream(every(data, 611), fmt)
    with suppress(BadAudio):
        file(data, fmt)


MAGIC = [b"", b"RIFF\0\0\0\0WAVE", b"fLaC\0\0\0\x22", b"OggS\0\2", EBML, b"ID3", b"\xff\xfb\x90\x64", HEAD]


@pytest.mark.parametrize("encoding", Encoding)
@FUZZ
@given(data=st.builds(bytes.__add__, st.sampled_from(MAGIC), st.binary(max_size=3000)), rows=st.integers(1, 2))
def test_random_bytes(encoding: Encoding, data: bytes, rows: int) -> None:
    read_or_refuse(data, AudioFormat(encoding, 8_000, rows, separate_channels=rows == 2))


@pytest.mark.parametrize("encoding", [*COMPRESSED, Encoding.LINEAR16])
@FUZZ
@given(
    places=st.lists(
        st.tuples(st.integers(0, 1 << 16), st.binary(max_size=6), st.integers(0, 6)), min_size=1, max_size=8
    ),
    headers=st.booleans(),
)
def test_damaged_recordings(encoding: Encoding, places: list[tuple[int, bytes, int]], headers: bool) -> None:
    samples = tune(0.3, 2, 16_000)
    data = wav(samples, 16_000) if encoding is Encoding.LINEAR16 else recording(encoding, 16_000, 2, seconds=0.3)
    for place, put, taken in places:
        at = place % (400 if headers else len(data) + 1)
        data = data[:at] + put + data[at + taken :]
    if encoding is Encoding.OGG_OPUS:  # damage that the checksums do not give away
        data = b"".join(
            page[:22] + struct.pack("<I", checksum(page[:22] + bytes(4) + page[26:])) + page[26:]
            for page in ogg_pages(data)
            if len(page) > 26
        )
    read_or_refuse(data, AudioFormat(encoding))
    read_or_refuse(data, AudioFormat())
