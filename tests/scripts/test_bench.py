"""The benchmark at work, with a real node and a few seconds of calls: that it measures all it says, not what."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from scripts import bench
from scripts.floor import Floor

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.slow
def test_a_small_run_measures_everything(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = tmp_path / "report.json"
    flags = ["--passes", "first", "--shares", "2", "--calls", "2", "--seconds", "5"]
    assert bench.main(["--quick", *flags, "--json", str(told)]) == 0
    report = json.loads(told.read_text(encoding="utf-8"))
    assert report["live_floor"]["audio_s_per_s"] > 0
    assert report["file_floor"]["pieces"] >= 2
    assert report["files_audio_s_per_s"] > 0
    for name in ("at_80_percent", "beside_files", "past_capacity"):
        played = report[name]
        assert played["calls"] == 2
        assert played["final_after_half_close"]["count"] == 2
        assert played["partial_lag"]["count"] > 2
    assert report["refused"]["count"] > 0
    assert report["refused_without_retry_info"] == 0
    assert report["beside_calls_audio_s_per_s"] > 0
    out = capsys.readouterr().out
    assert "of the floor" in out
    assert "refusal" in out


def test_a_second_that_nobody_measured_is_no_row() -> None:
    floor = Floor(1, 1.0, 1.0, 1.0)
    assert bench._table(bench.Report(floor, floor)).row_count == 0


def test_what_runs_beside_fails_with_its_error() -> None:
    async def run(_: object) -> None:
        raise RuntimeError("beside")

    with pytest.raises(RuntimeError, match="beside"), bench._beside(run):
        pass


@pytest.mark.parametrize("asked", [["--shares", "2", "--calls", "3"], ["--shares", "0"], ["--quick", "--shares", "3"]])
def test_every_share_has_as_many_calls(asked: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        bench.main(asked)
    assert f"--shares: got {asked[asked.index('--shares') + 1]}, expected 1 or more" in capsys.readouterr().err
