"""A device as torch names it, and its errors as ours. Knows no model."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import torch

from parley.decoder.device_errors import is_out_of_memory
from parley.decoder.errors import ModelError, OutOfMemory

if TYPE_CHECKING:
    from collections.abc import Iterator

    from parley.decoder.device import Device


def torch_device(place: Device) -> torch.device:
    """The CPU or a card, if this torch can use it. Raises ModelError."""
    device = torch.device(str(place))
    if not place.on_cpu:
        cards, index = torch.cuda.device_count(), place.index or 0  # torch's own wraps round at 128
        if index >= cards:
            found = f"got {cards} CUDA cards that this torch ({torch.__version__}) sees"
            raise ModelError(f"{place}: {found}, expected {index + 1} or more")
        try:
            _touch(device)
        except RuntimeError as error:  # too old a driver, too new a card, one that another process has for itself
            raise ModelError(
                f"{place}: torch {torch.__version__} cannot use it: {str(error).splitlines()[0]}"
            ) from error
    return device


def _touch(device: torch.device) -> None:
    """Has the device compute something, and waits for it."""
    torch.ones(1, device=device).add(1).tolist()


@contextlib.contextmanager
def running() -> Iterator[None]:
    """Round every call of a TorchScript module. Raises OutOfMemory."""
    # Unoptimized: the optimizer compiles anew for shapes it has not met, for seconds, in the middle of calls.
    with torch.no_grad(), memory_errors(), torch.jit.optimized_execution(False):  # type: ignore[attr-defined]
        yield


@contextlib.contextmanager
def memory_errors() -> Iterator[None]:
    """Turns torch's ways to say that memory is short into OutOfMemory."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if is_out_of_memory(error):
            raise OutOfMemory(str(error)) from error
        raise
