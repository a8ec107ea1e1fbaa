"""One level: what is played at a server, what counts, and how it is judged."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import grpc
import pytest

from parley.clients.capacity import level
from parley.clients.capacity.level import Load, NothingMeasured, Played, judge, play_calls, play_files
from parley.clients.capacity.node import Node
from parley.clients.capacity.search import Outcome
from parley.clients.capacity.slo import Duration, FileLimit, Size, Slo
from parley.clients.cli.common import Access
from parley.clients.config import Encoding, StreamConfig
from parley.clients.simulator.call import CallSource
from parley.clients.simulator.figures import Spread
from tests.wire.fake_speech import RATE, FakeServer, Fault, toy_audio

TOY = StreamConfig(encoding=Encoding.LINEAR16, sample_rate=RATE)
CALLS = tuple(CallSource(f"toy {word}", TOY, toy_audio(word, samples=RATE // 5), RATE * 2, 2) for word in (1, 2, 3))
LOAD = Load(CALLS, b"a file of words", seconds=1.1)
FINAL = Slo(final=Duration(30))
FILE = FileLimit.parse("10s:30s")
FULL = Fault(grpc.StatusCode.RESOURCE_EXHAUSTED, text="all decoders are busy")


def at(server: FakeServer) -> Access:
    return Access(address=server.address, token=None, tls=None)


def spread(p99: float, count: int = 100) -> Spread:
    return Spread(count, 0.0, 0.0, p99, p99)


def test_callers_make_as_many_calls_as_a_percentile_needs_and_time_allows() -> None:
    load = Load(CALLS, b"", seconds=60.0)  # calls of 0.2 s
    assert [load.rounds(callers) for callers in (1, 10, 100, 1000)] == [102, 12, 3, 3]
    assert [Load(CALLS, b"", seconds).rounds(10) for seconds in (0.1, 0.4, 1.1)] == [1, 1, 4]
    assert load.expected_s(10, FINAL) == pytest.approx(13 * 0.2)
    assert load.expected_s(10, Slo(final=Duration(1), file=FILE)) == pytest.approx(13 * 0.2 + 60)


def test_first_and_last_calls_do_not_count(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(level, "CALLS_A_PROCESS", 2)
    played = play_calls(at(server), LOAD, 3)  # two processes, four rounds
    assert played.failed == 0
    assert played.final
    assert played.final.count == 3 * 2
    assert played.partial
    assert len(server.speech.connections) == 3 * 4
    assert {bytes(connection.audio) for connection in server.speech.connections} == {call.audio for call in CALLS}


def test_failures_count_wherever_they_are(server: FakeServer) -> None:
    server.speech.stream_faults = [None, Fault(grpc.StatusCode.INTERNAL)]
    played = play_calls(at(server), LOAD, 1)
    assert (played.failed, played.refused, played.fault) == (1, 0, "INTERNAL: struck by the test")
    server.speech.stream_faults = [FULL]
    run = level.run(Node(server.address, None, None), at(server), LOAD, 1, Slo(final=Duration(30), file=FILE))
    assert run.outcome is Outcome.REFUSED
    assert run.reason == "1 refused: RESOURCE_EXHAUSTED: all decoders are busy"
    assert (run.calls, run.decoders, run.cores, run.memory_bytes, run.played.file) == (1, None, None, None, None)
    assert server.speech.recognized == [], "files are not sent to a node that refuses calls"


def test_calls_and_files_are_played_one_after_the_other(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(level, "ENOUGH", 3)
    run = level.run(Node(server.address, None, None), at(server), LOAD, 2, Slo(final=Duration(30), file=FILE))
    assert (run.outcome, run.reason) == (Outcome.HELD, "")
    assert run.played.final
    assert run.played.file
    assert run.played.file.count >= 4


def test_files_take_every_decoder_that_calls_with_a_decoder_a_channel_would(server: FakeServer) -> None:
    stereo = replace(CALLS[0], config=replace(TOY, channels=2, separate_channels=True))
    load = Load((CALLS[0], stereo), b"hang", 0.3)
    assert load.decoders_a_call == 2
    assert Load((replace(stereo, config=replace(TOY, channels=2)),), b"", 1.0).decoders_a_call == 1, "mixed to one"
    run = level.run(Node(server.address, None, None), at(server), load, 3, Slo(file=FileLimit.parse("10s:100ms")))
    assert run.calls == 3
    assert run.played.file
    assert run.played.file.count == len(server.speech.recognized) == 6


async def test_files_that_are_late_already_count(server: FakeServer) -> None:
    played = await play_files(at(server), Load(CALLS, b"hang", 0.3), 2, FileLimit.parse("10s:100ms"))
    assert played.file
    assert played.file.count == 2
    assert played.file.p50 >= 0.1
    unripe = await play_files(at(server), Load(CALLS, b"hang", 0.1), 2, FILE)
    assert unripe.file is None


async def test_files_that_are_refused(server: FakeServer) -> None:
    server.speech.unary_faults = [FULL, FULL]
    played = await asyncio.wait_for(play_files(at(server), LOAD, 1, FILE), 30)
    assert (played.failed, played.refused) == (1, 1)
    assert played.fault
    assert "all decoders are busy" in played.fault


EVERYTHING = Slo(Duration(0.1), Duration(0.5), FileLimit.parse("30s:2s"), Size(1 << 30))
FINE = Played(final=spread(0.1), partial=spread(0.5), file=spread(2.0), late=spread(0.02))


@pytest.mark.parametrize(
    ("played", "memory", "outcome", "reason"),
    [
        (FINE, 1 << 30, Outcome.HELD, ""),
        (
            Played(final=spread(0.101), partial=spread(0.6), file=spread(2.0)),
            1,
            Outcome.BROKEN,
            (
                "final after a call's last packet: p99 101 ms, at most 100 ms was promised; "
                "interim result: p99 600 ms, at most 500 ms was promised"
            ),
        ),
        (
            Played(final=spread(0.1), partial=spread(0.5), file=spread(20.4)),
            (1 << 30) + (1 << 29),
            Outcome.BROKEN,
            "file back: p99 20 s, at most 2 s was promised; memory: 1.5 GiB, at most 1 GiB was promised",
        ),
        (
            Played(final=spread(9.0), partial=spread(9.0), file=spread(9.0), late=spread(0.021)),
            None,
            Outcome.CALLERS_LATE,
            "callers late by 21 ms, at most 20 ms is fair",
        ),
        (Played(failed=2, refused=1, fault="RESOURCE_EXHAUSTED: full"), None, Outcome.REFUSED, "1 refused: "),
        (Played(failed=2, fault="INTERNAL: bug"), None, Outcome.BROKEN, "2 failed: INTERNAL: bug"),
    ],
)
def test_judgement(played: Played, memory: int | None, outcome: Outcome, reason: str) -> None:
    found, said = judge(EVERYTHING, played, memory)
    assert found is outcome
    assert said.startswith(reason)
    assert bool(said) == (outcome is not Outcome.HELD)


def test_callers_may_be_late_by_a_tenth_of_a_long_limit() -> None:
    late = Played(final=spread(0.5), late=spread(0.09))
    assert judge(Slo(final=Duration(1)), late, None)[0] is Outcome.HELD
    assert judge(Slo(final=Duration(0.6)), late, None)[0] is Outcome.CALLERS_LATE


def test_what_was_not_measured_has_not_held() -> None:
    with pytest.raises(NothingMeasured, match="file back: got none"):
        judge(Slo(file=FILE), Played(), None)
    with pytest.raises(NothingMeasured, match="memory: got no process_resident_memory_bytes"):
        judge(EVERYTHING, FINE, None)
