"""What the streaming CTC network must compute: its mathematics, a whole utterance at a time and as plain as can be.

`Plain` shares no code with decoder/. tests/data/en_streaming_reference.npz ties it to the weights' publisher.
"""

from __future__ import annotations

import json
from collections import deque
from typing import TYPE_CHECKING

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional

from parley.decoder.model_folder import ModelFolder
from scripts.speech import DATA, ROOT
from tests.decoder.chunks import chunk_of
from tests.speech import pcm_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from parley.decoder.models.acoustic import AcousticModel

DEVICES = ("cpu", "cuda:0") if torch.cuda.is_available() else ("cpu",)
CHUNKS_MS = (160, 320, 640)
EN_STREAMING = ROOT / "models" / "en-streaming"
TOLERANCE = 2e-3  # of log-probabilities
PUBLISHED = ("austen_2", "austen_4")  # 3.0 s and 6.1 s: the second is longer than what a chunk sees
PUBLISHED_EVERY = 3  # frames, counted back from the last

TINY = {
    "sample_rate": 16_000,
    "width": 16,
    "heads": 2,
    "encoder_blocks": 2,
    "head_blocks": 1,
    "subsampling": 4,
    "frame_ms": 40,
    "left_frames": 20,
    "max_frames": 1_500,
    "vocabulary": 7,
    "blank": 0,
}
TINY_TOKENS = "<blk>\n▁a\n▁b\nc\nd\n▁e\nf\n"
TINY_TOML = """\
name = "tiny"
kind = "streaming-ctc"
languages = ["en"]
sample_rate = 16000
description = "random weights"
license = "none"
"""


