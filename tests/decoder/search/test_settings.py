"""What a model's folder says of its search."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from parley.decoder.errors import ModelError
from parley.decoder.model_folder import ModelFolder
from parley.decoder.search.settings import BeamSettings, beam_settings
from tests.decoder.reference import EN_STREAMING, TINY_TOML

if TYPE_CHECKING:
    from pathlib import Path


def folder(path: Path, section: str) -> ModelFolder:
    (path / "model.toml").write_text(TINY_TOML + section)
    return ModelFolder.read(path)


def test_what_is_not_said_has_its_default(tmp_path: Path) -> None:
    assert beam_settings(folder(tmp_path, "")) == beam_settings(folder(tmp_path, "[search]\n")) == BeamSettings()
    said = beam_settings(folder(tmp_path, "[search]\nword_bonus = -1\nscore_beam = 9.5\ntokens = 3\n"))
    assert said == BeamSettings(word_bonus=-1.0, score_beam=9.5, tokens=3)
    assert type(said.word_bonus) is float


def test_the_embedded_model_says_what_suits_it() -> None:
    assert beam_settings(ModelFolder.read(EN_STREAMING)) != BeamSettings()


@pytest.mark.parametrize(
    ("section", "fault"),
    [
        ("word_bonous = 1", "search.word_bonous: no such setting, expected one of blank_penalty, language_weight"),
        ("tokens = 3.5", "search.tokens: got 3.5, expected a value of type int"),
        ('unknown_word = "-20"', "search.unknown_word: got '-20', expected a value of type float"),
        ("word_bonus = true", "search.word_bonus: got True, expected a value of type float"),
        ("tokens = 0", "search.tokens: got 0, expected"),
        ("tokens = -5", "search.tokens: got -5, expected"),
        ("score_beam = -1", "search.score_beam: got -1.0, expected"),
        ("token_beam = nan", "search.token_beam: got nan, expected"),
        ("language_weight = 6", "search.language_weight: got 6.0, expected 0 to 5"),
        ("word_bonus = inf", "search.word_bonus: got inf, expected -10 to 10"),
        ("unknown_word = 1", "search.unknown_word: got 1.0, expected"),
        ("blank_penalty = -inf", "search.blank_penalty: got -inf, expected"),
    ],
)
def test_a_folder_that_is_not_right(tmp_path: Path, section: str, fault: str) -> None:
    with pytest.raises(ModelError) as caught:
        beam_settings(folder(tmp_path, f"[search]\n{section}\n"))
    assert str(caught.value).startswith(f"{tmp_path / 'model.toml'}: ")
    assert fault in str(caught.value)


def test_a_search_section_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "model.toml").write_text('search = "beam"\n' + TINY_TOML)
    with pytest.raises(ModelError, match="search: got 'beam', expected a value of type dict"):
        beam_settings(ModelFolder.read(tmp_path))
