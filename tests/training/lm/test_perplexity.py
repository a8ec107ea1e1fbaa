"""Perplexities, against sums by hand."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest

from parley.decoder.search.language_model import LanguageModel
from parley.training.lm.kenlm_binary import write_binary
from parley.training.lm.perplexity import Perplexity, measure
from tests.training.lm.tables import assembled

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def model(tmp_path: Path) -> LanguageModel:
    table = {
        ("<unk>",): (-3.0, 0.0),
        ("<s>",): (-99.0, -0.5),
        ("</s>",): (-1.0, 0.0),
        ("a",): (-2.0, -0.25),
        ("<s>", "a"): (-0.125, 0.0),
        ("a", "</s>"): (-0.375, 0.0),
    }
    write_binary(assembled(table), tmp_path / "a.lm")
    return LanguageModel.read(tmp_path / "a.lm")


def test_perplexity_with_and_without_unknown_words(model: LanguageModel) -> None:
    found = measure(model, [["a"], ["what", "a"]])
    # <s> a </s>: the two bigrams. <s> what: back-off, unknown; a behind an unknown word: alone; a </s>.
    of_all = [-0.125, -0.375, -0.5 - 3.0, -2.0, -0.375]
    of_known = [of_all[place] for place in (0, 1, 3, 4)]
    assert (found.sentences, found.words, found.unknown) == (2, 3, 1)
    assert found.unknown_rate == pytest.approx(1 / 3)
    assert found.of_all == pytest.approx(10 ** (-sum(of_all) / 5))
    assert found.of_known == pytest.approx(10 ** (-sum(of_known) / 4))


def test_no_text_has_no_perplexity() -> None:
    assert math.isnan(Perplexity().of_all)
    assert Perplexity().unknown_rate == 0
