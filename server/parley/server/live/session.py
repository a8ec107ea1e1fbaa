"""One stream between its client and its decoders: audio in, events out. Knows their pace; not calls, leases or errors.

Four tasks: one reads the client and feeds the decoder, one writes what the decoder says, two watch the clock.
Nothing here buffers audio: while the decoder has no room nothing is read, and HTTP/2's flow control holds the client.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import structlog
from grpc import aio

from parley.asr.v1 import speech_pb2 as pb
from parley.decoder.values import Failed, Final, Finished, NoSpeech, Partial, SpeechBegin, SpeechEnd
from parley.server.live.figures import Figures
from parley.server.wires.parley import convert
from parley.server.wires.parley.errors import BadMessage, IdleStream, TooLarge, UnreadResponses

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterator

    from parley.decoder.engine.request import Request
    from parley.decoder.values import Cursors, Event
    from parley.server.live.outbox import Outbox
    from parley.server.node.telemetry import Metrics

log = structlog.stdlib.get_logger()

SLICE = 2 * 1024  # bytes: some 0.1 ms of work as PCM, and then other streams have their turn
CURSORS_S = 3.0  # at least this often a moved final cursor is told, if nothing else tells it
SETTLING_S = 0.005  # it delays every stream's last final


@dataclass(frozen=True, slots=True)
class Limits:
    """What a node allows one stream."""

    idle_s: float
    chunk_bytes: int
    log_words: bool = False


async def settle(longest_s: float = SETTLING_S) -> None:
    """Waits for the cancel behind an end of requests.

    A client's cancel and a passed deadline first look like a half-close: the CancelledError comes some event loop turns
    later, in one of a hundred cases after milliseconds. Finalizing at once would spend the device on dead calls. On a
    busy machine it may come later still; then the device is busy too, and what waits for it is dropped with the lease.
    """
    await asyncio.sleep(longest_s)


class Session:
    """Runs one stream to its end: `run` returns when the summary is written, or raises what ended it."""

    def __init__(
        self,
        stream: Request,
        outbox: Outbox,
        request: convert.Request,
        language: str,
        context: aio.ServicerContext[Any, Any],
        request_id: str,
        limits: Limits,
        metrics: Metrics,
    ) -> None:
        self._stream = stream
        self._outbox = outbox
        self._request = request
        self._language = language
        self._context = context
        self._request_id = request_id
        self._limits = limits
        self._metrics = metrics
        self.figures = Figures()
        self._final_ms = 0  # all audio before it is final and sent
        self._told_ms = 0  # of that, what the client has been told
        self._reading_since: float | None = None  # None: the client is kept waiting
        self._writing_since: float | None = None  # None: the client has taken everything

    async def run(self) -> None:
        """The stream, from behind its config to its summary."""
        await first_of(self._write(), self._read(), self._watch(), self._tell_cursors())
        # The stream is finished: what the client still sends is nobody's any more.
        summary = self.figures.summary(self._stream.cursors.received_ms)
        await first_of(self._send(pb.StreamingRecognizeResponse(summary=summary)), self._watch())

    async def _read(self) -> None:
        while True:
            await self._room()
            message = await self._next_message()
            if message is aio.EOF:
                break
            await self._handle(message)
        self.figures.half_closed_at = time.monotonic()
        await settle()
        await self._work(self._stream.finish(), self.figures.half_closed_at)

    async def _next_message(self) -> Any:
        self._reading_since = time.monotonic()
        try:
            return await self._context.read()
        finally:
            self._reading_since = None

    async def _handle(self, message: pb.StreamingRecognizeRequest) -> None:
        match message.WhichOneof("request"):
            case "audio":
                await self._feed(message.audio)
            case "control" if message.control == pb.CONTROL_FINALIZE:
                self._stream.finalize()
                self._outbox.nudge()
            case "control" if message.control == pb.CONTROL_KEEP_ALIVE:
                pass  # that it came is all it says
            case "control":
                raise BadMessage("control", f"got {message.control}, expected CONTROL_FINALIZE or CONTROL_KEEP_ALIVE")
            case "config":
                raise BadMessage("config", "came a second time, expected audio or control after the first message")
            case _:
                raise BadMessage("request", "the message is empty, expected audio or control")

    async def _feed(self, audio: bytes) -> None:
        if len(audio) > self._limits.chunk_bytes:
            raise TooLarge("audio", len(audio), self._limits.chunk_bytes)
        arrived_at = time.monotonic()
        for start in range(0, len(audio), SLICE):
            if start:
                await asyncio.sleep(0)
                await self._room()
            await self._work(self._stream.accept(audio[start : start + SLICE]), arrived_at)

    async def _work(self, steps: Iterator[None], arrived_at: float) -> None:
        """Does a part of the stream's work step by step: between them others have their turn, and before the next there
        must be room again."""
        while True:
            began = time.perf_counter()
            over = next(steps, True)
            self._metrics.chunk_s.observe(time.perf_counter() - began)
            self.figures.arrivals.mark(self._stream.received_ms, arrived_at)
            if over:
                return
            await asyncio.sleep(0)
            await self._room()

    async def _room(self) -> None:
        while not (self._stream.has_room and self._outbox.has_room):
            self._outbox.moved.clear()
            await self._outbox.moved.wait()

    async def _write(self) -> None:
        while not isinstance(event := await self._outbox.take(), Finished):
            if isinstance(event, Failed):
                raise event.error
            response = self._response(event)
            if response is not None:
                await self._send(response)
                self._count(event)

    def _response(self, event: Event | None) -> pb.StreamingRecognizeResponse | None:
        match event:
            case None if self._cursors().final_ms > self._told_ms:
                return pb.StreamingRecognizeResponse()
            case Final():
                result = convert.final_result(event, self._request, self._language)
                return pb.StreamingRecognizeResponse(results=[result])
            case Partial() if self._request.options.interim_results:
                result = convert.interim_result(event, self._request, self._language)
                return pb.StreamingRecognizeResponse(results=[result])
            case SpeechBegin() | SpeechEnd() | NoSpeech():
                if isinstance(event, SpeechBegin):
                    self.figures.speech_began(event.time_ms)
                if self._request.speech_events:
                    return pb.StreamingRecognizeResponse(speech_event=convert.speech_event(event, self._request))
        return None

    def _count(self, event: Event | None) -> None:
        if isinstance(event, Final):
            self.figures.final_sent(event.total_s, event.source)
            self._metrics.final(event.source)
            self._metrics.final_after_endpoint_s.observe(event.total_s)
            if self._limits.log_words:
                log.info("final", words=event.hypotheses[0].text, channel=event.channel, end_ms=event.end_ms)
        elif isinstance(event, Partial):
            lag_s = self.figures.interim_sent(event.end_ms)
            if lag_s is not None:
                self._metrics.partial_lag_s.observe(lag_s)

    async def _send(self, response: pb.StreamingRecognizeResponse) -> None:
        response.request_id = self._request_id
        cursors = self._cursors()
        self._told_ms = cursors.final_ms
        response.cursors.CopyFrom(convert.cursors(cursors))
        self._writing_since = time.monotonic()
        await self._context.write(response)
        self._writing_since = None

    def _cursors(self) -> Cursors:
        cursors = self._stream.cursors  # first: a final made after this is not before its cursor
        if not self._outbox.finals_waiting:
            self._final_ms = cursors.final_ms
        return replace(cursors, final_ms=self._final_ms)

    async def _tell_cursors(self) -> None:
        while True:
            await asyncio.sleep(CURSORS_S)
            self._outbox.nudge()

    async def _watch(self) -> None:
        limit_s = self._limits.idle_s
        while True:
            now = time.monotonic()
            quiet_s = 0.0 if self._reading_since is None else now - self._reading_since
            unread_s = 0.0 if self._writing_since is None else now - self._writing_since
            if quiet_s >= limit_s:
                raise IdleStream(limit_s)
            if unread_s >= limit_s:
                raise UnreadResponses(limit_s)
            await asyncio.sleep(limit_s - max(quiet_s, unread_s))


async def first_of(leading: Awaitable[None], *others: Awaitable[None]) -> None:
    """Runs all until the leading one has ended or any has failed; then ends the rest, and raises the failure."""
    leader = asyncio.ensure_future(leading)
    pending = tasks = {leader, *map(asyncio.ensure_future, others)}
    try:
        while not leader.done():
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            for task in done - {leader}:
                if not leader.done():
                    task.result()
        leader.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
