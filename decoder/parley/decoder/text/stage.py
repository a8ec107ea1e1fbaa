"""What happens to a result after it is decoded: the shape of a stage, and what it says of itself. Knows no thread and
no stream: engine/staging.py runs it.

A stage is made once a node. It is called from one thread at a time, with results of many streams together, each
stream's in order; never under a device's lock, and never where audio is taken.
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol, TypeAlias

from parley.decoder.values import Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from parley.decoder.values import Partial, StreamOptions

Result: TypeAlias = "Final | Partial"


class Sees(enum.Flag):
    """What a stage is shown. Without ALTERNATIVES a final has its best hypothesis only, without LATTICES no lattice:
    what it is not shown goes round it unchanged."""

    FINALS = enum.auto()
    INTERIMS = enum.auto()
    ALTERNATIVES = enum.auto()
    LATTICES = enum.auto()


EVERYTHING = ~Sees(0)


class OnFault(enum.Enum):
    """What becomes of a result whose stage fails or is late: it goes on as it was, and a final says so, or it is never
    sent. Who withholds sees everything: what goes round a stage cannot be withheld."""

    PASS = "pass"
    WITHHOLD = "withhold"


@dataclass(frozen=True, slots=True)
class Traits:
    """What a stage says of itself. needs_audio: of finals. deadline_s: that a result waits for it, from when it comes
    to the stage on; a stage without one must always return."""

    sees: Sees
    on_fault: OnFault
    needs_audio: bool = False
    deadline_s: float = math.inf


@dataclass(frozen=True, slots=True, eq=False)
class Context:
    """What a stage gets beside a result. language: of the request, "en-US". state: the stage's own, of the result's
    stream. audio: (n,) int16 at 16 kHz from the result's start to its end, if the stage needs it."""

    language: str
    state: object = None
    audio: NDArray[np.int16] | None = None


class Stage(Protocol):
    """name: for logs, metrics, and finals that have gone past it."""

    name: str
    traits: Traits

    def wanted(self, options: StreamOptions) -> bool:
        """Whether a request's results are to go through it."""
        ...

    def begin(self) -> object:
        """What it keeps of a stream, for a stream that begins."""
        ...

    def apply(self, results: Sequence[Result], contexts: Sequence[Context]) -> Sequence[Result]:
        """Each result as it is to go on: as many, in the same order, a final with one hypothesis or more."""
        ...


def shown(result: Result, sees: Sees) -> Result:
    """What a stage is shown of it."""
    if isinstance(result, Final):
        if Sees.ALTERNATIVES not in sees:
            result = replace(result, hypotheses=result.hypotheses[:1])
        if Sees.LATTICES not in sees:
            result = replace(result, lattice=None)
    return result


def completed(found: Result, result: Result, sees: Sees) -> Result:
    """What a stage has made of a result, with what it was not shown. Raises ValueError if it is another's, or has no
    words."""
    if _place(found) != _place(result):
        raise ValueError(f"got {_place(found)}, expected {_place(result)}")
    if isinstance(found, Final) and isinstance(result, Final):
        if not found.hypotheses:
            raise ValueError("got no hypothesis, expected one or more")
        if Sees.ALTERNATIVES not in sees:
            found = replace(found, hypotheses=(found.hypotheses[0], *result.hypotheses[1:]))
        if Sees.LATTICES not in sees:
            found = replace(found, lattice=result.lattice)
    return found


def _place(result: Result) -> str:
    return (
        f"a {type(result).__name__} of channel {result.channel}, segment {result.segment}, "
        f"{result.start_ms} to {result.end_ms} ms"
    )
