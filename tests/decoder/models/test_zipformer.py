"""icefall's streaming zipformer exports behind AcousticModel: a tiny one with the exact interface, against itself
without states."""

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
from parley.decoder.models.zipformer import ZipformerModel
from tests.decoder.chunks import alone, assert_same, chunk_of, kaldi_frames, noise, taken_whole, together
from tests.decoder.tiny_zipformer import AHEAD, CHUNK, KEYS, LAYERS, LEFT, WIDTH, TinyZipformer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

TOML = """\
name = "tiny"
kind = "zipformer"
languages = ["en"]
sample_rate = 16000
description = "random weights"
license = "none"
[zipformer]
model = "jit_script_chunk_16_left_20.pt"
tokens = "tokens.txt"
"""
TOKENS = "<blk> 0\n<sos/eos> 1\n<unk> 2\nS 3\n\u2581THE 4\n\u2581A 5\nT 6\n#0 7\n#1 8\n"
SLOTS = 4
A_SECOND = 16_000
A_CHUNK_OUT = CHUNK // 2


def written(path: Path, export: torch.nn.Module, toml: str = TOML, tokens: str = TOKENS) -> ModelFolder:
    file = path / "jit_script_chunk_16_left_20.pt"
    torch.jit.script(export.eval()).save(str(file))  # type: ignore[no-untyped-call]
    (path / "tokens.txt").write_text(tokens)
    (path / "model.toml").write_text(toml)
    return ModelFolder.read(path)


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> ModelFolder:
    return written(tmp_path_factory.mktemp("zipformer"), TinyZipformer())


@pytest.fixture(scope="module")
def tiny() -> TinyZipformer:
    return TinyZipformer().eval()


@pytest.fixture(scope="module")
def model(folder: ModelFolder) -> ZipformerModel:
    return ZipformerModel(folder, CPU, SLOTS, 320)


def features(samples: NDArray[np.int16]) -> torch.Tensor:
    """As streaming_decode.py pads them, and on to the end of the chunk."""
    found = kaldi_frames(samples, [1_000], False, 1.0, -400.0)
    chunks = math.ceil((len(found) + AHEAD + 30) / (2 * CHUNK))
    padded = np.full((chunks * 2 * CHUNK + AHEAD, 80), math.log(1e-10), np.float32)
    padded[: len(found)] = found
    return torch.from_numpy(padded)


def poison(model: ZipformerModel) -> None:
    """All that lies in the slots."""
    for state, dim in zip(model._arena, model._dims, strict=True):
        slots = state.narrow(dim, 0, SLOTS)
        slots.fill_(math.nan if state.is_floating_point() else -1_000_000)


def test_what_it_says_of_itself(folder: ModelFolder) -> None:
    model = load_acoustic_model(folder, CPU, SLOTS, 320)
    assert isinstance(model, ZipformerModel)
    assert (model.info.name, model.blank, model.frame_ms, model.slots) == ("tiny", 0, 40.0, SLOTS)
    assert (model.shape.step, model.shape.before, model.shape.after) == (5_120, 120, 2_200)
    assert model.longest_samples == 60 * A_SECOND
    assert len(model.vocabulary.pieces) == 7  # symbols of the graph are no tokens
    assert model.vocabulary.words([4, 3, 0, 2, 5, 6]) == [("THES", range(2)), ("AT", range(4, 6))]


def test_memory_is_fixed_at_start(model: ZipformerModel) -> None:
    assert model.slot_bytes == 4 * (LAYERS * (4 * LEFT * KEYS + 2 * WIDTH * 2) + WIDTH * 3 + 1)
    assert sum(state.numel() for state in model._arena) * 4 == model.slot_bytes * (SLOTS + 1)
    before = [state.data_ptr() for state in model._arena]
    alone(model, noise(3 * A_SECOND))
    assert [state.data_ptr() for state in model._arena] == before


