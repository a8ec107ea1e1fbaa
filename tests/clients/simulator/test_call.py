"""A simulated call: on time, and honest about its own lateness."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import soundfile

from parley.clients import Encoding, Result, StreamConfig
from parley.clients.simulator.call import CallSource, Line, Pace
from tests.wire.fake_speech import RATE, toy_audio

if TYPE_CHECKING:
    from pathlib import Path

BYTES_PER_S = RATE * 2
TOY = StreamConfig(encoding=Encoding.LINEAR16, sample_rate=RATE)


def source(*words: int, name: str = "toy") -> CallSource:
    return CallSource(name, TOY, toy_audio(*words), BYTES_PER_S, frame_bytes=2)


def result(text: str, end_s: float, *, is_final: bool, channel: int = 0) -> Result:
    return Result(text, is_final, 0.0, end_s, channel, 0, 0.0, 0.0, (), (), "", "", "", None)


class Clock:
    """Time that passes when the test or a sleep says so."""

    def __init__(self) -> None:
        self.now = 50.0
        self.oversleep_s = 0.0

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.now += seconds + self.oversleep_s


async def test_messages_are_due_when_spoken_whatever_happened_before() -> None:
    clock = Clock()
    clock.oversleep_s = 0.01
    call = CallSource("second", TOY, bytes(BYTES_PER_S), BYTES_PER_S, frame_bytes=2)
    line = Line(call, Pace(message_ms=100, speed=2), clock, clock.sleep)
    sizes = [len(piece) async for piece in line.audio()]
    assert sizes == [BYTES_PER_S // 10] * 10
    report = line.report(0, None, None)
    assert [send.due_s for send in report.sends] == pytest.approx([0.05 * number for number in range(1, 11)])
    assert [send.begun_s for send in report.sends] == pytest.approx([0.05 * number + 0.01 for number in range(1, 11)])
    assert report.late_s == pytest.approx([0.01] * 10)


async def test_message_that_the_server_held_back_is_not_the_simulators_fault() -> None:
    clock = Clock()
    line = Line(CallSource("call", TOY, bytes(BYTES_PER_S), BYTES_PER_S, 2), Pace(message_ms=200), clock, clock.sleep)
    count = 0
    async for _ in line.audio():
        count += 1
        clock.now += 0.35 if count == 2 else 0.0  # flow control
    report = line.report(0, None, None)
    assert [send.begun_s for send in report.sends] == pytest.approx([0.2, 0.4, 0.75, 0.8, 1.0])
    assert report.sends[1].done_s == pytest.approx(0.75)
    assert report.late_s == pytest.approx([0.0] * 5)


async def test_an_interim_that_is_taken_back_is_no_result() -> None:
    line = Line(CallSource("call", TOY, bytes(BYTES_PER_S), BYTES_PER_S, 2), Pace(speed=1_000))
    assert [piece async for piece in line.audio()]
    line.heard(result("a cough", 0.1, is_final=False))
    line.heard(result("", 0.1, is_final=False))
    assert len(line.report(0, None, None).partial_lags_s) == 1


async def test_lags_count_from_the_message_that_carried_the_audio() -> None:
    clock = Clock()
    line = Line(CallSource("call", TOY, bytes(BYTES_PER_S), BYTES_PER_S, 2), Pace(message_ms=200), clock, clock.sleep)
    audio = line.audio()
    for _ in range(3):
        await anext(audio)  # the third is sent at 0.6 s
    line.heard(result("one", 0.4, is_final=False, channel=1))
    line.heard(result("one", 0.41, is_final=False, channel=1))
    clock.now += 0.05
    line.heard(result("one two", 0.6, is_final=True, channel=1))
    line.heard(result("never", 7.0, is_final=False, channel=2))  # a time beyond all audio: counted from the last sent
    async for _ in audio:
        pass
    clock.now += 0.25
    line.heard(result("three", 0.9, is_final=True, channel=1))
    clock.now += 0.5
    report = line.report(4, None, None)
    assert report.partial_lags_s == pytest.approx([0.2, 0.0, 0.05])
    assert report.final_lags_s == pytest.approx([0.05, 0.25])
    assert report.half_close_to_last_final_s == pytest.approx(0.25)
    assert report.half_close_to_end_s == pytest.approx(0.75)
    assert report.words == {1: "one two three"}
    assert (report.number, report.finals, report.error) == (4, 2, None)


async def test_last_final_before_the_half_close_has_no_latency() -> None:
    clock = Clock()
    line = Line(source(1), Pace(), clock, clock.sleep)
    async for _ in line.audio():
        line.heard(result("early", 0.01, is_final=True))
        clock.now += 1
    assert line.report(0, None, None).half_close_to_last_final_s is None
    assert line.report(0, None, "UNAVAILABLE").half_close_to_end_s is None


def test_source_takes_the_form_from_the_file_and_the_wishes_from_the_caller(tmp_path: Path) -> None:
    path = tmp_path / "call.wav"
    soundfile.write(path, np.zeros((RATE, 2), np.int16), RATE)
    call = CallSource.load(path, StreamConfig(separate_channels=True, interim_results=False))
    assert call.audio == path.read_bytes()
    assert call.config == StreamConfig(channels=2, separate_channels=True, interim_results=False)
    assert len(call.audio) / call.bytes_per_s == pytest.approx(1.0)
    assert CallSource.load(path).config == StreamConfig(channels=2)
