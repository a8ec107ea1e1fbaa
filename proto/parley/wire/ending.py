"""How a grpc.aio stream really ended. Works round one fault of grpc.aio (grpc/grpc#36066) and knows nothing else.

When a server ends a call while the client still writes, the failed write makes grpc.aio put "INTERNAL: Internal error
from Core" over the server's own status: mostly after that has come, sometimes before.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

import grpc

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterable

_T = TypeVar("_T")
_MASK = "Internal error from Core"
_PATIENCE_S = 1.0  # for a status that may never come, when the connection broke


class Status:
    """A call's status as parley.wire.errors.FailedCall wants it: values, not coroutines."""

    def __init__(self, call: grpc.aio.Call) -> None:
        # A call that is over answers without waiting.
        self._code = _now(call.code())
        self._details = _now(call.details())
        self._trailers = tuple(_now(call.trailing_metadata()) or ())

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str:
        return self._details

    def trailing_metadata(self) -> Iterable[tuple[str, str | bytes]]:
        return self._trailers

    @property
    def is_mask(self) -> bool:
        return self._code is grpc.StatusCode.INTERNAL and self._details == _MASK


class Ending:
    """Notes a call's first status the moment it comes, before a failed write can hide it."""

    def __init__(self, call: grpc.aio.Call) -> None:
        self._call = call
        self._first: Status | None = None
        call.add_done_callback(self._note)

    async def status(self) -> Status:
        """The server's own status, of a call that is over."""
        status = self._first or Status(self._call)
        deadline = asyncio.get_running_loop().time() + _PATIENCE_S
        while status.is_mask and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(_PATIENCE_S / 200)  # grpc.aio tells nobody that the server's status has come after all
            status = Status(self._call)
        return status

    def _note(self, call: grpc.aio.Call) -> None:
        self._first = Status(call)


def _now(coroutine: Coroutine[Any, Any, _T]) -> _T:
    try:
        coroutine.send(None)
    except StopIteration as done:
        value: _T = done.value
        return value
    raise AssertionError("asked a call for its status that is not over")
