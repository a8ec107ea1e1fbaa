"""grpc.health.v1: one state for the whole process, told to who asks and to who watches. Knows no reason for it.

The library's own servicer loses watchers: when one of several of a service leaves, the others hear no more.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from parley.server.kit.statuses import cut

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from grpc import aio

LONGEST_NAME = 200  # bytes of a service's name that come back
Status = health_pb2.HealthCheckResponse


class Health(health_pb2_grpc.HealthServicer):  # type: ignore[misc]  # a package without types
    """NOT_SERVING until told otherwise."""

    def __init__(self, services: tuple[str, ...]) -> None:
        self._services = ("", *services)  # "" is the process as a whole
        self._serving = False
        self._closed = False
        self._changed = asyncio.Event()

    def set(self, *, serving: bool) -> None:
        """Changes the state and tells all watchers."""
        self._serving = serving
        self._wake()

    def close(self) -> None:
        """Ends all watches, which would keep the server from ending."""
        self._closed = True
        self._wake()

    async def Check(  # noqa: N802
        self, request: health_pb2.HealthCheckRequest, context: aio.ServicerContext[Any, Any]
    ) -> health_pb2.HealthCheckResponse:
        if request.service not in self._services:
            known = ", ".join(repr(name) for name in self._services)
            found = cut(repr(request.service), LONGEST_NAME)
            await context.abort(grpc.StatusCode.NOT_FOUND, f"service: got {found}, expected one of {known}")
        return self._answer(request.service)

    async def Watch(  # noqa: N802
        self, request: health_pb2.HealthCheckRequest, context: aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[health_pb2.HealthCheckResponse]:
        told = None
        while True:
            changed, last = self._changed, self._closed
            answer = self._answer(request.service)
            if answer != told:
                yield answer
                told = answer
            if last:
                break
            await changed.wait()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def _answer(self, service: str) -> health_pb2.HealthCheckResponse:
        if service not in self._services:
            return Status(status=Status.SERVICE_UNKNOWN)
        return Status(status=Status.SERVING if self._serving else Status.NOT_SERVING)
