"""The table of stages: every stage is measured, on seconds of calls."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from scripts import stages

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.slow
def test_every_stage_costs_something(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = tmp_path / "stages.json"
    assert stages.main(["--seconds", "4", "--rows", "2", "--precision", "float32", "--json", str(told)]) == 0
    found = json.loads(told.read_text(encoding="utf-8"))
    assert [stage["name"].split(",")[0] for stage in found if not stage["inside"]] == [
        "receive",
        "convert and send",
        "mu-law and resampling",
        "voice activity",
        "forward",
        "search",
    ]
    assert all(stage["us"] > 0 for stage in found)
    forward = next(stage["us"] for stage in found if stage["name"].startswith("forward"))
    named = ("features (spectra)", "matrix products", "attention", "scatter into the rings", "activations and norms")
    assert 0.3 * forward < sum(stage["us"] for stage in found if stage["name"] in named) < forward
    assert "% of a core" in capsys.readouterr().out
