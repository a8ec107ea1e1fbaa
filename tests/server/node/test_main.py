"""`parley serve` from the outside: exit statuses, faults, signals. The model is the real one."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from grpc import aio

from parley.asr.v1 import speech_pb2 as pb
from parley.asr.v1 import speech_pb2_grpc
from parley.decoder.config import RecognizerConfig
from parley.server.kit import logs
from parley.server.node import main as entry
from parley.server.node.settings import DEFAULT_FIRST_MODEL, DEFAULT_SECOND_MODEL
from parley.server.node.telemetry import Metrics
from tests.server.wire import FINALIZE, PCM, audio, configured, read_all, read_one
from tests.speech import pcm_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SERVE = (sys.executable, "-c", "from parley.server.node.main import main; raise SystemExit(main())")
FREE = ("--port", "0", "--metrics-port", "-1", "--decoders", "2", "--log-format", "json")


class Process:
    """A node of its own."""

    def __init__(self, *flags: str) -> None:
        self.popen = subprocess.Popen([*SERVE, *FREE, *flags], stderr=subprocess.PIPE, text=True)

    def line(self, event: str) -> dict[str, Any]:
        """Reads the log up to an event."""
        assert self.popen.stderr is not None
        for text in self.popen.stderr:
            line: dict[str, Any] = json.loads(text)
            if line["event"] == event:
                return line
        raise AssertionError(f"the node ended with {self.popen.wait()} before {event!r}")


@pytest.fixture
def serve() -> Iterator[Any]:
    started = []

    def start(*flags: str) -> Process:
        started.append(Process(*flags))
        return started[-1]

    yield start
    for process in started:
        process.popen.kill()
        process.popen.communicate()


def refused(*flags: str) -> list[str]:
    """The faults that a node ends with."""
    done = subprocess.run([*SERVE, *FREE, *flags], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    return [line for line in done.stderr.splitlines() if not line.startswith("{")]


def test_faults_of_the_configuration_are_listed_and_nothing_starts() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        faults = refused("--port", str(port), "--idle-timeout-s", "0", "--second-model-dir", "/nowhere")
    assert len(faults) == 3
    assert all(fault.startswith("parley serve: --") for fault in faults)


@pytest.mark.parametrize(("passes", "folder"), [("first", DEFAULT_FIRST_MODEL), ("second", DEFAULT_SECOND_MODEL)])
def test_a_model_without_its_files_is_refused(tmp_path: Path, passes: str, folder: Path) -> None:
    shutil.copy(folder / "model.toml", tmp_path)
    for extra in ((), ("--explain",)):
        (fault,) = refused("--passes", passes, f"--{passes}-model-dir", str(tmp_path), *extra)
        assert fault.startswith(f"parley serve: {tmp_path}: ")
        assert "missing" in fault


@pytest.mark.parametrize("passes", ["first", "second", "both"])
def test_a_node_explains_itself_and_ends(passes: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:  # as by the node that is running
        port = str(taken.getsockname()[1])
        flags = ("--explain", "--passes", passes, "--port", port, "--devices", "cpu")
        done = subprocess.run([*SERVE, *FREE, *flags], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    said = {line.split("  ")[1].strip(): line for line in done.stdout.splitlines() if line.startswith("  ")}
    assert said["passes"].split() == ["passes", passes, "--passes"]  # of the settings, which come last
    assert ("first pass" in said, "second pass" in said) == (passes != "second", passes != "first")
    assert sum("2 decoders x " in line for line in said.values()) == 4
    assert ("language model" in said) == (passes != "second")


def test_who_reads_an_explanation_may_stop_before_its_end() -> None:
    node = subprocess.Popen([*SERVE, *FREE, "--explain"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert node.stdout is not None
    node.stdout.close()
    assert node.wait(60) == 0
    assert node.communicate()[1] == b""


async def test_a_node_of_both_passes_gives_words_at_once_and_better_ones_at_last(serve: Any) -> None:
    process = serve("--passes", "both", "--devices", "cpu", "--final-budget-ms", "0")
    serving = process.line("serving")
    assert (serving["passes"], serving["decoders"], serving["devices"]) == ("both", 2, ["cpu"])
    assert serving["decoder_audio_bytes"] > 0
    assert serving["decoder_search_bytes"] > 0
    assert serving["decoder_cache_bytes"] > 0
    async with aio.insecure_channel(serving["address"]) as channel:
        stub: speech_pb2_grpc.SpeechAsyncStub = speech_pb2_grpc.SpeechStub(channel)
        timed = pb.RecognitionConfig(enable_word_time_offsets=True)
        timed.MergeFrom(PCM)
        call = stub.StreamingRecognize(iter([configured(timed, interim_results=True), audio(pcm_of("austen_1.flac"))]))
        results = [result for response in await read_all(call) for result in response.results]
    *interims, final = results
    assert not any(result.is_final for result in interims)
    assert {result.word_timing for result in interims if result.alternatives[0].words} == {pb.WORD_TIMING_CTC}
    assert "Dashwood" in final.alternatives[0].transcript
    assert final.source == pb.FINAL_SOURCE_SECOND_PASS
    assert final.word_timing != pb.WORD_TIMING_UNSPECIFIED  # which of the three is the weights' affair


async def test_sigterm_lets_a_live_call_finish(serve: Any) -> None:
    process = serve()
    address = process.line("serving")["address"]
    async with aio.insecure_channel(address) as channel:
        stub: speech_pb2_grpc.SpeechAsyncStub = speech_pb2_grpc.SpeechStub(channel)
        call = stub.StreamingRecognize()
        await call.write(configured(PCM))
        await call.write(audio(pcm_of("austen_1.flac")))
        await call.write(FINALIZE)
        first = await read_one(call)
        process.popen.send_signal(signal.SIGTERM)
        assert process.line("draining")["live"] == 1
        await call.write(audio(pcm_of("austen_1.flac")))
        await call.done_writing()
        responses = await read_all(call)
    assert first is not None
    words = [result.alternatives[0].transcript for response in (first, *responses) for result in response.results]
    assert len(words) == 2
    assert words[0] == words[1] != ""
    assert responses[-1].HasField("summary")
    assert process.popen.wait(30) == 0


async def test_a_second_sigterm_ends_a_node_at_once(serve: Any) -> None:
    process = serve("--grace-s", "3600")
    address = process.line("serving")["address"]
    async with aio.insecure_channel(address) as channel:
        stub: speech_pb2_grpc.SpeechAsyncStub = speech_pb2_grpc.SpeechStub(channel)
        call = stub.StreamingRecognize()
        await call.write(configured(PCM, speech_events=True))
        await call.initial_metadata()
        process.popen.send_signal(signal.SIGTERM)
        process.line("draining")
        process.popen.send_signal(signal.SIGTERM)
        assert process.popen.wait(30) == 128 + signal.SIGTERM
        assert await call.code() == grpc.StatusCode.UNAVAILABLE


def test_sigterm_while_loading_ends_a_node_in_order(serve: Any) -> None:
    process = serve()
    process.line("listening")
    process.popen.send_signal(signal.SIGTERM)
    assert process.popen.wait(30) == 0


class Stopping:
    """In a node's place: stops itself."""

    lost = ()

    def __init__(self, settings: object, build: object) -> None: ...

    async def start(self) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    async def stopped(self) -> None:
        await asyncio.Event().wait()

    async def drain(self) -> None: ...


def test_main_returns_its_status(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(entry, "Node", Stopping)
    monkeypatch.setattr(logs, "set_up", lambda form, level: None)
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    try:
        assert entry.main(FREE) == 0
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert entry.main([*FREE, "--decoders", "none"]) == 2
    assert "parley serve: --decoders: got 'none'" in capsys.readouterr().err


def test_what_a_node_has_loaded_is_not_looked_through_for_garbage_again(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[object] = []

    def load(*given: object) -> list[object]:
        loaded.append(given)
        return loaded

    monkeypatch.setattr(entry, "Recognizer", load)
    config, observer = RecognizerConfig(second_model_dir=DEFAULT_SECOND_MODEL), Metrics()
    try:
        built: object = entry._build(config, observer)
        assert built is loaded
        assert loaded == [(config, observer)]
        assert not any(one is loaded for one in gc.get_objects())
    finally:
        gc.unfreeze()
    assert any(one is loaded for one in gc.get_objects())
