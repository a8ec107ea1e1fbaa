"""What the beam search found when it was recorded, it finds: words, frames and scores of utterances of every kind.

`python -m tests.decoder.search.test_beam_recorded` records it anew.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from parley.decoder.search.settings import BeamSettings
from parley.decoder.values import Phrase
from tests.decoder.searching import random_table, read_model, searched, texts, wishes

if TYPE_CHECKING:
    from parley.decoder.search import ctc

RECORDED = Path(__file__).parents[2] / "data" / "beam.json"
WORDS = ("a", "b", "ab", "ba", "aab")
HOTWORDS = {"": (), "hotwords": (Phrase("ab ba", 4.0), Phrase("abb", 8.0), Phrase("a"))}
SETTINGS = {
    "wide": BeamSettings(blank_penalty=0.5, unknown_word=-7.0),
    "narrow": BeamSettings(unknown_word=-9.0, token_beam=3.0, tokens=2, score_beam=6.0),
}


def rows(seed: int, frames: int) -> torch.Tensor:
    """(frames, tokens): logarithms of no distribution, but the same to the last bit on every machine."""
    state, values = seed, []
    for at in range(frames * 6):
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        spoken = at % 6 == 0 or (at // 6 + seed) % 3 == 0
        values.append(-(state >> 56) / (16 if spoken else 6))
    return torch.tensor(values, dtype=torch.float32).reshape(frames, 6)


def found(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """By case, the best two readings."""
    model = read_model(random_table(np.random.default_rng(4), WORDS, 3), folder / "recorded.lm")
    cases: dict[str, list[dict[str, Any]]] = {}
    for seed, beam in enumerate((1, 2, 8, 24, 64)):
        for (hotwords, phrases), (width, settings), with_model in (
            (hotwords, settings, with_model)
            for hotwords in HOTWORDS.items()
            for settings in SETTINGS.items()
            for with_model in (False, True)
        ):
            wanted = wishes(model if with_model else None, phrases, beam=beam, before=("ab",) * (seed % 2))
            paths = searched(rows(seed, 60), wanted, 2, settings=settings, cuts=range(7, 60, 7))
            name = f"beam of {beam}, {width}{', model' * with_model}{', hotwords' * bool(hotwords)}"
            cases[name] = [_row(path) for path in paths]
    return cases


def _row(path: ctc.Path) -> dict[str, Any]:
    """As JSON gives it back."""
    row: dict[str, Any] = json.loads(json.dumps(asdict(path)))
    return {"words": texts([path])[0], **row}


def test_what_was_recorded_is_found(tmp_path: Path) -> None:
    """To the last bit but one: exponentials may be rounded otherwise on another machine."""
    recorded, cases = json.loads(RECORDED.read_text()), found(tmp_path)
    assert recorded.keys() == cases.keys()
    for name, paths in cases.items():
        assert len(paths) == len(recorded[name]), name
        for path, expected in zip(paths, recorded[name], strict=True):
            for part in ("words", "tokens", "spans", "log_probs"):
                assert path[part] == expected[part], name
            assert path["scores"] == pytest.approx(expected["scores"], rel=1e-12), name
            assert path["confidences"] == pytest.approx(expected["confidences"], rel=1e-9), name


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as made:
        RECORDED.write_text(json.dumps(found(Path(made)), separators=(",", ":")) + "\n")
