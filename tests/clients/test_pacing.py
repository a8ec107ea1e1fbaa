from __future__ import annotations

import pytest
from grpc import StatusCode

from parley.clients.errors import CallError, Exhausted, ServerFault, Unavailable
from parley.clients.pacing import paced, piece_bytes
from parley.clients.retry import Attempts, Retry

BUSY = Exhausted(StatusCode.RESOURCE_EXHAUSTED, "busy", retry_after_s=3.0)
GONE = Unavailable(StatusCode.UNAVAILABLE, "gone")


class Clock:
    """Time that passes by sleeping only, and a little more than asked for."""

    def __init__(self, overshoot_s: float = 0.0) -> None:
        self.now = 100.0
        self.overshoot_s = overshoot_s

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.now += seconds + self.overshoot_s


def test_pieces_come_when_their_last_byte_has_been_spoken() -> None:
    clock = Clock()
    pieces = paced([b"1234", b"12", b"1234"], bytes_per_s=4, clock=clock, sleep=clock.sleep)
    assert [(piece, clock.now - 100) for piece in pieces] == [(b"1234", 1.0), (b"12", 1.5), (b"1234", 2.5)]


def test_late_pieces_do_not_delay_those_after_them() -> None:
    clock = Clock(overshoot_s=0.25)
    times = [clock.now - 100 for _ in paced([b"1"] * 100, bytes_per_s=1, clock=clock, sleep=clock.sleep)]
    assert times == [number + 1.25 for number in range(100)]


def test_who_is_behind_does_not_wait() -> None:
    clock = Clock()
    times = []
    for _ in paced([b"1"] * 4, bytes_per_s=1, clock=clock, sleep=clock.sleep):
        times.append(clock.now - 100)
        clock.now += 2.5 if len(times) == 1 else 0
    assert times == [1.0, 3.5, 3.5, 4.0]


def test_pieces_hold_whole_frames() -> None:
    assert piece_bytes(32_000, 0.1) == 3200
    assert piece_bytes(44_100, 0.1, frame_bytes=4) == 4408
    assert piece_bytes(1, 0.001) == 1
    assert piece_bytes(1, 0.001, frame_bytes=4) == 4


def test_waits_grow_to_their_limit_and_tries_end() -> None:
    attempts = Attempts(Retry(tries=5, first_wait_s=1, longest_wait_s=3), None, share=lambda: 1.0)
    assert [attempts.wait_s(GONE) for _ in range(4)] == [1, 2, 3, 3]
    with pytest.raises(Unavailable):
        attempts.wait_s(GONE)


def test_waits_are_spread() -> None:
    low, high = (Attempts(Retry(first_wait_s=1), None, share=lambda share=share: share) for share in (0.0, 1.0))  # type: ignore[misc]
    assert (low.wait_s(GONE), high.wait_s(GONE)) == (0.5, 1.0)


def test_time_the_server_named_is_never_cut_short() -> None:
    shares = iter([0.0, 1.0])
    attempts = Attempts(Retry(first_wait_s=1), None, share=lambda: next(shares))
    assert attempts.wait_s(BUSY) == 3.0
    assert attempts.wait_s(BUSY) == 5.0


def test_progress_starts_the_count_again() -> None:
    attempts = Attempts(Retry(tries=2, first_wait_s=1), None, share=lambda: 1.0)
    for _ in range(5):
        assert attempts.wait_s(GONE) == 1
        attempts.progressed()


@pytest.mark.parametrize(
    "error", [ServerFault(StatusCode.INTERNAL, "bug"), Exhausted(StatusCode.RESOURCE_EXHAUSTED, "too large")]
)
def test_what_does_not_pass_is_not_tried_again(error: CallError) -> None:
    with pytest.raises(type(error)):
        Attempts(Retry(), None).wait_s(error)


def test_deadline_bounds_all_tries_together() -> None:
    clock = Clock()
    attempts = Attempts(Retry(first_wait_s=1), 2.0, clock=clock, share=lambda: 1.0)
    assert attempts.remaining_s() == 2.0
    assert attempts.wait_s(GONE) == 1.0
    clock.now += 1.0
    assert attempts.remaining_s() == 1.0
    with pytest.raises(Unavailable):
        attempts.wait_s(GONE)  # would wait 2 s
    clock.now += 5.0
    assert attempts.remaining_s() == 0.0


def test_retry_refuses_no_try_at_all() -> None:
    with pytest.raises(ValueError, match=r"tries: got 0, expected 1 \(never again\) or more"):
        Retry(tries=0)
