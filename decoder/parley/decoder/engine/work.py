"""What a device is given to do, and what comes of it. Knows no queue, no thread and no model."""

from __future__ import annotations

import enum
import math
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    from parley.decoder.models.acoustic import Chunk
    from parley.decoder.search.ctc import Wishes
    from parley.decoder.values import Passes, Transcript


class Work(enum.IntEnum):
    """Kinds of work, by right: a lower number goes first. CHUNK and CATCH_UP are chunks, the others utterances."""

    CHUNK = 0  # the next audio of a live call
    FINAL = 1  # an utterance of a live call
    CATCH_UP = 2  # the next audio of a stream sent faster than real time: it always has some
    FILE = 3  # a segment of a recording, or of a stream sent faster than real time
    PARTIAL = 4  # an open utterance, only when nothing else waits


class DeviceObserver(Protocol):
    """Who counts what devices do. Called on their threads: must be quick."""

    def batch(self, work: str, rows: int, audio_s: float, wall_s: float) -> None: ...
    def waited(self, work: str, wait_s: float) -> None: ...
    def dropped(self, work: str, reason: str) -> None: ...


class StageObserver(Protocol):
    """Who counts what stages do. Called on their threads, too."""

    def staged(self, stage: str, outcome: str, took_s: float) -> None:
        """A result has left a stage. outcome: done, late, failed, closed (it came when the stage had stopped) or
        unbound (nobody waits for it any more). took_s: since it came to the stage."""


class Observer(DeviceObserver, StageObserver, Protocol):
    """Who counts for a recognizer."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """A job's result. `queue_s`: waited for the device."""

    transcript: Transcript
    queue_s: float
    batch_size: int


@dataclass(frozen=True, slots=True, eq=False)
class Whole:
    """An utterance to decode. samples: (n,) int16, n > 0. by: FIRST or SECOND. wishes: of the first pass's search."""

    samples: NDArray[np.int16]
    by: Passes
    beam: int = 1
    word_times: bool = False
    wishes: Wishes | None = None


@dataclass(slots=True, eq=False)
class Job:
    """`done` or `failed` is called, at most once, on the device's thread under its lock: not if the owner was unbound,
    a newer partial took this one's place, or `late` was called of a job that waited. late: once, if the job has no
    result at its deadline, or waits so shortly before it that it can have none. urgent: before others of its right."""

    owner: int
    work: Work
    task: Whole | Chunk
    done: Callable[[Outcome], None]
    failed: Callable[[Exception], None]
    late: Callable[[], None] | None = None
    deadline: float = math.inf  # on the monotonic clock
    urgent: bool = False
    since: float = field(default_factory=time.monotonic)


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """chunks: streams taken a chunk further together. collect_s: that a chunk waits for others to go with, while there
    is other work. jobs: utterances in a batch. file_s, live_s: seconds of audio in
    a batch of files or of live calls' finals and partials, padding counted; one job may be longer. A live batch is
    short because the next final may have to wait for it."""

    chunks: int = 32
    collect_s: float = 0.03
    jobs: int = 8
    file_s: float = 160.0
    live_s: float = 20.0
