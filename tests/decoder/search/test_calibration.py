"""A search's figures as chances: with coefficients, without, and of a model's folder."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley.decoder.errors import ModelError
from parley.decoder.model_folder import ModelFolder
from parley.decoder.search.calibration import LONG_QUIET, SURE, Calibration
from tests.decoder.reference import TINY_TOML

if TYPE_CHECKING:
    from pathlib import Path

BOTH = Calibration((0.5, 1.0, 2.0, -3.0, 0.25), (-1.0, 0.5, 4.0, 0.125, 2.0))


def logistic(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def test_without_coefficients_figures_go_out_as_they_are() -> None:
    assert Calibration().confidence_of(0.375, -2.0, 3, known=True) == 0.375
    assert Calibration().stability_of(0.375, 4, 3, known=True) == 0.0  # not known


def test_figures_are_weighed() -> None:
    even = 0.5 + 2.0 * -0.25 - 3.0 * math.log(2)
    assert BOTH.confidence_of(0.5, -0.25, 2, known=False) == pytest.approx(logistic(even))
    assert BOTH.confidence_of(0.5, -0.25, 2, known=True) == pytest.approx(logistic(even + 0.25))
    assert BOTH.confidence_of(0.8, -0.25, 2, known=False) == pytest.approx(logistic(even + math.log(0.8 / 0.2)))
    even = -1.0 + 4.0 * 5 / LONG_QUIET + 0.125 * math.log(3)
    assert BOTH.stability_of(0.5, 5, 3, known=False) == pytest.approx(logistic(even))
    assert BOTH.stability_of(0.2, 5, 3, known=True) == pytest.approx(logistic(even + 2.0 + 0.5 * math.log(0.2 / 0.8)))


def test_long_silence_says_no_more_than_longer() -> None:
    long, longer = (BOTH.stability_of(0.5, quiet, 1, known=False) for quiet in (LONG_QUIET, 50 * LONG_QUIET))
    assert long == longer > BOTH.stability_of(0.5, LONG_QUIET - 1, 1, known=False)


def test_nothing_is_certain() -> None:
    """A share of 0 or 1 says that the rest was given up, not that there is none."""
    for share, bound in ((1.0, SURE), (0.0, 1 - SURE)):
        assert BOTH.confidence_of(share, 0.0, 1, known=False) == BOTH.confidence_of(bound, 0.0, 1, known=False)
        assert BOTH.stability_of(share, 0, 1, known=False) == BOTH.stability_of(bound, 0, 1, known=False)


@given(st.tuples(*[st.floats(-50, 50)] * 5), st.floats(0, 1), st.floats(-1e4, 0), st.integers(1, 400), st.booleans())
def test_it_is_a_chance_whatever_comes(
    coefficients: tuple[float, ...], share: float, log_prob: float, count: int, known: bool
) -> None:
    calibration = Calibration(coefficients, coefficients)
    assert 0 <= calibration.confidence_of(share, log_prob, count, known) <= 1
    assert 0 <= calibration.stability_of(share, count, count, known) <= 1


# Of a folder.


def folder(path: Path, section: str) -> ModelFolder:
    (path / "model.toml").write_text(TINY_TOML + section)
    return ModelFolder.read(path)


def test_of_a_folder(tmp_path: Path) -> None:
    assert Calibration.read(folder(tmp_path, "")) == Calibration()
    section = "[calibration]\nconfidence = [0.5, 1, 2, -3, 0.25]\nstability = [-1, 0.5, 4, 0.125, 2]\n"
    assert Calibration.read(folder(tmp_path, section)) == BOTH


@pytest.mark.parametrize(
    ("section", "fault"),
    [
        ("[calibration]\n", "calibration.confidence is missing"),
        ("[calibration]\nconfidence = [1, 2, 3, 4, 5]\n", "calibration.stability is missing"),
        ("[calibration]\nconfidence = [1, 2, 3]\nstability = [1, 2, 3, 4, 5]\n", "got [1, 2, 3], expected 5 numbers"),
        ("[calibration]\nconfidence = [1, 2, 3, 4, true]\n", "expected 5 numbers"),
        ('[calibration]\nconfidence = [1, 2, 3, 4, "5"]\n', "expected 5 numbers"),
        ("[calibration]\nconfidence = 5\n", "expected a value of type list"),
    ],
)
def test_a_folder_that_is_not_right(tmp_path: Path, section: str, fault: str) -> None:
    with pytest.raises(ModelError) as caught:
        Calibration.read(folder(tmp_path, section))
    assert fault in str(caught.value)
