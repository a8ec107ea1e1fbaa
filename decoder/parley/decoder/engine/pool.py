"""Decoders, built at start and lent out. Knows who waits and who holds, not what a decoder does.

First come, first served among waiters, whatever number of decoders they ask for. A decoder comes back once and only
once, by `Lease.release`; one whose reset fails is replaced.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import logging
import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from parley.decoder.errors import DeviceLost, InvalidOption, PoolExhausted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from parley.decoder.engine.decoder import Decoder

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PoolSnapshot:
    """The pool's load. `lent_total` and `replaced` count since start; `longest_wait_s` is of those that were served."""

    total: int
    busy: int
    waiting: int
    lent_total: int
    replaced: int
    longest_wait_s: float


class Lease:
    """Decoders of one device, lent together; a context manager that gives them back."""

    def __init__(self, pool: DecoderPool, decoders: tuple[Decoder, ...]) -> None:
        self.decoders = decoders
        self._pool = pool
        self._released = threading.Lock()  # taken by the first to release

    def release(self) -> None:
        """Gives the decoders back. Calling it again does nothing."""
        if self._released.acquire(blocking=False):
            self._pool._take_back(self.decoders)

    def __enter__(self) -> Lease:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


@dataclass(slots=True)
class _Waiter:
    count: int
    since: float
    future: concurrent.futures.Future[Lease]


class DecoderPool:
    def __init__(self, devices: Sequence[Sequence[Decoder]], rebuild: Callable[[Decoder], Decoder]) -> None:
        """devices: each device's decoders. rebuild: makes a new decoder in the place of one that cannot be reset."""
        self._lock = threading.Lock()
        self._rebuild = rebuild
        self._free: dict[str, deque[Decoder]] = {decoders[0].device: deque(decoders) for decoders in devices}
        self._most = max(len(decoders) for decoders in devices)
        self._total = sum(len(decoders) for decoders in devices)
        self._waiters: deque[_Waiter] = deque()
        self._lent = self._replaced = 0
        self._longest_wait_s = 0.0

    def request(self, count: int = 1, *, first: bool = False) -> concurrent.futures.Future[Lease]:
        """A lease of `count` decoders of one device, as soon as it is this request's turn. Give up with `abandon`.

        first: before those that wait, for one that will not. Raises InvalidOption if no device has that many. The
        future gets DeviceLost when no device is left.
        """
        if not 1 <= count <= self._most:
            raise InvalidOption("format.channels", count, f"1 to {self._most} here: a channel needs a decoder")
        waiter = _Waiter(count, time.monotonic(), concurrent.futures.Future())
        with self._lock:
            if first:
                self._waiters.appendleft(waiter)
            else:
                self._waiters.append(waiter)
        self._serve()
        return waiter.future

    def withdraw(self, device: str) -> None:
        """The device is lost: its decoders are lent no more, and those that are lent do not come back."""
        with self._lock:
            self._total -= len(self._free.pop(device, ()))
        self._serve()  # or tell them

    def abandon(self, future: concurrent.futures.Future[Lease]) -> None:
        """Leaves the queue; a lease that came in the meantime goes back."""
        if future.cancel():
            with self._lock:
                self._waiters = deque(w for w in self._waiters if w.future is not future)
            self._serve()  # the one behind may need fewer
        elif future.exception() is None:
            future.result().release()

    @contextlib.contextmanager
    def lend(self, timeout: float, count: int = 1) -> Iterator[Lease]:
        """Waits at most `timeout` seconds, then raises PoolExhausted."""
        future = self.request(count)
        try:
            lease = future.result(timeout)
        except concurrent.futures.TimeoutError:
            self.abandon(future)
            raise self.exhausted(timeout) from None
        except BaseException:
            self.abandon(future)
            raise
        with lease:
            yield lease

    def exhausted(self, waited_s: float) -> PoolExhausted:
        """The error for one who waited in vain, with the present load."""
        load = self.snapshot()
        return PoolExhausted(load.total, load.waiting, waited_s)

    def snapshot(self) -> PoolSnapshot:
        with self._lock:
            busy = self._total - sum(len(free) for free in self._free.values())
            return PoolSnapshot(self._total, busy, len(self._waiters), self._lent, self._replaced, self._longest_wait_s)

    def _serve(self) -> None:
        """Lends to waiters, first first, while the first can be served."""
        while True:
            with self._lock:
                if not self._waiters:
                    return
                waiter = self._waiters[0]
                free = max(self._free.values(), key=len, default=None)
                if free is not None and len(free) < waiter.count:
                    return
                self._waiters.popleft()
                if not waiter.future.set_running_or_notify_cancel():
                    continue
                decoders = () if free is None else tuple(free.popleft() for _ in range(waiter.count))
                self._lent += len(decoders)
                self._longest_wait_s = max(self._longest_wait_s, time.monotonic() - waiter.since)
            if not decoders:
                waiter.future.set_exception(DeviceLost("every device here"))
                continue
            for decoder in decoders:
                decoder.bind()
            waiter.future.set_result(Lease(self, decoders))

    def _take_back(self, decoders: Sequence[Decoder]) -> None:
        for decoder in decoders:
            fresh = decoder
            try:
                decoder.reset()
            except Exception:
                logger.exception("decoder %s on %s could not be reset: replaced", decoder.slot, decoder.device)
                try:
                    fresh = self._rebuild(decoder)
                except Exception:
                    logger.exception("decoder %s on %s could not be replaced: lost", decoder.slot, decoder.device)
                    with self._lock:
                        self._total -= 1
                    continue
            with self._lock:
                self._replaced += fresh is not decoder
                if decoder.device in self._free:
                    self._free[decoder.device].append(fresh)
                else:  # withdrawn meanwhile
                    self._total -= 1
        self._serve()