@settings(max_examples=25)
@given(samples=st.integers(0, 40_000))
def test_chunk_by_chunk_is_the_masked_whole(model: ZipformerModel, tiny: TinyZipformer, samples: int) -> None:
    """Any length: edges reflected, the end padded to a chunk."""
    utterance = noise(samples, seed=samples)
    expected = tiny.reference(features(utterance))
    assert_same(alone(model, utterance), expected)
    assert model.chunks(samples) * A_CHUNK_OUT == len(expected)


@settings(max_examples=15)
@given(lengths=st.lists(st.integers(0, 40_000), min_size=1, max_size=5))
def test_whole(model: ZipformerModel, tiny: TinyZipformer, lengths: list[int]) -> None:
    """Of any lengths together; the slots are not touched."""
    poison(model)
    utterances = [noise(length, seed=length) for length in lengths]
    log_probs, frames = taken_whole(model, utterances)
    for row, count, utterance in zip(log_probs, frames, utterances, strict=True):
        assert_same(row[:count], tiny.reference(features(utterance)))
    for state, dim in zip(model._arena, model._dims, strict=True):
        slots = state.narrow(dim, 0, SLOTS)
        assert (torch.isnan(slots) if state.is_floating_point() else slots == -1_000_000).all()


@settings(max_examples=15)
@given(seed=st.integers(0, 10_000), lengths=st.lists(st.integers(0, 25_000), min_size=2, max_size=SLOTS))
def test_in_batches_with_strangers(model: ZipformerModel, tiny: TinyZipformer, seed: int, lengths: list[int]) -> None:
    """Every stream's chunks come when they come; slots have held other streams before, and NaN before that."""
    rng = np.random.default_rng(seed)
    poison(model)
    for turn in range(2):
        utterances = {slot: noise(length, seed=seed + slot + 9 * turn) for slot, length in enumerate(lengths)}
        for slot, found in together(model, utterances, rng).items():
            assert_same(found, tiny.reference(features(utterances[slot])))


def test_other_slots_are_never_touched(model: ZipformerModel) -> None:
    """Not even while a stream is on."""
    utterance = noise(A_SECOND)
    expected = alone(model, utterance, slot=1)
    poison(model)
    assert_same(alone(model, utterance, slot=1), expected)
    for state, dim in zip(model._arena, model._dims, strict=True):
        others = state.index_select(dim, torch.tensor([0, 2, 3]))
        assert (torch.isnan(others) if state.is_floating_point() else others == -1_000_000).all()


def test_an_utterance_that_is_broken_off_leaves_nothing(model: ZipformerModel) -> None:
    utterance = noise(A_SECOND)
    expected = alone(model, utterance)
    for index in range(3):
        model.forward([chunk_of(model, 0, noise(A_SECOND, seed=5), index)])
    assert_same(alone(model, utterance), expected)


def test_clear(model: ZipformerModel) -> None:
    poison(model)
    model.clear(2)
    for state, dim in zip(model._arena, model._dims, strict=True):
        assert not state.select(dim, 2).any()
        assert state.select(dim, 1).any()


class Fails:
    """An export that has no memory."""

    def encoder(self, *arguments: object) -> None:
        raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")


def test_without_memory_the_batch_can_be_given_again(model: ZipformerModel, monkeypatch: pytest.MonkeyPatch) -> None:
    utterances = {slot: noise(A_SECOND, seed=slot) for slot in range(3)}
    expected = {slot: alone(model, samples) for slot, samples in utterances.items()}
    for index in range(2):
        model.forward([chunk_of(model, slot, samples, index) for slot, samples in utterances.items()])
    batch = [chunk_of(model, slot, samples, 2) for slot, samples in utterances.items()]
    with monkeypatch.context() as patch:
        patch.setattr(model, "_export", Fails())
        with pytest.raises(OutOfMemory, match="Tried to allocate"):
            model.forward(batch)
    for chunk in batch:
        log_probs, frames = model.forward([chunk])
        assert frames == [A_CHUNK_OUT]
        assert_same(log_probs[0], expected[chunk.slot][2 * A_CHUNK_OUT : 3 * A_CHUNK_OUT])


