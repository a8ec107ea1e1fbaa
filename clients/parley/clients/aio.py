"""The client for asyncio. Knows gRPC's asyncio interface; what it says is core's and resume's.

async with AsyncClient("127.0.0.1:50051") as client:
    async with client.stream(pieces_of_audio, StreamConfig(encoding=Encoding.OGG_OPUS)) as results:
        async for result in results:
            print(result.text, result.is_final)
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterable, AsyncIterator
from typing import TYPE_CHECKING, TypeVar, cast

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from parley.asr.v1 import speech_pb2 as pb
from parley.asr.v1 import speech_pb2_grpc
from parley.clients import connection, core, results
from parley.clients.aio_status import Ending
from parley.clients.config import Control, RecognitionConfig, StreamConfig, request
from parley.clients.core import QUICK_TIMEOUT_S, TRANSCRIBE_TIMEOUT_S, Recording, Session, StreamFacts
from parley.clients.errors import call_error
from parley.clients.results import Model, Result, Serving, SpeechEvent, Transcript
from parley.clients.retry import NEVER, Attempts, Retry

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterable
    from typing import TypeAlias

    from parley.clients.connection import Metadata, Tls
    from parley.clients.errors import FailedCall

    _Call: TypeAlias = grpc.aio.StreamStreamCall[pb.StreamingRecognizeRequest, pb.StreamingRecognizeResponse]

_Request = TypeVar("_Request")
_Response = TypeVar("_Response")


class AsyncClient:
    """Calls a server. Belongs to the event loop it was made in."""

    def __init__(
        self,
        address: str = connection.DEFAULT_ADDRESS,
        *,
        token: str | None = None,
        tls: Tls | None = None,
        retry: Retry | None = None,
    ) -> None:
        options = connection.channel_options()
        self._channel = (
            grpc.aio.secure_channel(address, tls.credentials(), options)
            if tls
            else grpc.aio.insecure_channel(address, options)
        )
        self._metadata = connection.metadata(token)
        self._retry = retry or Retry()
        self._speech = speech_pb2_grpc.SpeechStub(self._channel)
        self._health = health_pb2_grpc.HealthStub(self._channel)

    def stream(
        self,
        audio: AsyncIterable[bytes | Control] | Iterable[bytes | Control],
        config: StreamConfig,
        *,
        on_event: Callable[[SpeechEvent], None] | None = None,
        timeout_s: float | None = None,
    ) -> AsyncStream:
        """Recognize live audio: pieces in, results out, while the pieces are still coming.

        The end of `audio` is the stream's: what is left is recognized and the iterator ends after the last final.
        A plain iterable is drawn from in the event loop, so it must not block. Leaving the iterator cancels the call.
        `on_event` is called with speech events between the results.
        """
        session = Session(config, on_event is not None, self._retry, timeout_s)
        return AsyncStream(session, _stream(self._speech, self._metadata, session, audio, on_event))

    async def transcribe(
        self,
        recording: Recording,
        config: RecognitionConfig | None = None,
        *,
        timeout_s: float | None = TRANSCRIBE_TIMEOUT_S,
    ) -> Transcript:
        """Recognize a whole recording, given as bytes or as a path."""
        message = await asyncio.to_thread(core.recognize_request, recording, config or RecognitionConfig())
        return results.transcript(await self._unary(self._speech.Recognize, message, timeout_s, self._retry))

    async def models(self, *, timeout_s: float | None = QUICK_TIMEOUT_S) -> tuple[Model, ...]:
        """The server's models, its default first."""
        response = await self._unary(self._speech.GetModels, pb.GetModelsRequest(), timeout_s, self._retry)
        return tuple(results.model(each) for each in response.models)

    async def health(self, service: str = "", *, timeout_s: float | None = QUICK_TIMEOUT_S) -> Serving:
        """A service's health now, asked once. The empty name asks for the whole server."""
        message = health_pb2.HealthCheckRequest(service=service)
        return Serving((await self._unary(self._health.Check, message, timeout_s, NEVER)).status)

    async def close(self) -> None:
        """Cancels what is still running."""
        await self._channel.close()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _unary(
        self,
        method: grpc.aio.UnaryUnaryMultiCallable[_Request, _Response],
        message: _Request,
        timeout_s: float | None,
        retry: Retry,
    ) -> _Response:
        attempts = Attempts(retry, timeout_s)
        while True:
            try:
                return await method(message, timeout=attempts.remaining_s(), metadata=self._metadata)
            except grpc.aio.AioRpcError as failed:
                error = call_error(cast("FailedCall", failed))
            await asyncio.sleep(attempts.wait_s(error))


