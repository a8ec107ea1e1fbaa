"""Streams that break and go on: nothing lost, nothing doubled."""

from __future__ import annotations

import asyncio
import threading
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
    StreamConfig,
    Unavailable,
)
from tests.clients.conftest import SOON, AsyncCaller, Caller, SyncCaller
from tests.wire.fake_speech import RATE, FakeServer, Fault, retry_info, toy_audio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

TOY = StreamConfig(encoding=Encoding.LINEAR16, sample_rate=RATE, words=True)


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
