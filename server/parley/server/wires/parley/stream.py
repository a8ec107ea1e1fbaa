"""One StreamingRecognize call as a wire: messages to what they say, events to responses. Knows no decoder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from grpc import aio

from parley.asr.v1 import speech_pb2 as pb
from parley.decoder.values import Final, NoSpeech, Partial, SpeechBegin, SpeechEnd
from parley.server.live.wire import Audio, Finalize, KeepAlive
from parley.server.wires.parley import convert
from parley.server.wires.reading import ended
from parley.server.wires.statuses import BadMessage

if TYPE_CHECKING:
    from parley.decoder.values import Cursors
    from parley.server.live.figures import Summary
    from parley.server.live.wire import Asked, Message, Told

FINALIZE, KEEP_ALIVE = Finalize(), KeepAlive()


class ParleyWire:
    """See live.wire.Wire. request: placed. speech_events: the client wants those too."""

    def __init__(
        self, context: aio.ServicerContext[Any, Any], request_id: str, request: Asked, speech_events: bool
    ) -> None:
        self._context = context
        self._request_id = request_id
        self._request = request
        self._speech_events = speech_events

    async def read(self) -> Message:
        message = await self._context.read()
        if message is aio.EOF:
            return ended()
        match message.WhichOneof("request"):
            case "audio":
                return Audio(message.audio)
            case "control" if message.control == pb.CONTROL_FINALIZE:
                return FINALIZE
            case "control" if message.control == pb.CONTROL_KEEP_ALIVE:
                return KEEP_ALIVE
            case "control":
                raise BadMessage("control", f"got {message.control}, expected CONTROL_FINALIZE or CONTROL_KEEP_ALIVE")
            case "config":
                raise BadMessage("config", "came a second time, expected audio or control after the first message")
            case _:
                raise BadMessage("request", "the message is empty, expected audio or control")

    async def write(self, event: Told, cursors: Cursors) -> bool:
        response = self._response(event)
        if response is None:
            return False
        await self._send(response, cursors)
        return True

    async def end(self, summary: Summary, cursors: Cursors) -> None:
        await self._send(pb.StreamingRecognizeResponse(summary=convert.summary(summary)), cursors)

    def _response(self, event: Told) -> pb.StreamingRecognizeResponse | None:
        match event:
            case None:
                return pb.StreamingRecognizeResponse()
            case Final():
                return pb.StreamingRecognizeResponse(results=[convert.final_result(event, self._request)])
            case Partial() if self._request.options.interim_results:
                return pb.StreamingRecognizeResponse(results=[convert.interim_result(event, self._request)])
            case SpeechBegin() | SpeechEnd() | NoSpeech() if self._speech_events:
                return pb.StreamingRecognizeResponse(speech_event=convert.speech_event(event, self._request))
        return None

    async def _send(self, response: pb.StreamingRecognizeResponse, cursors: Cursors) -> None:
        response.request_id = self._request_id
        response.cursors.CopyFrom(convert.cursors(cursors))
        await self._context.write(response)
