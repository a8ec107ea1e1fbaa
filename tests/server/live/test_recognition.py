"""A live call over a wire of its own: nothing of a protocol is needed for one."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, cast

import pytest

from parley.decoder.values import (
    AudioFormat,
    Cursors,
    Encoding,
    EndpointRules,
    Failed,
    Finished,
    SpeechBegin,
    StreamOptions,
)
from parley.server.live.errors import NotReady
from parley.server.live.recognition import Recognition, Terms
from parley.server.live.session import Limits
from parley.server.live.wire import Asked, Audio, End, Finalize, KeepAlive
from parley.server.node.telemetry import Metrics
from tests.server.fakes import FakeRecognizer, FakeStream, final, partial

if TYPE_CHECKING:
    from parley.server.live.figures import Summary
    from parley.server.live.wire import Message, Told

TERMS = Terms(Limits(60, 2_048), EndpointRules(), 0, 1, 3_600, 3_600, 4_096)


class Spoken:
    """A wire of messages that lie ready. It tells no partials."""

    def __init__(self, *messages: Message | Exception) -> None:
        self._messages = list(messages)
        self.told: list[tuple[Told, Cursors]] = []
        self.summary: Summary | None = None
        self.ended = asyncio.Event()

    async def read(self) -> Message:
        if not self._messages:
            await asyncio.Event().wait()
        message = self._messages.pop(0)
        if isinstance(message, Exception):
            raise message
        if isinstance(message, End):
            self.ended.set()
        return message

    async def write(self, event: Told, cursors: Cursors) -> bool:
        if event == partial():
            return False
        self.told.append((event, cursors))
        return True

    async def end(self, summary: Summary, cursors: Cursors) -> None:
        self.summary = summary


class Caller:
    method = "anything"

    def __init__(self, began_at: float = 0.0) -> None:
        self.began_at = began_at
        self.figures: dict[str, object] = {}

    def patience_s(self, limit_s: float) -> float:
        return limit_s


class Live:
    """A recognition with a fake recognizer, and what becomes of its one call."""

    def __init__(self) -> None:
        self.metrics, self.recognizer, self.caller = Metrics(), FakeRecognizer(1), Caller()
        self.recognition = Recognition(TERMS, self.metrics)
        self.recognition.open(cast("Any", self.recognizer))

    async def start(self, wire: Spoken) -> tuple[asyncio.Task[None], FakeStream]:
        request = self.recognition.place(Asked(AudioFormat(), StreamOptions(), ""))
        call = asyncio.create_task(self.recognition.stream(request, wire, self.caller))
        return call, await self.recognizer.streams.get()

    def count(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(name, labels)


async def test_a_call_from_its_first_audio_to_its_summary() -> None:
    live, wire = Live(), Spoken(Audio(bytes(640)), KeepAlive(), Finalize(), Audio(bytes(640)), End(time.monotonic()))
    call, stream = await live.start(wire)
    stream.finishes = False
    await stream.finished.wait()
    assert (len(stream.taken), stream.finalized) == (1_280, 1)
    for event in (SpeechBegin(0, 10), partial(), final(), Finished()):
        stream.say(event)
    await call
    assert [event for event, _ in wire.told if event] == [SpeechBegin(0, 10), final()]
    assert wire.summary is not None
    assert (wire.summary.audio_ms, wire.summary.finals, wire.summary.interims) == (40, 1, 0)
    assert wire.summary.speech_to_first_result_s is not None
    assert live.caller.figures["finals"] == 1
    assert live.count("parley_audio_seconds_total", method="anything", encoding="auto") == 0.04
    assert live.recognizer.pool.snapshot().busy == 0


async def test_what_a_wire_cannot_read_or_a_decoder_cannot_do_ends_the_call_and_gives_the_decoder_back() -> None:
    live = Live()
    call, stream = await live.start(Spoken(ZeroDivisionError()))
    with pytest.raises(ZeroDivisionError):
        await call
    assert stream.closed
    call, stream = await live.start(Spoken())
    stream.say(Failed(ArithmeticError()))
    with pytest.raises(ArithmeticError):
        await call
    assert stream.closed
    assert live.recognizer.pool.snapshot().busy == 0


async def test_a_stream_that_finishes_before_its_end_is_believed_has_closed_all_the_same() -> None:
    live, wire = Live(), Spoken(End(time.monotonic(), settling_s=3_600))
    call, stream = await live.start(wire)
    await wire.ended.wait()
    stream.say(final())
    stream.say(Finished())
    await call
    assert not stream.finished.is_set()
    assert "half_close_to_last_final_s" in live.caller.figures


async def test_a_recordings_processing_is_counted_from_its_calls_arrival() -> None:
    live = Live()
    asked = live.recognition.place(Asked(AudioFormat(Encoding.LINEAR16, 16_000, 1), StreamOptions(), ""))
    done = await live.recognition.file(bytes(640), asked, Caller(time.monotonic() - 1_000))
    assert done.processing_s >= 1_000
    assert (live.count("parley_file_realtime_factor_sum") or 0) >= 500  # of 2 s


def test_until_there_is_a_recognizer_calls_are_told_so() -> None:
    recognition = Recognition(TERMS, Metrics())
    for ask in (recognition.check_ready, lambda: recognition.models):
        with pytest.raises(NotReady):
            ask()
    recognition.close()
