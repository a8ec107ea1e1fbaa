from __future__ import annotations

import argparse

import pytest

from parley.clients.config import Encoding
from scripts.scoring import WordErrors
from scripts.speech import DATA, recordings
from scripts.wer import Run, parse_sizes, read_manifest, same_words

MANIFEST = DATA / "manifest.jsonl"


def test_a_manifests_audio_becomes_16_bit_samples() -> None:
    utterances = read_manifest(MANIFEST, telephone=False)
    assert [utterance.text for utterance in utterances] == [recording.text for recording in recordings()]
    for utterance in utterances:
        assert utterance.encoding is Encoding.LINEAR16
        assert utterance.rate == 16_000
        assert len(utterance.audio) == round(utterance.seconds * 16_000) * 2


def test_the_telephone_leaves_8_khz_mu_law() -> None:
    for utterance in read_manifest(MANIFEST, telephone=True):
        assert utterance.encoding is Encoding.MULAW
        assert utterance.rate == 8_000
        assert len(utterance.audio) == pytest.approx(utterance.seconds * 8_000, abs=1)


@pytest.mark.parametrize("text", ["0", "20,-1"])
def test_message_sizes_are_checked(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=f"got {text}, expected"):
        parse_sizes(text)


def test_words_are_compared_with_the_same_rpcs_first_run() -> None:
    file = Run("file", 0, ("a",), WordErrors(), 1.0)
    first = Run("stream", 20, ("b",), WordErrors(), 1.0)
    same = Run("stream", 100, ("b",), WordErrors(), 1.0)
    other = Run("stream", 1000, ("b.",), WordErrors(), 1.0)
    runs = [file, first, same, other]
    assert [same_words(run, runs) for run in runs] == [True, True, True, False]
