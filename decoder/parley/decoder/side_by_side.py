"""Work on rows in equal shares, a thread each. Knows no work.

For work that lets go of Python's lock. Threads inside an operation would wait for each other at its end, again and
again; here each has rows of its own, and they meet once.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor, wait
from itertools import pairwise
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

T = TypeVar("T")
U = TypeVar("U")


class SideBySide:
    """Its first share is done on the thread that asks."""

    def __init__(self, threads: int, name: str) -> None:
        self.threads = threads
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=name)

    def shares(self, rows: Sequence[T], least: int = 1) -> list[Sequence[T]]:
        """Equal parts but for a row, a thread each at most, and of `least` rows or more if there are so many."""
        parts = min(self.threads, max(1, len(rows) // least)) if rows else 0
        edges = [len(rows) * part // parts for part in range(parts + 1)] if parts else []
        return [rows[start:end] for start, end in pairwise(edges)]

    def run(self, work: Callable[[T], U], shares: Sequence[T]) -> list[U]:
        """What comes of each share. The first fault is raised when all are through: they may write somewhere."""
        others = [self._pool.submit(work, share) for share in shares[1:]]
        try:
            first = [work(share) for share in shares[:1]]
        finally:
            wait(others)
        return first + [other.result() for other in others]
