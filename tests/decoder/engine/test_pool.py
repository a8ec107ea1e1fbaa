"""Lending: who gets decoders and when, and that each comes back once. The decoders only note what happens to them."""

from __future__ import annotations

import concurrent.futures
import logging
import threading
from typing import TYPE_CHECKING, NoReturn, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley.decoder.engine.pool import DecoderPool, Lease
from parley.decoder.errors import InvalidOption, PoolExhausted
from tests.decoder.fakes import WAIT_S

if TYPE_CHECKING:
    from collections.abc import Sequence

    from parley.decoder.engine.decoder import Decoder


class Lent:
    """A decoder that cannot be lent twice or given back twice."""

    def __init__(self, device: str, slot: int) -> None:
        self.device, self.slot = device, slot
        self.bound = False
        self.fault: Exception | None = None

    def bind(self) -> None:
        assert not self.bound
        self.bound = True

    def reset(self) -> None:
        assert self.bound
        self.bound = False
        if self.fault:
            raise self.fault


def pool_of(*counts: int) -> DecoderPool:
    """A pool over devices with so many decoders."""
    devices = [[Lent(f"device{at}", slot) for slot in range(count)] for at, count in enumerate(counts)]
    return DecoderPool(
        cast("Sequence[Sequence[Decoder]]", devices),
        rebuild=lambda broken: cast("Decoder", Lent(broken.device, broken.slot)),
    )


def lease_of(future: concurrent.futures.Future[Lease]) -> Lease:
    """Its lease, which must be there at once."""
    return future.result(timeout=0)


def break_reset(lease: Lease, at: int, fault: Exception) -> None:
    cast("Lent", lease.decoders[at]).fault = fault


def test_a_decoder_is_bound_while_it_is_lent() -> None:
    pool = pool_of(1)
    with pool.lend(timeout=0) as lease:
        (decoder,) = cast("tuple[Lent]", lease.decoders)
        assert decoder.bound
        assert pool.snapshot().busy == 1
    assert not decoder.bound
    assert pool.snapshot().busy == 0


def test_first_come_first_served_whatever_they_ask_for() -> None:
    pool = pool_of(2)
    first, second = lease_of(pool.request()), lease_of(pool.request())
    big, small, last = pool.request(2), pool.request(1), pool.request(1)
    first.release()
    assert not big.done()
    assert not small.done()  # there is one, but others came before
    second.release()
    big_lease = lease_of(big)
    assert len(big_lease.decoders) == 2
    assert not small.done()
    big_lease.release()
    assert {lease_of(small).decoders, lease_of(last).decoders} == {(big_lease.decoders[0],), (big_lease.decoders[1],)}


def test_counts() -> None:
    pool = pool_of(3)
    assert pool.snapshot().total == 3
    lease = lease_of(pool.request(2))
    waiting = pool.request(2)
    load = pool.snapshot()
    assert (load.total, load.busy, load.waiting, load.lent_total, load.longest_wait_s < WAIT_S) == (3, 2, 1, 2, True)
    lease.release()
    lease_of(waiting).release()
    load = pool.snapshot()
    assert (load.busy, load.waiting, load.lent_total, load.replaced) == (0, 0, 4, 0)
    assert load.longest_wait_s > 0


@pytest.mark.parametrize("count", [0, 4])
def test_more_than_a_device_has_is_never_to_be_had(count: int) -> None:
    with pytest.raises(InvalidOption, match=rf"format\.channels: got {count}, expected 1 to 3 here"):
        pool_of(2, 3).request(count)


def test_a_release_counts_once() -> None:
    pool = pool_of(1)
    lease = lease_of(pool.request())
    lease.release()
    other = lease_of(pool.request())
    assert other.decoders == lease.decoders
    lease.release()
    assert pool.snapshot().busy == 1  # it is the other's now
    with other:
        pass
    assert pool.snapshot().busy == 0


# Waiting in vain, and giving up.


def test_exhausted_says_the_load() -> None:
    pool = pool_of(2)
    with pool.lend(timeout=0, count=2):
        pool.request()
        with (
            pytest.raises(PoolExhausted, match=r"all 2 decoders are lent and 1 requests wait; waited 0\.0 s") as caught,
            pool.lend(timeout=0),
        ):
            pass
    assert (caught.value.total, caught.value.waiting) == (2, 1)
    assert pool.snapshot().waiting == 0  # the other one has been served


