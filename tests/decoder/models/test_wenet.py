"""WeNet exports behind AcousticModel: a tiny one with the exact interface, against itself without caches."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from parley.decoder.device import CPU
from parley.decoder.errors import ModelError, OutOfMemory
from parley.decoder.model_folder import ModelFolder
from parley.decoder.models.registry import load_acoustic_model
from parley.decoder.models.wenet import WenetModel
from tests.decoder.chunks import alone, assert_same, chunk_of, kaldi_frames, noise, taken_whole, together
from tests.decoder.tiny_wenet import HEADS, KERNEL, LAYERS, WIDTH, TinyWenet

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

TOML = """\
name = "tiny"
kind = "wenet"
languages = ["zh"]
sample_rate = 16000
description = "random weights"
license = "none"
[wenet]
model = "final.zip"
units = "units.txt"
left_chunks = 2
"""
UNITS = "<blank> 0\n<unk> 1\n今 2\n天 3\n天 4\n气 5\n<sos/eos> 6\n"
SLOTS = 4
A_SECOND = 16_000


def written(path: Path, export: torch.nn.Module, toml: str = TOML, units: str = UNITS) -> ModelFolder:
    torch.jit.script(export).save(str(path / "final.zip"))  # type: ignore[no-untyped-call]
    (path / "units.txt").write_text(units)
    (path / "model.toml").write_text(toml)
    return ModelFolder.read(path)


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> ModelFolder:
    return written(tmp_path_factory.mktemp("wenet"), TinyWenet())


@pytest.fixture(scope="module")
def tiny() -> TinyWenet:
    return TinyWenet().eval()


@pytest.fixture(scope="module")
def load(folder: ModelFolder) -> Callable[[int, int], WenetModel]:
    """A model by chunk_ms and left_chunks."""
    models: dict[tuple[int, int], WenetModel] = {}

    def load(chunk_ms: int, left_chunks: int) -> WenetModel:
        if (chunk_ms, left_chunks) not in models:
            folder.config["wenet"]["left_chunks"] = left_chunks
            models[chunk_ms, left_chunks] = WenetModel(folder, CPU, SLOTS, chunk_ms)
        return models[chunk_ms, left_chunks]

    return load


@pytest.fixture
def model(load: Callable[[int, int], WenetModel]) -> WenetModel:
    return load(160, 2)


def features(samples: NDArray[np.int16]) -> torch.Tensor:
    return torch.from_numpy(kaldi_frames(samples, [1_000], True, 32768.0, 0.0))


def poison(model: WenetModel) -> None:
    model._attention.fill_(math.nan)
    model._convolution.fill_(math.nan)


def test_what_it_says_of_itself(folder: ModelFolder) -> None:
    model = load_acoustic_model(folder, CPU, SLOTS, 320)
    assert isinstance(model, WenetModel)
    assert (model.info.name, model.blank, model.frame_ms, model.slots) == ("tiny", 0, 40.0, SLOTS)
    assert (model.shape.step, model.shape.before, model.shape.after) == (5_120, 0, 720)
    assert model.longest_samples == 60 * A_SECOND
    assert model.vocabulary.words([2, 1, 3, 0, 6]) == [("今", range(1)), ("天", range(2, 3))]


@pytest.mark.parametrize(("chunk_ms", "left_chunks"), [(160, 0), (160, 2), (320, 1), (640, 4)])
def test_memory_is_fixed_at_start(load: Callable[[int, int], WenetModel], chunk_ms: int, left_chunks: int) -> None:
    model = load(chunk_ms, left_chunks)
    seen = left_chunks * chunk_ms // 40
    assert model.slot_bytes == 4 * LAYERS * (seen * 2 * WIDTH + WIDTH * (KERNEL - 1))
    assert model._attention.shape == (SLOTS, LAYERS, HEADS, seen, 2 * WIDTH // HEADS)
    before = model._attention.data_ptr(), model._convolution.data_ptr()
    alone(model, noise(5 * A_SECOND))
    assert (model._attention.data_ptr(), model._convolution.data_ptr()) == before


@pytest.mark.parametrize(("chunk_ms", "left_chunks"), [(160, 0), (160, 1), (160, 2), (320, 1), (640, 4)])
@settings(max_examples=20)
@given(samples=st.integers(0, 40_000))
def test_chunk_by_chunk_is_the_masked_whole(
    load: Callable[[int, int], WenetModel], tiny: TinyWenet, chunk_ms: int, left_chunks: int, samples: int
) -> None:
    """Any length: the last chunk has the frames that are left, down to none at all."""
    model, utterance = load(chunk_ms, left_chunks), noise(samples, seed=samples)
    expected = tiny.reference(features(utterance), chunk_ms // 40, left_chunks)
    assert_same(alone(model, utterance), expected)
    assert model.chunks(samples) == max(1, math.ceil(len(expected) / (chunk_ms // 40)))


@pytest.mark.parametrize("frames", [0, 1, 2, 3, 4, 5, 8])
def test_at_the_edges_of_a_chunk(model: WenetModel, tiny: TinyWenet, frames: int) -> None:
    """A sample less, and a frame is missing."""
    samples = 400 + ((frames - 1) * 4 + 6) * 160
    for length, expected in ((samples - 1, max(0, frames - 1)), (samples, frames)):
        utterance = noise(length)
        found = alone(model, utterance)
        assert len(found) == expected
        assert_same(found, tiny.reference(features(utterance), 4, 2))


@settings(max_examples=20)
@given(lengths=st.lists(st.integers(0, 30_000), min_size=1, max_size=4))
def test_whole(load: Callable[[int, int], WenetModel], tiny: TinyWenet, lengths: list[int]) -> None:
    model, utterances = load(160, 2), [noise(length, seed=length) for length in lengths]
    log_probs, frames = taken_whole(model, utterances)
    assert log_probs.shape[0] == len(lengths)
    for row, count, utterance in zip(log_probs, frames, utterances, strict=True):
        assert_same(row[:count], tiny.reference(features(utterance), 0, 0))


def test_the_longest_utterance(model: WenetModel, tiny: TinyWenet) -> None:
    utterance = noise(model.longest_samples)
    assert_same(alone(model, utterance), tiny.reference(features(utterance), 4, 2))
    (whole,), (frames,) = taken_whole(model, [utterance])
    assert_same(whole[:frames], tiny.reference(features(utterance), 0, 0))


@settings(max_examples=15)
@given(seed=st.integers(0, 10_000), lengths=st.lists(st.integers(0, 20_000), min_size=2, max_size=SLOTS))
def test_in_batches_with_strangers(
    load: Callable[[int, int], WenetModel], tiny: TinyWenet, seed: int, lengths: list[int]
) -> None:
    """Every stream's chunks come when they come; slots have held other streams before, and NaN before that."""
    model, rng = load(160, 2), np.random.default_rng(seed)
    poison(model)
    for turn in range(2):
        utterances = {slot: noise(length, seed=seed + slot + 9 * turn) for slot, length in enumerate(lengths)}
        for slot, found in together(model, utterances, rng).items():
            assert_same(found, tiny.reference(features(utterances[slot]), 4, 2))


