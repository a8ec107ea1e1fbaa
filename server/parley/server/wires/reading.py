"""How any gRPC wire reads its client. Knows what ends of streams look like in grpc.aio; no message."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from grpc import aio

from parley.server.live.errors import IdleStream
from parley.server.live.wire import End

if TYPE_CHECKING:
    Context = aio.ServicerContext[Any, Any]

SETTLING_S = 0.005  # it delays every stream's last final
LONG_SETTLING_S = 0.1  # where nothing waits: a caller that gave up should not be counted as one at fault


async def first_message(context: Context, limit_s: float) -> Any:
    """A stream's first message, or aio.EOF. Raises IdleStream."""
    reading = asyncio.ensure_future(context.read())
    # Not wait_for: before Python 3.12 it swallows a cancel that comes together with the end of requests.
    done, _ = await asyncio.wait({reading}, timeout=limit_s)
    if not done:
        reading.cancel()
        raise IdleStream(limit_s)
    message = reading.result()
    if message is aio.EOF:
        await asyncio.sleep(LONG_SETTLING_S)
    return message


def ended() -> End:
    """An end of requests, with the time that has to pass before it is believed.

    A client's cancel and a passed deadline first look like a half-close: the CancelledError comes some event loop turns
    later, in one of a hundred cases after milliseconds. Finalizing at once would spend the device on dead calls. On a
    busy machine it may come later still; then the device is busy too, and what waits for it is dropped with the lease.
    """
    return End(time.monotonic(), SETTLING_S)
