"""The comparison's own logic, and its harness before a peer that does little."""

from __future__ import annotations

import asyncio
import itertools
import json
import math
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from parley.clients.config import Encoding
from parley.clients.simulator.call import CallReport, Send
from scripts.peers import __main__ as comparison
from scripts.peers import measure, report
from scripts.peers.__main__ import MOST_CALLS, PARTS, Running
from scripts.peers.callers import Played, play_in_process
from scripts.peers.first_generation import (
    Answered,
    Arrival,
    Responses,
    arrivals,
    change,
    percentile,
    route,
    routed,
    send,
    table,
    voice_messages,
)
from scripts.peers.measure import Files, Trial
from scripts.peers.recognizers import FirstGeneration
from scripts.peers.report import Row
from scripts.peers.segmenter import ENDS_AFTER, FRAME_BYTES, KEPT, LONGEST, Segmenter
from scripts.peers.systems import Entry, Meter, Peer, wideband
from scripts.peers.wire import RATE, SAMPLE_BYTES, Heard, duration_s
from scripts.scoring import count_errors
from scripts.speech import recordings
from scripts.wer import Utterance
from tests.scripts.fake_peer import LOUD

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FAKE = (sys.executable, "-m", "tests.scripts.fake_peer")
SPEECH, SILENCE = b"\x01" * FRAME_BYTES, b"\x00" * FRAME_BYTES


@given(st.text(), st.booleans())
def test_a_result_survives_the_wire(text: str, is_final: bool) -> None:
    heard = Heard(text, is_final)
    assert Heard.from_wire(heard.to_wire()) == heard


@pytest.mark.parametrize("message", [b"", b"Xwords"])
def test_another_result_is_refused(message: bytes) -> None:
    with pytest.raises(ValueError, match="expected b'F' or b'P'"):
        Heard.from_wire(message)


def utterances(pieces: list[bytes]) -> Iterator[bytes]:
    segmenter = Segmenter(lambda frame: frame == SPEECH)
    for piece in pieces:
        yield from segmenter.accept(piece)
    yield segmenter.finish()


def test_a_stream_is_cut_where_it_pauses() -> None:
    call = 20 * SILENCE + 10 * SPEECH + (ENDS_AFTER - 1) * SILENCE + 5 * SPEECH + 30 * SILENCE + 6 * SPEECH + b"odd"
    first, second = utterances([call])
    assert first == KEPT * SILENCE + 10 * SPEECH + (ENDS_AFTER - 1) * SILENCE + 5 * SPEECH + ENDS_AFTER * SILENCE
    assert second == KEPT * SILENCE + 6 * SPEECH + b"odd"


