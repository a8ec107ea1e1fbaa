"""parley.asr.v1.Speech. Knows what of a request is read when; converting, recognizing and refusing are others'."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from parley.asr.v1 import speech_pb2 as pb
from parley.asr.v1 import speech_pb2_grpc
from parley.server.wires.messages import config_of, from_ms
from parley.server.wires.parley import convert
from parley.server.wires.parley.errors import STATUSES
from parley.server.wires.parley.stream import ParleyWire
from parley.server.wires.reading import first_message

if TYPE_CHECKING:
    from grpc import aio

    from parley.server.kit.admission import Calls
    from parley.server.live.recognition import Recognition

SERVICE: str = pb.DESCRIPTOR.services_by_name["Speech"].full_name


def serve(server: aio.Server, recognition: Recognition, calls: Calls) -> None:
    """Adds the service to a server."""
    speech_pb2_grpc.add_SpeechServicer_to_server(Speech(recognition, calls), server)


class Speech(speech_pb2_grpc.SpeechServicer):
    """The service. Answers UNAVAILABLE until the recognition has a recognizer."""

    def __init__(self, recognition: Recognition, calls: Calls) -> None:
        self._recognition = recognition
        self._calls = calls

    async def StreamingRecognize(  # type: ignore[override]  # noqa: N802  # a coroutine that reads and writes itself
        self, requests: object, context: aio.ServicerContext[Any, Any]
    ) -> None:
        async with self._calls.open("StreamingRecognize", context, STATUSES) as call:
            self._recognition.check_ready()
            config = await self._config(context)
            await call.name(convert.request_id(config.config.request_id))
            request = self._recognition.place(convert.stream_request(config, self._recognition.terms.rules))
            wire = ParleyWire(context, call.request_id, request, config.speech_events)
            await self._recognition.stream(request, wire, call)

    async def Recognize(  # noqa: N802
        self, message: pb.RecognizeRequest, context: aio.ServicerContext[Any, Any]
    ) -> pb.RecognizeResponse:
        async with self._calls.open("Recognize", context, STATUSES) as call:
            self._recognition.check_ready()
            await call.name(convert.request_id(message.config.request_id))
            request = self._recognition.place(convert.file_request(message.config))
            done = await self._recognition.file(message.audio, request, call)
            return pb.RecognizeResponse(
                results=[convert.file_result(final, request) for final in done.finals],
                audio=from_ms(done.audio_ms),
                processing=convert.from_s(done.processing_s),
                request_id=call.request_id,
            )

    async def GetModels(  # noqa: N802
        self, message: pb.GetModelsRequest, context: aio.ServicerContext[Any, Any]
    ) -> pb.GetModelsResponse:
        async with self._calls.open("GetModels", context, STATUSES):
            return pb.GetModelsResponse(models=[convert.model(info) for info in self._recognition.models])

    async def _config(self, context: aio.ServicerContext[Any, Any]) -> pb.StreamingRecognitionConfig:
        message = await first_message(context, self._recognition.terms.stream.idle_s)
        config: pb.StreamingRecognitionConfig = config_of(message, "request", "config")
        return config