def test_other_slots_are_never_touched(model: WenetModel) -> None:
    """Not even while a stream is on."""
    utterance = noise(A_SECOND)
    expected = alone(model, utterance, slot=1)
    poison(model)
    assert_same(alone(model, utterance, slot=1), expected)
    for slot in (0, 2, 3):
        assert torch.isnan(model._attention[slot]).all()
        assert torch.isnan(model._convolution[slot]).all()


def test_an_utterance_that_is_broken_off_leaves_nothing(model: WenetModel) -> None:
    utterance = noise(A_SECOND)
    expected = alone(model, utterance)
    for index in range(3):
        model.forward([chunk_of(model, 0, noise(A_SECOND, seed=5), index)])
    assert_same(alone(model, utterance), expected)


def test_clear(model: WenetModel) -> None:
    poison(model)
    model.clear(2)
    assert not model._attention[2].any()
    assert not model._convolution[2].any()
    assert torch.isnan(model._attention[[0, 1, 3]]).all()


class FailsAt:
    """An export that has no memory for its n-th call."""

    def __init__(self, export: torch.jit.ScriptModule, call: int) -> None:
        self.ctc_activation, self._export, self._left = export.ctc_activation, export, call

    def forward_encoder_chunk(self, *arguments: object) -> object:
        self._left -= 1
        if self._left == 0:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return self._export.forward_encoder_chunk(*arguments)


@pytest.mark.parametrize("call", [1, 2, 3])
def test_without_memory_the_batch_can_be_given_again(
    model: WenetModel, monkeypatch: pytest.MonkeyPatch, call: int
) -> None:
    utterances = {slot: noise(A_SECOND, seed=slot) for slot in range(3)}
    expected = {slot: alone(model, samples) for slot, samples in utterances.items()}
    for index in range(2):
        model.forward([chunk_of(model, slot, samples, index) for slot, samples in utterances.items()])
    batch = [chunk_of(model, slot, samples, 2) for slot, samples in utterances.items()]
    with monkeypatch.context() as patch:
        patch.setattr(model, "_export", FailsAt(model._export, call))
        with pytest.raises(OutOfMemory, match="Tried to allocate"):
            model.forward(batch)
    for chunk in batch:
        log_probs, frames = model.forward([chunk])
        assert frames == [4]
        assert_same(log_probs[0], expected[chunk.slot][8:12])


