"""A device as an operator names it, parsed once: a value, not a string that is read again. Asks no driver."""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass


class DeviceKind(enum.Enum):
    CPU = "cpu"
    CUDA = "cuda"


@dataclass(frozen=True, slots=True)
class Device:
    """A CUDA card by its number, the whole CPU (index None), or one of the shares that the CPU is in.

    `str` gives its name: what the operator wrote, what logs and metrics show, and, of a place, what torch calls it.
    """

    kind: DeviceKind
    index: int | None = None

    @classmethod
    def parse(cls, text: str) -> Device:
        """ "cpu", "cpu:N" or "cuda:N". Raises ValueError."""
        found = re.fullmatch(r"(cpu)|(cpu|cuda):(0|[1-9][0-9]{0,3})", text)
        if found is None:
            raise ValueError(f'got {text!r}, expected "cpu", "cpu:N" or "cuda:N", with N from 0 to 9999')
        whole, kind, index = found.groups()
        return cls(DeviceKind.CPU) if whole else cls(DeviceKind(kind), int(index))

    def __str__(self) -> str:
        return self.kind.value if self.index is None else f"{self.kind.value}:{self.index}"

    @property
    def on_cpu(self) -> bool:
        return self.kind is DeviceKind.CPU

    @property
    def place(self) -> Device:
        """Where its models are: the CPU's shares are all on it."""
        return CPU if self.on_cpu else self


CPU = Device(DeviceKind.CPU)
