"""Test lists: recordings and what is said in them. Knows the manifest's lines, not how a recording is decoded.

One JSON object a line: `audio`, a path relative to the manifest, and `text`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from parley.training.lm.errors import BadModel

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Recording:
    audio: Path
    text: str


def read_manifest(path: Path) -> list[Recording]:
    """Raises BadModel with the line of the first fault."""
    recordings = []
    with path.open(encoding="utf8") as lines:
        try:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    recordings.append(_recording(path, number, line))
        except UnicodeDecodeError as error:
            raise BadModel(f"{path}: not UTF-8 text ({error.reason} at byte {error.start})") from None
    if not recordings:
        raise BadModel(f"{path}: no line, expected one a recording")
    return recordings


def _recording(path: Path, number: int, line: str) -> Recording:
    expected = 'expected an object such as {"audio": "a.flac", "text": "what is said"}'
    try:
        entry = json.loads(line)
    except json.JSONDecodeError as error:
        raise BadModel(f"{path}, line {number}: not JSON ({error.msg}), {expected}") from None
    if not isinstance(entry, dict) or not all(isinstance(entry.get(name), str) for name in ("audio", "text")):
        raise BadModel(f"{path}, line {number}: got {line.strip()[:80]}, {expected}")
    return Recording(path.parent / entry["audio"], entry["text"])
