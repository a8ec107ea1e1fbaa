from __future__ import annotations

import asyncio

import pytest

from parley.decoder.errors import InvalidOption, PoolExhausted
from parley.server.live.lending import lend
from tests.server.fakes import FakeRecognizer


async def test_decoders_come_back_after_the_block_and_after_a_fault() -> None:
    pool = FakeRecognizer(decoders=2).pool
    async with lend(pool, 2, 1.0) as lease:
        assert len(lease.decoders) == 2
        assert pool.snapshot().busy == 2
    with pytest.raises(ZeroDivisionError):
        async with lend(pool, 1, 1.0):
            raise ZeroDivisionError
    assert pool.snapshot().busy == 0


async def test_waiting_is_bounded() -> None:
    pool = FakeRecognizer(decoders=1).pool
    async with lend(pool, 1, 1.0):
        with pytest.raises(PoolExhausted):
            async with lend(pool, 1, 0.01):
                raise AssertionError
    assert pool.snapshot().waiting == pool.snapshot().busy == 0


async def test_more_than_there_are_is_refused_at_once() -> None:
    with pytest.raises(InvalidOption):
        async with lend(FakeRecognizer(decoders=1).pool, 2, 3600):
            raise AssertionError


async def test_who_will_not_wait_goes_before_those_who_do() -> None:
    pool = FakeRecognizer(decoders=2).pool
    async with lend(pool, 1, 0):
        two = pool.request(2)  # a file of two channels, which has to wait for the other
        async with lend(pool, 1, 0):
            assert pool.snapshot().busy == 2
            with pytest.raises(PoolExhausted, match=r"all 2 decoders are lent and 1 requests wait; waited 0\.0 s"):
                async with lend(pool, 1, 0):
                    raise AssertionError
    assert len((await asyncio.wrap_future(two)).decoders) == 2


@pytest.mark.parametrize("turns", range(6))
async def test_a_cancel_at_any_moment_of_the_wait_leaks_nothing(turns: int) -> None:
    pool = FakeRecognizer(decoders=1).pool
    first = await asyncio.wrap_future(pool.request())

    async def borrow() -> None:
        async with lend(pool, 1, 3600):
            await asyncio.Event().wait()

    waiting = asyncio.ensure_future(borrow())
    await asyncio.sleep(0)
    assert pool.snapshot().waiting == 1
    first.release()  # the lease is on its way to the one who now gives up
    for _ in range(turns):
        await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert pool.snapshot().busy == 0
