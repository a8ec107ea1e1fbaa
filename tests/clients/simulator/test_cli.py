"""The simulator's command line."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import grpc
import numpy as np
import pytest
import soundfile

from parley.clients.simulator.cli import main
from tests.wire.fake_speech import RATE, FakeServer, Fault

if TYPE_CHECKING:
    from pathlib import Path


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
    monkeypatch.setattr("parley.clients.simulator.figures.TOO_LATE_S", -1.0)
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

    monkeypatch.setattr("parley.clients.simulator.cli.simulate_in_processes", interrupted)
    assert main([recording]) == 130
