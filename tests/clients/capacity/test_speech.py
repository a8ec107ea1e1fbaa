"""What a level plays, from real recordings."""

from __future__ import annotations

import io
import wave
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from parley.clients.capacity import speech
from parley.clients.capacity.speech import cut, examples, load_calls, load_file, read
from parley.clients.config import Encoding
from parley.clients.decoding import NotAudio
from scripts.speech import CALL, DATA

if TYPE_CHECKING:
    from pathlib import Path


@given(st.lists(st.booleans(), max_size=200), st.integers(1, 50))
def test_calls_hold_all_speech_and_end_with_it(frames: list[bool], longest: int) -> None:
    calls = cut(frames, longest)
    assert all(0 < end - first <= longest for first, end in calls)
    assert all(frames[end - 1] for _, end in calls)
    assert all(before[1] <= after[0] for before, after in pairwise(calls))
    assert sum(sum(frames[first:end]) for first, end in calls) == sum(frames)


def test_a_call_ends_before_a_pause_where_there_is_one() -> None:
    frames = [True] * 20 + [False] * 15 + [True] * 30
    assert cut(frames, 50) == [(0, 20), (20, 65)]
    assert cut(frames, 100) == [(0, 65)]
    assert cut([True] * 25, 10) == [(0, 10), (10, 20), (20, 25)]
    assert cut([False] * 90, 10) == []


def test_recordings_become_calls_that_end_with_a_word() -> None:
    calls = load_calls([DATA / "two_cities.flac", DATA / "austen_1.flac"], 12.0)
    assert [call.name for call in calls][-1] == "austen_1.flac 0"
    assert len(calls) > 4
    for call in calls:
        assert (call.config.encoding, call.config.sample_rate, call.config.channels) == (Encoding.LINEAR16, 16_000, 1)
        assert len(call.audio) / call.bytes_per_s <= 12.0
        loudest = np.abs(np.frombuffer(call.audio, "<i2")[-16_000 // 5 :]).max()
        assert loudest > 300, "the end of a call is speech, not a pause"


def test_channels_are_mixed_unless_they_are_speakers() -> None:
    mixed, apart = load_calls([CALL], 60.0), load_calls([CALL], 60.0, separate_channels=True)
    assert (mixed[0].config.channels, mixed[0].frame_bytes, mixed[0].bytes_per_s) == (1, 2, 16_000)
    assert (apart[0].config.channels, apart[0].config.separate_channels, apart[0].bytes_per_s) == (2, True, 32_000)


def test_a_rate_that_speech_cannot_be_told_at_is_made_another(tmp_path: Path) -> None:
    path = tmp_path / "cd.wav"
    soundfile.write(path, np.zeros((4_410, 2), np.int16), 44_100)
    samples, rate = read(path)
    assert (samples.shape, rate) == ((1_600, 2), 16_000)


def test_a_file_is_as_long_as_it_should_be() -> None:
    for length_s in (0.5, 30.0):
        with wave.open(io.BytesIO(load_file([DATA / "austen_1.flac", DATA / "austen_2.flac"], length_s))) as file:
            assert (file.getnframes(), file.getframerate(), file.getnchannels()) == (16_000 * length_s, 16_000, 1)


def test_recordings_that_are_of_no_use_are_refused(tmp_path: Path) -> None:
    silent, text, empty = tmp_path / "silent.wav", tmp_path / "text.wav", tmp_path / "empty.wav"
    soundfile.write(silent, np.zeros(16_000, np.int16), 16_000)
    soundfile.write(empty, np.zeros(0, np.int16), 16_000)
    text.write_text("no audio", encoding="utf-8")
    with pytest.raises(NotAudio, match=r"silent.wav: got recordings without speech"):
        load_calls([silent], 10.0)
    with pytest.raises(NotAudio, match=r"text.wav: got what FFmpeg cannot read"):
        load_calls([text], 10.0)
    with pytest.raises(NotAudio, match=r"empty.wav: got a recording without a sample"):
        load_file([empty], 10.0)


def test_only_a_checkout_has_speech_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert DATA / "two_cities.flac" in examples()
    monkeypatch.setattr(speech, "EXAMPLES", tmp_path / "none")
    assert examples() == []
