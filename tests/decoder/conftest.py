from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from decoder.model_folder import ModelFolder
from decoder.recognizer import Recognizer, RecognizerConfig
from decoder.second_pass import SecondPass

if TYPE_CHECKING:
    from collections.abc import Iterator

MODEL = Path(__file__).parent.parent.parent / "models" / "moonshine-tiny-en"


@pytest.fixture(scope="session")
def model_folder() -> ModelFolder:
    """The embedded model's, as `make setup` leaves it."""
    return ModelFolder.read(MODEL)


@pytest.fixture(scope="session")
def second_pass(model_folder: ModelFolder) -> SecondPass:
    return SecondPass(model_folder)


@pytest.fixture(scope="session")
def recognizer() -> Iterator[Recognizer]:
    with Recognizer(RecognizerConfig(MODEL, devices=("cpu",), decoders=32)) as recognizer:
        yield recognizer
        load = recognizer.pool.snapshot()
        assert (load.busy, load.waiting) == (0, 0)
