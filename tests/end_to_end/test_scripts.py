"""The programs that the Makefile runs, as it runs them."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from scripts.speech import ROOT, recordings

if TYPE_CHECKING:
    from pathlib import Path

    from scripts.node_process import NodeProcess


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
    )


@pytest.mark.slow
def test_demo_shows_the_words_and_exits_0() -> None:
    done = run("scripts.demo")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "caller  " in done.stdout
    assert "two_cities.flac" in done.stdout


@pytest.mark.parametrize("condition", [(), ("--telephone",)])
def test_wer_scores_both_rpcs(node: NodeProcess, tmp_path: Path, condition: tuple[str, ...]) -> None:
    recording = recordings()[4]
    manifest, report = tmp_path / "manifest.jsonl", tmp_path / "report.json"
    manifest.write_text(json.dumps({"audio": str(recording.path), "text": recording.text}), encoding="utf-8")
    done = run("scripts.wer", manifest, "--server", node.address, "--json", report, *condition)
    assert done.returncode == 0, done.stdout + done.stderr
    runs = json.loads(report.read_text(encoding="utf-8"))["runs"]
    assert [(each["rpc"], each["message_ms"]) for each in runs] == [
        ("file", 0),
        ("stream", 20),
        ("stream", 100),
        ("stream", 1000),
    ]
    assert all(each["wer"] <= 0.15 for each in runs)
