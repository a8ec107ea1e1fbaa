"""A recording's segments behind the words before them: as if they had been searched behind them from the start."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parley.decoder.search.beam import Beam
from parley.decoder.search.seams import behind
from parley.decoder.values import Hypothesis, Phrase, Scores
from parley.training.lm.perplexity import log_probs_of
from tests.decoder.searching import BLANK, EVERYTHING, VOCABULARY, feed, random_rows, random_table, read_model, wishes

if TYPE_CHECKING:
    import torch

    from parley.decoder.search.ctc import Wishes
    from parley.decoder.search.language_model import LanguageModel

WORDS = ("a", "b", "ab", "ba")
BEFORE = st.lists(st.sampled_from((*WORDS, "unheard")), max_size=6).map(tuple)


@pytest.fixture(scope="module", params=[2, 3, 4, 5])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    table = random_table(np.random.default_rng(request.param), WORDS, request.param)
    return read_model(table, tmp_path_factory.mktemp("models") / "seams.lm")


def heard(rows: torch.Tensor, wanted: Wishes) -> tuple[Hypothesis, ...]:
    """All readings."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("parley.decoder.search.beam.MOST_BEAM", 600)
        patch.setattr("parley.decoder.search.beam.LINKS_A_SLOT", 20_000)
        beam = Beam(1, VOCABULARY, BLANK, EVERYTHING)
        beam.begin(0, replace(wanted, beam=600))
        feed(beam, 0, rows)
        paths = beam.n_best(0, 600)
    texts = [" ".join(word for word, _ in VOCABULARY.words(path.tokens)) for path in paths]
    return tuple(Hypothesis(text, 0.5, (), path.scores) for text, path in zip(texts, paths, strict=True))


@settings(max_examples=15)
@given(seed=st.integers(0, 2**32 - 1), before=BEFORE)
def test_readings_are_put_in_order_as_a_search_behind_those_words_has_them(
    model: LanguageModel, seed: int, before: tuple[str, ...]
) -> None:
    rows = random_rows(np.random.default_rng(seed), 4, 5, 2.0)
    wanted = wishes(model, [Phrase("ab")], language_weight=0.8)
    moved = behind(before, heard(rows, wanted), wanted)
    expected = heard(rows, replace(wanted, before=before))
    assert sorted(one.text for one in moved) == sorted(one.text for one in expected)
    told = {one.text: one.scores for one in moved}
    for one in expected:
        ours = told[one.text]
        assert ours is not None
        assert one.scores is not None
        assert (ours.acoustic, ours.language, ours.hotwords) == pytest.approx(
            (one.scores.acoustic, one.scores.language, one.scores.hotwords), abs=1e-4
        )
    totals = [one.scores.total for one in moved if one.scores is not None]
    assert totals == sorted(totals, reverse=True)


def test_words_at_a_seam_are_others_behind_other_words(model: LanguageModel) -> None:
    """And in the case in which the model writes them."""
    wanted = wishes(model, language_weight=1.0)
    readings = [Hypothesis(word, 0.5, (), Scores(-1.0, wanted.language_weight * score(model, word))) for word in WORDS]
    seen = set()
    for before in ((word,) for word in (*WORDS, "unheard")):
        first = behind(before, readings, wanted)[0].text
        assert first == behind(tuple(map(str.upper, before)), readings, wanted)[0].text
        seen.add(first)
    assert len(seen) > 1


def score(model: LanguageModel, word: str) -> float:
    return log_probs_of(model, [word])[0]


def test_where_nothing_is_known_of_before_nothing_moves(model: LanguageModel) -> None:
    """Not even the order."""
    readings = (Hypothesis("b", 0.5, (), Scores(-9.0)), Hypothesis("a", 0.5, (), Scores(-1.0)))
    assert behind((), readings, wishes(model)) == readings
    assert behind(("a",), readings, wishes(model, language_weight=0.0)) == readings
    assert behind(("a",), readings, wishes()) == readings
    assert behind(("a",), (), wishes(model)) == ()
