"""Many calls at once, in one process and in several."""

from __future__ import annotations

from parley.clients import Encoding, StreamConfig
from parley.clients.simulator.call import CallSource, Pace
from parley.clients.simulator.play import simulate, simulate_in_processes
from tests.wire.fake_speech import RATE, FakeServer, Fault, toy_audio

BYTES_PER_S = RATE * 2
TOY = StreamConfig(encoding=Encoding.LINEAR16, sample_rate=RATE)
FAST = Pace(message_ms=20, speed=10, spread_s=0.01)


def source(*words: int, name: str = "toy") -> CallSource:
    return CallSource(name, TOY, toy_audio(*words), BYTES_PER_S, frame_bytes=2)


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
