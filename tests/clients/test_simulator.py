"""Simulated calls: on time, and honest about their own lateness."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import grpc
import numpy as np
import pytest
import soundfile

from parley.clients import Encoding, Result, StreamConfig
from parley.clients.simulated_call import CallReport, CallSource, Line, Pace, Send
from parley.clients.simulator import main, simulate, simulate_in_processes
from parley.clients.simulator_figures import Figures, Spread, table
from tests.wire.fake_speech import RATE, FakeServer, Fault, toy_audio

if TYPE_CHECKING:
    from pathlib import Path

BYTES_PER_S = RATE * 2
TOY = StreamConfig(encoding=Encoding.LINEAR16, sample_rate=RATE)
FAST = Pace(message_ms=20, speed=10, spread_s=0.01)


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


async def test_calls_are_played_and_reported_in_order(server: FakeServer) -> None:
    calls = [source(number, 0, 9, name=f"call {number}") for number in range(1, 6)]
    reports = await simulate(server.address, calls, concurrency=2, pace=FAST)
    assert [(report.number, report.name) for report in reports] == [(n, f"call {n + 1}") for n in range(5)]
    assert [report.words for report in reports] == [{0: f"{number} 9"} for number in range(1, 6)]
    for report in reports:
        assert report.error is None
        assert report.summary
        assert report.finals == 2
        assert len(report.sends) == 3
        assert report.half_close_to_last_final_s is not None
        assert len(report.partial_lags_s) >= 1


async def test_call_that_fails_is_reported_and_not_tried_again(server: FakeServer) -> None:
    server.speech.stream_faults = [Fault(after_responses=1)]
    (report,) = await simulate(server.address, [source(1, 0)], pace=FAST, token="secret")
    assert report.error == "UNAVAILABLE: struck by the test"
    assert report.summary is None
    assert [each.metadata["authorization"] for each in server.speech.connections] == ["Bearer secret"]


def test_processes_share_the_calls(server: FakeServer) -> None:
    calls = [source(number, name=f"call {number}") for number in range(1, 6)]
    reports = simulate_in_processes(server.address, calls, processes=2, concurrency=3, pace=FAST)
    assert [report.number for report in reports] == list(range(5))
    assert [report.words for report in reports] == [{0: str(number)} for number in range(1, 6)]


def test_source_takes_the_form_from_the_file_and_the_wishes_from_the_caller(tmp_path: Path) -> None:
    path = tmp_path / "call.wav"
    soundfile.write(path, np.zeros((RATE, 2), np.int16), RATE)
    call = CallSource.load(path, StreamConfig(separate_channels=True, interim_results=False))
    assert call.audio == path.read_bytes()
    assert call.config == StreamConfig(channels=2, separate_channels=True, interim_results=False)
    assert len(call.audio) / call.bytes_per_s == pytest.approx(1.0)
    assert CallSource.load(path).config == StreamConfig(channels=2)


def test_spread_is_by_nearest_rank() -> None:
    assert Spread.of([]) is None
    assert Spread.of([3.0]) == Spread(1, 3.0, 3.0, 3.0, 3.0)
    assert Spread.of([float(number) for number in range(200, 0, -1)]) == Spread(200, 100.0, 190.0, 198.0, 200.0)


def report(late_s: float, error: str | None = None) -> CallReport:
    sends = tuple(Send(float(n), float(n), n + late_s, n + late_s) for n in range(1, 4))
    return CallReport("call", 0, {0: "words"}, 2, sends, (0.1, 0.3), (0.5,), 0.2, 0.3, None, error)


def test_simulator_knows_when_it_was_the_bottleneck() -> None:
    assert not Figures.of([report(0.001)] * 2).simulator_was_the_bottleneck
    assert Figures.of([report(0.001), report(0.1)]).simulator_was_the_bottleneck
    assert not Figures.of([]).simulator_was_the_bottleneck


def test_table_shows_what_was_measured_and_what_was_not() -> None:
    assert table(Figures.of([report(0.001), report(0.001, "UNAVAILABLE")])).splitlines() == [
        "milliseconds               count     p50     p95     p99    most",
        "partial lag                    4     100     300     300     300",
        "final lag                      2     500     500     500     500",
        "final after half-close         2     200     200     200     200",
        "simulator's own delay          6       1       1       1       1",
        "2 calls, 1 failed, 4 finals",
    ]
    assert "partial lag                    0" in table(Figures.of([]))


@pytest.fixture
def recording(tmp_path: Path) -> str:
    path = tmp_path / "call.wav"
    soundfile.write(path, np.repeat(np.array([1, 0], np.int16), RATE // 10), RATE)
    return str(path)


def test_command_prints_a_table(server: FakeServer, recording: str, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["--server", server.address, "--calls", "3", "--speed", "10", "--spread", "0.01", recording]
    assert main(argv) == 0
    assert "3 calls, 0 failed" in capsys.readouterr().out


def test_command_prints_json_and_names_failures(
    server: FakeServer, recording: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("parley.clients.simulator_figures.TOO_LATE_S", -1.0)
    server.speech.stream_faults = [Fault(grpc.StatusCode.INTERNAL)]
    assert main(["--server", server.address, "--json", "--speed", "10", "--calls", "2", recording]) == 1
    captured = capsys.readouterr()
    figures = json.loads(captured.out)
    assert figures["figures"]["failed"] == 1
    assert [call["error"] for call in figures["calls"]].count("INTERNAL: struck by the test") == 1
    assert "(call.wav): INTERNAL: struck by the test" in captured.err
    assert "it was late itself" in captured.err


def test_command_refuses_what_cannot_be(recording: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "none.wav")]) == 1
    assert "none.wav: No such file or directory" in capsys.readouterr().err
    assert main([recording, "--cert", "cert.pem"]) == 2
    assert "expected both or none" in capsys.readouterr().err


def test_command_ends_on_ctrl_c(recording: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("parley.clients.simulator.simulate_in_processes", interrupted)
    assert main([recording]) == 130
