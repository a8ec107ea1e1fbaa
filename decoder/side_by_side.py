"""Work on rows in equal shares, a thread each. Knows no work.

For work that lets go of Python's lock. Threads inside an operation would wait for each other at its end, again and
again; here each has rows of its own, and they meet once.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor, wait
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
        """Equal parts, a thread each at most, and of `least` rows or more if there are so many."""
        size = max(-(-len(rows) // self.threads), least)
        return [rows[at : at + size] for at in range(0, len(rows), size)]

    def run(self, work: Callable[[T], U], shares: Sequence[T]) -> list[U]:
        """What comes of each share. The first fault is raised when all are through: they may write somewhere."""
        others = [self._pool.submit(work, share) for share in shares[1:]]
        try:
            first = [work(share) for share in shares[:1]]
        finally:
            wait(others)
        return first + [other.result() for other in others]
