"""The streaming CTC network with its published weights: the same log-probabilities whichever way the audio comes, and
folders that do not fit. What the network remembers is tested in test_model.py."""

from __future__ import annotations

import json
import shutil
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from parley.decoder.device import CPU, Device
from parley.decoder.errors import ModelError
from parley.decoder.model_folder import ModelFolder
from parley.decoder.models.registry import load_acoustic_model
from parley.decoder.models.streaming_ctc import StreamingCtc
from tests.decoder.chunks import alone, noise, taken_whole
from tests.decoder.reference import (
    CHUNKS_MS,
    DEVICES,
    EN_STREAMING,
    PUBLISHED,
    Plain,
    assert_near,
    crowd,
    every,
    published,
    recording,
    tiny_weights,
    write_tiny,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SLOTS = 4
LEFT_FRAMES, WIDTH, ENCODER_BLOCKS, HEAD_BLOCKS = 200, 384, 4, 2  # of the published network

over_devices = pytest.mark.parametrize("device", DEVICES)
over_chunks = pytest.mark.parametrize("chunk_ms", CHUNKS_MS)
over_recordings = pytest.mark.parametrize("name", PUBLISHED)


@cache
def network(device: str, chunk_ms: int) -> StreamingCtc:
    return StreamingCtc(ModelFolder.read(EN_STREAMING), Device.parse(device), SLOTS, chunk_ms)


def assert_published(found: torch.Tensor, name: str, chunk_ms: int) -> None:
    """chunk_ms 0: the whole utterance at once."""
    assert len(found) == -(-(len(recording(name)) // 160) // 4)
    assert_near(every(found), published(name, chunk_ms // 20))


@pytest.mark.parametrize("chunk_ms", [0, *CHUNKS_MS])
def test_the_plain_mathematics_is_the_publishers(chunk_ms: int) -> None:
    """All other tests lean on it."""
    name = PUBLISHED[1]
    assert_published(Plain(EN_STREAMING).log_probs(recording(name), chunk_ms // 20), name, chunk_ms)


# The four ways.


@over_devices
def test_whole_utterances(device: str) -> None:
    model = network(device, 320)
    for name in PUBLISHED:
        (row,), (count,) = taken_whole(model, [recording(name)])
        assert_published(row[:count], name, 0)


@over_devices
def test_whole_utterances_in_a_padded_batch(device: str) -> None:
    batch = [noise(100), recording(PUBLISHED[0]), noise(7_000), recording(PUBLISHED[1]), noise(130_000)]
    log_probs, frames = taken_whole(network(device, 320), batch)
    for at, name in ((1, PUBLISHED[0]), (3, PUBLISHED[1])):
        assert_published(log_probs[at, : frames[at]], name, 0)


@over_recordings
@over_chunks
@over_devices
def test_chunk_by_chunk_alone(device: str, chunk_ms: int, name: str) -> None:
    assert_published(alone(network(device, chunk_ms), recording(name)), name, chunk_ms)


@over_chunks
@over_devices
def test_chunk_by_chunk_among_strangers(device: str, chunk_ms: int) -> None:
    rng = np.random.default_rng(chunk_ms)
    strangers = [noise(int(rng.integers(2_000, 40_000)), seed) for seed in range(4)]
    utterances = [*strangers[:2], *map(recording, PUBLISHED), *strangers[2:]]
    found = crowd(network(device, chunk_ms), utterances, rng)
    for at, name in enumerate(PUBLISHED, 2):
        assert_published(found[at], name, chunk_ms)


@over_chunks
@over_devices
def test_chunk_by_chunk_where_another_stream_was(device: str, chunk_ms: int) -> None:
    model = network(device, chunk_ms)
    for wiped in (False, True):
        alone(model, recording(PUBLISHED[1]), slot=2)  # the longer one: its rings are full
        if wiped:
            model.clear(2)
        assert_published(alone(model, recording(PUBLISHED[0]), slot=2), PUBLISHED[0], chunk_ms)


# What it says of itself.


@over_chunks
def test_what_it_says_of_itself(chunk_ms: int) -> None:
    model = load_acoustic_model(ModelFolder.read(EN_STREAMING), CPU, SLOTS, chunk_ms)
    assert isinstance(model, StreamingCtc)
    assert (model.info.name, model.slots, model.blank, model.frame_ms) == ("en-streaming", SLOTS, 0, 40.0)
    assert len(model.vocabulary.pieces) == 257
    assert model.longest_samples == 30 * 16_000
    # A chunk hears 32.5 ms before its beginning, half a window behind its end.
    assert (model.shape.step, model.shape.before, model.shape.after) == (16 * chunk_ms, 520, 200)
    encoder, head = LEFT_FRAMES + chunk_ms // 20, LEFT_FRAMES // 2 + chunk_ms // 40
    keys_and_values = 2 * (ENCODER_BLOCKS * encoder + HEAD_BLOCKS * head) * WIDTH
    assert model.slot_bytes == 4 * (keys_and_values + 2 * WIDTH)


def test_a_card_computes_in_float32_as_a_processor_does() -> None:
    torch.backends.cudnn.allow_tf32 = True  # torch's default; log-probabilities would be off by 5e-3
    StreamingCtc(ModelFolder.read(EN_STREAMING), CPU, SLOTS, 320)
    assert not torch.backends.cudnn.allow_tf32
    assert not torch.backends.cuda.matmul.allow_tf32


@pytest.mark.parametrize("chunk_ms", [0, 100, 200, 1280])
def test_a_chunk_of_another_length_is_refused(chunk_ms: int) -> None:
    with pytest.raises(ModelError, match=f"chunk_ms: got {chunk_ms}, expected one of 160, 320, 640"):
        StreamingCtc(ModelFolder.read(EN_STREAMING), CPU, SLOTS, chunk_ms)


# Folders that do not fit.


@pytest.fixture(scope="module")
def tiny_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tiny")
    write_tiny(path)
    return path


@pytest.fixture
def folder(tiny_path: Path, tmp_path: Path) -> Path:
    """A copy that a test may break."""
    return shutil.copytree(tiny_path, tmp_path / "copy")


def refused(folder: Path, problem: str) -> None:
    with pytest.raises(ModelError, match=problem):
        StreamingCtc(ModelFolder.read(folder), CPU, SLOTS, 160)


def test_the_folder_that_the_others_break_is_sound(folder: Path) -> None:
    assert StreamingCtc(ModelFolder.read(folder), CPU, SLOTS, 160).info.name == "tiny"


@pytest.mark.parametrize("name", ["config.json", "tokens.txt", "model.safetensors", "model.toml"])
def test_a_missing_file(folder: Path, name: str) -> None:
    (folder / name).unlink()
    missing = f"no {name} there" if name == "model.toml" else f"{name} is missing"
    refused(folder, missing)


def test_a_rate_that_it_does_not_hear(folder: Path) -> None:
    toml = folder / "model.toml"
    toml.write_text(toml.read_text().replace("16000", "8000"))
    refused(folder, r"model\.toml: sample_rate: got 8000, expected 16000")


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("sample_rate", 8_000, "sample_rate: got 8000, expected 16000"),
        ("subsampling", 8, "subsampling: got 8, expected 4"),
        ("frame_ms", None, "frame_ms: got None, expected 40"),
        ("width", 0, "width: got 0, expected a whole number from 1 up"),
        ("width", 16.0, "width: got 16.0, expected a whole number from 1 up"),
        ("heads", True, "heads: got True, expected a whole number from 1 up"),
        ("heads", 3, "got width 16 for 3 heads, .* expected heads to divide width"),
        ("encoder_blocks", "2", "encoder_blocks: got '2', expected a whole number from 1 up"),
        ("head_blocks", -1, "head_blocks: got -1, expected a whole number from 1 up"),
        ("left_frames", -2, "left_frames: got -2, expected a whole number from 0 up"),
        ("left_frames", 21, "got .* left_frames 21, .* expected .* left_frames even"),
        ("max_frames", None, "max_frames: got None, expected a whole number from 1 up"),
        ("vocabulary", 0, "vocabulary: got 0, expected a whole number from 1 up"),
        ("blank", 7, "got .* blank 7 of 7; expected .* blank inside"),
        ("blank", -1, "blank: got -1, expected a whole number from 0 up"),
    ],
)
def test_a_config_that_does_not_fit(folder: Path, name: str, value: object, problem: str) -> None:
    path = folder / "config.json"
    config = json.loads(path.read_text()) | {name: value}
    if value is None:
        del config[name]
    path.write_text(json.dumps(config))
    refused(folder, rf"config\.json: {problem}")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "not a readable JSON file"),
        (b'{"width": 16', "not a readable JSON file"),
        (b"\xff\xfe", "not a readable JSON file"),
        (b"[16]", "got list, expected a JSON object"),
        (b"null", "got NoneType, expected a JSON object"),
    ],
)
def test_a_config_that_is_none(folder: Path, content: bytes, problem: str) -> None:
    (folder / "config.json").write_bytes(content)
    refused(folder, rf"config\.json: {problem}")


@pytest.mark.parametrize(("tokens", "count"), [("<blk>\n▁a\n", 2), ("\n".join("<abcdefg"), 8)])
def test_tokens_of_another_model(folder: Path, tokens: str, count: int) -> None:
    (folder / "tokens.txt").write_text(tokens, encoding="utf8")
    refused(folder, rf"tokens\.txt: got {count} tokens, expected config\.json's 7")


def without(name: str) -> Callable[[dict[str, Any]], None]:
    return lambda weights: weights.pop(name)


def with_value(name: str, value: torch.Tensor) -> Callable[[dict[str, Any]], None]:
    return lambda weights: weights.update({name: value})


def with_one(name: str, number: float) -> Callable[[dict[str, Any]], None]:
    return lambda weights: weights[name].view(-1)[-1:].fill_(number)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (without("enc.pos"), r"enc\.pos is missing, expected shape \(1500, 16\)"),
        (without("mel_filters"), r"mel_filters is missing, expected shape \(80, 201\)"),
        (without("blocks.0.qkv.bias"), r"blocks\.0\.qkv\.bias is missing, expected shape \(48,\)"),
        (with_value("blocks.1.o.bias", torch.zeros(16)), r"blocks\.1\.o\.bias is not of this network"),
        (with_value("past", torch.zeros(4, 2, 16)), "past is not of this network"),
        (with_value("encoder_cache", torch.zeros(1)), "encoder_cache is not of this network"),
        (with_value("out.bias", torch.zeros(8)), r"out\.bias: got shape \(8,\), expected \(7,\)"),
        (with_value("down.weight", torch.zeros(16, 16)), r"down\.weight: got shape \(16, 16\), expected \(16, 16, 3\)"),
        (with_value("mel_filters", torch.zeros(80, 200)), r"mel_filters: got shape \(80, 200\), expected \(80, 201\)"),
        (with_value("mel_filters", torch.zeros(201, 80)), r"mel_filters: got shape \(201, 80\), expected \(80, 201\)"),
        (with_one("enc.blocks.1.f2.weight", float("nan")), r"enc\.blocks\.1\.f2\.weight holds numbers .* not finite"),
        (with_one("enc.c1.bias", float("-inf")), r"enc\.c1\.bias holds numbers that are not finite"),
        (dict.clear, r"blocks\.0\.f1\.bias is missing, .*; .*; .*; and \d+ more"),
    ],
)
def test_weights_of_another_network(folder: Path, change: Callable[[dict[str, Any]], None], problem: str) -> None:
    weights = tiny_weights()
    change(weights)
    save_file(weights, folder / "model.safetensors")
    refused(folder, rf"model\.safetensors: {problem}")


def test_weights_may_be_of_half_precision(folder: Path) -> None:
    path = folder / "model.safetensors"
    save_file({name: value.half() for name, value in load_file(path).items()}, path)
    model = StreamingCtc(ModelFolder.read(folder), CPU, SLOTS, 160)
    log_probs, (count,) = taken_whole(model, [noise(16_000)])
    assert log_probs.dtype is torch.float32
    expected = Plain(folder).log_probs(noise(16_000), 0)
    assert_near(log_probs[0, :count], expected)


class Told:
    """An object that, unpickled, would tell."""

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return pytest.fail, ("a pickle was loaded",)


def test_no_pickle_is_loaded(folder: Path) -> None:
    torch.save(Told(), folder / "model.safetensors")
    refused(folder, r"model\.safetensors: not a readable safetensors file")
    (folder / "model.safetensors").write_bytes(b"\x80\x04" + bytes(100))
    refused(folder, r"model\.safetensors: not a readable safetensors file")


@pytest.mark.parametrize("kept", [0, 7, 100, -1])
def test_weights_that_are_cut_off(folder: Path, kept: int) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:kept])
    refused(folder, r"model\.safetensors: not a readable safetensors file")