class AsyncStream(StreamFacts):
    """The results of a stream, as they come. `aclose`, or leaving its `async with` block, cancels the call."""

    def __init__(self, session: Session, incoming: AsyncGenerator[Result, None]) -> None:
        super().__init__(session)
        self._incoming = incoming

    def __aiter__(self) -> AsyncIterator[Result]:
        return self

    async def __anext__(self) -> Result:
        return await self._incoming.__anext__()

    async def aclose(self) -> None:
        await self._incoming.aclose()

    async def __aenter__(self) -> AsyncStream:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


class _Source:
    """The caller's audio. What is being drawn when a connection dies is there for the next one."""

    def __init__(self, audio: AsyncIterable[bytes | Control] | Iterable[bytes | Control]) -> None:
        self._audio: AsyncIterator[bytes | Control] = aiter(audio) if isinstance(audio, AsyncIterable) else _each(audio)
        self._drawing: asyncio.Future[bytes | Control | None] | None = None

    async def draw(self) -> bytes | Control | None:
        """The next item; None: that was all."""
        if self._drawing is None:
            self._drawing = asyncio.ensure_future(self._next())
        item = await asyncio.shield(self._drawing)
        self._drawing = None
        return item

    def close(self) -> None:
        if self._drawing is not None:
            self._drawing.cancel()

    async def _next(self) -> bytes | Control | None:
        try:
            return await self._audio.__anext__()
        except StopAsyncIteration:
            return None


async def _each(items: Iterable[bytes | Control]) -> AsyncIterator[bytes | Control]:
    for item in items:
        yield item


async def _stream(
    stub: speech_pb2_grpc.SpeechAsyncStub,
    metadata: Metadata,
    session: Session,
    audio: AsyncIterable[bytes | Control] | Iterable[bytes | Control],
    on_event: Callable[[SpeechEvent], None] | None,
) -> AsyncGenerator[Result, None]:
    source = _Source(audio)
    try:
        while True:
            call = stub.StreamingRecognize(timeout=session.attempts.remaining_s(), metadata=metadata)
            sending = asyncio.create_task(_send(call, session, source))
            ending = Ending(call)
            status = None
            # Not call.read: that gives up what has come but is not read yet, once the call is over.
            responses = aiter(call)
            try:
                while True:
                    try:
                        response = await anext(responses)
                    except StopAsyncIteration:
                        break
                    except grpc.aio.AioRpcError:
                        status = await ending.status()
                        break
                    except asyncio.CancelledError:
                        if _failure(sending):
                            break
                        raise
                    for item in session.resume.received(response):
                        if isinstance(item, Result):
                            yield item
                        elif on_event:
                            on_event(item)
            finally:
                call.cancel()
                sending.cancel()
                await asyncio.wait([sending])
            failure = _failure(sending)
            if failure:
                raise failure
            if status is None or status.code() is grpc.StatusCode.OK or session.resume.summary:
                return
            await asyncio.sleep(session.wait_s(call_error(status)))
    finally:
        source.close()


async def _send(call: _Call, session: Session, source: _Source) -> None:
    """One connection's requests. Ends with the audio or with the connection, whichever is first."""
    opening, _ = session.resume.open()
    for message in opening:
        if not await _write(call, message):
            return
    try:
        while (item := await source.draw()) is not None:
            message = request(item)
            session.resume.keep(item)
            if not await _write(call, message):
                return
    except Exception:
        call.cancel()  # whoever reads must not wait for a server that waits for audio which will never come
        raise
    with contextlib.suppress(*_GONE):
        await call.done_writing()


async def _write(call: _Call, message: pb.StreamingRecognizeRequest) -> bool:
    """False: the connection is gone, and its status is for whoever reads."""
    try:
        await call.write(message)
    except _GONE:
        return False
    return True


# InternalError: what done_writing raises for a call that ends in the same moment.
_GONE = (grpc.aio.AioRpcError, grpc.aio.InternalError, asyncio.InvalidStateError)


def _failure(task: asyncio.Task[None]) -> BaseException | None:
    return task.exception() if task.done() and not task.cancelled() else None
