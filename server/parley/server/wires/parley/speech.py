"""parley.asr.v1.Speech over a recognizer. Knows what each method does in which order; the parts know how."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import structlog
from grpc import aio

from parley.asr.v1 import speech_pb2 as pb
from parley.asr.v1 import speech_pb2_grpc
from parley.decoder.audio import open_file
from parley.server.live.lending import lend
from parley.server.live.outbox import Outbox
from parley.server.live.session import Limits, Session, settle
from parley.server.live.threads import to_the_end
from parley.server.wires.parley import convert
from parley.server.wires.parley.errors import BadMessage, IdleStream, NotReady, TooLarge

if TYPE_CHECKING:
    import threading

    from parley.decoder.engine.transcribe import FileResult
    from parley.decoder.recognizer import Recognizer
    from parley.server.kit.admission import Call, Calls
    from parley.server.node.settings import Settings
    from parley.server.node.telemetry import Metrics

log = structlog.stdlib.get_logger()

OPENERS = 2  # threads that read files' headers: milliseconds a file


class Speech(speech_pb2_grpc.SpeechServicer):
    """The service. Answers UNAVAILABLE until `open` gives it a recognizer."""

    def __init__(self, settings: Settings, calls: Calls, metrics: Metrics) -> None:
        self._recognizer: Recognizer | None = None
        # Each kind of work has threads of its own: a file that waits for a decoder holds up nobody's opening.
        self._openers = ThreadPoolExecutor(OPENERS, thread_name_prefix="open")
        self._transcribers: ThreadPoolExecutor | None = None
        self._settings = settings
        self._rules = settings.endpoint_rules()
        self._limits = Limits(settings.idle_timeout_s, settings.max_chunk_bytes, settings.log_words)
        self._calls = calls
        self._metrics = metrics

    def open(self, recognizer: Recognizer) -> None:
        """From now on calls are served, by this recognizer."""
        # As many threads as decoders: a file that holds a decoder finds a thread at once.
        self._transcribers = ThreadPoolExecutor(recognizer.pool.snapshot().total, thread_name_prefix="file")
        self._recognizer = recognizer

    def close(self) -> None:
        """Frees the threads; what runs in them has been cancelled before."""
        self._openers.shutdown(wait=False)
        if self._transcribers is not None:
            self._transcribers.shutdown(wait=False)

    async def StreamingRecognize(  # type: ignore[override]  # noqa: N802  # a coroutine that reads and writes itself
        self, requests: object, context: aio.ServicerContext[Any, Any]
    ) -> None:
        async with self._calls.open("StreamingRecognize", context) as call:
            recognizer = self._loaded()
            config = await self._config(context)
            await call.name(config.config.request_id)
            request = convert.stream_request(config, self._rules)
            request, language = _placed(recognizer, request)
            patience_s = call.patience_s(self._settings.stream_wait_s)
            async with lend(recognizer.pool, request.decoders, patience_s) as lease:
                outbox = Outbox()
                stream = recognizer.open_stream(
                    lease, request.format, request.options, outbox.sink, self._settings.max_stream_s
                )
                session = Session(
                    stream, outbox, request, language, context, call.request_id, self._limits, self._metrics
                )
                try:
                    await session.run()
                finally:
                    stream.close()
                    self._account(call, stream.encoding.value, stream.cursors.received_ms)
                    call.figures |= session.figures.as_log()
                    if session.figures.half_close_to_last_final_s:
                        self._metrics.final_after_half_close_s.observe(session.figures.half_close_to_last_final_s)

    async def Recognize(  # noqa: N802
        self, message: pb.RecognizeRequest, context: aio.ServicerContext[Any, Any]
    ) -> pb.RecognizeResponse:
        began_at = time.monotonic()
        async with self._calls.open("Recognize", context) as call:
            recognizer = self._loaded()
            await call.name(message.config.request_id)
            request = convert.file_request(message.config)
            request, language = _placed(recognizer, request)
            result, encoding = await self._transcribe(recognizer, message.audio, request, call)
            seconds = time.monotonic() - began_at
            self._account(call, encoding, result.audio_ms)
            call.figures["finals"] = len(result.finals)
            for final in result.finals:
                self._metrics.final(final.source)
            if result.audio_ms:
                self._metrics.file_factor.observe(1000 * seconds / result.audio_ms)
            if self._settings.log_words:
                log.info("transcript", words=" ".join(final.hypotheses[0].text for final in result.finals))
            return pb.RecognizeResponse(
                results=[convert.file_result(final, request, language) for final in result.finals],
                audio=convert.from_ms(result.audio_ms),
                processing=convert.from_s(seconds),
                request_id=call.request_id,
            )

    async def GetModels(  # noqa: N802
        self, message: pb.GetModelsRequest, context: aio.ServicerContext[Any, Any]
    ) -> pb.GetModelsResponse:
        async with self._calls.open("GetModels", context):
            return pb.GetModelsResponse(models=[convert.model(info) for info in self._loaded().models])

    def _loaded(self) -> Recognizer:
        if self._recognizer is None:
            raise NotReady
        return self._recognizer

    async def _config(self, context: aio.ServicerContext[Any, Any]) -> pb.StreamingRecognitionConfig:
        limit_s = self._limits.idle_s
        reading = asyncio.ensure_future(context.read())
        # Not wait_for: before Python 3.12 it swallows a cancel that comes together with the end of requests.
        done, _ = await asyncio.wait({reading}, timeout=limit_s)
        if not done:
            reading.cancel()
            raise IdleStream(limit_s)
        message = reading.result()
        if message is aio.EOF:
            await settle(0.1)  # nothing waits here, and a caller that gave up should not be counted as one at fault
            raise BadMessage("config", "the stream ended before its first message, expected config in it")
        kind = message.WhichOneof("request")
        if kind != "config":
            raise BadMessage("config", f"got {kind or 'an empty message'} first, expected config")
        config: pb.StreamingRecognitionConfig = message.config
        return config

    async def _transcribe(
        self, recognizer: Recognizer, data: bytes, request: convert.Request, call: Call
    ) -> tuple[FileResult, str]:
        """What was heard, and in which encoding."""
        if len(data) > self._settings.max_file_bytes:
            raise TooLarge("audio", len(data), self._settings.max_file_bytes)
        assert self._transcribers is not None
        # Opened before decoders are lent: only its header may say how many channels there are.
        audio = await to_the_end(self._openers, lambda _: open_file(data, request.format))
        async with lend(recognizer.pool, audio.channels, call.patience_s(self._settings.pool_wait_s)) as lease:

            def decode(cancelled: threading.Event) -> FileResult:
                return recognizer.transcribe(lease, audio, request.options, self._settings.max_file_s, cancelled)

            result = await to_the_end(self._transcribers, decode)
            return result, convert.file_encoding(request.format.encoding, audio.encoding)

    def _account(self, call: Call, encoding: str, audio_ms: int) -> None:
        call.figures["audio_s"] = audio_ms / 1000
        call.figures["encoding"] = encoding
        self._metrics.audio(call.method, encoding, audio_ms / 1000)


def _placed(recognizer: Recognizer, request: convert.Request) -> tuple[convert.Request, str]:
    """The request with the passes that decode it, and the language of its results. Raises UnknownModel."""
    model, passes = recognizer.find_model(request.model, request.language)
    language = request.language or model.languages[0]
    options = replace(request.options, passes=passes, written=language if request.written else "")
    return replace(request, options=options), language
