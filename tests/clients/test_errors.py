"""Statuses as exceptions, the odd ones too."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import grpc
import pytest
from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2

from parley.asr.v1 import speech_pb2_grpc
from parley.clients import Cancelled, Client, InvalidRequest, ServerFault, StreamConfig
from parley.clients.aio_status import Ending, Status
from parley.clients.config import Encoding, request
from parley.clients.errors import DETAILS_TRAILER, call_error
from tests.clients.fake_speech import RATE, FakeServer, Fault, toy_audio

if TYPE_CHECKING:
    from collections.abc import Iterable


class Failed:
    def __init__(
        self,
        code: grpc.StatusCode,
        trailers: Iterable[tuple[str, str | bytes]] | None = None,
        details: str | None = "no",
    ) -> None:
        self._code, self._trailers, self._details = code, trailers, details

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str | None:
        return self._details

    def trailing_metadata(self) -> Iterable[tuple[str, str | bytes]] | None:
        return self._trailers


def test_details_are_read() -> None:
    details = (
        error_details_pb2.RetryInfo(retry_delay=duration_pb2.Duration(seconds=2, nanos=500_000_000)),
        error_details_pb2.ErrorInfo(reason="POOL_EXHAUSTED", domain="parley.asr.v1", metadata={"request_id": "r1"}),
        error_details_pb2.Help(),  # nothing that this client reads
    )
    status = status_pb2.Status(code=8, message="full")
    for detail in details:
        packed = any_pb2.Any()
        packed.Pack(detail)
        status.details.append(packed)
    error = call_error(
        Failed(grpc.StatusCode.RESOURCE_EXHAUSTED, [("x", "y"), (DETAILS_TRAILER, status.SerializeToString())], "full")
    )
    assert (error.retry_after_s, error.reason, error.request_id, error.violations) == (2.5, "POOL_EXHAUSTED", "r1", ())
    assert str(error) == "RESOURCE_EXHAUSTED: full (request r1)"


@pytest.mark.parametrize("trailers", [None, [], [(DETAILS_TRAILER, b"\xff\xff")], [(DETAILS_TRAILER, "text")]])
def test_mangled_details_leave_the_status(trailers: list[tuple[str, str | bytes]] | None) -> None:
    error = call_error(Failed(grpc.StatusCode.CANCELLED, trailers, None))
    assert isinstance(error, Cancelled)
    assert (error.text, error.request_id, error.retry_after_s) == ("", "", None)


def test_code_that_no_class_is_for_is_the_servers_fault() -> None:
    assert isinstance(call_error(Failed(grpc.StatusCode.UNIMPLEMENTED)), ServerFault)


def test_closing_the_client_cancels_its_calls(server: FakeServer) -> None:
    client = Client(server.address)

    def audio() -> Iterable[bytes]:
        yield toy_audio(1)
        client.close()
        yield toy_audio(2)

    with pytest.raises(Cancelled):
        list(client.stream(audio(), StreamConfig(encoding=Encoding.LINEAR16, sample_rate=RATE)))


async def test_servers_status_is_found_behind_a_failed_write(server: FakeServer) -> None:
    """grpc.aio hides it behind its own INTERNAL in many of these calls."""
    hidden = 0
    config = StreamConfig(encoding=Encoding.LINEAR16, sample_rate=RATE).to_stream_wire(False)
    async with grpc.aio.insecure_channel(server.address) as channel:
        stub = speech_pb2_grpc.SpeechStub(channel)
        for _ in range(60):
            server.speech.stream_faults = [Fault(grpc.StatusCode.NOT_FOUND, after_responses=2)]
            call = stub.StreamingRecognize()
            ending = Ending(call)

            async def send(call: grpc.aio.StreamStreamCall = call) -> None:  # type: ignore[type-arg]
                with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
                    await call.write(type(request(b""))(config=config))
                    for _ in range(50):
                        await call.write(request(toy_audio(1)))

            sending = asyncio.create_task(send())
            with pytest.raises(grpc.aio.AioRpcError):
                async for _ in call:
                    pass
            assert isinstance(call_error(await ending.status()), InvalidRequest)
            await sending
            hidden += (await call.code()) is grpc.StatusCode.INTERNAL
    assert hidden, "grpc.aio tells the truth now: parley.clients.aio_status is no longer needed"


async def test_status_that_never_comes_is_not_waited_for_long(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("parley.clients.aio_status._PATIENCE_S", 0.02)
    async with grpc.aio.insecure_channel(server.address) as channel:
        call = speech_pb2_grpc.SpeechStub(channel).StreamingRecognize()
        ending = Ending(call)
        call._cython_call.set_internal_error("a write failed")  # type: ignore[attr-defined]
        status = await ending.status()
        assert status.is_mask
        assert status.code() is grpc.StatusCode.INTERNAL


async def test_status_of_a_call_that_goes_on_is_not_asked_for(server: FakeServer) -> None:
    async with grpc.aio.insecure_channel(server.address) as channel:
        call = speech_pb2_grpc.SpeechStub(channel).StreamingRecognize()
        with pytest.raises(AssertionError, match="not over"):
            Status(call)
        call.cancel()
