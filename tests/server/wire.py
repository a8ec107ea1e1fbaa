"""Requests as the tests send them, and refusals as they read them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from parley.asr.v1 import speech_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterable

    from grpc import aio

    Call = aio.StreamStreamCall[pb.StreamingRecognizeRequest, pb.StreamingRecognizeResponse]

PCM = pb.RecognitionConfig(encoding=pb.AUDIO_ENCODING_LINEAR16, sample_rate_hertz=16_000, audio_channel_count=1)
STEREO = pb.RecognitionConfig(
    encoding=pb.AUDIO_ENCODING_LINEAR16,
    sample_rate_hertz=16_000,
    audio_channel_count=2,
    separate_recognition_per_channel=True,
)


def configured(config: pb.RecognitionConfig = PCM, **streaming: Any) -> pb.StreamingRecognizeRequest:
    return pb.StreamingRecognizeRequest(config=pb.StreamingRecognitionConfig(config=config, **streaming))


def audio(data: bytes) -> pb.StreamingRecognizeRequest:
    return pb.StreamingRecognizeRequest(audio=data)


FINALIZE = pb.StreamingRecognizeRequest(control=pb.CONTROL_FINALIZE)
KEEP_ALIVE = pb.StreamingRecognizeRequest(control=pb.CONTROL_KEEP_ALIVE)


async def read_all(call: Call) -> list[pb.StreamingRecognizeResponse]:
    responses = []
    while (response := await read_one(call)) is not None:
        responses.append(response)
    return responses


async def read_one(call: Call) -> pb.StreamingRecognizeResponse | None:
    response = await call.read()
    return response if isinstance(response, pb.StreamingRecognizeResponse) else None


class Refusal:
    """A status with its details."""

    def __init__(self, error: aio.AioRpcError) -> None:
        self.code = error.code()
        self.text = error.details() or ""
        self.info = error_details_pb2.ErrorInfo()
        self.violations = error_details_pb2.BadRequest()
        self.retry = error_details_pb2.RetryInfo()
        status = rpc_status.from_call(cast("Any", error))
        for packed in status.details if status else ():
            for kind in (self.info, self.violations, self.retry):
                packed.Unpack(kind)

    @property
    def fields(self) -> list[str]:
        return [violation.field for violation in self.violations.field_violations]


async def refusal(call: Awaitable[object]) -> Refusal:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call
    return Refusal(raised.value)


async def refusal_of(stub: Any, requests: Iterable[pb.StreamingRecognizeRequest], **options: Any) -> Refusal:
    """How a stream of these requests is refused."""
    return await refusal(read_all(stub.StreamingRecognize(iter(requests), **options)))
