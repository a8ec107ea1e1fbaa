from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from parley.server.live.figures import MOST_MARKS, Arrivals


@given(st.lists(st.integers(0, 50), max_size=20), st.integers(0, 400))
def test_audio_arrived_with_the_first_message_that_held_it(gains_ms: list[int], asked_ms: int) -> None:
    arrivals, received_ms, expected = Arrivals(), 0, None
    for at, gain_ms in enumerate(gains_ms):
        received_ms += gain_ms
        arrivals.mark(received_ms, at)
        if expected is None and received_ms >= asked_ms:
            expected = at
    assert arrivals.of(asked_ms) == expected


def test_what_is_long_past_is_forgotten() -> None:
    arrivals = Arrivals()
    for at in range(2 * MOST_MARKS):
        arrivals.mark(at, at)
    assert arrivals.of(2 * MOST_MARKS - 1) == 2 * MOST_MARKS - 1
    assert arrivals.of(2 * MOST_MARKS) is None
