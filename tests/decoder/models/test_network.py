"""The streaming CTC network and its arena: a small one with random weights, against its plain mathematics."""

from __future__ import annotations

import math
import threading
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from parley.decoder.device import Device
from parley.decoder.errors import OutOfMemory
from parley.decoder.models.streaming_ctc import StreamingCtc
from tests.decoder.chunks import alone, chunk_of, noise, taken_whole, together
from tests.decoder.reference import CHUNKS_MS, DEVICES, Plain, assert_near, crowd, write_tiny

if TYPE_CHECKING:
    from collections.abc import Callable


SLOTS = 4
A_SECOND = 16_000
HUGE = 1e30  # its products with what is usual are finite

over_devices = pytest.mark.parametrize("device", DEVICES)
over_threads = pytest.mark.parametrize("threads", [1, 3])
over_chunks = pytest.mark.parametrize("chunk_ms", CHUNKS_MS)


def build(device: str, chunk_ms: int, threads: int = 1) -> StreamingCtc:
    with TemporaryDirectory() as path:
        return StreamingCtc(write_tiny(Path(path)), Device.parse(device), SLOTS, chunk_ms, threads)


shared = cache(build)


@cache
def plain() -> Plain:
    with TemporaryDirectory() as path:
        write_tiny(Path(path))
        return Plain(Path(path))


