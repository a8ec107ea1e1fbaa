"""A lattice search in a process of its own. Knows batches and futures, not k2 and not streams.

On a CPU k2 holds Python's lock while it works, for as long as a whole batch takes. In another process that is another
lock: the node's event loop and its device's threads go on. One thread here feeds that process and waits for it.
"""

from __future__ import annotations

import contextlib
import json
import logging
import queue
import subprocess
import sys
import threading
from concurrent.futures import Future
from dataclasses import asdict, dataclass
from typing import IO, TYPE_CHECKING, Any

from parley.decoder.errors import DeviceError
from parley.decoder.search.lattice.lattice import LatticeConfig, LatticeOptions, LatticeResult
from parley.decoder.search.lattice.wire import receive, send, unpacked

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from parley.decoder.text.vocabulary import Vocabulary

logger = logging.getLogger(__name__)

NAME = "lattice-search"
WAITING = 64  # batches, beside the one under way
LONGEST_S = 60.0  # that a batch may take,
FRAME_S = 0.1  # and for each of its frames; an ordinary one takes a thousandth of a second
END_S = 5.0  # for the process to end by itself

# Not multiprocessing: its processes run the caller's main module again.
COMMAND = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1])\n"
    "from parley.decoder.search.lattice.child import main; main()"
)


@dataclass(slots=True, eq=False)
class _Job:
    log_probs: NDArray[np.float32]
    frames: list[int]
    graph: str
    options: LatticeOptions
    future: Future[list[LatticeResult]]


class LatticeProcess:
    """submit() may be called by any thread. The process starts with the first batch, or with start()."""

    def __init__(
        self,
        vocabulary: Vocabulary,
        graphs: Mapping[str, Path],
        config: LatticeConfig | None = None,
        *,
        blank: int = 0,
        waiting: int = WAITING,
    ) -> None:
        """graphs: files that write_graph made, by the names that requests use. waiting: batches that may wait."""
        self._setup = {
            "pieces": [piece.decode("latin1") for piece in vocabulary.pieces],
            "graphs": {name: str(path) for name, path in graphs.items()},
            "config": asdict(config or LatticeConfig()),
            "blank": blank,
        }
        self._jobs: queue.Queue[_Job | Future[None] | None] = queue.Queue(waiting)
        self._lock = threading.Lock()  # over what comes into the queue and whether anything may
        self._closed = False
        self._child: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._run, name=NAME, daemon=True)
        self._thread.start()

    @property
    def pid(self) -> int | None:
        """The process's, if there is one."""
        child = self._child
        return None if child is None else child.pid

    def start(self) -> Future[None]:
        """Starts the process now; done when it has loaded its graphs. Fails with DeviceError if it cannot."""
        future: Future[None] = Future()
        self._put(future, future)
        return future

    def submit(
        self, log_probs: NDArray[np.float32], frames: Sequence[int], graph: str, options: LatticeOptions
    ) -> Future[list[LatticeResult]]:
        """See LatticeSearch.decode. log_probs must not change until the future is done. What goes wrong is the future's
        DeviceError: also that too many batches wait, that the process died on this one, and that it is closed."""
        future: Future[list[LatticeResult]] = Future()
        self._put(_Job(log_probs, list(frames), graph, options, future), future)
        return future

    def close(self) -> None:
        """Ends the process. Batches that wait or are under way fail."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        if (child := self._child) is not None:
            child.kill()  # it may be deep in a batch
        self._drain()
        self._jobs.put(None)
        self._thread.join()

    def __enter__(self) -> LatticeProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _put(self, job: _Job | Future[None], future: Future[Any]) -> None:
        with self._lock:
            if self._closed:
                future.set_exception(_closed())
                return
            try:
                self._jobs.put_nowait(job)
            except queue.Full:
                waiting = self._jobs.maxsize
                future.set_exception(DeviceError(f"{NAME}: {waiting} batches wait already: try again later"))

    def _drain(self) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                job = self._jobs.get_nowait()
                future = job.future if isinstance(job, _Job) else job
                if future is not None and future.set_running_or_notify_cancel():
                    future.set_exception(_closed())

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            future = job.future if isinstance(job, _Job) else job
            if not future.set_running_or_notify_cancel():
                continue
            try:
                child = self._running()
                if isinstance(job, _Job):
                    job.future.set_result(self._decode(child, job))
                else:
                    job.set_result(None)
            except DeviceError as error:
                future.set_exception(error)
            except Exception as error:
                logger.exception("%s: a batch failed", NAME)
                self._end()
                future.set_exception(DeviceError(f"{NAME}: {type(error).__name__}"))
        self._end()

    def _decode(self, child: subprocess.Popen[bytes], job: _Job) -> list[LatticeResult]:
        requests, replies = _pipes(child)
        request = {"frames": job.frames, "graph": job.graph, "options": asdict(job.options)}
        patience = threading.Timer(LONGEST_S + FRAME_S * sum(job.frames), child.kill)  # or all would wait for good
        patience.start()
        try:
            send(requests, request, job.log_probs)
            reply, _ = receive(replies)
        except (OSError, EOFError):
            raise self._died(f"on a batch of {len(job.frames)}") from None
        finally:
            patience.cancel()
        if "error" in reply:
            raise DeviceError(f"{NAME}: {reply['error']}")
        return unpacked(reply["results"])

    def _running(self) -> subprocess.Popen[bytes]:
        """The process, started anew if it has died. Raises DeviceError."""
        if self._child is not None:
            if self._child.poll() is None:
                return self._child
            self._end()
        with self._lock:
            if self._closed:
                raise _closed()
            self._child = child = subprocess.Popen(
                [sys.executable, "-c", COMMAND, json.dumps(sys.path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )
        requests, replies = _pipes(child)
        try:
            send(requests, self._setup)
            reply, _ = receive(replies)
        except (OSError, EOFError):
            raise self._died("at its start") from None
        if "error" in reply:
            self._end()
            raise DeviceError(f"{NAME}: {reply['error']}")
        return child

    def _died(self, when: str) -> DeviceError:
        status = self._end()
        if self._closed:
            return _closed()
        logger.error("%s: its process ended with %s %s; another is started for the next batch", NAME, status, when)
        return DeviceError(f"{NAME}: its process ended with {status} {when}")

    def _end(self) -> int | None:
        """Of the process, its exit status."""
        with self._lock:
            child, self._child = self._child, None
        if child is None:
            return None
        for pipe in _pipes(child):
            with contextlib.suppress(OSError):
                pipe.close()
        try:
            return child.wait(END_S)
        except subprocess.TimeoutExpired:
            child.kill()
            return child.wait()


def _pipes(child: subprocess.Popen[bytes]) -> tuple[IO[bytes], IO[bytes]]:
    assert child.stdin is not None
    assert child.stdout is not None
    return child.stdin, child.stdout


def _closed() -> DeviceError:
    return DeviceError(f"{NAME} has stopped")