class WithoutCtc(TinyWenet):
    ctc_activation = None  # type: ignore[assignment]


class OldInterface(TinyWenet):
    """As WeNet's exports were until 2022."""

    @torch.jit.export
    def forward_encoder_chunk(  # type: ignore[override]
        self, xs: torch.Tensor, offset: int, required_cache_size: int, subsampling_cache: torch.Tensor
    ) -> torch.Tensor:
        return xs


class NoLogProbs(TinyWenet):
    @torch.jit.export
    def ctc_activation(self, xs: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.ctc(xs)
        return scores


class RememberAll(TinyWenet):
    """Minds no required_cache_size."""

    @torch.jit.export
    def forward_encoder_chunk(  # type: ignore[override]
        self, xs: torch.Tensor, offset: int, required_cache_size: int, att_cache: torch.Tensor, cnn_cache: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        x = self.embedded(xs, offset)
        seen = att_cache.size(2) + x.size(1)
        return x, torch.zeros(2, 2, seen, 16), torch.zeros(2, 1, 16, 4)


@pytest.mark.parametrize(
    ("export", "problem"),
    [
        (WithoutCtc, "final.zip: got an error: .*no attribute 'ctc_activation'; expected WeNet's streaming export: "),
        (OldInterface, "final.zip: got an error: .*expected at most 5 argument.*; expected WeNet's streaming export: "),
        (NoLogProbs, r"final.zip: sum of a frame's probabilities: got [\d.]+, expected 1.0"),
        (RememberAll, r"final.zip: shapes of the caches: got \[\(2, 2, 12, 16\), .*expected \[\(2, 2, 8, 16\), "),
        (lambda: TinyWenet(positions=1_000), "final.zip: got an error: AssertionError: positions run out; expected "),
        (lambda: TinyWenet(right_context=14), "final.zip: frames of the shortest chunk: got 3, expected 1"),
        (lambda: TinyWenet(right_context=-1), "final.zip: got subsampling_rate 4, right_context -1, expected 1 and 0"),
    ],
)
def test_an_export_that_does_not_fit_is_refused(
    tmp_path: Path, export: Callable[[], torch.nn.Module], problem: str
) -> None:
    folder = written(tmp_path, export())
    with pytest.raises(ModelError, match=problem):
        WenetModel(folder, CPU, SLOTS, 160)


@pytest.mark.parametrize(
    ("right", "wrong", "problem"),
    [
        ("left_chunks = 2", "left_chunks = -1", r"model\.toml: wenet\.left_chunks: got -1, expected 0 or more: "),
        ("left_chunks = 2", "", r"model\.toml: wenet\.left_chunks is missing"),
        ("[wenet]", "[other]", r"model\.toml: wenet is missing"),
        ("16000", "8000", r"model\.toml: sample_rate: got 8000, expected 16000"),
        ("final.zip", "other.zip", "other.zip is missing"),
        ("final.zip", "units.txt", "units.txt: got an error: .*; expected WeNet's streaming export: subsampling_rate"),
    ],
)
def test_a_config_that_does_not_fit_is_refused(
    tmp_path: Path, folder: ModelFolder, right: str, wrong: str, problem: str
) -> None:
    assert right in TOML
    folder = written(tmp_path, TinyWenet(), TOML.replace(right, wrong))
    with pytest.raises(ModelError, match=problem):
        WenetModel(folder, CPU, SLOTS, 160)


@pytest.mark.parametrize(
    ("units", "problem"),
    [
        (UNITS.replace("气 5\n<sos/eos> 6\n", "<sos/eos> 5\n"), "units.txt: got 6 tokens, expected the model's 7"),
        (UNITS.replace("<blank>", "a"), "units.txt: got no blank, expected <blank>, <blk> or <eps> among the tokens"),
    ],
)
def test_units_that_do_not_fit_are_refused(tmp_path: Path, units: str, problem: str) -> None:
    with pytest.raises(ModelError, match=problem):
        WenetModel(written(tmp_path, TinyWenet(), units=units), CPU, SLOTS, 160)


def test_a_chunk_of_no_whole_frames_is_refused(folder: ModelFolder) -> None:
    with pytest.raises(ModelError, match=r"final\.zip: chunk_ms: got 100, expected a multiple of its 40 ms a frame"):
        WenetModel(folder, CPU, SLOTS, 100)
