"""When to try again: jittered exponential backoff, bounded in tries and by the caller's deadline. Does no waiting."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from parley.wire.errors import CallError, Exhausted, Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True)
class Retry:
    """How often and how soon to try again. The default's waits, about 6 s in all, cover a node's restart."""

    tries: int = 6  # in a row without progress, the first one included
    first_wait_s: float = 0.2
    factor: float = 2.0
    longest_wait_s: float = 5.0

    def __post_init__(self) -> None:
        if self.tries < 1:
            raise ValueError(f"tries: got {self.tries}, expected 1 (never again) or more")


NEVER = Retry(tries=1)


class Attempts:
    """The tries of one call. Its deadline bounds all of them together."""

    def __init__(
        self,
        retry: Retry,
        timeout_s: float | None,
        clock: Callable[[], float] = time.monotonic,
        share: Callable[[], float] = random.random,
    ) -> None:
        self._retry = retry
        self._clock = clock
        self._share = share
        self._deadline = None if timeout_s is None else clock() + timeout_s
        self._failures = 0

    def remaining_s(self) -> float | None:
        """What is left for the next try; None: no deadline."""
        return None if self._deadline is None else max(0.0, self._deadline - self._clock())

    def progressed(self) -> None:
        """The last try brought the call forward: its failures are forgotten."""
        self._failures = 0

    def wait_s(self, error: CallError) -> float:
        """How long to wait before the next try. Raises `error` when there is none."""
        self._failures += 1
        told = error.retry_after_s
        passing = isinstance(error, Unavailable) or (isinstance(error, Exhausted) and told is not None)
        if not passing or self._failures >= self._retry.tries:
            raise error
        backoff = min(self._retry.longest_wait_s, self._retry.first_wait_s * self._retry.factor ** (self._failures - 1))
        # Callers that failed together must not come back together. A time the server named is never cut short.
        wait = backoff * (0.5 + self._share() / 2) if told is None else told + backoff * self._share()
        left = self.remaining_s()
        if left is not None and wait >= left:
            raise error
        return wait
