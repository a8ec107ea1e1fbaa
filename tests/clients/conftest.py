from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import pytest

from parley.clients import AsyncClient, Client, Control, RecognitionConfig, Result, Retry, StreamConfig
from tests.wire.fake_speech import FakeServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from parley.clients.core import Recording, StreamFacts
    from parley.clients.results import Model, Serving, SpeechEvent, Transcript

SOON = Retry(first_wait_s=0.001, longest_wait_s=0.002)


class Caller(Protocol):
    """Either client, called to the end."""

    def stream(
        self,
        audio: Iterable[bytes | Control],
        config: StreamConfig,
        on_event: Callable[[SpeechEvent], None] | None = None,
        timeout_s: float | None = None,
    ) -> tuple[list[Result], StreamFacts]: ...
    def transcribe(
        self, recording: Recording, config: RecognitionConfig | None = None, timeout_s: float = 60
    ) -> Transcript: ...
    def models(self) -> tuple[Model, ...]: ...
    def health(self, service: str = "") -> Serving: ...


@dataclass
class SyncCaller:
    address: str
    token: str | None = None
    retry: Retry = SOON

    def client(self) -> Client:
        return Client(self.address, token=self.token, retry=self.retry)

    def stream(
        self,
        audio: Iterable[bytes | Control],
        config: StreamConfig,
        on_event: Callable[[SpeechEvent], None] | None = None,
        timeout_s: float | None = None,
    ) -> tuple[list[Result], StreamFacts]:
        with self.client() as client:
            stream = client.stream(audio, config, on_event=on_event, timeout_s=timeout_s)
            return list(stream), stream

    def transcribe(
        self, recording: Recording, config: RecognitionConfig | None = None, timeout_s: float = 60
    ) -> Transcript:
        with self.client() as client:
            return client.transcribe(recording, config, timeout_s=timeout_s)

    def models(self) -> tuple[Model, ...]:
        with self.client() as client:
            return client.models()

    def health(self, service: str = "") -> Serving:
        with self.client() as client:
            return client.health(service)


@dataclass
class AsyncCaller:
    address: str
    token: str | None = None
    retry: Retry = SOON

    def client(self) -> AsyncClient:
        return AsyncClient(self.address, token=self.token, retry=self.retry)

    def stream(
        self,
        audio: Iterable[bytes | Control],
        config: StreamConfig,
        on_event: Callable[[SpeechEvent], None] | None = None,
        timeout_s: float | None = None,
    ) -> tuple[list[Result], StreamFacts]:
        async def run() -> tuple[list[Result], StreamFacts]:
            async with self.client() as client:
                stream = client.stream(audio, config, on_event=on_event, timeout_s=timeout_s)
                return [result async for result in stream], stream

        return asyncio.run(run())

    def transcribe(
        self, recording: Recording, config: RecognitionConfig | None = None, timeout_s: float = 60
    ) -> Transcript:
        async def run() -> Transcript:
            async with self.client() as client:
                return await client.transcribe(recording, config, timeout_s=timeout_s)

        return asyncio.run(run())

    def models(self) -> tuple[Model, ...]:
        async def run() -> tuple[Model, ...]:
            async with self.client() as client:
                return await client.models()

        return asyncio.run(run())

    def health(self, service: str = "") -> Serving:
        async def run() -> Serving:
            async with self.client() as client:
                return await client.health(service)

        return asyncio.run(run())


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with FakeServer() as running:
        yield running


@pytest.fixture(params=[SyncCaller, AsyncCaller])
def caller(request: pytest.FixtureRequest, server: FakeServer) -> Caller:
    made: Caller = request.param(server.address)
    return made
