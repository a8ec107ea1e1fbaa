"""ARPA files read, and as word acceptors: against back-off as it is defined."""

from __future__ import annotations

import gzip
import math
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley.training.graph.arpa import LOG_10, Arpa, Grams, read_arpa
from parley.training.graph.ngram import word_fsa
from parley.training.graph.words import GrammarError
from tests.training.graph.language import sentences

if TYPE_CHECKING:
    from pathlib import Path

SMALL = """
\\data\\
ngram 1=4
ngram 2=2

\\1-grams:
-99\t<s>\t-0.5
-0.5\t</s>
-0.7 yes -0.25
-0.8 no

\\2-grams:
-0.1 <s> yes
-0.2 yes no

\\end\\
"""

Model = dict[tuple[str, ...], tuple[float, float]]  # n-gram -> natural logarithms: probability, back-off


def as_arpa(model: Model, order: int) -> Arpa:
    words = tuple(gram[0] for gram in model if len(gram) == 1)
    orders = []
    for size in range(1, order + 1):
        grams = [gram for gram in model if len(gram) == size]
        orders.append(
            Grams(
                np.array([[words.index(word) for word in gram] for gram in grams], np.int32).reshape(-1, size),
                np.array([model[gram][0] for gram in grams], np.float32),
                np.array([model[gram][1] for gram in grams], np.float32),
            )
        )
    return Arpa(words, tuple(orders))


def best(model: Model, order: int, said: tuple[str, ...], history: tuple[str, ...] = ("<s>",)) -> float:
    """By the definition, of the ways with each n-gram and with each back-off the best."""
    if not said:
        return 0.0
    found = -math.inf
    gram = (*history, said[0])
    if gram in model:
        after = gram[-(order - 1) :] if order > 1 else ()
        found = model[gram][0] + best(model, order, said[1:], after)
    if history:
        backed = model.get(history, (0.0, 0.0))[1]
        found = max(found, backed + best(model, order, said, history[1:]))
    return found


@st.composite
def models(draw: st.DrawFn) -> tuple[Model, int]:
    order = draw(st.integers(1, 4))
    numbers = st.floats(-5, 0, width=32)
    model: Model = {("<s>",): (-math.inf, draw(numbers))}
    backoffs = st.floats(-2, 1, width=32)
    model |= {(word,): (draw(numbers), draw(backoffs) if order > 1 else 0.0) for word in ("</s>", "a", "b")}
    for size in range(2, order + 1):
        for history in [gram for gram in model if len(gram) == size - 1 and gram[-1] != "</s>"]:
            for word in draw(st.sets(st.sampled_from(["</s>", "a", "b"]))):
                gram = (*history, word)
                model[gram] = (draw(numbers), draw(backoffs) if size < order else 0.0)
    return model, order


@given(models())
def test_the_score_is_that_of_the_best_way(drawn: tuple[Model, int]) -> None:
    model, order = drawn
    found = sentences(word_fsa(as_arpa(model, order)), 3)
    assert len(found) == 1 + 2 + 4 + 8
    for said, score in found.items():
        assert score == pytest.approx(best(model, order, (*said, "</s>")), abs=1e-4)


@given(models())
def test_words_that_cannot_be_written_are_never_said(drawn: tuple[Model, int]) -> None:
    model, order = drawn
    arpa = as_arpa(model, order)
    fsa = word_fsa(arpa, np.array([word != "b" for word in arpa.words]))
    without = {gram: scores for gram, scores in model.items() if "b" not in gram}
    found = sentences(fsa, 3)
    assert set(found) == {("a",) * count for count in range(4)}
    for said, score in found.items():
        assert score == pytest.approx(best(without, order, (*said, "</s>")), abs=1e-4)


