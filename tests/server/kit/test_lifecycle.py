from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import subprocess
import sys
import termios
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from parley.server.kit.lifecycle import SIGNALS, run_until_shutdown

if TYPE_CHECKING:
    from collections.abc import Iterator


class Service:
    """Writes down what happens to it."""

    def __init__(self, fault: Exception | None = None) -> None:
        self.happened: list[str] = []
        self.started, self.reloaded = asyncio.Event(), asyncio.Event()
        self._fault = fault

    async def start(self) -> None:
        self.happened.append("start")
        self.started.set()

    async def stopped(self) -> None:
        if self._fault is not None:
            raise self._fault
        await asyncio.Event().wait()

    async def reload(self) -> None:
        self.happened.append("reload")
        self.reloaded.set()

    async def drain(self) -> None:
        self.happened.append("drain")


class Unstartable(Service):
    async def start(self) -> None:
        raise OSError("port taken")


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Puts the signals' handlers back."""
    before = {number: signal.getsignal(number) for number in (*SIGNALS, signal.SIGHUP)}
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


async def test_a_hangup_reloads_and_ends_nothing() -> None:
    service = Service()
    running = asyncio.ensure_future(run_until_shutdown(service))
    await service.started.wait()
    for _ in range(2):
        service.reloaded.clear()
        os.kill(os.getpid(), signal.SIGHUP)
        await service.reloaded.wait()
    os.kill(os.getpid(), signal.SIGTERM)
    await running
    assert service.happened == ["start", "reload", "reload", "drain"]


async def test_a_service_that_is_reloading_can_be_ended() -> None:
    class Slow(Service):
        async def reload(self) -> None:
            self.reloaded.set()
            await asyncio.Event().wait()

    service = Slow()
    running = asyncio.ensure_future(run_until_shutdown(service))
    await service.started.wait()
    os.kill(os.getpid(), signal.SIGHUP)
    await service.reloaded.wait()
    os.kill(os.getpid(), signal.SIGTERM)
    await running
    assert service.happened == ["start", "drain"]


OF_A_TERMINAL = """
import asyncio
from parley.server.kit.lifecycle import run_until_shutdown

class Service:
    async def start(self): print("start", flush=True)
    async def stopped(self): await asyncio.Event().wait()
    async def reload(self): print("reload", flush=True)
    async def drain(self): print("drain", flush=True)

asyncio.run(run_until_shutdown(Service()))
"""


@pytest.mark.parametrize(("ignored", "last"), [(False, "drain"), (True, "reload")], ids=["plain", "nohup"])
def test_a_terminal_that_is_closed_ends_what_was_started_in_it_but_for_nohup(ignored: bool, last: str) -> None:
    def take_terminal() -> None:
        fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)
        signal.signal(signal.SIGHUP, signal.SIG_IGN if ignored else signal.SIG_DFL)  # whatever the tests' own is

    window, terminal = os.openpty()
    service = subprocess.Popen(
        [sys.executable, "-c", OF_A_TERMINAL],
        stdin=terminal,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=take_terminal,
        cwd=Path(__file__).parents[3],
    )
    os.close(terminal)
    assert service.stdout is not None
    try:
        assert service.stdout.readline() == "start\n"
        service.send_signal(signal.SIGHUP)
        assert service.stdout.readline() == "reload\n"
        os.close(window)
        assert service.stdout.readline() == f"{last}\n"
    finally:
        service.kill()
        service.communicate()
