"""What an operator promises callers, as values read from the command line. Knows units; measures nothing."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

_NUMBER = re.compile(r"(\d+(?:\.\d+)?|\.\d+)\s*([A-Za-z]+)", re.ASCII)
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_BYTES = {"B": 1, **{f"{prefix}iB": 1 << 10 * power for power, prefix in enumerate("KMGT", start=1)}}


@dataclass(frozen=True, slots=True)
class Duration:
    """A time above 0."""

    seconds: float

    def __post_init__(self) -> None:
        if not 0 < self.seconds < math.inf:
            raise ValueError(f"got {self.seconds:g} s, expected a time above 0")

    @classmethod
    def parse(cls, text: str) -> Duration:
        """ "100ms", "2s", "10m" or "1h"; ValueError for anything else."""
        number, unit = _number(text, _SECONDS, "100ms, 2s, 10m or 1h")
        return cls(number * unit)

    def __str__(self) -> str:
        if self.seconds < 1:
            return f"{self.seconds * 1000:g} ms"
        return f"{self.seconds:g} s"


@dataclass(frozen=True, slots=True)
class Size:
    """Bytes, above 0."""

    bytes: int

    def __post_init__(self) -> None:
        if self.bytes < 1:
            raise ValueError(f"got {self.bytes} bytes, expected a size above 0")

    @classmethod
    def parse(cls, text: str) -> Size:
        """ "4GiB", "900MiB", "65536B"; ValueError for anything else."""
        number, unit = _number(text, _BYTES, "4GiB, 900MiB or 65536B")
        if math.isinf(number):
            raise ValueError(f"got {text!r}, expected a size that a machine may have")
        return cls(int(number * unit))

    def __str__(self) -> str:
        unit, size = next(((unit, size) for unit, size in reversed(_BYTES.items()) if self.bytes >= size), ("B", 1))
        return f"{self.bytes / size:.4g} {unit}"


@dataclass(frozen=True, slots=True)
class FileLimit:
    """A recording of this length is back within that time while every decoder is busy with one like it."""

    length: Duration
    within: Duration

    @classmethod
    def parse(cls, text: str) -> FileLimit:
        """ "30s:2s"; ValueError for anything else."""
        length, colon, within = text.partition(":")
        if not colon:
            raise ValueError(f"got {text!r}, expected LENGTH:TIME such as 30s:2s")
        return cls(Duration.parse(length), Duration.parse(within))

    def __str__(self) -> str:
        return f"a file of {self.length} back within {self.within}"


@dataclass(frozen=True, slots=True)
class Slo:
    """What has to hold, each as the 99th percentile; None: nothing is promised of it."""

    final: Duration | None = None  # from a call's last packet to its last final result
    partial: Duration | None = None  # from sending audio to an interim result that reaches there
    file: FileLimit | None = None
    memory: Size | None = None  # of the node's process, at most

    def __post_init__(self) -> None:
        if not (self.calls or self.file):
            raise ValueError("got nothing that has to hold, expected a limit for finals, interim results or files")

    @property
    def calls(self) -> bool:
        """Whether calls have to be played to judge it."""
        return bool(self.final or self.partial)

    @property
    def tightest_call_s(self) -> float:
        return min((limit.seconds for limit in (self.final, self.partial) if limit), default=math.inf)

    def __str__(self) -> str:
        parts = [
            f"the final within {self.final} of a call's last packet" if self.final else "",
            f"interim results within {self.partial} of their audio" if self.partial else "",
            f"{self.file} with every decoder busy" if self.file else "",
            f"at most {self.memory} of memory" if self.memory else "",
        ]
        return ", ".join(part for part in parts if part)


def _number(text: str, units: dict[str, float] | dict[str, int], expected: str) -> tuple[float, float]:
    found = _NUMBER.fullmatch(text.strip())
    if not found or found[2] not in units:
        raise ValueError(f"got {text!r}, expected such as {expected}")
    return float(found[1]), units[found[2]]
