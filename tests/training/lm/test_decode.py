"""Recordings through the first pass, and words counted wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley.decoder.config import RecognizerConfig
from parley.training.lm.counts import count_ngrams
from parley.training.lm.decode import Search, config, edit_distance, word_errors
from parley.training.lm.errors import BadModel
from parley.training.lm.kenlm_binary import write_binary
from parley.training.lm.kneser_ney import estimate
from parley.training.lm.manifest import Recording, read_manifest
from parley.training.lm.text import spoken_words
from scripts.scoring import count_errors

ROOT = Path(__file__).resolve().parents[3]
FIRST_PASS = ROOT / "models" / "en-streaming"
RECORDINGS = [each for each in read_manifest(ROOT / "tests" / "data" / "manifest.jsonl") if "austen" in each.audio.name]

words = st.lists(st.sampled_from(["a", "b", "c"]), max_size=8)


@given(words, words)
def test_edits_are_those_that_error_rates_are_counted_in(expected: list[str], found: list[str]) -> None:
    errors = count_errors(" ".join(expected), " ".join(found))
    assert edit_distance(expected, found) == errors.substitutions + errors.insertions + errors.deletions


def test_a_model_of_what_is_said_takes_errors_away(tmp_path: Path) -> None:
    said = [spoken_words(each.text) for each in RECORDINGS]
    write_binary(estimate(count_ngrams(said, 3))[0], tmp_path / "said.lm")
    steps: list[int] = []
    without = word_errors(RECORDINGS, config(FIRST_PASS, Search()), lambda: steps.append(1))
    using = word_errors(RECORDINGS, config(FIRST_PASS, Search(tmp_path / "said.lm")), lambda: steps.append(1))
    assert len(steps) == 2 * len(RECORDINGS)
    assert without.words == using.words == sum(map(len, said))
    assert using.edits < without.edits / 2


def test_what_is_said_of_the_search_comes_through() -> None:
    found = config(FIRST_PASS, Search(Path("a.lm"), 0.25, -1.0, 3))
    assert (found.language_model, found.language_weight, found.word_bonus, found.beam) == (Path("a.lm"), 0.25, -1.0, 3)
    plain, default = config(FIRST_PASS, Search()), RecognizerConfig(second_model_dir=FIRST_PASS)
    assert (plain.language_model, plain.language_weight, plain.word_bonus) == (None, None, None)
    assert plain.beam == default.beam


def test_a_recording_that_is_none_is_named(tmp_path: Path) -> None:
    broken = tmp_path / "a.flac"
    broken.write_bytes(json.dumps({"no": "audio"}).encode())
    with pytest.raises(BadModel, match=r"a\.flac: audio at byte"):
        word_errors([Recording(broken, "a")], config(FIRST_PASS, Search()), lambda: None)
