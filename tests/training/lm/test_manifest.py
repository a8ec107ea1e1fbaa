"""Test lists: read, refused with the line."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from parley.training.lm.errors import BadModel
from parley.training.lm.manifest import Recording, read_manifest

if TYPE_CHECKING:
    from pathlib import Path


def test_recordings_lie_beside_the_manifest(tmp_path: Path) -> None:
    path = tmp_path / "manifest.jsonl"
    path.write_text('{"audio": "a.flac", "text": "\u00fcber", "more": 1}\n\n{"text": "", "audio": "b/c.wav"}\n', "utf8")
    assert read_manifest(path) == [
        Recording(tmp_path / "a.flac", "\u00fcber"),
        Recording(tmp_path / "b" / "c.wav", ""),
    ]


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("a.flac", "line 2: not JSON"),
        ('["a.flac", "text"]', "line 2: got "),
        ('{"audio": "a.flac"}', "line 2: got "),
        ('{"audio": "a.flac", "text": 5}', 'line 2: got {"audio": "a.flac", "text": 5}, expected an object such as'),
    ],
)
def test_a_fault_names_the_line(tmp_path: Path, line: str, fault: str) -> None:
    path = tmp_path / "manifest.jsonl"
    path.write_text(f'{{"audio": "a", "text": "b"}}\n{line}\n', "utf8")
    with pytest.raises(BadModel) as caught:
        read_manifest(path)
    assert str(caught.value).startswith(f"{path}, {fault}")


@pytest.mark.parametrize(("data", "fault"), [(b"\n", "no line"), (b"\xff\n", "not UTF-8")])
def test_files_that_are_no_list_are_refused(tmp_path: Path, data: bytes, fault: str) -> None:
    path = tmp_path / "manifest.jsonl"
    path.write_bytes(data)
    with pytest.raises(BadModel, match=fault):
        read_manifest(path)