@cache
def expected(samples: int, seed: int, chunk_ms: int) -> torch.Tensor:
    """What noise(samples, seed) gives. chunk_ms 0: whole."""
    return plain().log_probs(noise(samples, seed), chunk_ms // 20)


def arena(model: StreamingCtc) -> dict[str, torch.Tensor]:
    """Its tensors, each with the slots in a dimension of their own: the first."""
    network = model._network
    return {
        "encoder": network.encoder_cache.transpose(0, 2),
        "head": network.head_cache.transpose(0, 2),
        "past": network.past,
    }


def fill(model: StreamingCtc, number: float, slots: tuple[int, ...] = tuple(range(SLOTS))) -> None:
    for tensor in arena(model).values():
        for slot in slots:
            tensor[slot] = number


def copies(model: StreamingCtc, slots: tuple[int, ...]) -> list[torch.Tensor]:
    return [tensor[slot].clone() for tensor in arena(model).values() for slot in slots]


def assert_identical(found: torch.Tensor, wanted: torch.Tensor) -> None:
    """Bit for bit; NaN is never the same."""
    assert torch.equal(found, wanted), (found - wanted).abs().max()


# The four ways.

any_length = st.integers(0, 2 * A_SECOND) | st.builds(  # or one near the edge of a chunk or a frame
    lambda chunks, frames, samples: max(0, chunks * 2_560 + frames * 160 + samples),
    st.integers(0, 16),
    st.integers(-3, 3),
    st.integers(-2, 2),
)


@over_chunks
@over_devices
@settings(max_examples=25)
@given(samples=any_length)
def test_chunk_by_chunk_is_the_plain_mathematics(device: str, chunk_ms: int, samples: int) -> None:
    """Any length: the last chunk has the frames that are left, down to none at all."""
    model = shared(device, chunk_ms)
    found = alone(model, noise(samples, samples))
    frames = math.ceil(samples // 160 / 4)
    assert len(found) == frames
    assert model.chunks(samples) == max(1, math.ceil(frames * 40 / chunk_ms))
    assert_near(found, expected(samples, samples, chunk_ms))


@over_chunks
@over_devices
@pytest.mark.parametrize("missing", [0, 1, 4 * 160])
def test_to_the_end_of_the_positions(device: str, chunk_ms: int, missing: int) -> None:
    """30 s: the table ends within the last chunk of 160 and 640 ms."""
    model = shared(device, chunk_ms)
    samples = model.longest_samples - missing
    assert_near(alone(model, noise(samples)), expected(samples, 0, chunk_ms))


@over_threads
@over_devices
@settings(max_examples=25)
@given(lengths=st.lists(any_length, min_size=1, max_size=5))
def test_whole_utterances_are_the_plain_mathematics(device: str, threads: int, lengths: list[int]) -> None:
    log_probs, frames = taken_whole(shared(device, 160, threads), [noise(samples, samples) for samples in lengths])
    assert len(log_probs) == len(frames) == len(lengths)
    for row, count, samples in zip(log_probs, frames, lengths, strict=True):
        assert_near(row[:count], expected(samples, samples, 0))


@over_devices
def test_the_longest_utterance_whole(device: str) -> None:
    model = shared(device, 160)
    samples = model.longest_samples
    (row,), (frames,) = taken_whole(model, [noise(samples)])
    assert frames == 750
    assert_near(row, expected(samples, 0, 0))


@over_threads
@over_chunks
@over_devices
@settings(max_examples=10)
@given(seed=st.integers(0, 2**32 - 1), lengths=st.lists(any_length, min_size=1, max_size=3 * SLOTS))
def test_in_a_crowd_that_comes_and_goes(
    device: str, chunk_ms: int, threads: int, seed: int, lengths: list[int]
) -> None:
    """Among strangers at other places of their utterances, in slots that others have left, nobody having wiped them."""
    model = shared(device, chunk_ms, threads)
    utterances = [noise(samples, samples) for samples in lengths]
    for samples, found in zip(lengths, crowd(model, utterances, np.random.default_rng(seed)), strict=True):
        assert_near(found, expected(samples, samples, chunk_ms))


@over_devices
@pytest.mark.parametrize("samples", [0, 1, 159])
def test_nothing_to_hear_spoils_nothing(device: str, samples: int) -> None:
    """An utterance of less than a frame: no frames, and all numbers finite, also what stays in the arena."""
    model = build(device, 160)
    strangers = [noise(A_SECOND, seed) for seed in range(2)]
    utterances = {0: strangers[0], 3: noise(samples), 1: strangers[1]}
    log_probs, frames = model.forward([chunk_of(model, slot, samples, 0) for slot, samples in utterances.items()])
    assert frames == [4, 0, 4]
    assert torch.isfinite(log_probs).all()
    assert all(torch.isfinite(tensor).all() for tensor in arena(model).values())
    for row, seed in ((0, 0), (2, 1)):
        assert_near(log_probs[row], expected(A_SECOND, seed, 160)[:4])
    log_probs, frames = taken_whole(model, [noise(samples)])
    assert frames == [0]
    assert torch.isfinite(log_probs).all()


# The arena.


@over_chunks
@over_devices
@pytest.mark.parametrize("poison", [math.nan, math.inf, HUGE, -3.0])
def test_a_slot_that_was_wiped_is_as_new(device: str, chunk_ms: int, poison: float) -> None:
    model, utterance = build(device, chunk_ms), noise(3 * A_SECOND)
    fresh = alone(model, utterance, slot=2)
    fill(model, poison)
    model.clear(2)
    assert_identical(alone(model, utterance, slot=2), fresh)


@over_chunks
@over_devices
@pytest.mark.parametrize("poison", [HUGE, -HUGE, 1.0])
def test_a_new_utterance_sees_nothing_of_the_old_one(device: str, chunk_ms: int, poison: float) -> None:
    """Even if nobody wipes the slot in between."""
    model, utterance = build(device, chunk_ms), noise(3 * A_SECOND)
    fresh = alone(model, utterance, slot=1)
    fill(model, poison)
    assert_identical(alone(model, utterance, slot=1), fresh)
    for index in range(2):  # of another utterance, which breaks off
        model.forward([chunk_of(model, 1, noise(A_SECOND, 5), index)])
    assert_identical(alone(model, utterance, slot=1), fresh)


@over_devices
def test_what_is_wiped_is_zero(device: str) -> None:
    model = build(device, 160)
    fill(model, math.nan)
    model.clear(3)
    assert not any(left.any() for left in copies(model, (3,)))


@over_devices
@pytest.mark.parametrize("poison", [math.nan, HUGE])
def test_the_other_slots_are_never_touched(device: str, poison: float) -> None:
    """Neither by a stream nor by wiping."""
    model, utterances = build(device, 160), {1: noise(A_SECOND, 1), 2: noise(5 * A_SECOND // 2, 2)}
    fill(model, poison, (0, 3))
    before = copies(model, (0, 3))
    found = together(model, utterances, np.random.default_rng(0))
    model.clear(1)
    for old, new in zip(before, copies(model, (0, 3)), strict=True):
        assert old.cpu().numpy().tobytes() == new.cpu().numpy().tobytes()
    for slot, utterance in utterances.items():
        assert_near(found[slot], expected(len(utterance), slot, 160))


@over_chunks
@over_devices
def test_memory_is_fixed_at_start(device: str, chunk_ms: int) -> None:
    model = build(device, chunk_ms)
    in_arena = [tensor for name, tensor in model._network.named_buffers() if not name.startswith("log_mel.")]
    assert model.slot_bytes * SLOTS == sum(tensor.numel() * tensor.element_size() for tensor in in_arena)
    assert all(tensor.device == torch.device(device) for tensor in in_arena)

    def places() -> dict[str, tuple[int, torch.Size]]:
        tensors = [*model._network.named_buffers(), *model._network.named_parameters()]
        return {name: (tensor.data_ptr(), tensor.shape) for name, tensor in tensors}

    before, rng = places(), np.random.default_rng(0)
    chunks = 0
    while chunks < 500:
        utterances = [noise(int(rng.integers(1, 10 * A_SECOND)), seed) for seed in range(SLOTS)]
        crowd(model, utterances, rng)
        taken_whole(model, [utterances[0]])
        model.clear(0)
        chunks += sum(model.chunks(len(utterance)) for utterance in utterances)
    assert places() == before


# Again.


@over_chunks
@over_devices
def test_a_chunk_may_be_computed_twice(device: str, chunk_ms: int) -> None:
    model = shared(device, chunk_ms)
    utterances = {slot: noise(3 * A_SECOND, slot) for slot in range(SLOTS)}
    for index in range(model.chunks(3 * A_SECOND)):
        batch = [chunk_of(model, slot, utterance, index) for slot, utterance in utterances.items()]
        first, frames = model.forward(batch)
        before = copies(model, tuple(utterances))
        second, again = model.forward(batch)
        assert_identical(second, first)
        assert again == frames
        assert all(torch.equal(old, new) for old, new in zip(before, copies(model, tuple(utterances)), strict=True))


PARTS = ("c2", "encoder.0", "encoder.1", "encoder_ln", "down", "head.0", "ln", "out")


@over_devices
@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_batch_that_broke_off_for_want_of_memory_may_come_again(
    device: str, part: str, after: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At any place: in halves then, and in another order, and what follows is right too."""
    monkeypatch.setattr(torch.jit, "script", lambda network: network)  # so that a part of it can be made to fail
    model = build(device, 160)
    utterances = {slot: noise(2 * A_SECOND, slot) for slot in range(SLOTS)}
    fails = broken(model._network.get_submodule(part), after)
    found: dict[int, list[torch.Tensor]] = {slot: [] for slot in utterances}
    for index in range(model.chunks(2 * A_SECOND)):
        batch = [chunk_of(model, slot, utterance, index) for slot, utterance in utterances.items()]
        with monkeypatch.context() as patch:
            patch.setattr(model._network.get_submodule(part), "forward", fails)
            with pytest.raises(OutOfMemory, match=r"Tried to allocate 2\.00 GiB"):
                model.forward(batch)
        for half in (batch[2:], batch[:2]):
            log_probs, frames = model.forward(half)
            for chunk, row, count in zip(half, log_probs, frames, strict=True):
                found[chunk.slot].append(row[:count])
    for slot, parts in found.items():
        assert_near(torch.cat(parts), expected(2 * A_SECOND, slot, 160))


def broken(part: torch.nn.Module, after: bool) -> Callable[..., Any]:
    """This part's forward, which finds no memory for the first thing it does or for the last."""
    forward = part.forward

    def fails(*arguments: Any) -> Any:
        if after:
            forward(*arguments)
        raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")

    return fails


@pytest.mark.parametrize("where", ["in this thread", "in the other"])
def test_no_memory_in_one_thread_of_two(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other one is through with its slots before the batch comes again."""
    monkeypatch.setattr(torch.jit, "script", lambda network: network)
    model = build("cpu", 160, threads=2)
    forward, gone, through = model._network.forward, threading.Event(), list[int]()

    def one_fails(samples: torch.Tensor, index: torch.Tensor, *others: Any) -> torch.Tensor:
        if (threading.current_thread() is threading.main_thread()) is (where == "in this thread"):
            gone.set()
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes.")
        assert gone.wait(20)
        log_probs: torch.Tensor = forward(samples, index, *others)
        through.append(len(samples))
        return log_probs

    utterances = {slot: noise(A_SECOND, slot) for slot in range(SLOTS)}
    for index in range(3):
        batch = [chunk_of(model, slot, utterance, index) for slot, utterance in utterances.items()]
        with monkeypatch.context() as patch:
            patch.setattr(model._network, "forward", one_fails)
            gone.clear()
            with pytest.raises(OutOfMemory):
                model.forward(batch)
            assert through == [2] * (index + 1)
        log_probs, _ = model.forward(batch)
        for slot, row in enumerate(log_probs):
            assert_near(row, expected(A_SECOND, slot, 160)[4 * index : 4 * index + 4])


@over_devices
def test_no_memory_for_whole_utterances(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.jit, "script", lambda network: network)
    model = build(device, 160)
    monkeypatch.setattr(model._network.down, "forward", broken(model._network.down, after=True))
    with pytest.raises(OutOfMemory):
        taken_whole(model, [noise(A_SECOND)])
