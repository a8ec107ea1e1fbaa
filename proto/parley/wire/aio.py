"""Calls over gRPC's asyncio interface, each tried again where that is safe. Knows messages, not what is in them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, TypeVar, cast

import grpc

from parley.asr.v1 import speech_pb2_grpc
from parley.wire.ending import Ending
from parley.wire.errors import call_error
from parley.wire.resume import Session
from parley.wire.retry import Attempts, Retry

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from typing import TypeAlias

    from parley.asr.v1 import speech_pb2 as pb
    from parley.wire.channel import Metadata
    from parley.wire.ending import Status
    from parley.wire.errors import FailedCall

    _Call: TypeAlias = grpc.aio.StreamStreamCall[pb.StreamingRecognizeRequest, pb.StreamingRecognizeResponse]

_Request = TypeVar("_Request")
_Response = TypeVar("_Response")


class Calls:
    """A channel's calls. Belongs to the event loop it was made in."""

    def __init__(self, channel: grpc.aio.Channel, metadata: Metadata, retry: Retry) -> None:
        self._metadata = metadata
        self._retry = retry
        self.speech: speech_pb2_grpc.SpeechAsyncStub = speech_pb2_grpc.SpeechStub(channel)

    async def unary(
        self,
        method: grpc.aio.UnaryUnaryMultiCallable[_Request, _Response],
        message: _Request,
        timeout_s: float | None,
        retry: Retry | None = None,
    ) -> _Response:
        """The answer to one message. `retry`: another than the channel's. Raises CallError."""
        attempts = Attempts(retry or self._retry, timeout_s)
        while True:
            try:
                return await method(message, timeout=attempts.remaining_s(), metadata=self._metadata)
            except grpc.aio.AioRpcError as failed:
                error = call_error(cast("FailedCall", failed))
            await asyncio.sleep(attempts.wait_s(error))

    def session(self, config: pb.StreamingRecognitionConfig, timeout_s: float | None) -> Session:
        return Session(config, Attempts(self._retry, timeout_s))

    async def recognize(
        self, session: Session, requests: AsyncIterator[pb.StreamingRecognizeRequest]
    ) -> AsyncGenerator[pb.StreamingRecognizeResponse, None]:
        """The responses of a stream, in its own times and numbers however often the connection breaks.

        `requests`: what follows the config. Closing the generator cancels the call and the drawing of requests. Raises
        CallError, and whatever `requests` raises.
        """
        source = _Source(requests)
        try:
            while True:
                call = self.speech.StreamingRecognize(timeout=session.attempts.remaining_s(), metadata=self._metadata)
                connection = _Connection(call, session, source)
                try:
                    while (response := await connection.read()) is not None:
                        yield session.resume.received(response)
                finally:
                    await connection.close()
                if connection.failure:
                    raise connection.failure
                status = connection.status
                if status is None or status.code() is grpc.StatusCode.OK or session.resume.complete:
                    return
                await asyncio.sleep(session.wait_s(call_error(status)))
        finally:
            await source.close()


class _Source:
    """The caller's requests. What is being drawn when a connection dies is there for the next one."""

    def __init__(self, requests: AsyncIterator[pb.StreamingRecognizeRequest]) -> None:
        self._requests = requests
        self._drawing: asyncio.Future[pb.StreamingRecognizeRequest | None] | None = None

    async def draw(self) -> pb.StreamingRecognizeRequest | None:
        """The next one; None: that was all."""
        if self._drawing is None:
            self._drawing = asyncio.ensure_future(self._next())
        message = await asyncio.shield(self._drawing)
        self._drawing = None
        return message

    async def close(self) -> None:
        """No more is drawn. What can be closed is: it may hold a microphone, or another call."""
        if self._drawing is not None:
            self._drawing.cancel()
            await asyncio.wait([self._drawing])
            if not self._drawing.cancelled():
                self._drawing.exception()  # nobody is left to tell
        if isinstance(self._requests, AsyncGenerator):
            await self._requests.aclose()

    async def _next(self) -> pb.StreamingRecognizeRequest | None:
        try:
            return await self._requests.__anext__()
        except StopAsyncIteration:
            return None


class _Connection:
    """One call of a stream: its requests are sent by a task, its responses read by whoever asks.

    `status`: how it ended, once `read` has said that it has; None: by the server's half-close.
    """

    def __init__(self, call: _Call, session: Session, source: _Source) -> None:
        self._call = call
        self._sending = asyncio.create_task(self._send(session, source))
        self._ending = Ending(call)
        # Not call.read: that gives up what has come but is not read yet, once the call is over.
        self._responses = aiter(call)
        self.status: Status | None = None

    @property
    def failure(self) -> BaseException | None:
        """Of the caller's requests."""
        return self._sending.exception() if self._sending.done() and not self._sending.cancelled() else None

    async def read(self) -> pb.StreamingRecognizeResponse | None:
        """The next response; None: the call is over."""
        try:
            return await anext(self._responses)
        except StopAsyncIteration:
            pass
        except grpc.aio.AioRpcError:
            self.status = await self._ending.status()
        except asyncio.CancelledError:
            if not self.failure:  # else it was `_send` that cancelled the call
                raise
        return None

    async def close(self) -> None:
        self._call.cancel()
        self._sending.cancel()
        await asyncio.wait([self._sending])

    async def _send(self, session: Session, source: _Source) -> None:
        """The requests. Ends with them or with the call, whichever is first."""
        opening, _ = session.resume.open()
        for first in opening:
            if not await self._write(first):
                return
        try:
            while (message := await source.draw()) is not None:
                session.resume.keep(message)
                if not await self._write(message):
                    return
        except Exception:
            self._call.cancel()  # whoever reads must not wait for a server that waits for what will never come
            raise
        with contextlib.suppress(*_GONE):
            await self._call.done_writing()

    async def _write(self, message: pb.StreamingRecognizeRequest) -> bool:
        """False: the connection is gone, and its status is for whoever reads."""
        try:
            await self._call.write(message)
        except _GONE:
            return False
        return True


# InternalError: what done_writing raises for a call that ends in the same moment.
_GONE = (grpc.aio.AioRpcError, grpc.aio.InternalError, asyncio.InvalidStateError)
