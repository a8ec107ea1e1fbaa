"""Language models of a few sentences, made as an operator makes them."""

from __future__ import annotations

import contextlib
import io
from typing import TYPE_CHECKING

from parley.training.lm.cli import main

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


def write_lm(path: Path, sentences: Iterable[str]) -> Path:
    """A trigram model of these sentences. A file that is there is replaced by rename, not written over."""
    text = path.with_suffix(".txt")
    text.write_text("".join(f"{sentence}\n" for sentence in sentences), encoding="utf-8")
    with contextlib.redirect_stderr(io.StringIO()):
        assert main(["build", str(text), "--output", str(path)]) == 0
    return path