@pytest.mark.parametrize("zipped", [False, True])
def test_an_arpa_file(tmp_path: Path, zipped: bool) -> None:
    path = tmp_path / ("small.arpa.gz" if zipped else "small.arpa")
    path.write_bytes(gzip.compress(SMALL.encode()) if zipped else SMALL.encode())
    arpa = read_arpa(path)
    assert arpa.words == ("<s>", "</s>", "yes", "no")
    assert [grams.words.tolist() for grams in arpa.orders] == [[[0], [1], [2], [3]], [[0, 2], [2, 3]]]
    assert arpa.orders[0].log_prob[0] == -np.inf
    found = sentences(word_fsa(arpa), 2)
    assert found[("yes", "no")] == pytest.approx(LOG_10 * (-0.1 - 0.2 - 0.5))
    assert found[("no", "yes")] == pytest.approx(LOG_10 * (-0.5 - 0.8 - 0.7 - 0.25 - 0.5))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("\\data\\", "\\date\\", "got the file's end"),
        ("ngram 2=2", "ngram 3=2", "line 4: got 'ngram 3=2', expected ngram 2=COUNT"),
        ("ngram 1=4", "ngram 1=5", "line 12: got '\\\\2-grams:', expected 5 different 1-grams, of which there were 4"),
        ("-0.8 no", "-0.8", "line 10: got '-0.8', expected a base-10 logarithm, 1 known words, and a back-off"),
        ("-0.8 no", "x no", "line 10: got 'x no', expected a base-10 logarithm"),
        ("-0.8 no", "nan no", "line 10: got 'nan no', expected a base-10 logarithm"),
        ("-0.8 no", "1 no", "line 10: got '1 no', expected a base-10 logarithm"),
        ("-0.8 no", "-0.8 yes", "expected 4 different 1-grams"),
        ("-0.2 yes no", "-0.2 yes maybe", "line 14: got '-0.2 yes maybe', expected a base-10 logarithm, 2 known"),
        ("-0.2 yes no", "-0.2 yes", "line 14: got '-0.2 yes', expected a base-10 logarithm, 2 known"),
        ("\\2-grams:", "\\3-grams:", "line 12: got '\\\\3-grams:', expected \\\\2-grams:"),
        ("\\end\\", "", "line 17: got the file's end, expected \\\\end\\\\"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = tmp_path / "small.arpa"
    path.write_text(SMALL.replace(old, new), encoding="utf8")
    with pytest.raises(GrammarError) as caught:
        read_arpa(path)
    assert message.replace("\\\\", "\\") in str(caught.value).replace("\\\\", "\\")


def test_files_that_are_no_text(tmp_path: Path) -> None:
    for path, data in ((tmp_path / "a.arpa", b"\xff\xfe"), (tmp_path / "b.arpa.gz", b"no gzip")):
        path.write_bytes(data)
        with pytest.raises(GrammarError, match="not a readable ARPA file"):
            read_arpa(path)
    with pytest.raises(GrammarError, match="not a readable ARPA file"):
        read_arpa(tmp_path / "none.arpa")


def test_models_that_are_none() -> None:
    unigrams: Model = {("<s>",): (-math.inf, 0.0), ("a",): (-1.0, 0.0)}
    with pytest.raises(GrammarError, match="without </s>"):
        word_fsa(as_arpa(unigrams, 1))
    ended: Model = {**unigrams, ("</s>",): (-1.0, 0.0)}
    with pytest.raises(GrammarError, match="a 3-gram that begins with 'a a'"):
        word_fsa(as_arpa({**ended, ("a", "a", "a"): (-1.0, 0.0)}, 3))
    doubled = as_arpa({**ended, ("a", "a"): (-1.0, 0.0)}, 2)
    once = doubled.orders[1]
    twice = Grams(
        np.concatenate((once.words, once.words)),
        np.concatenate((once.log_prob, once.log_prob)),
        np.concatenate((once.backoff, once.backoff)),
    )
    with pytest.raises(GrammarError, match="a 2-gram twice"):
        word_fsa(Arpa(doubled.words, (doubled.orders[0], twice)))
