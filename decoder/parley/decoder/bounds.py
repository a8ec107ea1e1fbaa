"""What a field of a dataclass may be and what it means: written at the field, and told by it. Knows no field.

A configuration is written once this way: who derives settings or documents from it reads the fields' metadata.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterator

T = TypeVar("T")


class Bounds(Protocol):
    """What values a field may have; `str` says so."""

    def __contains__(self, value: object) -> bool: ...


@dataclass(frozen=True, slots=True)
class Range:
    """Numbers. zero: what 0 says, where it is allowed beside them. said: in place of the text made of these."""

    low: float
    high: float
    unit: str = ""
    zero: str = ""
    said: str = ""

    def __contains__(self, value: object) -> bool:
        if not isinstance(value, (int, float)):
            return False
        return self.low <= value <= self.high or (bool(self.zero) and value == 0)

    def __str__(self) -> str:
        unit, zero = self.unit and f" {self.unit}", self.zero and f"0 ({self.zero}) or "
        return self.said or f"{zero}{self.low:.10g} to {self.high:.10g}{unit}"


@dataclass(frozen=True, slots=True)
class Choices:
    values: tuple[object, ...]

    def __contains__(self, value: object) -> bool:
        return value in self.values

    def __str__(self) -> str:
        return f"one of {', '.join(map(str, self.values))}"


@dataclass(frozen=True, slots=True)
class Fault:
    """A field's value that may not be."""

    field: str
    found: object
    expected: str

    def __str__(self) -> str:
        return f"{self.field}: {self.problem}"

    @property
    def problem(self) -> str:
        return f"got {self.found!r}, expected {self.expected}"


def described(default: T, description: str, bounds: Bounds | None = None) -> T:
    """A dataclass's field. None as default: it may be None, whatever its bounds."""
    made: T = field(default=default, metadata={"description": description, "bounds": bounds})
    return made


def out_of_bounds(values: object) -> Iterator[Fault]:
    """Every fault that a dataclass's fields tell of themselves."""
    for one in fields(values):  # type: ignore[arg-type]  # an instance of any dataclass
        bounds: Bounds | None = one.metadata.get("bounds")
        found = getattr(values, one.name)
        if bounds is not None and found not in bounds and not (found is None and one.default is None):
            yield Fault(one.name, found, str(bounds))
