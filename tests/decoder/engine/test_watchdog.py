"""When a device is found lost: looks are counted at one step, and it is said once. No thread, no clock."""

from __future__ import annotations

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley.decoder.engine.watchdog import STUCK_LOOKS, Watchdog


class Watched:
    def __init__(self) -> None:
        self.heard: list[str] = []
        self.watchdog = Watchdog("a card", self.heard.append, lambda: self.heard.append("end"))

    def look(self, times: int) -> None:
        for _ in range(times):
            self.watchdog.look()


@pytest.fixture
def watched() -> Watched:
    return Watched()


def test_a_step_that_is_found_again_too_often_loses_the_device(
    watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    watched.watchdog.begin()
    watched.look(STUCK_LOOKS)
    assert watched.heard == []
    assert not watched.watchdog.lost
    watched.look(1)  # the first found it there, and these found it there again
    assert watched.watchdog.lost
    assert watched.watchdog.given_up
    watched.look(2 * STUCK_LOOKS)
    watched.watchdog.lose()  # as its thread does whose call failed after all
    assert watched.heard == ["a card", "end"]  # who may call again hears of it first
    assert [record.levelno for record in caplog.records] == [logging.CRITICAL]


def test_a_thread_that_broke_loses_the_device_and_is_not_given_up(watched: Watched) -> None:
    watched.watchdog.begin()
    watched.watchdog.lose()
    watched.look(2 * STUCK_LOOKS)
    assert watched.watchdog.lost
    assert not watched.watchdog.given_up
    assert watched.heard == ["a card", "end"]


def test_a_device_that_waits_for_work_may_do_so_for_ever(watched: Watched) -> None:
    watched.look(2 * STUCK_LOOKS)
    watched.watchdog.begin()
    watched.watchdog.rest()
    watched.look(2 * STUCK_LOOKS)
    assert not watched.watchdog.lost


@given(st.lists(st.tuples(st.booleans(), st.integers(0, STUCK_LOOKS)), max_size=8))
def test_each_step_has_its_own_looks(steps: list[tuple[bool, int]]) -> None:
    watched = Watched()
    for waits_first, looks in steps:
        if waits_first:
            watched.watchdog.rest()
        watched.watchdog.begin()
        watched.look(looks)
    assert watched.heard == []
    watched.watchdog.begin()
    watched.look(STUCK_LOOKS + 1)
    assert watched.heard == ["a card", "end"]