def test_lend_waits_for_a_release() -> None:
    pool = pool_of(1)
    held = lease_of(pool.request())
    seen = threading.Event()

    def borrow() -> None:
        with pool.lend(timeout=WAIT_S):
            seen.set()

    thread = threading.Thread(target=borrow)
    thread.start()
    held.release()
    assert seen.wait(WAIT_S)
    thread.join()
    assert pool.snapshot().busy == 0


@pytest.mark.parametrize("fault", [ValueError("mine"), KeyboardInterrupt()])
def test_lend_gives_back_whatever_happens_in_it(fault: BaseException) -> None:
    pool = pool_of(1)
    with pytest.raises(type(fault)), pool.lend(timeout=0):
        raise fault
    assert pool.snapshot().busy == 0


def test_lend_gives_back_when_its_wait_is_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = pool_of(1)

    def interrupted(future: concurrent.futures.Future[Lease], timeout: float | None = None) -> Lease:
        monkeypatch.undo()
        raise KeyboardInterrupt

    monkeypatch.setattr(concurrent.futures.Future, "result", interrupted)
    with pytest.raises(KeyboardInterrupt), pool.lend(timeout=0):
        pytest.fail("not lent")
    assert pool.snapshot().busy == 0


def test_a_lease_that_comes_with_the_timeout_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = pool_of(1)

    def late(future: concurrent.futures.Future[Lease], timeout: float | None = None) -> Lease:
        monkeypatch.undo()
        raise concurrent.futures.TimeoutError

    monkeypatch.setattr(concurrent.futures.Future, "result", late)
    with pytest.raises(PoolExhausted), pool.lend(timeout=0):
        pytest.fail("not lent")
    assert pool.snapshot().busy == 0


def test_who_gives_up_leaves_the_queue() -> None:
    pool = pool_of(2)
    held = lease_of(pool.request())
    big, small = pool.request(2), pool.request(1)
    assert not small.done()
    pool.abandon(big)
    lease_of(small).release()  # the one behind needs no more than is free
    held.release()
    assert (pool.snapshot().busy, pool.snapshot().waiting, pool.snapshot().lent_total) == (0, 0, 2)


def test_giving_up_a_lease_gives_it_back() -> None:
    pool = pool_of(1)
    future = pool.request()
    pool.abandon(future)
    assert pool.snapshot().busy == 0
    pool.abandon(future)
    lease_of(pool.request()).release()


def test_giving_up_after_all_was_given_back_does_nothing() -> None:
    pool = pool_of(1)
    future = pool.request()
    lease_of(future).release()
    with pool.lend(timeout=0):
        pool.abandon(future)
        assert pool.snapshot().busy == 1


def test_a_future_cancelled_by_others_is_passed_over() -> None:
    pool = pool_of(1)
    held = lease_of(pool.request())
    cancelled, next_one = pool.request(), pool.request()
    cancelled.cancel()
    held.release()
    lease = lease_of(next_one)
    pool.abandon(cancelled)  # as asyncio's caller does, late
    assert pool.snapshot().waiting == 0
    lease.release()
    assert pool.snapshot().busy == 0


# Decoders that break.


@pytest.mark.parametrize("fault", [ValueError("broken"), RuntimeError("broken")])
def test_one_that_cannot_be_reset_is_replaced(fault: Exception, caplog: pytest.LogCaptureFixture) -> None:
    pool = pool_of(2)
    lease = lease_of(pool.request(2))
    break_reset(lease, 0, fault)
    lease.release()
    broken, sound = lease.decoders
    assert pool.snapshot().busy == 0
    assert pool.snapshot().replaced == 1
    again = lease_of(pool.request(2)).decoders
    assert broken not in again
    assert sound in again
    assert sorted(decoder.slot for decoder in again) == [0, 1]
    (record,) = caplog.records
    assert (record.levelno, record.getMessage()) == (
        logging.ERROR,
        "decoder 0 on device0 could not be reset: replaced",
    )
    assert record.exc_info
    assert record.exc_info[1] is fault


