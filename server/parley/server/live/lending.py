"""Waits for decoders without blocking the event loop, and brings them back. Knows the pool; no call, no stream."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from parley.decoder.engine.pool import DecoderPool, Lease


@asynccontextmanager
async def lend(pool: DecoderPool, count: int, wait_s: float) -> AsyncIterator[Lease]:
    """`count` decoders for the block. Raises PoolExhausted after `wait_s` (0: at once), and DeviceLost if no device is
    left. A cancelled wait leaks nothing."""
    asked_at = time.monotonic()
    promise = pool.request(count, first=not wait_s)
    waiting = asyncio.wrap_future(promise)
    try:
        # Not wait_for: before Python 3.12 it may swallow a cancel that comes together with the lease.
        if not promise.done() and wait_s:
            await asyncio.wait({waiting}, timeout=wait_s)
        lease = await waiting if promise.done() else None
    except BaseException:
        pool.abandon(promise)
        raise
    if lease is None:
        pool.abandon(promise)  # first, so that it is not counted among those that wait
        raise pool.exhausted(time.monotonic() - asked_at)
    with lease:
        yield lease