class Plain:
    """The network from a model's folder."""

    def __init__(self, folder: Path) -> None:
        self._config = json.loads((folder / "config.json").read_text())
        self._weights = {name: value.float() for name, value in load_file(folder / "model.safetensors").items()}

    def log_mel(self, samples: NDArray[np.int16]) -> Tensor:
        """(80, n // 160): frame t is centred on sample 160 t, zeros outside the utterance."""
        centred = functional.pad(torch.from_numpy(samples) / 32768.0, (200, 200)).unfold(0, 400, 160)
        power = torch.fft.rfft(centred * torch.hann_window(400)).abs().square()[: len(samples) // 160].T
        log_mel = torch.log10((self._weights["mel_filters"] @ power).clamp(min=1e-10)).clamp(min=-7.0)
        return (log_mel + 4.0) / 4.0

    @torch.no_grad()
    def log_probs(self, samples: NDArray[np.int16], chunk: int) -> Tensor:
        """(ceil(n // 160 / 4), tokens). chunk: encoder frames of 20 ms, 0 for the whole utterance."""
        config = self._config
        x = self.log_mel(samples)
        if x.size(1) == 0:
            return torch.zeros(0, config["vocabulary"])
        x = functional.gelu(functional.conv1d(x, *self._pair("enc.c1"), padding=1))
        x = functional.gelu(functional.conv1d(x, *self._pair("enc.c2"), stride=2, padding=1)).T
        x = x + self._weights["enc.pos"][: len(x)]
        visible = _visible(len(x), chunk, config["left_frames"])
        for number in range(config["encoder_blocks"]):
            x = self._block(x, f"enc.blocks.{number}", visible)
        x = functional.pad(self._norm(x, "enc.ln").T, (1, len(x) % 2))
        x = functional.gelu(functional.conv1d(x, *self._pair("down"), stride=2)).T
        visible = _visible(len(x), chunk // 2, config["left_frames"] // 2)
        for number in range(config["head_blocks"]):
            x = self._block(x, f"blocks.{number}", visible)
        return functional.linear(self._norm(x, "ln"), *self._pair("out")).log_softmax(-1)

    def _pair(self, name: str) -> tuple[Tensor, Tensor]:
        return self._weights[f"{name}.weight"], self._weights[f"{name}.bias"]

    def _norm(self, x: Tensor, name: str) -> Tensor:
        return functional.layer_norm(x, x.shape[-1:], *self._pair(name))

    def _block(self, x: Tensor, name: str, visible: Tensor) -> Tensor:
        qkv = functional.linear(self._norm(x, f"{name}.ln1"), *self._pair(f"{name}.qkv"))
        query, key, value = qkv.view(len(x), 3, self._config["heads"], -1).permute(1, 2, 0, 3)
        scores = (query @ key.transpose(1, 2)) / query.size(-1) ** 0.5
        attended = scores.masked_fill(~visible, float("-inf")).softmax(-1) @ value
        x = x + functional.linear(attended.transpose(0, 1).reshape(x.shape), *self._pair(f"{name}.o"))
        inner = functional.gelu(functional.linear(self._norm(x, f"{name}.ln2"), *self._pair(f"{name}.f1")))
        return x + functional.linear(inner, *self._pair(f"{name}.f2"))


def _visible(frames: int, chunk: int, left: int) -> Tensor:
    """(frames, frames), True where the first looks at the second: its chunk and `left` frames before that."""
    visible = torch.ones(frames, frames, dtype=torch.bool)
    if chunk:
        for frame, row in enumerate(visible):
            start = frame // chunk * chunk
            row[: max(0, start - left)] = False
            row[start + chunk :] = False
    return visible


def assert_near(found: Tensor, expected: Tensor) -> None:
    """Equal but for the order of sums; NaN is never near."""
    assert found.shape == expected.shape
    assert torch.allclose(found.cpu(), expected, atol=TOLERANCE, rtol=0), (found.cpu() - expected).abs().max()


def published(recording: str, chunk: int) -> Tensor:
    """Every PUBLISHED_EVERY-th frame's log-probabilities as the publisher's own program gives them."""
    with np.load(DATA / "en_streaming_reference.npz") as reference:
        return torch.from_numpy(reference[f"{recording}_chunk{chunk}"])


def every(log_probs: Tensor) -> Tensor:
    """The frames of these log_probs that `published` has."""
    return log_probs.cpu()[(len(log_probs) - 1) % PUBLISHED_EVERY :: PUBLISHED_EVERY]


def recording(name: str) -> NDArray[np.int16]:
    return np.array(np.frombuffer(pcm_of(f"{name}.flac"), np.int16))  # a copy: torch wants writable arrays


def tiny_weights() -> dict[str, Tensor]:
    """Random, and such that every part of the network tells in what comes out."""
    torch.manual_seed(7)
    width = TINY["width"]
    shapes = {"enc.c1": (width, 80, 3), "enc.c2": (width, width, 3), "down": (width, width, 3), "out": (7, width)}
    blocks = [f"enc.blocks.{number}" for number in range(TINY["encoder_blocks"])] + ["blocks.0"]
    for block in blocks:
        shapes |= {f"{block}.qkv": (3 * width, width), f"{block}.o": (width, width)}
        shapes |= {f"{block}.f1": (4 * width, width), f"{block}.f2": (width, 4 * width)}
    weights = {}
    for name, shape in shapes.items():
        weights[f"{name}.weight"] = torch.randn(shape) * 2.0 / float(np.prod(shape[1:])) ** 0.5
        weights[f"{name}.bias"] = torch.randn(shape[0]) / 5
    for name in ("enc.ln", "ln", *(f"{block}.{norm}" for block in blocks for norm in ("ln1", "ln2"))):
        weights[f"{name}.weight"] = 1 + torch.randn(width) / 5
        weights[f"{name}.bias"] = torch.randn(width) / 5
    weights["enc.pos"] = torch.randn(TINY["max_frames"], width)
    near = (torch.arange(201)[None] - 2.5 * torch.arange(80)[:, None]).abs() < 4
    weights["mel_filters"] = torch.rand(80, 201) * near / 10
    return weights


def write_tiny(path: Path) -> ModelFolder:
    """The folder of a network of the same shape, small and with random weights."""
    (path / "config.json").write_text(json.dumps(TINY))
    (path / "model.toml").write_text(TINY_TOML)
    (path / "tokens.txt").write_text(TINY_TOKENS, encoding="utf8")
    save_file(tiny_weights(), path / "model.safetensors")
    return ModelFolder.read(path)


def crowd(model: AcousticModel, utterances: Sequence[NDArray[np.int16]], rng: np.random.Generator) -> list[Tensor]:
    """The log_probs (frames, tokens) of utterances as a busy device computes them: in batches of a size, a make-up and
    an order that chance gives, each in a slot that another may have left a moment ago."""
    waiting, free = deque(enumerate(utterances)), list(range(model.slots))
    parts: list[list[Tensor]] = [[] for _ in utterances]
    under_way: dict[int, tuple[int, int]] = {}  # by slot: the utterance, its next chunk
    while waiting or under_way:
        while waiting and free and rng.random() < 0.3:
            under_way[free.pop(rng.integers(len(free)))] = waiting.popleft()[0], 0
        slots = [slot for slot in rng.permutation(list(under_way)).tolist() if rng.random() < 0.7]
        if not slots:
            continue
        chunks = [chunk_of(model, slot, utterances[under_way[slot][0]], under_way[slot][1]) for slot in slots]
        log_probs, frames = model.forward(chunks)
        for slot, row, count in zip(slots, log_probs, frames, strict=True):
            number, index = under_way.pop(slot)
            parts[number].append(row[:count].clone())
            if index + 1 < model.chunks(len(utterances[number])):
                under_way[slot] = number, index + 1
            else:
                free.append(slot)
    return [torch.cat(rows) for rows in parts]
