"""The speech in tests/data, by name. Knows files and the words in them, not how speech is recognized."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / "tests" / "data"
CALL = DATA / "demo_call.wav"  # 8 kHz mu-law, one speaker a channel


@dataclass(frozen=True, slots=True)
class Recording:
    path: Path
    text: str


def recordings() -> tuple[Recording, ...]:
    """The real speech."""
    lines = (DATA / "manifest.jsonl").read_text(encoding="utf-8").splitlines()
    return tuple(Recording(DATA / entry["audio"], entry["text"]) for entry in map(json.loads, lines))


def call_text(channel: int) -> str:
    """What is said on a channel of CALL, from 1, from its first turn to its last."""
    turns = json.loads((DATA / "demo_call.json").read_text(encoding="utf-8"))
    return " ".join(turn["text"] for turn in turns if turn["channel"] == channel)
