"""Whether a device still works: steps counted, looks counted, lost once and for all. Knows no model and no job.

Looks are counted and no clock is read: a process that was stopped for a while does not hang.
"""

from __future__ import annotations

import itertools
import logging
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

logger = logging.getLogger(__name__)
STUCK_LOOKS = 60  # at one step of the model, which takes seconds at worst


class Watchdog:
    """`lost`: the device takes no more work. `given_up`: for its model does not return, and its thread with it."""

    def __init__(self, name: str, on_lost: Callable[[str], None], end: Callable[[], None]) -> None:
        """on_lost: told of it first: who hears of it may call again at once. end: ends what is left on the device.
        Both are called once, on whatever thread finds it lost."""
        self.lost = self.given_up = False
        self._name = name
        self._on_lost = on_lost
        self._end = end
        self._known = threading.Lock()  # taken by the first to find it lost
        self._numbers = itertools.count(1)
        self._step: int | None = None  # that the device is at; None while it waits for work
        self._looked_at: tuple[int | None, int] = (None, 0)  # step, and how often it was found there

    def begin(self) -> None:
        """The device takes a step."""
        self._step = next(self._numbers)

    def rest(self) -> None:
        """The device waits for work."""
        self._step = None

    def look(self) -> None:
        """To be called about once a second, on any thread: a model that is found in one and the same call STUCK_LOOKS
        times does not return, and its device is lost."""
        present, (step, looks) = self._step, self._looked_at
        if self.lost:
            return
        self._looked_at = present, looks + 1 if present is not None and present == step else 0
        if self._looked_at[1] >= STUCK_LOOKS:
            logger.critical("%s: lost: the model has not returned from a call", self._name)
            self.given_up = True
            self.lose()

    def lose(self) -> None:
        """On the device's thread, on that which gives it up, or on both: a call that was given up may yet fail."""
        if self._known.acquire(blocking=False):
            self.lost = True
            self._on_lost(self._name)
            self._end()
