"""The client for asyncio: its caller's values, over the wire's asyncio calls.

async with AsyncClient("127.0.0.1:50051") as client:
    async with client.stream(pieces_of_audio, StreamConfig(encoding=Encoding.OGG_OPUS)) as results:
        async for result in results:
            print(result.text, result.is_final)
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable
from typing import TYPE_CHECKING

from grpc_health.v1 import health_pb2, health_pb2_grpc

from parley.asr.v1 import speech_pb2 as pb
from parley.clients import core, results
from parley.clients.config import Control, RecognitionConfig, StreamConfig, request
from parley.clients.core import QUICK_TIMEOUT_S, TRANSCRIBE_TIMEOUT_S, Recording, StreamFacts
from parley.clients.results import Model, Result, Serving, SpeechEvent, Transcript
from parley.wire import channel
from parley.wire.aio import Calls
from parley.wire.retry import NEVER, Retry

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable

    from parley.wire.channel import Tls
    from parley.wire.resume import Session


class AsyncClient:
    """Calls a server. Belongs to the event loop it was made in."""

    def __init__(
        self,
        address: str = channel.DEFAULT_ADDRESS,
        *,
        token: str | None = None,
        tls: Tls | None = None,
        retry: Retry | None = None,
    ) -> None:
        self._channel = channel.open_aio_channel(address, tls)
        self._calls = Calls(self._channel, channel.metadata(token), retry or Retry())
        self._health: health_pb2_grpc.HealthAsyncStub = health_pb2_grpc.HealthStub(self._channel)

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
        session = self._calls.session(config.to_stream_wire(on_event is not None), timeout_s)
        responses = self._calls.recognize(session, _requests(audio))
        return AsyncStream(session, config.request_id, on_event, responses)

    async def transcribe(
        self,
        recording: Recording,
        config: RecognitionConfig | None = None,
        *,
        timeout_s: float | None = TRANSCRIBE_TIMEOUT_S,
    ) -> Transcript:
        """Recognize a whole recording, given as bytes or as a path."""
        message = await asyncio.to_thread(core.recognize_request, recording, config or RecognitionConfig())
        return results.transcript(await self._calls.unary(self._calls.speech.Recognize, message, timeout_s))

    async def models(self, *, timeout_s: float | None = QUICK_TIMEOUT_S) -> tuple[Model, ...]:
        """The server's models, its default first."""
        response = await self._calls.unary(self._calls.speech.GetModels, pb.GetModelsRequest(), timeout_s)
        return tuple(results.model(each) for each in response.models)

    async def health(self, service: str = "", *, timeout_s: float | None = QUICK_TIMEOUT_S) -> Serving:
        """A service's health now, asked once. The empty name asks for the whole server."""
        message = health_pb2.HealthCheckRequest(service=service)
        return Serving((await self._calls.unary(self._health.Check, message, timeout_s, NEVER)).status)

    async def close(self) -> None:
        """Cancels what is still running."""
        await self._channel.close()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


class AsyncStream(StreamFacts):
    """The results of a stream, as they come. `aclose`, or leaving its `async with` block, cancels the call."""

    def __init__(
        self,
        session: Session,
        request_id: str,
        on_event: Callable[[SpeechEvent], None] | None,
        responses: AsyncGenerator[pb.StreamingRecognizeResponse, None],
    ) -> None:
        super().__init__(session, request_id, on_event)
        self._responses = responses

    def __aiter__(self) -> AsyncIterator[Result]:
        return self

    async def __anext__(self) -> Result:
        try:
            while (result := self._result()) is None:
                self._received(await anext(self._responses))
        except BaseException:  # of `on_event` too: whoever gives up without a `with` block leaves no call behind
            await self.aclose()
            raise
        return result

    async def aclose(self) -> None:
        self._come.clear()
        await self._responses.aclose()

    async def __aenter__(self) -> AsyncStream:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


async def _requests(
    audio: AsyncIterable[bytes | Control] | Iterable[bytes | Control],
) -> AsyncIterator[pb.StreamingRecognizeRequest]:
    if isinstance(audio, AsyncIterable):
        async for item in audio:
            yield request(item)
    else:
        for item in audio:
            yield request(item)
