"""A real gRPC server whose speech recognition is a toy, so that tests know every word beforehand.

In toy audio (8 kHz) a word is a run of equal samples that are not 0, its text the sample's value; 10 ms of zeros end an
utterance. In LINEAR16 that is the sample itself, in MULAW 255 minus the byte; any other encoding is taken for mono
LINEAR16. Streams answer every message. Faults strike where a test says.
"""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn

import grpc
import numpy as np
from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from parley.asr.v1 import speech_pb2 as pb
from parley.asr.v1 import speech_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from google.protobuf.message import Message

RATE = 8_000
GAP = RATE // 100  # samples of silence that end an utterance
SPEECH_SERVICE = "parley.asr.v1.Speech"


def toy_audio(*words: int, samples: int = 2 * GAP) -> bytes:
    """Mono LINEAR16 of these words; 0 is silence."""
    return np.repeat(np.array(words, "<i2"), samples).tobytes()


@dataclass(frozen=True)
class Fault:
    """Ends a call. A stream's: when it has taken `after_bytes` of audio or, if set, sent `after_responses`."""

    code: grpc.StatusCode = grpc.StatusCode.UNAVAILABLE
    after_bytes: int = 0
    after_responses: int | None = None
    text: str = "struck by the test"
    details: tuple[Message, ...] = ()

    async def strike(self, context: grpc.aio.ServicerContext[Any, Any]) -> NoReturn:
        packed = []
        for detail in self.details:
            packed.append(any_pb2.Any())
            packed[-1].Pack(detail)
        status = status_pb2.Status(code=self.code.value[0], message=self.text, details=packed)
        trailer = (("grpc-status-details-bin", status.SerializeToString()),)
        await context.abort(self.code, self.text, trailer if packed else ())
        raise AssertionError


def retry_info(seconds: float) -> error_details_pb2.RetryInfo:
    return error_details_pb2.RetryInfo(retry_delay=_duration(round(seconds * 1000)))


@dataclass
class Connection:
    """What one stream's connection brought."""

    metadata: dict[str, str]
    config: pb.StreamingRecognitionConfig | None = None
    audio: bytearray = field(default_factory=bytearray)
    controls: list[int] = field(default_factory=list)
    finished: bool = False  # heard the half-close and said all
    ended: threading.Event = field(default_factory=threading.Event)


@dataclass
class _Channel:
    tag: int
    segment: int = 0
    start: int | None = None  # of the open utterance
    quiet: int = 0  # samples of silence so far
    final: int = 0
    words: list[tuple[int, int, int]] = field(default_factory=list)  # value, first sample, sample after the last


class _Toy:
    """Recognizes toy audio; its results depend on the samples only, not on how they were cut."""

    def __init__(self, config: pb.RecognitionConfig) -> None:
        self._sample = 1 if config.encoding == pb.AUDIO_ENCODING_MULAW else 2
        count = (config.audio_channel_count or 1) if config.separate_recognition_per_channel else 1
        self._channels = [_Channel(tag + 1 if config.separate_recognition_per_channel else 0) for tag in range(count)]
        self._rest = b""
        self.processed = 0

    def accept(self, data: bytes) -> list[pb.StreamingRecognitionResult]:
        data = self._rest + data
        frame = self._sample * len(self._channels)
        whole = len(data) // frame * frame
        self._rest = data[whole:]
        samples = np.frombuffer(data[:whole], "<i2" if self._sample == 2 else np.uint8).astype(int)
        if self._sample == 1:
            samples = 255 - samples
        results: list[pb.StreamingRecognitionResult] = []
        for frames in samples.reshape(-1, len(self._channels)):
            for channel, value in zip(self._channels, frames, strict=True):
                results += self._step(channel, int(value))
            self.processed += 1
        return results

    def interims(self) -> list[pb.StreamingRecognitionResult]:
        return [_result(channel, is_final=False) for channel in self._channels if channel.start is not None]

    def finalize(self) -> list[pb.StreamingRecognitionResult]:
        return [result for channel in self._channels if channel.start is not None for result in self._close(channel)]

    @property
    def final(self) -> int:
        return min(self.processed if each.start is None else each.start for each in self._channels)

    def _step(self, channel: _Channel, value: int) -> Sequence[pb.StreamingRecognitionResult]:
        now = self.processed
        if value:
            channel.quiet = 0
            if channel.start is None:
                channel.start = now
            last = channel.words[-1] if channel.words else (0, 0, 0)
            if last[0] == value and last[2] == now:
                channel.words[-1] = (value, last[1], now + 1)
            else:
                channel.words.append((value, now, now + 1))
            return ()
        channel.quiet += 1
        return self._close(channel) if channel.start is not None and channel.quiet == GAP else ()

    def _close(self, channel: _Channel) -> list[pb.StreamingRecognitionResult]:
        result = _result(channel, is_final=True)
        channel.segment += 1
        channel.start, channel.words = None, []
        return [result]


