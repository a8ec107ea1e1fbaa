"""One stream between its wire and its decoders: audio in, events out. Knows their pace; not calls, leases, protocols.

Four tasks: one reads the wire and feeds the decoder, one writes what the decoder says, two watch the clock. Nothing
here buffers audio: while the decoder has no room nothing is read, and the protocol's flow control holds the client.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import structlog

from parley.decoder.values import Failed, Final, Finished, Partial, SpeechBegin
from parley.server.live.errors import IdleStream, TooLarge, UnreadResponses
from parley.server.live.figures import Figures
from parley.server.live.wire import Audio, End, Finalize

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterator

    from parley.decoder.engine.request import Request
    from parley.decoder.values import Cursors
    from parley.server.live.metrics import LiveMetrics
    from parley.server.live.outbox import Outbox
    from parley.server.live.wire import Told, Wire

log = structlog.stdlib.get_logger()

SLICE = 2 * 1024  # bytes: some 0.1 ms of work as PCM, and then other streams have their turn
CURSORS_S = 3.0  # at least this often a moved final cursor is told, if nothing else tells it


@dataclass(frozen=True, slots=True)
class Limits:
    """What a node allows one stream. idle_s: without a message, or with a response unread. chunk_bytes: of a message's
    audio. log_words: for debugging only."""

    idle_s: float
    chunk_bytes: int
    log_words: bool = False


class Session:
    """Runs one stream to its end: `run` returns when the summary is written, or raises what ended it."""

    def __init__(
        self,
        stream: Request,
        outbox: Outbox,
        wire: Wire,
        limits: Limits,
        metrics: LiveMetrics,
    ) -> None:
        self._stream = stream
        self._outbox = outbox
        self._wire = wire
        self._limits = limits
        self._metrics = metrics
        self.figures = Figures()
        self._final_ms = 0  # all audio before it is final and sent
        self._told_ms = 0  # of that, what the client has been told
        self._reading_since: float | None = None  # None: the client is kept waiting
        self._writing_since: float | None = None  # None: the client has taken everything

    async def run(self) -> None:
        """The stream, from behind its request to its summary."""
        await first_of(self._write(), self._read(), self._watch(), self._tell_cursors())
        # The stream is finished: what the client still sends is nobody's any more.
        await first_of(self._end(), self._watch())

    async def _read(self) -> None:
        while True:
            await self._room()
            self._reading_since = time.monotonic()
            try:
                message = await self._wire.read()
            finally:
                self._reading_since = None
            match message:
                case Audio(data):
                    await self._feed(data)
                case Finalize():
                    self._stream.finalize()
                    self._outbox.nudge()
                case End(at, settling_s):
                    self.figures.half_closed_at = at
                    await asyncio.sleep(settling_s)
                    return await self._work(self._stream.finish(), at)

    async def _feed(self, audio: bytes) -> None:
        if len(audio) > self._limits.chunk_bytes:
            raise TooLarge(len(audio), self._limits.chunk_bytes)
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
            self._metrics.step(time.perf_counter() - began)
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
            match event:
                case Failed(error):
                    raise error
                case None if self._cursors().final_ms <= self._told_ms:
                    continue
                case SpeechBegin(time_ms=time_ms):
                    self.figures.speech_began(time_ms)
            await self._tell(event)

    async def _tell(self, event: Told) -> None:
        cursors = self._cursors()
        self._writing_since = time.monotonic()
        told = await self._wire.write(event, cursors)
        self._writing_since = None
        if told:
            self._told_ms = cursors.final_ms
            self._count(event)

    def _count(self, event: Told) -> None:
        if isinstance(event, Final):
            self.figures.final_sent(event.total_s, event.source)
            self._metrics.final(event.source, event.total_s)
            if self._limits.log_words:
                log.info("final", words=event.hypotheses[0].text, channel=event.channel, end_ms=event.end_ms)
        elif isinstance(event, Partial):
            lag_s = self.figures.interim_sent(event.end_ms)
            if lag_s is not None:
                self._metrics.interim(lag_s)

    async def _end(self) -> None:
        cursors = self._cursors()
        self._writing_since = time.monotonic()
        await self._wire.end(self.figures.summary(cursors.received_ms), cursors)
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