class WithoutCtc(TinyZipformer):
    def __init__(self) -> None:
        super().__init__()
        del self.ctc_output


class NotStreaming(TinyZipformer):
    """As export.py makes it without --causal 1."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = torch.nn.Identity()  # type: ignore[assignment]


class NoLogProbs(TinyZipformer):
    def __init__(self) -> None:
        super().__init__()
        del self.ctc_output[2]


class Forgetful(TinyZipformer):
    """Its states have no batch."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = ForgetfulEncoder()  # type: ignore[assignment]


class ForgetfulEncoder(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.chunk_size, self.pad_length = CHUNK, AHEAD

    def forward(
        self, features: torch.Tensor, feature_lengths: torch.Tensor, states: list[torch.Tensor]
    ) -> tuple[torch.Tensor, torch.Tensor, list[torch.Tensor]]:
        return features, feature_lengths, states

    @torch.jit.export
    def get_init_states(self, batch_size: int = 1, device: torch.device = torch.device("cpu")) -> list[torch.Tensor]:  # noqa: B008
        return [torch.zeros(batch_size, 3), torch.zeros(5, 3)]


@pytest.mark.parametrize(
    ("export", "problem"),
    [
        (
            WithoutCtc,
            "got an error: .*no attribute 'ctc_output'; expected icefall's streaming zipformer with a CTC head",
        ),
        (
            NotStreaming,
            "got an error: .*no attribute 'chunk_size'; expected icefall's streaming zipformer with a CTC head",
        ),
        (NoLogProbs, r"sum of a frame's probabilities: got [\d.]+, expected 1.0"),
        (Forgetful, r"state 1: got shapes \[5, 3\] and \[5, 3\] for 2 and 3 rows, expected one difference"),
        (lambda: TinyZipformer(chunk_size=32), "chunk_ms: got 320, expected 640, which the export was made for"),
    ],
)
def test_an_export_that_does_not_fit_is_refused(
    tmp_path: Path, export: Callable[[], torch.nn.Module], problem: str
) -> None:
    folder = written(tmp_path, export())
    with pytest.raises(ModelError, match=rf"jit_script_chunk_16_left_20\.pt: {problem}"):
        ZipformerModel(folder, CPU, SLOTS, 320)


@pytest.mark.parametrize(
    ("right", "wrong", "problem"),
    [
        ("[zipformer]", "[other]", r"model\.toml: zipformer is missing"),
        ('tokens = "tokens.txt"', "", r"model\.toml: zipformer\.tokens is missing"),
        ("16000", "8000", r"model\.toml: sample_rate: got 8000, expected 16000"),
        ("_left_20", "_left_128", r"jit_script_chunk_16_left_128\.pt is missing"),
        (
            "jit_script_chunk_16_left_20.pt",
            "tokens.txt",
            r"tokens\.txt: got an error: .*; expected icefall's streaming ",
        ),
    ],
)
def test_a_config_that_does_not_fit_is_refused(tmp_path: Path, right: str, wrong: str, problem: str) -> None:
    assert right in TOML
    folder = written(tmp_path, TinyZipformer(), TOML.replace(right, wrong))
    with pytest.raises(ModelError, match=problem):
        ZipformerModel(folder, CPU, SLOTS, 320)


@pytest.mark.parametrize(
    ("tokens", "problem"),
    [
        (TOKENS.replace("#0 7\n#1 8", "E 7"), r"tokens\.txt: got 8 tokens, expected the model's 7"),
        (TOKENS.replace("<blk>", "a"), r"tokens\.txt: got no blank, expected <blank>, <blk> or <eps> among the tokens"),
    ],
)
def test_tokens_that_do_not_fit_are_refused(tmp_path: Path, tokens: str, problem: str) -> None:
    with pytest.raises(ModelError, match=problem):
        ZipformerModel(written(tmp_path, TinyZipformer(), tokens=tokens), CPU, SLOTS, 320)
