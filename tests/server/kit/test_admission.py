from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

import pytest
from grpc import aio

from parley.server.kit.admission import Calls
from parley.server.kit.telemetry import Telemetry
from parley.server.wires.parley.errors import STATUSES

if TYPE_CHECKING:
    import grpc


class GoneClient:
    """What grpc.aio gives a handler whose client has gone: a peer still, but nobody who takes a status."""

    def peer(self) -> str:
        return "ipv4:127.0.0.1:1"

    def time_remaining(self) -> float | None:
        return None

    async def abort_with_status(self, status: grpc.Status) -> None:
        raise aio.InternalError


async def test_a_refusal_that_nobody_takes_ends_the_call_as_a_cancel_does() -> None:
    calls = Calls(0, Telemetry())
    await calls.drain(0)
    with pytest.raises(asyncio.CancelledError):
        async with calls.open("Recognize", cast("Any", GoneClient()), STATUSES):
            raise AssertionError("a call was admitted that should not be")
    assert calls.live() == 0


async def test_a_failure_that_nobody_takes_ends_the_call_as_a_cancel_does() -> None:
    calls = Calls(0, Telemetry())
    with pytest.raises(asyncio.CancelledError):
        async with calls.open("Recognize", cast("Any", GoneClient()), STATUSES):
            raise ValueError("a fault of the call's own")
    assert calls.live() == 0
