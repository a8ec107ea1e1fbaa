"""The order of a device's work is that of the recorded schedules, to the last call, answer and figure.

The record was made by the worker as it was before its queue had a room of its own. Who means to change the order says
so by making it anew: `python -m tests.decoder.schedules`.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.decoder.schedules import BY_DIGEST, IN_FULL, RECORDED, digest, played


@pytest.fixture(scope="module")
def recorded() -> Any:
    return json.loads(RECORDED.read_text())


@pytest.mark.parametrize("number", IN_FULL)
def test_the_order_of_work_is_that_recorded(recorded: Any, number: int) -> None:
    assert played(number).split() == recorded["in_full"][str(number)].split()


def test_the_order_of_work_is_that_recorded_of_many_more(recorded: Any) -> None:
    assert len(set(recorded["by_digest"])) == len(BY_DIGEST)
    different = [number for number in BY_DIGEST if digest(played(number)) != recorded["by_digest"][number]]
    assert different == []