def test_one_that_cannot_be_rebuilt_either_is_lost_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = pool_of(2)

    def rebuild(_: object) -> NoReturn:
        raise MemoryError

    monkeypatch.setattr(pool, "_rebuild", rebuild)
    lease = lease_of(pool.request(2))
    break_reset(lease, 0, ValueError("broken"))
    lease.release()
    load = pool.snapshot()
    assert (load.total, load.busy, load.replaced) == (1, 0, 0)
    assert lease_of(pool.request(1)).decoders == lease.decoders[1:]


# Several devices.


def test_the_device_with_the_fewest_busy_is_next() -> None:
    pool = pool_of(2, 2)
    leases = [lease_of(pool.request()) for _ in range(4)]
    assert [lease.decoders[0].device for lease in leases] == ["device0", "device1", "device0", "device1"]
    leases[1].release()
    leases[3].release()
    leases[2].release()
    assert lease_of(pool.request()).decoders[0].device == "device1"


def test_decoders_lent_together_are_of_one_device() -> None:
    pool = pool_of(2, 2)
    first, second = lease_of(pool.request()), lease_of(pool.request())
    both = pool.request(2)
    assert not both.done()  # two are free, one on each
    second.release()
    assert {decoder.device for decoder in lease_of(both).decoders} == {"device1"}
    first.release()


# All at once.


def test_many_threads_never_share_and_never_lose_a_decoder() -> None:
    pool = pool_of(3, 3)
    held: set[int] = set()
    guard = threading.Lock()
    served = threading.Semaphore(0)

    def own(lease: Lease) -> None:
        with guard:
            for decoder in lease.decoders:
                assert id(decoder) not in held
                held.add(id(decoder))
        if id(lease) % 7 == 0:
            break_reset(lease, 0, RuntimeError("broken"))
        with guard:
            held.difference_update(id(decoder) for decoder in lease.decoders)
        served.release()

    def client(number: int) -> None:
        for k in range(60):
            count = (number + k) % 3 + 1
            match (number + k) % 4:
                case 0:
                    with pool.lend(timeout=WAIT_S, count=count) as lease:
                        own(lease)
                case 1:
                    pool.abandon(pool.request(count))
                case 2:
                    future = pool.request(count)
                    with future.result(WAIT_S) as lease:
                        own(lease)
                        lease.release()
                    pool.abandon(future)
                case _:
                    future = pool.request(count)
                    future.cancel()
                    pool.abandon(future)

    with concurrent.futures.ThreadPoolExecutor(12) as clients:
        logging.disable(logging.CRITICAL)  # of replaced decoders
        try:
            for done in [clients.submit(client, number) for number in range(12)]:
                done.result(timeout=4 * WAIT_S)
        finally:
            logging.disable(logging.NOTSET)
    load = pool.snapshot()
    assert (load.busy, load.waiting) == (0, 0)
    free = [lease_of(pool.request(3)) for _ in range(2)]
    assert sorted((d.device, d.slot) for lease in free for d in lease.decoders) == [
        (device, slot) for device in ("device0", "device1") for slot in range(3)
    ]


@given(st.lists(st.tuples(st.sampled_from(["ask", "give up", "give back"]), st.integers(1, 3), st.integers(0, 9))))
def test_as_a_simple_queue_would(moves: list[tuple[str, int, int]]) -> None:
    """Against a model of the pool: a number free, and who waits for how many."""
    pool = pool_of(3)
    free = 3
    waiting: list[tuple[int, concurrent.futures.Future[Lease]]] = []
    lent: list[tuple[int, concurrent.futures.Future[Lease]]] = []

    def serve() -> None:
        nonlocal free
        while waiting and waiting[0][0] <= free:
            count, future = waiting.pop(0)
            free -= count
            lent.append((count, future))

    for move, count, which in moves:
        if move == "ask":
            waiting.append((count, pool.request(count)))
        elif move == "give up" and waiting:
            pool.abandon(waiting.pop(which % len(waiting))[1])
        elif move == "give back" and lent:
            returned, future = lent.pop(which % len(lent))
            lease_of(future).release()
            free += returned
        serve()
        assert [future.done() for _, future in waiting] == [False] * len(waiting)
        assert [len(lease_of(future).decoders) for _, future in lent] == [count for count, _ in lent]
        load = pool.snapshot()
        assert (load.total - load.busy, load.waiting) == (free, len(waiting))
