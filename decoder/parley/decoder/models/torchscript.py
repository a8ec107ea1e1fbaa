"""TorchScript exports of other people's models: loading them, and saying what does not fit. Knows no model.

An export is a program: torch.jit.load unpickles no Python objects, but what the archive says is run. So it comes from
the model's folder, which is the operator's own, and from nowhere else.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import torch

from parley.decoder.errors import ModelError
from parley.decoder.models.fbank import RATE
from parley.decoder.torch_device import running

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from parley.decoder.text.vocabulary import Vocabulary

LONGEST_SAMPLES = 60 * RATE  # of an utterance


def load_export(path: Path, device: torch.device, threads: int, interface: str) -> Any:
    """The export on the device, ready to run. threads: on a CPU. interface: what it should be, for the error.

    Raises ModelError.
    """
    torch.set_num_threads(threads)
    with trial(path, interface):
        return torch.jit.load(str(path), map_location=device).eval()  # type: ignore[no-untyped-call]


@contextlib.contextmanager
def trial(path: Path, interface: str) -> Iterator[None]:
    """Turns what an export does wrong at start into ModelError."""
    try:
        with running():
            yield
    except (RuntimeError, torch.jit.Error, AttributeError, IndexError, TypeError, ValueError) as error:
        raise ModelError(f"{path}: got an error: {_essence(error)}; expected {interface}") from error


def check(path: Path, what: str, found: object, expected: object) -> None:
    """Raises ModelError unless they are equal."""
    if found != expected:
        raise ModelError(f"{path}: {what}: got {found}, expected {expected}")


def check_tokens(path: Path, vocabulary: Vocabulary, outputs: int) -> int:
    """The blank's id, if the table of this path is that of a model with so many outputs. Raises ModelError."""
    if len(vocabulary.pieces) != outputs:
        raise ModelError(f"{path}: got {len(vocabulary.pieces)} tokens, expected the model's {outputs}")
    blank = vocabulary.blank()
    if blank is None:
        raise ModelError(f"{path}: got no blank, expected <blank>, <blk> or <eps> among the tokens")
    return blank


def check_log_probs(path: Path, log_probs: torch.Tensor) -> int:
    """How many tokens these log_probs (rows, frames, tokens) are of. Raises ModelError if they are not such."""
    check(path, "dimensions of the log-probabilities", log_probs.dim(), 3)
    total = float(log_probs[0, 0].exp().sum())
    check(path, "sum of a frame's probabilities", round(total, 2), 1.0)
    return log_probs.size(2)


def stacked(rows: Sequence[torch.Tensor], frames: int) -> torch.Tensor:
    """log_probs (rows, frames, tokens) of rows (n, tokens) with n up to `frames`, zeros behind them."""
    out = rows[0].new_zeros((len(rows), frames, rows[0].size(1)), dtype=torch.float32)
    for place, row in zip(out, rows, strict=True):
        place[: len(row)] = row
    return out


def _essence(error: Exception) -> str:
    """The line of an error that says what was wrong: TorchScript puts its call stack before it."""
    lines = str(error).split("RuntimeError: ")[-1].strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__
