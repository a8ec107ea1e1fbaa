"""Speech or silence, smoothed. The detector's votes come from a script, except where real sound is asked for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley.decoder.speech.vad import FRAME_BYTES, VOICED_TO_BEGIN, WINDOW, Vad
from tests.decoder.fakes import judged
from tests.speech import pcm_of


def bits(text: str) -> list[bool]:
    return [mark == "1" for mark in text]


@pytest.mark.parametrize(
    ("votes", "speech"),
    [
        pytest.param("111100000000", "000000000000", id="four voiced frames are a click"),
        pytest.param("111110000000", "000011110000", id="five are speech"),
        pytest.param("1010101011", "0000000001", id="so are five of eight"),
        pytest.param("111111110000000", "000011111110000", id="it ends when most of the window is silent"),
        pytest.param("111111110000001", "000011111110001", id="one voiced frame and one still in sight: it goes on"),
        pytest.param("1111111100000001", "0000111111100000", id="a blip in silence does not wake it"),
    ],
)
def test_it_takes_more_to_begin_than_to_go_on(votes: str, speech: str) -> None:
    assert [said for said, _ in judged(bits(votes))] == bits(speech)


@given(st.lists(st.booleans(), max_size=60))
def test_onset_is_the_first_voiced_frame_in_sight(votes: list[bool]) -> None:
    said = [False]
    for at, (speech, onset) in enumerate(judged(votes)):
        seen = votes[max(0, at + 1 - WINDOW) : at + 1]
        assert onset == (len(seen) - seen.index(True) if any(seen) else 0)
        if speech and not any(said[-WINDOW:]):
            assert onset >= VOICED_TO_BEGIN
        said.append(speech)


def whole_frames(pcm: bytes) -> bytes:
    return pcm[: len(pcm) // FRAME_BYTES * FRAME_BYTES]


def test_a_reset_detector_hears_as_a_new_one() -> None:
    noise = np.random.default_rng(1).normal(0, 6_000, 16_000 * 3).astype("<i2").tobytes()
    speech = whole_frames(pcm_of("austen_2.flac"))
    used = Vad()
    used.accept(noise)
    unreset = used.accept(speech)
    used.reset()
    assert not used.speech
    new = Vad()
    assert used.accept(speech) == (heard := new.accept(speech))
    assert heard != unreset  # so there was something to forget


def test_frames_may_come_one_by_one_or_together() -> None:
    speech = whole_frames(pcm_of("austen_2.flac"))
    one, together = Vad(), Vad()
    one_by_one = [
        heard for at in range(0, len(speech), FRAME_BYTES) for heard in one.accept(speech[at : at + FRAME_BYTES])
    ]
    assert one_by_one == together.accept(speech)
    assert any(said for said, _ in one_by_one)


def test_aggressiveness_decides_what_is_noise() -> None:
    hum = 2_000 * np.sin(2 * np.pi * 120 * np.arange(16_000 * 2) / 16_000)
    noisy = (hum + np.frombuffer(pcm_of("austen_5.flac"), "<i2")[: len(hum)] / 8).astype("<i2").tobytes()
    counts = []
    for aggressiveness in range(4):
        detector = Vad(aggressiveness)
        counts.append(sum(said for said, _ in detector.accept(whole_frames(noisy))))
    assert counts == sorted(counts, reverse=True)
    assert counts[0] > counts[3]
