from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripts.reliability import BINS, Pair, kept, reliability, survival
from scripts.scoring import count_errors

PAIRS = st.lists(st.tuples(st.floats(0, 1), st.booleans()), max_size=60)
WORDS = st.lists(st.sampled_from("abc"), max_size=9)


def test_the_error_is_the_mean_distance_weighted_by_count() -> None:
    # 0.9 came true 3 of 4 times, 0.3 came true always, twice: (4 * 0.15 + 2 * 0.7) / 6.
    pairs = [(0.9, True), (0.9, True), (0.9, False), (0.9, True), (0.3, True), (0.3, True)]
    measured = reliability(pairs)
    assert measured.error == pytest.approx((4 * 0.15 + 2 * 0.7) / 6)
    assert (measured.count, measured.unknown) == (6, 0)
    assert measured.mean == pytest.approx(0.7)
    assert measured.share == pytest.approx(5 / 6)
    assert {at: part.count for at, part in enumerate(measured.bins) if part.count} == {4: 2, 13: 4}


def test_opposite_errors_in_one_bin_do_not_show_but_in_two_they_do() -> None:
    assert reliability([(0.95, True), (0.95, False), (0.95, True), (0.95, True)]).error == pytest.approx(0.2)
    assert reliability([(0.5, True), (0.5, False)]).error == pytest.approx(0)
    assert reliability([(0.25, True), (0.75, False)]).error == pytest.approx(0.75)


@pytest.mark.parametrize(("chance", "at"), [(1e-9, 0), (0.2, 3), (0.1999, 2), (1.0, 14), (0.9999, 14), (0.9333, 13)])
def test_each_figure_is_in_one_bin(chance: float, at: int) -> None:
    assert [part.count for part in reliability([(chance, True)]).bins] == [int(other == at) for other in range(BINS)]


def test_what_is_not_known_is_counted_apart() -> None:
    measured = reliability([(0.0, True), (0.0, False), (0.8, True)])
    assert (measured.count, measured.unknown, measured.share) == (1, 2, 1.0)
    assert measured.error == pytest.approx(0.2)


def test_nothing_measured_is_no_error() -> None:
    assert (reliability([]).error, reliability([]).count) == (0.0, 0)


@pytest.mark.parametrize("chance", [-0.1, 1.01, float("nan")])
def test_a_confidence_outside_0_to_1_is_refused(chance: float) -> None:
    with pytest.raises(ValueError, match="expected 0 to 1"):
        reliability([(chance, True)])


@given(PAIRS)
def test_bins_hold_every_pair_once(pairs: list[Pair]) -> None:
    measured = reliability(pairs)
    assert sum(part.count for part in measured.bins) == measured.count == len(pairs) - measured.unknown
    assert sum(part.count * part.share for part in measured.bins) == pytest.approx(measured.count * measured.share)
    assert 0 <= measured.error <= 1
    assert measured.error >= abs(measured.mean - measured.share) - 1e-9
    for part in measured.bins:
        assert not part.count or part.low - 1e-9 <= part.mean <= part.high + 1e-9


def test_chances_that_come_true_as_often_as_they_say_have_a_small_error() -> None:
    chance = random.Random(5)
    said = [chance.random() for _ in range(20_000)]
    assert reliability((each, chance.random() < each) for each in said).error < 0.02
    assert reliability((each, chance.random() < each**3) for each in said).error > 0.2


def test_survival_at_thresholds() -> None:
    pairs = [(0.0, True), (0.5, False), (0.9, True), (0.95, True), (0.92, False)]
    rows = survival(pairs, (0.0, 0.5, 0.9, 0.95, 0.96))
    assert [(row.threshold, row.count, row.share) for row in rows] == [
        (0.0, 5, 0.6),
        (0.5, 4, 0.5),
        (0.9, 3, pytest.approx(2 / 3)),
        (0.95, 1, 1.0),
        (0.96, 0, None),
    ]


@pytest.mark.parametrize(
    ("reference", "found", "keeps"),
    [
        ("a b c", "a b c", [True, True, True]),
        ("a b c", "a x c", [True, False, True]),
        ("a b c", "b c", [True, True]),
        ("a b c", "x a b c y", [False, True, True, True, False]),
        ("a b c d", "b c x d e", [True, True, False, True, False]),
        ("a", "", []),
        ("", "a b", [False, False]),
        ("a b b", "b a b", [False, True, True]),
    ],
)
def test_words_are_kept_by_the_shortest_alignment(reference: str, found: str, keeps: list[bool]) -> None:
    assert kept(reference.split(), found.split()) == keeps


@given(WORDS, WORDS)
def test_as_many_words_are_kept_as_are_no_error(reference: list[str], found: list[str]) -> None:
    errors = count_errors(" ".join(reference), " ".join(found))
    keeps = kept(reference, found)
    assert sum(keeps) == len(reference) - errors.substitutions - errors.deletions
    assert len(keeps) == len(found)
    right = iter(reference)
    assert all(each in right for each, keep in zip(found, keeps, strict=True) if keep), "kept words stand in order"