def _result(channel: _Channel, is_final: bool) -> pb.StreamingRecognitionResult:
    words = [
        pb.WordInfo(word=str(value), start_time=_time(start), end_time=_time(end))
        for value, start, end in channel.words
    ]
    assert channel.start is not None
    return pb.StreamingRecognitionResult(
        alternatives=[
            pb.SpeechRecognitionAlternative(
                transcript=" ".join(word.word for word in words), words=words if is_final else ()
            )
        ],
        is_final=is_final,
        result_start_time=_time(channel.start),
        result_end_time=_time(channel.words[-1][2]),
        channel_tag=channel.tag,
        segment=channel.segment,
    )


def _time(samples: int) -> duration_pb2.Duration:
    return _duration(samples * 1000 // RATE)


def _duration(milliseconds: int) -> duration_pb2.Duration:
    duration = duration_pb2.Duration()
    duration.FromMilliseconds(milliseconds)
    return duration


class FakeSpeech(speech_pb2_grpc.SpeechServicer):
    """The service. Each stream takes the first of `stream_faults`, each other call the first of `unary_faults`."""

    def __init__(self) -> None:
        self.stream_faults: list[Fault | None] = []
        self.unary_faults: list[Fault | None] = []
        self.connections: list[Connection] = []
        self.recognized: list[pb.RecognizeRequest] = []
        self.reading = asyncio.Event()  # cleared: streams read nothing; see FakeServer.set_reading
        self.reading.set()
        self.hanging = threading.Event()  # a recording has come that takes for ever
        self.cursor_lags = False  # cursors are those of the response before
        self.source: pb.FinalSource.ValueType = pb.FINAL_SOURCE_SECOND_PASS  # of streams' finals

    async def StreamingRecognize(  # noqa: N802
        self,
        request_iterator: AsyncIterator[pb.StreamingRecognizeRequest],
        context: grpc.aio.ServicerContext[pb.StreamingRecognizeRequest, pb.StreamingRecognizeResponse],
    ) -> AsyncIterator[pb.StreamingRecognizeResponse]:
        connection = Connection({key: str(value) for key, value in context.invocation_metadata() or ()})
        self.connections.append(connection)
        fault = self.stream_faults.pop(0) if self.stream_faults else None
        sent = 0
        try:
            async for response in self._answer(request_iterator, connection):
                if fault and fault.after_responses is None and len(connection.audio) >= fault.after_bytes:
                    await fault.strike(context)
                if fault and fault.after_responses == sent:
                    await fault.strike(context)
                yield response
                sent += 1
            if fault:
                await fault.strike(context)
            connection.finished = True
        finally:
            connection.ended.set()

    async def _answer(
        self, request_iterator: AsyncIterator[pb.StreamingRecognizeRequest], connection: Connection
    ) -> AsyncIterator[pb.StreamingRecognizeResponse]:
        config = (await anext(request_iterator)).config
        connection.config = config
        toy = _Toy(config.config)
        request_id = config.config.request_id or "made-by-fake"
        cursors = self._cursors(toy)
        finals = 0
        yield pb.StreamingRecognizeResponse(request_id=request_id, cursors=cursors)
        await self.reading.wait()
        async for request in request_iterator:
            if request.WhichOneof("request") == "control":
                connection.controls.append(request.control)
                results = toy.finalize() if request.control == pb.CONTROL_FINALIZE else []
            else:
                connection.audio += request.audio
                results = toy.accept(request.audio)
            finals += len(self._sourced(results))
            if config.interim_results:
                results += toy.interims()
            news = self._cursors(toy)
            response = pb.StreamingRecognizeResponse(results=results, cursors=cursors if self.cursor_lags else news)
            if config.speech_events and results:
                response.speech_event.CopyFrom(_event(results[-1]))
            yield response
            cursors = news
            if finals and config.single_utterance:
                break
        last = self._sourced(toy.finalize())
        if last:
            yield pb.StreamingRecognizeResponse(results=last, cursors=self._cursors(toy))
        summary = pb.StreamSummary(
            audio=_time(toy.processed), finals=finals + len(last), half_close_to_last_final=_duration(12)
        )
        yield pb.StreamingRecognizeResponse(summary=summary)

    def _sourced(self, finals: list[pb.StreamingRecognitionResult]) -> list[pb.StreamingRecognitionResult]:
        for final in finals:
            final.source = self.source
        return finals

    def _cursors(self, toy: _Toy) -> pb.Cursors:
        now = _time(toy.processed)
        return pb.Cursors(received=now, processed=now, final=_time(toy.final))

    async def Recognize(  # noqa: N802
        self,
        request: pb.RecognizeRequest,
        context: grpc.aio.ServicerContext[pb.RecognizeRequest, pb.RecognizeResponse],
    ) -> pb.RecognizeResponse:
        """Each 0-ended run of bytes is a word of a second; more than one line, more than one segment."""
        self.recognized.append(request)
        if self.unary_faults and (fault := self.unary_faults.pop(0)):
            await fault.strike(context)
        if request.audio == b"hang":
            self.hanging.set()
            await asyncio.sleep(3600)
        if request.audio.startswith(b"bad"):
            violation = error_details_pb2.BadRequest.FieldViolation(field="audio", description="not audio")
            await Fault(
                grpc.StatusCode.INVALID_ARGUMENT,
                text="audio at byte 0: not audio",
                details=(
                    error_details_pb2.BadRequest(field_violations=[violation]),
                    error_details_pb2.ErrorInfo(reason="BAD_AUDIO", metadata={"request_id": "bad-1"}),
                ),
            ).strike(context)
        results = []
        at = 0
        lines = request.audio.decode().splitlines()
        for number, line in enumerate(lines):
            words = [
                pb.WordInfo(word=word, start_time=_duration(1000 * (at + i)), end_time=_duration(1000 * (at + i) + 900))
                for i, word in enumerate(line.split())
            ]
            results.append(
                pb.SpeechRecognitionResult(
                    alternatives=[
                        pb.SpeechRecognitionAlternative(
                            transcript=line,
                            words=words if request.config.enable_word_time_offsets else (),
                            scores=pb.Scores(acoustic=-7.25, hotwords=2, total=-5.25)
                            if request.config.speech_contexts
                            else None,
                        )
                    ],
                    channel_tag=number % 2 + 1 if request.config.separate_recognition_per_channel else 0,
                    result_start_time=_duration(1000 * at),
                    result_end_time=_duration(1000 * (at + len(words))),
                    word_timing=pb.WORD_TIMING_ATTENTION,
                    source=pb.FINAL_SOURCE_SECOND_PASS,
                )
            )
            at += len(words)
        return pb.RecognizeResponse(
            results=results, audio=_duration(1000 * at), processing=_duration(10), request_id="made-by-fake"
        )

    async def GetModels(  # noqa: N802
        self, request: pb.GetModelsRequest, context: grpc.aio.ServicerContext[pb.GetModelsRequest, pb.GetModelsResponse]
    ) -> pb.GetModelsResponse:
        if self.unary_faults and (fault := self.unary_faults.pop(0)):
            await fault.strike(context)
        return pb.GetModelsResponse(
            models=[
                pb.Model(
                    name="toy", language_codes=["en"], sample_rate_hertz=RATE, description="Counts.", license="MIT"
                )
            ]
        )


def _event(result: pb.StreamingRecognitionResult) -> pb.SpeechEvent:
    kind = pb.SPEECH_EVENT_TYPE_SPEECH_END if result.is_final else pb.SPEECH_EVENT_TYPE_SPEECH_BEGIN
    time = result.result_end_time if result.is_final else result.result_start_time
    return pb.SpeechEvent(type=kind, time=time, channel_tag=result.channel_tag)


class FakeServer:
    """The service on a port of its own, in an event loop and a thread of its own: for clients of both kinds."""

    def __init__(self, credentials: grpc.ServerCredentials | None = None) -> None:
        self.speech = FakeSpeech()
        self.health = health.aio.HealthServicer()
        self.port = 0
        self._credentials = credentials
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fake speech server")
        self._server: grpc.aio.Server | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def set_serving(self, serving: bool, *services: str) -> None:
        status = health_pb2.HealthCheckResponse.SERVING if serving else health_pb2.HealthCheckResponse.NOT_SERVING
        for service in services or ("", SPEECH_SERVICE):
            asyncio.run_coroutine_threadsafe(self.health.set(service, status), self._loop).result()

    def forget(self, service: str) -> None:
        """As if the service were not there: its health is unknown."""
        # The health service has no way to take a name back.
        del self.health._server_status[service]

    def set_reading(self, reading: bool) -> None:
        """False: streams opened from now on read nothing until it is True again."""
        event = self.speech.reading
        self._loop.call_soon_threadsafe(event.set if reading else event.clear)

    def start(self) -> None:
        """Listen: the first time on a free port, after `stop` on the same one."""
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result()

    def stop(self) -> None:
        """Break all connections at once."""
        assert self._server
        asyncio.run_coroutine_threadsafe(self._server.stop(None), self._loop).result()

    async def _start(self) -> None:
        self._server = grpc.aio.server()
        speech_pb2_grpc.add_SpeechServicer_to_server(self.speech, self._server)
        health_pb2_grpc.add_HealthServicer_to_server(self.health, self._server)
        where = f"127.0.0.1:{self.port}"
        self.port = (
            self._server.add_secure_port(where, self._credentials)
            if self._credentials
            else self._server.add_insecure_port(where)
        )
        await self._server.start()

    def __enter__(self) -> FakeServer:
        self._thread.start()
        self.start()
        self.set_serving(True)
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
