from __future__ import annotations

import json
import logging
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import pytest
import structlog
from grpc import aio

from parley.asr.v1 import speech_pb2_grpc
from parley.server.kit import logs
from parley.server.node.app import Node
from parley.server.node.settings import Settings
from tests.server.fakes import FakeRecognizer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    Lines = Callable[[], list[dict[str, Any]]]


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
            settings = Settings.of({"port": 0, "metrics_port": -1, "grace_s": 0, **given})
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


@pytest.fixture
def unconfigured() -> Iterator[None]:
    """Leaves logging as it was before."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


@pytest.fixture
def start_log(unconfigured: None, capsys: pytest.CaptureFixture[str]) -> Callable[[], Lines]:
    """Sets logging up; what it returns gives the lines logged since the last look."""

    def start() -> Lines:  # not yet in the fixture: pytest gives the test itself another stderr
        logs.set_up("json", "info")
        return lambda: [json.loads(line) for line in capsys.readouterr().err.splitlines()]

    return start
