"""`parley capacity` with real nodes: one of its own for files, one that runs elsewhere and has a small pool."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from parley.clients.cli import main as cli
from scripts.node_process import NodeProcess
from scripts.speech import DATA

if TYPE_CHECKING:
    from pathlib import Path


def test_files_at_a_node_of_its_own(tmp_path: Path) -> None:
    """With a limit that any machine holds, and the recordings enough of it at once."""
    config, told, drawn = tmp_path / "parley.toml", tmp_path / "found.json", tmp_path / "found.png"
    config.write_text('passes = "first"  # quick to start\ndecoders = 7\nmax_streams_per_peer = 1\n', encoding="utf-8")
    argv = [
        "--file",
        "500ms:60s",
        "--seconds",
        "2m",
        "--first",
        "2",
        "--max",
        "2",
        "--repeats",
        "1",
        "--config",
        str(config),
    ]
    argv += ["--write-config", str(config), "--json", str(told), "--png", str(drawn), str(DATA / "austen_4.flac")]
    assert cli.main(["capacity", *argv, "--", "--search", "best_path"]) == 0
    found = json.loads(told.read_text(encoding="utf-8"))
    (run,) = found["runs"]
    assert (run["calls"], run["decoders"], run["outcome"]) == (2, 2, "held")
    assert run["played"]["file"]["count"] >= 100
    assert run["memory_bytes"] > 100 << 20
    assert found["answer"]["held"] == 2
    assert found["node"] == f"parley serve --config {config} --search best_path"
    assert config.read_text(encoding="utf-8").splitlines()[1] == "decoders = 1"
    assert drawn.read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_a_node_elsewhere_holds_what_its_pool_holds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = tmp_path / "found.json"
    limits = ("--passes", "first", "--decoders", "1")
    with NodeProcess(*limits) as node:
        argv = ["--p99-final", "60s", "--seconds", "5s", "--first", "2", "--max", "2", "--repeats", "1"]
        assert cli.main(["capacity", *argv, "--json", str(told), "--server", node.address]) == 0
    found = json.loads(told.read_text(encoding="utf-8"))
    assert [(run["calls"], run["outcome"]) for run in found["runs"]] == [(2, "refused"), (1, "held")]
    assert found["runs"][1]["played"]["final"]["count"] >= 2
    assert "That is the size of the node's pool" in capsys.readouterr().out
