"""The command: what it asks of a level, what it tells, what it refuses. A machine that is made up answers."""

from __future__ import annotations

import json
import signal
from typing import TYPE_CHECKING

import pytest

from parley.clients.capacity import arguments
from parley.clients.capacity import cli as capacity
from parley.clients.capacity.level import Load, NothingMeasured, Run
from parley.clients.capacity.node import Node
from parley.clients.cli import main as cli
from tests.clients.capacity.runs import made

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from parley.clients.capacity.slo import Slo
    from parley.clients.cli.common import Access
    from tests.wire.fake_speech import FakeServer

AT = ("--server", "127.0.0.1:9")  # nobody is there


@pytest.fixture
def at(server: FakeServer) -> tuple[str, str]:
    """One that is well, but never called."""
    return "--server", server.address


@pytest.fixture
def holds(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[int]]:
    """Installs a machine that holds so many calls; gives the list of the levels that it is asked for."""

    def install(limit: int, fault: BaseException | None = None, after: int = 0) -> list[int]:
        asked: list[int] = []

        def run(node: Node, access: Access, load: Load, callers: int, slo: Slo) -> Run:
            assert node.address == access["address"]
            if fault and len(asked) == after:
                raise fault
            asked.append(callers)
            return made(callers, limit)

        monkeypatch.setattr("parley.clients.capacity.level.run", run)
        return asked

    return install


