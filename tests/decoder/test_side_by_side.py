"""Shares of rows, and what comes of them."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley.decoder.side_by_side import SideBySide


@given(st.lists(st.integers(), max_size=20), st.integers(1, 5), st.integers(1, 6))
def test_every_row_is_in_one_share_in_order(rows: list[int], threads: int, least: int) -> None:
    shared = SideBySide(threads, "test")
    shares = shared.shares(rows, least)
    assert [row for share in shares for row in share] == rows
    assert len(shares) <= threads
    assert all(shares)
    sizes = [len(share) for share in shares]
    assert all(size >= min(least, len(rows)) for size in sizes)
    assert not sizes or max(sizes) - min(sizes) <= 1
    assert shared.run(list, shares) == [list(share) for share in shares]


def test_shares_are_done_at_the_same_time() -> None:
    meet = threading.Barrier(3, timeout=30)
    assert sorted(SideBySide(3, "test").run(lambda _: meet.wait(), [[1], [2], [3]])) == [0, 1, 2]


@pytest.mark.parametrize("faulty", [0, 1, 2])
def test_a_fault_is_raised_when_all_are_through(faulty: int) -> None:
    through: list[int] = []

    def work(share: int) -> None:
        if share == faulty:
            raise ValueError(share)
        through.append(share)

    with pytest.raises(ValueError, match=str(faulty)):
        SideBySide(3, "test").run(work, [0, 1, 2])
    assert sorted(through) == [share for share in range(3) if share != faulty]
