"""What can go wrong in decoding, each error saying what it found and what it expected.

They name a request's fields as the decoder calls them (see values); each wire of a server has a table from those to
its own names, and asks an error for its text in them. Anything else that escapes the decoder is a bug.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Field(str):
    """A request's field in an error's text, such as `format.sample_rate`: the part that a wire calls otherwise."""

    __slots__ = ()


class ParleyError(Exception):
    """Base of every error the decoder raises on purpose. Its text is fit for the caller's eyes."""

    def __init__(self, *text: str) -> None:
        """text: the parts of one; those that are a Field are named by who tells it."""
        super().__init__("".join(text))
        self.text = text

    def told(self, name: Callable[[str], str]) -> str:
        """The text with every field called what `name` makes of it."""
        return "".join(name(part) if isinstance(part, Field) else part for part in self.text)


class InvalidOption(ParleyError):
    """A request's option is out of range, or not to be had here."""

    def __init__(self, field: str, found: object, expected: str) -> None:
        super().__init__(Field(field), f": got {found}, expected {expected}")
        self.field, self.found, self.expected = field, found, expected


class UnknownModel(ParleyError):
    """No such model or language here. `field` is `model` or `language`."""

    def __init__(self, field: str, found: str, known: tuple[str, ...]) -> None:
        super().__init__(Field(field), f": got {found!r}, this node has {', '.join(known)}")
        self.field = field


class BadAudio(ParleyError):
    """The bytes are not the audio they were said to be. `offset`: where in the request's audio bytes."""

    def __init__(self, problem: str | tuple[str, ...], offset: int) -> None:
        parts = (problem,) if isinstance(problem, str) else problem
        super().__init__(f"audio at byte {offset}: ", *parts)
        self.offset = offset


class AudioTooLong(ParleyError):
    """More audio than a request may have."""

    def __init__(self, limit_s: float) -> None:
        super().__init__(f"audio is longer than the limit of {limit_s:g} s a request")


class PoolExhausted(ParleyError):
    """No decoder came free in time."""

    def __init__(self, total: int, waiting: int, waited_s: float) -> None:
        super().__init__(
            f"all {total} decoders are lent and {waiting} requests wait; waited {waited_s:.1f} s: try again later"
        )
        self.total = total
        self.waiting = waiting


class ModelError(ParleyError):
    """A model's folder is incomplete or does not fit: refused at start."""


class DeviceError(ParleyError):
    """The device has stopped, has no memory for an utterance, or gave no result for it."""


class DeviceLost(DeviceError):
    """The device works no more, and will not before the process starts anew. Why stands in the log."""

    def __init__(self, device: str) -> None:
        super().__init__(f"{device} is lost, with all that it was at: call again")


class Cancelled(ParleyError):
    """The caller gave up: nobody waits for this."""

    def __init__(self) -> None:
        super().__init__("cancelled by the caller")


class OutOfMemory(Exception):
    """The device has no memory for this batch; a smaller one may fit. Never leaves the device's thread."""
