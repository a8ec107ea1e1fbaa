"""Models by kind: each folder gets its own, and what nobody knows is refused with what is known."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from parley.decoder.device import CPU
from parley.decoder.errors import ModelError
from parley.decoder.model_folder import ModelFolder
from parley.decoder.models.registry import load_acoustic_model, load_whole_model
from tests.decoder.reference import EN_STREAMING

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.mark.parametrize(
    ("load", "known"),
    [
        (lambda folder: load_acoustic_model(folder, CPU, 1, 320), "streaming-ctc, wenet, zipformer"),
        (lambda folder: load_whole_model(folder, CPU), "moonshine"),
    ],
)
def test_a_kind_that_nobody_knows_is_refused(load: Callable[[ModelFolder], object], known: str) -> None:
    with pytest.raises(ModelError, match=f"got kind = 'parrot', expected one of {known}$"):
        load(replace(ModelFolder.read(EN_STREAMING), kind="parrot"))


@pytest.mark.parametrize(
    ("load", "kind", "package", "extra"),
    [
        (lambda folder: load_acoustic_model(folder, CPU, 1, 320), "streaming-ctc", "torch", "first-pass"),
        (lambda folder: load_acoustic_model(folder, CPU, 1, 320), "wenet", "kaldi_native_fbank", "first-pass"),
        (lambda folder: load_whole_model(folder, CPU), "moonshine", "onnxruntime", "node"),
    ],
)
def test_what_is_not_installed_is_named(
    monkeypatch: pytest.MonkeyPatch, load: Callable[[ModelFolder], object], kind: str, package: str, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ModelError) as refused:
        load(replace(ModelFolder.read(EN_STREAMING), kind=kind))
    expected = f"kind = '{kind}': got no package {package}, expected it: pip install 'parley-asr[{extra}]'"
    assert str(refused.value) == f"{EN_STREAMING}: {expected}"