def test_it_searches_and_tells_and_writes(
    at: tuple[str, str], holds: Callable[..., list[int]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = holds(10)
    config, told = tmp_path / "parley.toml", tmp_path / "found.json"
    drawn = ("--html", str(tmp_path / "found.html"), "--png", str(tmp_path / "found.png"))
    argv = ("--p99-final", "100ms", "--write-config", str(config), "--json", str(told), *drawn)
    assert cli.main(["capacity", *at, *argv]) == 0
    assert asked == [4, 8, 16, 12, 10, 11, 10, 11, 10, 11]
    captured = capsys.readouterr()
    assert "10 calls at once: the final within 100 ms" in captured.out
    assert "16 calls: broken (final after a call's last packet" in captured.err
    assert config.read_text(encoding="utf-8") == "decoders = 8\n"
    assert json.loads(told.read_text(encoding="utf-8"))["answer"]["held"] == 10
    assert (tmp_path / "found.html").exists()
    assert (tmp_path / "found.png").exists()


@pytest.mark.parametrize(("fault", "status"), [(KeyboardInterrupt(), 130), (NothingMeasured("final: got none"), 1)])
def test_what_is_known_outlives_the_end_of_the_search(
    at: tuple[str, str],
    holds: Callable[..., list[int]],
    fault: BaseException,
    status: int,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    holds(10, fault, after=2)
    config = tmp_path / "parley.toml"
    assert cli.main(["capacity", *at, "--p99-final", "100ms", "--write-config", str(config)]) == status
    assert "8 calls at once" in capsys.readouterr().out
    assert config.read_text(encoding="utf-8") == "decoders = 6\n"
    holds(10, fault, after=0)
    assert cli.main(["capacity", *at, "--p99-final", "100ms"]) == status
    assert capsys.readouterr().out == ""


def test_a_file_that_cannot_be_written_keeps_no_other_from_it(
    at: tuple[str, str], holds: Callable[..., list[int]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    holds(10)
    config, drawn, folder = tmp_path / "parley.toml", tmp_path / "found.picture", tmp_path / "folder"
    folder.mkdir()
    argv = ("--json", str(folder), "--html", str(folder), "--png", str(drawn), "--write-config", str(config))
    assert cli.main(["capacity", *at, "--p99-final", "100ms", *argv]) == 1
    captured = capsys.readouterr()
    assert "10 calls at once" in captured.out
    told = captured.err.splitlines()[-3:]
    assert told[:2] == [f"parley capacity: {folder}: Is a directory"] * 2
    assert "Format 'picture' is not supported" in told[2]
    assert config.read_text(encoding="utf-8") == "decoders = 8\n"
    holds(10, KeyboardInterrupt(), after=2)
    assert cli.main(["capacity", *at, "--p99-final", "100ms", *argv]) == 130
    assert "Is a directory" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["decoders = ", '"decoders" = 1'])
def test_a_config_that_cannot_be_changed_is_found_out_before_the_search(
    at: tuple[str, str],
    holds: Callable[..., list[int]],
    text: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked = holds(10)
    config = tmp_path / "parley.toml"
    config.write_text(text, encoding="utf-8")
    assert cli.main(["capacity", *at, "--p99-final", "100ms", "--write-config", str(config)]) == 1
    assert asked == []
    assert f"parley capacity: {config}: " in capsys.readouterr().err


def test_no_level_begins_that_would_not_fit_the_budget(
    at: tuple[str, str], holds: Callable[..., list[int]], capsys: pytest.CaptureFixture[str]
) -> None:
    asked = holds(10)
    assert cli.main(["capacity", *at, "--p99-final", "100ms", "--budget", "1s"]) == 0
    assert asked == [4]
    assert "The search was not finished" in capsys.readouterr().out


def test_none_held(at: tuple[str, str], holds: Callable[..., list[int]], tmp_path: Path) -> None:
    holds(0)
    config = tmp_path / "parley.toml"
    argv = ["capacity", *at, "--p99-final", "100ms", "--repeats", "1", "--write-config", str(config)]
    assert cli.main(argv) == 1
    assert not config.exists()


def test_a_known_pool_bounds_the_levels(
    at: tuple[str, str],
    holds: Callable[..., list[int]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked = holds(100)
    monkeypatch.setattr(capacity, "elsewhere", lambda address, metrics: Node(address, metrics, 6))
    assert cli.main(["capacity", *at, "--p99-final", "100ms", "--metrics", "http://x", "--repeats", "1"]) == 0
    assert asked == [4, 6]
    assert "the node's pool has 6 decoders" in capsys.readouterr().out


def test_a_terminal_sees_the_table_grow(
    at: tuple[str, str],
    holds: Callable[..., list[int]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    holds(10)
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert cli.main(["capacity", *at, "--p99-final", "100ms", "--max", "4", "--repeats", "1"]) == 0
    assert "4 calls at once ..." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ((), "got nothing that has to hold"),
        (("--max-memory", "1GiB"), "got nothing that has to hold"),
        (("--p99-final", "1s", "--repeats", "2"), "repeats: got 2, expected 1, 3, 5"),
        ((*AT, "--p99-final", "1s", "--config", "x.toml"), "got --server and settings for `parley serve`"),
        (("--p99-final", "1s", "--metrics", "http://x"), "got --metrics without --server"),
        ((*AT, "--p99-final", "1s", "--max-memory", "1GiB"), "expected its --metrics URL too"),
        (
            ("--file", "30s:2s", "--seconds", "2s"),
            "--seconds: got 2 s, expected more than the 2 s that a file may take",
        ),
        (("--p99-final", "1s", "--json", "/no/such/folder/x.json"), "got no folder /no/such/folder"),
        (("--p99-final", "1s", "--cert", "x.pem"), "expected both or none"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_runs(
    argv: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["capacity", *argv]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (("--p99-final", "100"), "got '100', expected such as 100ms"),
        (("--file", "30s"), "expected LENGTH:TIME"),
        (("--headroom", "120%"), "percentage above 0 and up to 100"),
    ],
)
def test_argparse_says_what_was_expected(argv: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        cli.main(["capacity", *argv])
    assert exit_.value.code == 2
    assert said in capsys.readouterr().err


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(arguments, "examples", list)
    assert cli.main(["capacity", "--p99-final", "1s"]) == 2
    assert "got no recordings, expected some to play" in capsys.readouterr().err
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert cli.main(["capacity", "--p99-final", "1s", "--png", "x.png"]) == 2
    assert "pip install 'parley-asr[plot]'" in capsys.readouterr().err


def test_failures_are_told_in_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["capacity", *AT, "--p99-final", "1s"]) == 1
    assert "no service at 127.0.0.1:9" in capsys.readouterr().err
    assert cli.main(["capacity", "--p99-final", "1s", "no such file.wav"]) == 1
    assert "no such file.wav" in capsys.readouterr().err
    argv = ["capacity", *AT, "--p99-final", "1s", "--metrics", "http://127.0.0.1:9/metrics"]
    assert cli.main(argv) == 1
    assert "expected a node's Prometheus page" in capsys.readouterr().err


def test_help_has_the_two_classic_questions(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["capacity", "--help"])
    out = capsys.readouterr().out
    assert "a 30 s file back within 2 s with every decoder busy" in out
    assert "the final within 100 ms of the last packet of a live call" in out


def test_sigterm_ends_it_as_ctrl_c_does(
    at: tuple[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[int] = []

    def run(node: Node, access: Access, load: Load, callers: int, slo: Slo) -> Run:
        if asked:
            signal.raise_signal(signal.SIGTERM)
        asked.append(callers)
        return made(callers, 99)

    monkeypatch.setattr("parley.clients.capacity.level.run", run)
    before = signal.getsignal(signal.SIGTERM)
    assert cli.main(["capacity", *at, "--p99-final", "100ms"]) == 130
    assert signal.getsignal(signal.SIGTERM) == before
    assert asked == [4]
    assert "4 calls at once" in capsys.readouterr().out
