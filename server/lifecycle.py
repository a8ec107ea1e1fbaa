"""Runs a service until it is told to end. Knows signals; not what runs."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Service(Protocol):
    """What can be run."""

    async def start(self) -> object:
        """Returns when the service listens."""

    async def stopped(self) -> None:
        """Raises what ends the service before it was told to end."""

    async def drain(self) -> None:
        """Ends the service: no new work, what is begun is finished."""


async def run_until_shutdown(service: Service) -> None:
    """From `start` to `drain`. The first signal drains; a second one ends the process at once."""
    shutdown = catch_signals()
    try:
        await service.start()
        told, fell = asyncio.ensure_future(shutdown.wait()), asyncio.ensure_future(service.stopped())
        await asyncio.wait({told, fell}, return_when=asyncio.FIRST_COMPLETED)
        told.cancel()
        if fell.done():
            fell.result()
        fell.cancel()
    finally:
        await service.drain()


def catch_signals() -> asyncio.Event:
    """An event that the first signal sets."""
    shutdown = asyncio.Event()
    loop = asyncio.get_running_loop()
    caught: list[int] = []

    def catch(number: int, _: FrameType | None) -> None:
        caught.append(number)
        if len(caught) > 1:
            # Not by raising the default action: as process 1 of a container it would be ignored.
            os._exit(128 + number)
        loop.call_soon_threadsafe(shutdown.set)

    for number in SIGNALS:
        signal.signal(number, catch)
    return shutdown
