from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

from parley.decoder.config import RecognizerConfig
from parley.decoder.model_folder import ModelFolder
from parley.decoder.models.moonshine import SecondPass
from parley.decoder.recognizer import Recognizer
from parley.decoder.values import Passes
from tests.decoder.streams import Clock, Loudness

if TYPE_CHECKING:
    from collections.abc import Iterator

MODELS = Path(__file__).parent.parent.parent / "models"
MODEL = MODELS / "moonshine-tiny-en"
FIRST_MODEL = MODELS / "en-streaming"


@pytest.fixture(scope="session")
def model_folder() -> ModelFolder:
    """The embedded model's, as `make setup` leaves it."""
    return ModelFolder.read(MODEL)


@pytest.fixture(scope="session")
def second_pass(model_folder: ModelFolder) -> SecondPass:
    return SecondPass(model_folder)


def running(config: RecognizerConfig) -> Iterator[Recognizer]:
    with Recognizer(config) as recognizer:
        yield recognizer
        load = recognizer.pool.snapshot()
        assert (load.busy, load.waiting) == (0, 0)


@pytest.fixture(scope="session")
def recognizer() -> Iterator[Recognizer]:
    """The second pass alone."""
    yield from running(RecognizerConfig(second_model_dir=MODEL, devices=("cpu",), decoders=32))


@pytest.fixture(scope="session")
def both() -> Iterator[Recognizer]:
    """Both passes. The second has all the time, so that nothing depends on the machine's."""
    yield from running(
        RecognizerConfig(
            first_model_dir=FIRST_MODEL,
            second_model_dir=MODEL,
            passes=Passes.BOTH,
            devices=("cpu",),
            decoders=16,
            final_budget_ms=0,
        )
    )


@pytest.fixture(scope="module")
def loud_is_speech() -> Iterator[None]:
    """Voice activity by loudness."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("webrtcvad.Vad", Loudness)
        yield


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """A stream's clock, which the test sets."""
    clock = Clock()
    for module in ("decoder", "intake", "live", "finals"):
        monkeypatch.setattr(f"parley.decoder.engine.{module}.time", clock)
    return clock


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """A small model only loses by more, and on a busy machine very much."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