def test_an_utterance_is_no_longer_than_the_library_likes_and_two_frames_are_none() -> None:
    assert [len(each) // FRAME_BYTES for each in utterances([2 * LONGEST * SPEECH])] == [LONGEST, LONGEST, 0]
    assert list(utterances([30 * SILENCE + 2 * SPEECH + 30 * SILENCE])) == [b""]


@given(
    st.lists(st.tuples(st.booleans(), st.integers(1, 40)), max_size=8),
    st.lists(st.integers(0, 300 * FRAME_BYTES), max_size=8),
)
def test_cuts_do_not_depend_on_the_pieces(runs: list[tuple[bool, int]], cuts: list[int]) -> None:
    call = b"".join((SPEECH if speech else SILENCE) * frames for speech, frames in runs)
    edges = [0, *sorted(min(cut, len(call)) for cut in cuts), len(call)]
    assert list(utterances([call[start:end] for start, end in itertools.pairwise(edges)])) == list(utterances([call]))


def trial(calls: int, final_s: float = 0.2, behind_s: float = 0.0, late_s: float = 0.0, failed: int = 0) -> Trial:
    held = [Played(final_s, behind_s, (late_s,), 1)] * (calls - failed)
    return Trial.of([*held, *[Played(None, 0.0, (), 0)] * failed], audio_s=60.0 * calls, cpu_s=6.0 * calls, peak_mib=50)


def search_of(first: int, delay_s: Callable[[int], float]) -> tuple[Running, list[int]]:
    """The calls that are tried of a system whose finals come so late."""
    fake = Entry("fake", "has these delays", lambda: Peer(FAKE), first, 1)
    running, tried = Running(fake, fake.make()), list[int]()
    while (count := running.next_count()) is not None:
        tried.append(count)
        final_s = delay_s(count)
        running.row.trials.append(trial(count, final_s, failed=count if math.isinf(final_s) else 0))
        running.row.take(running.plan)
    return running, tried


@given(st.integers(0, 700), st.integers(0, 700), st.integers(1, 64))
def test_the_search_finds_the_most_calls_of_every_limit(one: int, other: int, first: int) -> None:
    narrow, wide = sorted((one, other))

    def delay_s(count: int) -> float:
        return 0.05 if count <= narrow else 0.4 if count <= wide else math.inf

    running, tried = search_of(first, delay_s)
    assert len(tried) <= 45
    for limit_s, most in ((0.1, min(narrow, MOST_CALLS)), (0.5, min(wide, MOST_CALLS))):
        held = running.row.held[limit_s]
        assert held <= most
        assert most - held <= max(1, held // PARTS)


def test_a_near_miss_is_tried_again_and_a_clear_one_is_not() -> None:
    delays_s = {4: [0.6, 0.4, 0.4], 8: [1.1], 6: [0.6, 0.7], 5: [0.45]}
    running, tried = search_of(4, lambda count: delays_s[count].pop(0) if count > 3 else 0.05)
    assert tried[:7] == [4, 4, 4, 8, 6, 6, 5]
    assert running.row.held == {0.5: 5, 0.1: 3}


def test_calls_are_held_if_none_failed_or_fell_behind_and_the_callers_were_on_time() -> None:
    assert trial(3).delay_s == 0.2
    assert trial(3).cpu_s_per_audio_h == 360
    for not_held in (trial(3, failed=1), trial(3, failed=3), trial(3, behind_s=0.2), trial(3, late_s=0.06)):
        assert not_held.delay_s == math.inf


def test_a_node_s_call_counts_as_a_peer_s_does() -> None:
    def of(last_s: float | None, end_s: float | None, error: str | None = None) -> Played:
        sends = (Send(0.1, 0.1, 0.1, 0.15), Send(0.2, 0.2, 0.2, 0.25))
        return Played.of(CallReport("call", 0, {}, 2, sends, (), (), last_s, end_s, None, error))

    played = of(0.3, 0.4)
    assert (played.final_s, played.late_s, played.finals) == (0.3, (0.0, 0.0), 2)
    assert played.behind_s == pytest.approx(0.05)
    assert of(None, 0.4).final_s == 0.4
    assert of(0.3, None, "gone").final_s is None


def rows() -> list[Row]:
    ours = Row("Parley", "ours", {0.1: 4, 0.5: 32}, [trial(32, 0.4), trial(32, 0.3)], [Files(100, 1, 2, 500, 0)])
    vosk = Row("Vosk", "a peer", {0.1: 0, 0.5: 8}, [trial(8)], [Files(40, 20, 20, 800, 0), Files(40, 10, 20, 700, 0)])
    whisper = Row("faster-whisper", "a peer", files=[Files(50, 2, 4, 300, 0)])
    return [ours, vosk, whisper]


def test_ratios_are_to_the_best_peer() -> None:
    ours, vosk, _ = rows()
    assert vosk.fastest is vosk.files[1]
    assert vosk.audio_s_per_s == 4.0
    assert ours.at_most is ours.trials[1]
    console = Console(record=True, width=200)
    console.print(report.table(rows()))
    shown = console.export_text()
    for figure in ("32 (4.00x)", "4 (no peer has any)", "100.0 (4.00x)", "4.0 (0.16x)", "360", "700", "1800"):
        assert figure in shown
    assert report.goals(rows()) == [
        "Parley: 4 calls at 100 ms, best peer 0: no peer has any (goal 4)",
        "Parley: 32 calls at 500 ms, best peer 8: 4.00x (goal 4)",
        "Parley: 100.0 audio-s/s on files, faster-whisper at its best 25.0: 4.00x (goal 5)",
    ]
    assert report.to_json(rows(), {"cores": 2})["cores"] == 2


def test_percentiles_are_values_that_were_measured() -> None:
    times_s = [float(n) for n in range(1, 2001)]
    assert [percentile(times_s, share) for share in (0.0, 0.5, 0.999, 1.0)] == [1, 1000, 1998, 2000]
    assert percentile([3.0], 0.999) == 3.0
    responses = Responses.of([Answered(time_s, 0.0) for time_s in reversed(times_s)])
    assert (responses.mean_s, responses.tp999_s, responses.requests) == (1000.5, 1998, 2000)
    assert change(2.0, 0.5) == "-75%"
    console = Console(record=True, width=120)
    console.print(table({"1.0": responses, "this node": Responses.of([Answered(100.05, 0.0)])}))
    assert "-90%" in console.export_text()


def test_arrivals_come_in_bursts_of_one_client_and_the_same_with_the_same_seed() -> None:
    coming = arrivals(3000, per_s=8.0, messages=10, seed=1)
    assert coming == arrivals(3000, per_s=8.0, messages=10, seed=1) != arrivals(3000, per_s=8.0, messages=10, seed=2)
    assert len(coming) == 3000
    assert 3000 / coming[-1].due_s == pytest.approx(8.0, rel=0.1)
    gaps_s = np.diff([arrival.due_s for arrival in coming])
    assert gaps_s.min() >= 0
    assert gaps_s.std() > 1.05 * gaps_s.mean()  # a plain Poisson process has them equal


def test_voice_messages_are_as_long_as_said() -> None:
    assert all(2.0 <= duration_s(message) <= 6.0 for message in voice_messages(50))


@pytest.fixture(scope="module")
def peer() -> Iterator[Peer]:
    with Peer(FAKE, processes=2) as peer:
        yield peer


def test_calls_are_played_at_a_peer_s_processes(peer: Peer) -> None:
    pcm = bytes(RATE * SAMPLE_BYTES // 4)
    fine, failed, also_fine = play_in_process(peer.addresses, [pcm, LOUD + pcm, pcm], spread_s=0.1)
    assert failed.final_s is None
    for played in (fine, also_fine):
        assert played.final_s is not None
        assert (played.finals, len(played.late_s)) == (1, 3)


def test_a_system_is_measured(peer: Peer) -> None:
    meter = Meter(peer.pids)
    calls = [np.zeros(800, np.int16)]
    assert duration_s(wideband(calls[0])) == 0.1
    played = measure.play(peer, meter, calls, 2)
    assert (played.calls, played.failed, played.finals, played.audio_s) == (2, 0, 2, 0.2)
    assert played.peak_mib > 1
    assert played.others_cores < (os.cpu_count() or 1) + 0.5
    files = measure.files(peer, meter, [bytes(3200)], at_once=2, for_s=0.05)
    assert files.audio_s > 0
    said = [Utterance("a", "3200 bytes", 0.1, bytes(3200), RATE, Encoding.LINEAR16)]
    assert measure.word_errors(peer, said, 1, streamed=True).rate == 0
    assert measure.word_errors(peer, said, 1, streamed=False).deletions == 1


def test_a_client_s_messages_go_to_one_process(peer: Peer) -> None:
    async def answers() -> dict[str, set[str]]:
        async with routed(peer.addresses) as answer:
            found: dict[str, set[str]] = {}
            # One by one, in a loop: before Python 3.11 no comprehension inside another may await.
            for client in ("a", "b", "c", "d") * 3:
                found.setdefault(client, set()).add(await answer(client, b""))
            return found

    answered = asyncio.run(answers())
    assert all(len(processes) == 1 for processes in answered.values())
    assert len(set.union(*answered.values())) == 2
    assert {route(client, 2) for client in answered} == {0, 1}


def test_every_arrival_is_answered(peer: Peer) -> None:
    coming = [Arrival(0.01 * number, f"client {number}", 0) for number in range(10)]
    answered = send(routed(peer.addresses), coming, [b"pcm"])
    assert len(answered) == 10
    assert all(each.response_s >= each.late_s >= 0 for each in answered)


def test_a_peer_that_does_not_come_up_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="ended with 3 before it served"), Peer((sys.executable, "-c", "exit(3)")):
        pass


def test_the_whole_comparison_with_one_system(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = tmp_path / "said" / "manifest.jsonl"
    manifest.parent.mkdir()
    soundfile.write(manifest.parent / "a.flac", np.zeros(1600, np.int16), RATE)
    manifest.write_text('{"audio": "a.flac", "text": "bytes"}\n', encoding="utf-8")
    fake = Entry("fake", "says how much it heard", lambda: Peer(FAKE, 1), 2, 2)
    monkeypatch.setattr(comparison, "ENTRIES", (fake, Entry("another", "left out", pytest.fail, 1, 1)))
    monkeypatch.setattr(comparison, "PEERS_PYTHON", Path(sys.executable))
    monkeypatch.setattr(comparison, "make_calls", lambda *_: [np.zeros(800, np.int16)])
    monkeypatch.setattr(comparison, "QUICK_FILES_S", 0.05)
    out = tmp_path / "figures.json"
    assert comparison.main([str(manifest), "--quick", "--only", "fake", "--json", str(out)]) == 0
    (row,) = json.loads(out.read_text(encoding="utf-8"))["rows"]
    assert set(row["held"]) == {"0.1", "0.5"}
    assert [(trial["calls"], trial["failed"], trial["finals"]) for trial in row["trials"]] == [(2, 0, 2)]
    assert row["audio_s_per_s"] > 0
    assert row["wer"] == {"said, files": 1.0, "said, streams": 0.0}
    assert "fake" in capsys.readouterr().out


def test_a_comparison_without_the_peers_environment_says_what_makes_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(comparison, "PEERS_PYTHON", tmp_path / "python")
    assert comparison.main([]) == 1
    assert "make bench-peers" in capsys.readouterr().err


def test_one_decoder_at_a_time_hears_the_words() -> None:
    spoken = next(it for it in recordings() if it.path.name == "austen_4.flac")
    pcm = soundfile.read(spoken.path, dtype="int16")[0].tobytes()
    assert count_errors(spoken.text, FirstGeneration().recognize(pcm)).rate < 0.2
