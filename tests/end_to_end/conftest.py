from __future__ import annotations

import json
from typing import TYPE_CHECKING

import grpc
import pytest

from parley.asr.v1 import speech_pb2_grpc
from scripts.node_process import NodeProcess

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

DECODERS = 32


@pytest.fixture(scope="session")
def node() -> Iterator[NodeProcess]:
    """The real process with the embedded model, the same for all tests."""
    with NodeProcess("--decoders", str(DECODERS), "--pool-wait-s", "100", "--stream-wait-s", "100") as running:
        yield running
        assert running.stop() == 0, "".join(running.log[-50:])
        assert [line for line in running.log if json.loads(line)["level"] in ("error", "critical")] == []


@pytest.fixture
async def stub(node: NodeProcess) -> AsyncIterator[speech_pb2_grpc.SpeechAsyncStub]:
    async with grpc.aio.insecure_channel(node.address) as channel:
        yield speech_pb2_grpc.SpeechStub(channel)
