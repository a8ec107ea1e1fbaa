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

    async def reload(self) -> None:
        """Reads anew what may change while the service runs. What is wrong with it is the service's to tell."""

    async def drain(self) -> None:
        """Ends the service: no new work, what is begun is finished."""


async def run_until_shutdown(service: Service) -> None:
    """From `start` to `drain`. The first signal drains, a second one ends the process at once; SIGHUP reloads."""
    shutdown, hangup = catch_signals()
    reloading = asyncio.ensure_future(_reload(service, hangup))
    try:
        await service.start()
        told, fell = asyncio.ensure_future(shutdown.wait()), asyncio.ensure_future(service.stopped())
        await asyncio.wait({told, fell}, return_when=asyncio.FIRST_COMPLETED)
        told.cancel()
        if fell.done():
            fell.result()
        fell.cancel()
    finally:
        reloading.cancel()
        await service.drain()


async def _reload(service: Service, hangup: asyncio.Event) -> None:
    """One after the other: what comes while one runs is one more."""
    while True:
        await hangup.wait()
        hangup.clear()
        await service.reload()


def catch_signals() -> tuple[asyncio.Event, asyncio.Event]:
    """An event that the first signal sets, and one that SIGHUP sets."""
    shutdown, hangup = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    caught: list[int] = []
    # Not with SIGHUP ignored: under nohup a service is to outlive its terminal.
    of_terminal = signal.getsignal(signal.SIGHUP) is signal.SIG_DFL and _has_terminal()

    def catch(number: int, _: FrameType | None) -> None:
        caught.append(number)
        if len(caught) > 1:
            # Not by raising the default action: as process 1 of a container it would be ignored.
            os._exit(128 + number)
        loop.call_soon_threadsafe(shutdown.set)

    def catch_hangup(_: int, __: FrameType | None) -> None:
        # A window that is closed hangs up too, often twice: by the system and by the shell.
        window_closed = of_terminal and not _has_terminal()
        loop.call_soon_threadsafe(shutdown.set if window_closed else hangup.set)

    for number in SIGNALS:
        signal.signal(number, catch)
    signal.signal(signal.SIGHUP, catch_hangup)
    return shutdown, hangup


def _has_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True
