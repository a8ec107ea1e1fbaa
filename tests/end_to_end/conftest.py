from __future__ import annotations

import json
from typing import TYPE_CHECKING

import grpc
import pytest

from parley.asr.v1 import speech_pb2_grpc
from scripts.node_process import NodeProcess

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

DECODERS, DECODERS_OF_BOTH = 32, 64


@pytest.fixture(scope="session")
def node() -> Iterator[NodeProcess]:
    """The real process with the embedded model, the same for all tests."""
    yield from _faultless("--decoders", str(DECODERS))


@pytest.fixture(scope="session")
def node_of_both() -> Iterator[NodeProcess]:
    """One with both passes."""
    yield from _faultless("--passes", "both", "--decoders", str(DECODERS_OF_BOTH))


def _faultless(*flags: str) -> Iterator[NodeProcess]:
    """Until it is stopped, which has to go well; and it must not have complained."""
    with NodeProcess(*flags, "--pool-wait-s", "100", "--stream-wait-s", "100") as running:
        yield running
        assert running.stop() == 0, "".join(running.log[-50:])
        assert [line for line in running.log if json.loads(line)["level"] in ("error", "critical")] == []


@pytest.fixture
async def stub(node: NodeProcess) -> AsyncIterator[speech_pb2_grpc.SpeechAsyncStub]:
    async with grpc.aio.insecure_channel(node.address) as channel:
        yield speech_pb2_grpc.SpeechStub(channel)
