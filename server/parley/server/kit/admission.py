"""Every RPC's beginning and end: admission, request id, error to status, the one log line.

Knows neither what is served nor which errors there are: each wire hands in its table of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import grpc
import structlog
from grpc import aio

from parley.server.kit.errors import Draining, TooManyStreams

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from parley.server.kit.statuses import Statuses

log = structlog.stdlib.get_logger()


class CallMetrics(Protocol):
    """What counts calls."""

    def call_began(self, method: str) -> None: ...
    def call_ended(self, method: str, code: str) -> None: ...


@dataclass
class Call:
    """One RPC. `figures` go into its log line: numbers and names, never words or audio."""

    method: str
    context: aio.ServicerContext[Any, Any]
    request_id: str
    began_at: float  # monotonic s
    figures: dict[str, object] = field(default_factory=dict)

    async def name(self, asked: str) -> None:
        """Gives the call the id its request asks for ("": none), and tells the client. asked: checked by the wire."""
        if asked:
            self.request_id = asked
            structlog.contextvars.bind_contextvars(request_id=self.request_id)
        await self.context.send_initial_metadata((("x-request-id", self.request_id),))

    def patience_s(self, limit_s: float) -> float:
        """How long the call may wait for what serves it: the limit given, or less by the caller's deadline."""
        remaining: float | None = self.context.time_remaining()
        # A tenth is left for the answer to arrive before the caller's own clock says DEADLINE_EXCEEDED.
        return limit_s if remaining is None else min(limit_s, 0.9 * remaining)


class Calls:
    """All RPCs of a process, live and past."""

    def __init__(self, most_a_peer: int, metrics: CallMetrics) -> None:
        self._most_a_peer = most_a_peer  # 0: any number
        self._metrics = metrics
        self._live: Counter[str] = Counter()  # calls by peer
        self.draining = False
        self._empty = asyncio.Event()
        self._empty.set()

    def live(self) -> int:
        """How many calls are open."""
        return self._live.total()

    async def drain(self, grace_s: float) -> None:
        """Admits no more calls; returns when the last has ended or the grace is over."""
        self.draining = True
        if self._live:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._empty.wait(), grace_s)

    @contextlib.asynccontextmanager
    async def open(
        self, method: str, context: aio.ServicerContext[Any, Any], statuses: Statuses
    ) -> AsyncIterator[Call]:
        """The block is the call: whatever it raises leaves as a status, by that table."""
        call = Call(method, context, uuid.uuid4().hex, time.monotonic())
        peer = context.peer().rpartition(":")[0]  # without the port: one host is one peer
        structlog.contextvars.bind_contextvars(request_id=call.request_id)
        code, failure = grpc.StatusCode.OK, None
        self._enter(peer)
        self._metrics.call_began(method)
        try:
            self._admit(peer)
            yield call
        except (asyncio.CancelledError, aio.BaseError):
            # BaseError: the client went away, or the server stopped, and the cancel that says so is still to come.
            code = _code_of_end(context)
            raise
        except Exception as error:
            failure = error
            code = statuses.row(error).code
        finally:
            self._leave(peer)
            self._metrics.call_ended(method, code.name)
            _report(call, context.peer(), code, failure, statuses)
        if failure is not None:
            # Last, and with everything released: a client that reads nothing does not even take its status.
            try:
                await context.abort_with_status(statuses.status(failure, call.request_id))
            except aio.InternalError:
                raise asyncio.CancelledError from None  # the client is gone, and so is who asked for this block

    def _admit(self, peer: str) -> None:
        if self.draining:
            raise Draining
        if self._most_a_peer and self._live[peer] > self._most_a_peer:
            raise TooManyStreams(self._most_a_peer)

    def _enter(self, peer: str) -> None:
        self._live[peer] += 1
        self._empty.clear()

    def _leave(self, peer: str) -> None:
        self._live[peer] -= 1
        if not self._live[peer]:
            del self._live[peer]
        if not self._live:
            self._empty.set()


def _code_of_end(context: aio.ServicerContext[Any, Any]) -> grpc.StatusCode:
    return grpc.StatusCode.DEADLINE_EXCEEDED if context.time_remaining() == 0 else grpc.StatusCode.CANCELLED


def _report(call: Call, peer: str, code: grpc.StatusCode, failure: Exception | None, statuses: Statuses) -> None:
    facts = {
        "method": call.method,
        "code": code.name,
        "peer": peer,
        "seconds": round(time.monotonic() - call.began_at, 3),
        **call.figures,
    }
    if failure is None:
        log.info("call ended", **facts)
    elif statuses.row(failure).public:
        log.info("call refused", problem=statuses.text(failure), **facts)
    else:
        log.error("call failed", exc_info=failure, **facts)
