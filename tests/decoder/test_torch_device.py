"""Devices by name, and torch's ways to say that memory is short."""

from __future__ import annotations

import re

import pytest
import torch

from parley.decoder import torch_device as module
from parley.decoder.device import Device
from parley.decoder.errors import ModelError, OutOfMemory
from parley.decoder.torch_device import memory_errors, torch_device
from tests.decoder.reference import DEVICES


@pytest.mark.parametrize("name", DEVICES)
def test_what_is_here_can_be_used(name: str) -> None:
    assert torch.zeros(1, device=torch_device(Device.parse(name))).device == torch.device(name)


@pytest.mark.parametrize(("name", "cards"), [("cuda:0", 1), ("cuda:1", 2), ("cuda:7", 8)])
def test_a_card_that_is_there(monkeypatch: pytest.MonkeyPatch, name: str, cards: int) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: cards)
    touched = list[torch.device]()
    monkeypatch.setattr(module, "_touch", touched.append)
    assert torch_device(Device.parse(name)) == torch.device(name)
    assert touched == [torch.device(name)]


@pytest.mark.parametrize(
    "reason",
    [
        "CUDA error: all CUDA-capable devices are busy or unavailable",  # another process has it for itself
        "CUDA error: no kernel image is available for execution on the device",
        "CUDA error: out of memory",
        "The NVIDIA driver on your system is too old (found version 10020).",
    ],
)
def test_a_card_that_cannot_be_used(monkeypatch: pytest.MonkeyPatch, reason: str) -> None:
    def touch(_: torch.device) -> None:
        raise RuntimeError(f"{reason}\nCUDA kernel errors might be asynchronously reported at some other API call")

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(module, "_touch", touch)
    with pytest.raises(ModelError, match=rf"^cuda:0: torch \S+ cannot use it: {re.escape(reason)}$"):
        torch_device(Device.parse("cuda:0"))


@pytest.mark.parametrize("name", DEVICES)
def test_what_is_here_answers(name: str) -> None:
    module._touch(torch.device(name))


@pytest.mark.parametrize(("name", "cards"), [("cuda:0", 0), ("cuda:1", 1), ("cuda:12", 8), ("cuda:999", 8)])
def test_a_card_that_is_not_there(monkeypatch: pytest.MonkeyPatch, name: str, cards: int) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: cards)
    with pytest.raises(ModelError, match=rf"{name}: got {cards} CUDA cards .* expected "):
        torch_device(Device.parse(name))


ALLOCATOR = "CUDA out of memory. Tried to allocate 20.00 MiB"  # goes on with figures, others in every version
ON_LINUX = "DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes. Error code 12"
ON_WINDOWS = "DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes."


@pytest.mark.parametrize(
    "text",
    [
        ALLOCATOR,
        f"The following operation failed in the TorchScript interpreter.\nTraceback (...)\nRuntimeError: {ALLOCATOR}",
        "CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported at some other API call",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
        "cuFFT error: CUFFT_ALLOC_FAILED",
        "FIND was unable to find an engine to execute this computation",
        f"[enforce fail at alloc_cpu.cpp:73] . {ON_LINUX} (Cannot allocate memory)",
        f"[enforce fail at alloc_cpu.cpp:127] err == 0. {ON_LINUX} (Cannot allocate memory)",
        f"[enforce fail at alloc_cpu.cpp:117] data. {ON_WINDOWS}",
    ],
)
def test_memory_is_short(text: str) -> None:
    error = RuntimeError(text)
    with pytest.raises(OutOfMemory) as caught, memory_errors():
        raise error
    assert str(caught.value) == text
    assert caught.value.__cause__ is error


def test_memory_is_short_for_python_itself() -> None:
    with pytest.raises(OutOfMemory), memory_errors():
        raise MemoryError


class Wide(torch.nn.Module):
    def forward(self, size: int, device: torch.device) -> torch.Tensor:
        return torch.empty([size], dtype=torch.uint8, device=device)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("scripted", [False, True])
@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")
def test_memory_is_really_short(device: str, scripted: bool) -> None:
    make = torch.jit.script(Wide()) if scripted else Wide()
    with pytest.raises(OutOfMemory, match="allocate"), memory_errors():
        make(2**46, torch.device(device))


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("CUDA error: device-side assert triggered"),
        RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm`"),
        RuntimeError("mat1 and mat2 shapes cannot be multiplied (3x4 and 5x6)"),
        ValueError("out of memory"),
        OutOfMemory("said already"),
    ],
    ids=str,
)
def test_any_other_error_stays_what_it_is(error: Exception) -> None:
    with pytest.raises(type(error)) as caught, memory_errors():
        raise error
    assert caught.value is error
