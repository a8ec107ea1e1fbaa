"""A node as a process of its own on free ports of this machine. Knows its command line, its log, and how it ends.

It never outlives whoever started it, however that ends.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import threading
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import TracebackType

START_S = 300.0  # models on a slow disk
LAST_WORDS = 20  # lines of a log that are shown
KEPT = 20_000  # lines of a log: some 10 MB, where each call is a line and calls may come for hours


class NodeFailed(Exception):
    """The node did not come up, or cannot be asked. Says what it said last."""


class NodeProcess:
    """`with NodeProcess() as node:` a node that is SERVING at `node.address`; leaving the block ends it.

    `isolated`: neither parley.toml nor the environment of whoever runs this may change what is tested or measured.
    """

    address: str
    metrics_address: str

    def __init__(self, *flags: str, isolated: bool = True) -> None:
        own = ["--port", "0", "--metrics-port", "0", "--log-format", "json"]
        environment = dict(os.environ)
        if isolated:
            own = ["--config", os.devnull, *own]
            environment = {name: value for name, value in environment.items() if not name.startswith("PARLEY_")}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "parley.clients.cli", "serve", *own, *flags],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,  # a Ctrl-C is for us: we end it when we have said what we know
        )
        self._leash = Leash(self.process.pid)
        self._lines: deque[str] = deque(maxlen=KEPT)
        self._served = False
        self._decided = threading.Event()
        self._grown = threading.Condition()  # the log has
        self._reader = threading.Thread(target=self._read_log, name="node log", daemon=True)

    @property
    def log(self) -> list[str]:
        """The last lines, at most KEPT of them."""
        with self._grown:
            return list(self._lines)

    def __enter__(self) -> NodeProcess:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Waits until it serves. Raises NodeFailed, and then it has ended."""
        try:
            self._reader.start()
            decided = self._decided.wait(START_S)
            if not self._served:
                how = f"ended with exit status {self.process.wait()}" if decided else f"did not serve in {START_S:g} s"
                raise NodeFailed("".join([f"the node {how}; its last words:\n", *self.log[-LAST_WORDS:]]).rstrip())
        except BaseException:
            self.end()
            raise

    def stop(self, timeout_s: float = 30) -> int:
        """SIGTERM, wait for the drain; the exit status. Raises TimeoutExpired if that takes longer, and kills it."""
        try:
            self._terminate(timeout_s)
        finally:
            self._over()
        return self.process.returncode

    def end(self, timeout_s: float = 30) -> None:
        """The same for a node that may take its time: a second SIGTERM ends it at once, or else a SIGKILL does."""
        for _ in range(2):
            with suppress(subprocess.TimeoutExpired):
                self._terminate(timeout_s)
        self._over()

    def wait_for(self, event: str, count: int = 1, timeout_s: float = 30) -> dict[str, Any]:
        """The log's line of this event, the so many-th of `log`, once it is there."""

        def found() -> dict[str, Any] | None:
            entries = (entry for line in self._lines if (entry := _entry(line)).get("event") == event)
            return next(itertools.islice(entries, count - 1, None), None)

        with self._grown:
            line = self._grown.wait_for(found, timeout_s)
        if line is None:
            raise TimeoutError(f"no {event!r} in {timeout_s:g} s:\n{''.join(self.log[-LAST_WORDS:])}")
        return line

    def _terminate(self, timeout_s: float) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        self.process.wait(timeout_s)

    def _over(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        self._leash.cut()
        if self._reader.is_alive():
            self._reader.join()

    def _read_log(self) -> None:
        assert self.process.stdout is not None
        try:
            # To the end: a node whose log nobody reads would stop at a full pipe.
            for line in self.process.stdout:
                with self._grown:
                    self._lines.append(line)
                    self._grown.notify_all()
                if not self._served:
                    self._look_for_address(_entry(line))
        finally:
            self._decided.set()

    def _look_for_address(self, entry: dict[str, Any]) -> None:
        if entry.get("event") == "serving":
            self.address, self.metrics_address = entry["address"], entry["metrics_address"]
            self._served = True
            self._decided.set()


def _entry(line: str) -> dict[str, Any]:
    """A log line's fields; none of a line that is something else: a library may write what it likes."""
    with suppress(ValueError):
        found = json.loads(line)
        if isinstance(found, dict):
            return found
    return {}


class Leash:
    """Ends another process when this one is gone, even by a signal that no Python can handle.

    A shell waits for the end of a pipe whose other end only this process has, and which the system closes with it.
    """

    def __init__(self, pid: int) -> None:
        self._shell = subprocess.Popen(
            ["/bin/sh", "-c", f"read -r end; kill -TERM {pid}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # a Ctrl-C in our terminal must not free what it holds
        )

    def cut(self) -> None:
        """That process has ended, and its number may soon be another's."""
        self._shell.kill()
        self._shell.communicate()
