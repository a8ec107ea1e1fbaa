"""Streams that break and go on: nothing lost, nothing doubled."""

from __future__ import annotations

import asyncio
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import grpc
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parley.asr.v1 import speech_pb2 as pb
from parley.clients import (
    Control,
    Encoding,
    Exhausted,
    Result,
    Retry,
    SpeechEvent,
    SpeechEventKind,
    StreamConfig,
    Unavailable,
)
from parley.clients.core import Session
from parley.clients.resume import HELD_LIMIT, Resume
from parley.clients.sync import _Sender
from tests.clients.conftest import SOON, AsyncCaller, Caller, SyncCaller
from tests.clients.fake_speech import RATE, FakeServer, Fault, retry_info, toy_audio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

TOY = StreamConfig(encoding=Encoding.LINEAR16, sample_rate=RATE, words=True)
WIRE_EVENTS = {
    SpeechEventKind.BEGIN: "SPEECH_BEGIN",
    SpeechEventKind.END: "SPEECH_END",
    SpeechEventKind.NO_SPEECH: "NO_SPEECH",
}


@pytest.fixture(scope="module")
def lasting_server() -> Iterator[FakeServer]:
    with FakeServer() as running:
        yield running


def finals(results: list[Result]) -> list[tuple[object, ...]]:
    """What must be the same whatever happened on the way; channels apart, as their finals may change places."""
    return sorted(
        (each.channel, each.segment, each.text, each.start_s, each.end_s, each.words)
        for each in results
        if each.is_final
    )


# Words of 5 to 40 ms, often silence; whole milliseconds, so that cursors can say exactly where they begin.
turns = st.lists(st.tuples(st.sampled_from([0, 0, 1, 2, 3, 250]), st.integers(5, 40)), max_size=12)
faults = st.lists(
    st.builds(Fault, after_bytes=st.integers(0, 6_000), after_responses=st.none() | st.integers(0, 12)), max_size=4
)


