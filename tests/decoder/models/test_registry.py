"""Models by kind: each folder gets its own, and what nobody knows is refused with what is known."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from parley.decoder.errors import ModelError
from parley.decoder.model_folder import ModelFolder
from parley.decoder.models.registry import load_acoustic_model, load_whole_model
from tests.decoder.reference import EN_STREAMING

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.mark.parametrize(
    ("load", "known"),
    [
        (lambda folder: load_acoustic_model(folder, "cpu", 1, 320), "streaming-ctc, wenet, zipformer"),
        (lambda folder: load_whole_model(folder, "cpu"), "moonshine"),
    ],
)
def test_a_kind_that_nobody_knows_is_refused(load: Callable[[ModelFolder], object], known: str) -> None:
    with pytest.raises(ModelError, match=f"got kind = 'parrot', expected one of {known}$"):
        load(replace(ModelFolder.read(EN_STREAMING), kind="parrot"))
