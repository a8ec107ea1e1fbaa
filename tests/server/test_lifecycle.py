from __future__ import annotations

import asyncio
import os
import signal
from typing import TYPE_CHECKING

import pytest

from server.lifecycle import SIGNALS, run_until_shutdown

if TYPE_CHECKING:
    from collections.abc import Iterator


class Service:
    """Writes down what happens to it."""

    def __init__(self, fault: Exception | None = None) -> None:
        self.happened: list[str] = []
        self.started = asyncio.Event()
        self._fault = fault

    async def start(self) -> None:
        self.happened.append("start")
        self.started.set()

    async def stopped(self) -> None:
        if self._fault is not None:
            raise self._fault
        await asyncio.Event().wait()

    async def drain(self) -> None:
        self.happened.append("drain")


class Unstartable(Service):
    async def start(self) -> None:
        raise OSError("port taken")


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Puts the signals' handlers back."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", SIGNALS)
async def test_a_signal_drains(number: signal.Signals) -> None:
    service = Service()
    running = asyncio.ensure_future(run_until_shutdown(service))
    await service.started.wait()
    assert service.happened == ["start"]
    os.kill(os.getpid(), number)
    await running
    assert service.happened == ["start", "drain"]


async def test_a_second_signal_ends_the_process_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[int] = []
    monkeypatch.setattr(os, "_exit", ended.append)
    service = Service()
    running = asyncio.ensure_future(run_until_shutdown(service))
    await service.started.wait()
    os.kill(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGTERM)
    await running
    assert ended == [128 + signal.SIGTERM]


async def test_a_service_that_falls_is_drained_and_its_fault_raised() -> None:
    service = Service(fault=ValueError("broken"))
    with pytest.raises(ValueError, match="broken"):
        await run_until_shutdown(service)
    assert service.happened == ["start", "drain"]


async def test_a_service_that_cannot_start_is_drained_too() -> None:
    service = Unstartable()
    with pytest.raises(OSError, match="port taken"):
        await run_until_shutdown(service)
    assert service.happened == ["drain"]