def spoken(turns: list[tuple[int, int]], length: int) -> np.ndarray[tuple[int], np.dtype[np.int16]]:
    samples = np.zeros(length, np.int16)
    at = 0
    for value, milliseconds in turns:
        samples[at : at + milliseconds * RATE // 1000] = value
        at += milliseconds * RATE // 1000
    return samples


@settings(deadline=None, max_examples=60)
@given(
    calls=st.lists(turns, min_size=1, max_size=3),
    mulaw=st.booleans(),
    cuts=st.lists(st.integers(101, 1_501), min_size=1, max_size=5),
    faults=faults,
    separate=st.booleans(),
    lags=st.booleans(),
    kind=st.sampled_from([SyncCaller, AsyncCaller]),
)
def test_whatever_breaks_the_finals_are_the_same(
    lasting_server: FakeServer,
    calls: list[list[tuple[int, int]]],
    mulaw: bool,
    cuts: list[int],
    faults: list[Fault],
    separate: bool,
    lags: bool,
    kind: type[SyncCaller],
) -> None:
    length = max(sum(milliseconds for _, milliseconds in call) for call in calls) * RATE // 1000
    frames = np.stack([spoken(call, length) for call in calls], axis=1)
    data = (255 - frames).astype(np.uint8).tobytes() if mulaw else frames.astype("<i2").tobytes()
    config = StreamConfig(
        encoding=Encoding.MULAW if mulaw else Encoding.LINEAR16,
        sample_rate=RATE,
        channels=len(calls),
        separate_channels=separate or len(calls) > 1,
        words=True,
    )

    def pieces() -> Iterator[bytes]:
        at = number = 0
        while at < len(data):
            size = cuts[number % len(cuts)]
            yield data[at : at + size]
            at, number = at + size, number + 1

    caller = kind(lasting_server.address)
    speech = lasting_server.speech
    whole, _ = caller.stream(pieces(), config)
    speech.cursor_lags = lags
    speech.stream_faults = list(faults)
    speech.connections.clear()
    broken, facts = caller.stream(pieces(), config)
    speech.cursor_lags = False
    assert finals(broken) == finals(whole)
    assert facts.summary
    assert facts.summary.breaks <= len(speech.connections) - 1
    assert facts.summary.finals == len(finals(whole))


def test_what_is_final_is_not_sent_again(caller: Caller, server: FakeServer) -> None:
    server.speech.stream_faults = [Fault(after_bytes=len(toy_audio(1, 0, 2)))]
    results, facts = caller.stream([toy_audio(1), toy_audio(0), toy_audio(2), toy_audio(0)], TOY)
    assert [result.text for result in results if result.is_final] == ["1", "2"]
    first, second = server.speech.connections
    assert bytes(first.audio) == toy_audio(1, 0, 2)
    assert bytes(second.audio) == toy_audio(2, 0)
    assert facts.cursors.final_s == facts.cursors.received_s == 0.08


def test_final_counts_though_its_cursor_has_not_come(caller: Caller, server: FakeServer) -> None:
    server.speech.cursor_lags = True
    server.speech.stream_faults = [Fault(after_responses=3)]
    results, _ = caller.stream([toy_audio(1), toy_audio(0), toy_audio(2), toy_audio(0)], TOY)
    assert [result.text for result in results if result.is_final] == ["1", "2"]


def test_container_is_sent_again_from_its_start(caller: Caller, server: FakeServer) -> None:
    server.speech.stream_faults = [Fault(after_bytes=1)]
    config = StreamConfig(encoding=Encoding.FLAC)
    results, _ = caller.stream([toy_audio(1), toy_audio(2), toy_audio(0)], config)
    assert [result.text for result in results if result.is_final] == ["1 2"]
    assert bytes(server.speech.connections[1].audio) == toy_audio(1, 2, 0)


@pytest.mark.parametrize(
    ("config", "head"),
    [
        (StreamConfig(encoding=Encoding.FLAC), b""),
        (StreamConfig(encoding=Encoding.LINEAR16), b""),  # no rate: no map from bytes to time
        (TOY, b"RIFF"),
        (StreamConfig(encoding=Encoding.LINEAR16, sample_rate=RATE, single_utterance=True), b""),
    ],
)
def test_after_a_final_these_are_not_sent_again(
    caller: Caller, server: FakeServer, config: StreamConfig, head: bytes
) -> None:
    pieces = [head, toy_audio(1), toy_audio(0), toy_audio(2)]
    server.speech.stream_faults = [Fault(after_responses=4)]
    seen = []

    def watch() -> Iterator[bytes]:
        for piece in pieces:
            seen.append(piece)
            yield piece

    with pytest.raises(Unavailable):
        caller.stream(watch(), config)
    assert len(server.speech.connections) == 1
    assert len(seen) >= 3


def test_no_new_connection_for_audio_no_longer_held() -> None:
    resume = Resume(TOY, speech_events=False, held_limit=1000)
    resume.open()
    resume.keep(bytes(600))
    assert resume.resumable()
    resume.keep(bytes(600))
    assert not resume.resumable()
    # The second piece begins at sample 300, 37.5 ms: once that is final the rest is enough.
    response = pb.StreamingRecognizeResponse()
    response.cursors.final.FromMilliseconds(37)
    resume.received(response)
    assert not resume.resumable()
    response.cursors.final.FromMilliseconds(38)
    resume.received(response)
    assert resume.resumable()
    opening, _ = resume.open()
    assert [len(message.audio) for message in opening] == [0, 1200 - 38 * 16]


def test_memory_is_bounded_however_long_the_utterance() -> None:
    resume = Resume(TOY, speech_events=False)
    resume.open()
    piece = bytes(1 << 20)
    for number in range(40):
        resume.keep(piece)
        assert resume.item(number)
    opening, _ = resume.open()
    assert sum(len(message.audio) for message in opening) == HELD_LIMIT


def test_container_is_forgotten_after_its_first_final() -> None:
    resume = Resume(StreamConfig(encoding=Encoding.MP3), speech_events=False)
    resume.open()
    for number in range(3):
        resume.keep(bytes(100))
        assert resume.item(number)
    resume.received(pb.StreamingRecognizeResponse(results=[pb.StreamingRecognitionResult(is_final=True)]))
    resume.keep(b"newest")
    opening, number = resume.open()
    assert [message.audio for message in opening[1:]] == [b"newest"]
    assert number == 4


def test_controls_behind_the_last_final_are_sent_again(caller: Caller, server: FakeServer) -> None:
    server.speech.stream_faults = [Fault(after_responses=4)]
    pieces: list[bytes | Control] = [
        toy_audio(1),
        Control.FINALIZE,
        toy_audio(0, 2),
        Control.FINALIZE,
        toy_audio(3),
        toy_audio(0),
    ]
    results, _ = caller.stream(pieces, TOY)
    assert [result.text for result in results if result.is_final] == ["1", "2", "3"]
    assert server.speech.connections[1].controls == [pb.CONTROL_FINALIZE]


def test_every_connection_asks_for_the_same_search() -> None:
    resume = Resume(replace(TOY, hotwords=("marianne",), beam=8, written=True), speech_events=False)
    first, second = (resume.open()[0][0].config for _ in range(2))
    assert first == second
    assert first.config.speech_contexts[0].phrases == ["marianne"]
    assert first.config.search.beam == 8
    assert first.config.enable_inverse_text_normalization


def test_events_come_once() -> None:
    """Heard again, their times may have moved a little."""
    resume = Resume(TOY, speech_events=True)
    begin, end, none = SpeechEventKind.BEGIN, SpeechEventKind.END, SpeechEventKind.NO_SPEECH

    def heard(*events: tuple[SpeechEventKind, float]) -> list[tuple[SpeechEventKind, float]]:
        news = []
        for kind, time_s in events:
            response = pb.StreamingRecognizeResponse()
            response.speech_event.type = pb.SpeechEventType.Value(f"SPEECH_EVENT_TYPE_{WIRE_EVENTS[kind]}")
            response.speech_event.time.FromMilliseconds(round(time_s * 1000))
            news += [(each.kind, each.time_s) for each in resume.received(response) if isinstance(each, SpeechEvent)]
        return news

    resume.open()
    assert heard((begin, 1.0), (end, 2.0)) == [(begin, 1.0), (end, 2.0)]
    resume.open()
    assert heard((begin, 1.02), (end, 2.03), (begin, 3.0)) == [(begin, 3.0)]
    resume.open()
    assert heard((begin, 1.01), (end, 1.9), (begin, 3.01), (end, 4.0)) == [(end, 4.0)]
    assert heard((none, 5.0), (begin, 6.0)) == [(none, 5.0), (begin, 6.0)]


def test_interims_are_taken_back_when_their_utterance_ends_without_words() -> None:
    resume = Resume(
        StreamConfig(encoding=Encoding.LINEAR16, sample_rate=RATE, channels=2, separate_channels=True), False
    )
    resume.open()

    def heard(final_ms: int, *said: tuple[int, int, str, bool]) -> list[tuple[int, str, bool]]:
        response = pb.StreamingRecognizeResponse()
        response.cursors.final.FromMilliseconds(final_ms)
        for tag, start_ms, text, is_final in said:
            alternatives = [pb.SpeechRecognitionAlternative(transcript=text)]
            result = response.results.add(alternatives=alternatives, channel_tag=tag, is_final=is_final)
            result.result_start_time.FromMilliseconds(start_ms)
            result.result_end_time.FromMilliseconds(start_ms + 500)
        items = resume.received(response)
        return [(item.channel, item.text, item.is_final) for item in items if isinstance(item, Result)]

    assert heard(0, (1, 100, "a", False), (2, 400, "b", False)) == [(1, "a", False), (2, "b", False)]
    assert heard(100) == []  # its utterance may still be open
    assert heard(300) == [(1, "", False)]
    assert heard(300) == []
    assert heard(400, (2, 400, "B", True)) == [(2, "B", True)]
    assert heard(600) == []
    assert heard(700, (1, 650, "late", False)) == [(1, "late", False), (1, "", False)]


def test_cursors_alone_let_the_memory_go() -> None:
    resume = Resume(TOY, speech_events=False, held_limit=1000)
    resume.open()
    response = pb.StreamingRecognizeResponse()
    for number in range(1, 100):
        resume.keep(bytes(RATE * 2 // 100))
        response.cursors.final.FromMilliseconds(10 * number)
        resume.received(response)
    assert resume.resumable()
    assert resume.progressed()


def test_event_of_a_kind_unknown_here_is_passed_over() -> None:
    resume = Resume(TOY, speech_events=True)
    resume.open()
    assert resume.received(pb.StreamingRecognizeResponse(speech_event=pb.SpeechEvent(type=99))) == []  # type: ignore[arg-type]


def test_full_server_is_asked_again_when_it_said(caller: Caller, server: FakeServer) -> None:
    server.speech.stream_faults = [
        Fault(grpc.StatusCode.RESOURCE_EXHAUSTED, after_responses=0, details=(retry_info(0.01),))
    ] * 2
    results, facts = caller.stream([toy_audio(1)], TOY)
    assert [result.text for result in results if result.is_final] == ["1"]
    assert facts.summary
    assert facts.summary.breaks == 0
    assert len(server.speech.connections) == 3


def test_limit_met_after_being_let_in_is_final(caller: Caller, server: FakeServer) -> None:
    server.speech.stream_faults = [
        Fault(grpc.StatusCode.RESOURCE_EXHAUSTED, after_responses=1, details=(retry_info(0.01),))
    ]
    with pytest.raises(Exhausted):
        caller.stream([toy_audio(1)], TOY)


def test_tries_without_progress_are_counted(caller: Caller, server: FakeServer) -> None:
    server.speech.stream_faults = [Fault(after_responses=1)] * (SOON.tries + 1)
    with pytest.raises(Unavailable):
        caller.stream([toy_audio(1)], TOY)
    assert len(server.speech.connections) == SOON.tries


def test_progress_earns_new_tries(server: FakeServer) -> None:
    breaks = 3 * SOON.tries
    server.speech.stream_faults = [Fault(after_bytes=3 * len(toy_audio(1)))] * breaks
    words = list(range(1, 2 * breaks))
    pieces = [toy_audio(*pair) for word in words for pair in ((word,), (0,))]
    results, facts = SyncCaller(server.address).stream(pieces, TOY)
    assert [result.text for result in results if result.is_final] == [str(word) for word in words]
    assert facts.summary
    assert facts.summary.breaks > SOON.tries


def test_failure_after_the_summary_is_no_failure(caller: Caller, server: FakeServer) -> None:
    server.speech.stream_faults = [Fault(after_bytes=1 << 30)]
    results, facts = caller.stream([toy_audio(1)], TOY)
    assert results[-1].is_final
    assert facts.summary
    assert facts.summary.breaks == 0


def test_stream_outlives_a_restart_of_its_server(caller: Caller, server: FakeServer) -> None:
    def audio() -> Iterator[bytes]:
        yield toy_audio(1, 0)
        yield toy_audio(2)
        server.stop()
        server.start()
        yield toy_audio(3)

    patient = type(caller)(server.address, retry=Retry(first_wait_s=0.05))  # type: ignore[call-arg]
    results, _ = patient.stream(audio(), TOY)
    assert [result.text for result in results if result.is_final] == ["1", "2 3"]


def test_item_drawn_for_a_dead_connection_reaches_the_next(server: FakeServer) -> None:
    """The caller's iterator stands in `next` when the connection dies, and again while the next one waits for it."""
    go_on = threading.Event()

    def audio() -> Iterator[bytes]:
        yield toy_audio(1)
        go_on.wait()
        yield toy_audio(2)
        yield toy_audio(3)

    server.speech.stream_faults = [Fault(after_responses=1), Fault(after_responses=1)]
    opened = server.speech.connections
    with SyncCaller(server.address).client() as client:
        stream = client.stream(audio(), TOY)
        results = [next(stream)]
        assert len(opened) == 3
        go_on.set()
        results += stream
    assert [result.text for result in results if result.is_final] == ["1 2 3"]


async def test_async_item_drawn_for_a_dead_connection_reaches_the_next(server: FakeServer) -> None:
    go_on = asyncio.Event()

    async def audio() -> AsyncIterator[bytes]:
        yield toy_audio(1)
        await go_on.wait()
        yield toy_audio(2)
        yield toy_audio(3)

    server.speech.stream_faults = [Fault(after_responses=1), Fault(after_responses=1)]
    async with AsyncCaller(server.address).client() as client:
        stream = client.stream(audio(), TOY)
        results = [await anext(stream)]
        go_on.set()
        results += [result async for result in stream]
    assert [result.text for result in results if result.is_final] == ["1 2 3"]


def test_audio_that_fails_before_its_connection_is_known_ends_it() -> None:
    """gRPC draws from its own thread at once, before the caller's thread holds the call."""

    def failing() -> Iterator[bytes]:
        raise OSError("no microphone")
        yield b""

    sender = _Sender(Session(TOY, False, SOON, None), failing())
    drawn: list[str | None] = []
    thread = threading.Thread(target=lambda: drawn.extend(one.WhichOneof("request") for one in sender.requests()))
    thread.start()
    while sender.failure is None:
        time.sleep(0.001)
    assert thread.is_alive()  # the end of the requests would be a half-close
    cancelled = threading.Event()
    sender.attach(cancelled.set)
    thread.join()
    assert cancelled.is_set()
    assert drawn == ["config"]
    assert isinstance(sender.failure, OSError)
