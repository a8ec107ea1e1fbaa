from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import pytest
from grpc import aio

from parley.asr.v1 import speech_pb2_grpc
from parley.server.node.app import Node
from parley.server.node.settings import Settings
from tests.server.fakes import FakeRecognizer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable


@dataclass
class Running:
    """A node with a fake recognizer, and a client of it."""

    node: Node
    recognizer: FakeRecognizer
    port: int
    channel: aio.Channel
    stub: speech_pb2_grpc.SpeechAsyncStub


@pytest.fixture
async def serve() -> AsyncIterator[Callable[..., Awaitable[Running]]]:
    """Starts nodes with the settings given; they are drained at the end."""
    async with AsyncExitStack() as stack:

        async def start(recognizer: FakeRecognizer | None = None, **given: object) -> Running:
            fake = recognizer or FakeRecognizer()
            settings = Settings.model_validate({"port": 0, "metrics_port": -1, "grace_s": 0, **given})
            node = Node(settings, build=cast("Any", lambda config, observer: fake))
            port = await node.start()
            stack.push_async_callback(node.drain)
            await node.ready()
            channel = await stack.enter_async_context(aio.insecure_channel(f"127.0.0.1:{port}"))
            return Running(node, fake, port, channel, speech_pb2_grpc.SpeechStub(channel))

        yield start


@pytest.fixture
async def running(serve: Callable[..., Awaitable[Running]]) -> Running:
    return await serve()
