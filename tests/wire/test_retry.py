from __future__ import annotations

import grpc_testing
import pytest
from grpc import StatusCode

from parley.wire.errors import CallError, Exhausted, ServerFault, Unavailable
from parley.wire.retry import Attempts, Retry

BUSY = Exhausted(StatusCode.RESOURCE_EXHAUSTED, "busy", retry_after_s=3.0)
GONE = Unavailable(StatusCode.UNAVAILABLE, "gone")


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
    time = grpc_testing.strict_fake_time(100.0)
    attempts = Attempts(Retry(first_wait_s=1), 2.0, clock=time.time, share=lambda: 1.0)
    assert attempts.remaining_s() == 2.0
    assert attempts.wait_s(GONE) == 1.0
    time.sleep_for(1.0)
    assert attempts.remaining_s() == 1.0
    with pytest.raises(Unavailable):
        attempts.wait_s(GONE)  # would wait 2 s
    time.sleep_for(5.0)
    assert attempts.remaining_s() == 0.0


def test_retry_refuses_no_try_at_all() -> None:
    with pytest.raises(ValueError, match=r"tries: got 0, expected 1 \(never again\) or more"):
        Retry(tries=0)
