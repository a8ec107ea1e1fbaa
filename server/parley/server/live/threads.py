"""Runs blocking work in a thread for a call that may end before it. Knows threads and cancels; not what the work is."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Executor

T = TypeVar("T")


async def to_the_end(executor: Executor, work: Callable[[threading.Event], T]) -> T:
    """What `work` returns. On a cancel its event is set, and the cancel goes on only when the thread has stopped.

    So a decoder lent around this call is nobody's but the thread's until then, however often the call is cancelled.
    """
    cancelled = threading.Event()
    context = contextvars.copy_context()  # the call's id stands in the thread's log lines too
    running = asyncio.get_running_loop().run_in_executor(executor, context.run, work, cancelled)
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        cancelled.set()
        while not running.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait({running})
        running.exception()  # nobody is left to tell
        raise
