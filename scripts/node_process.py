"""A node as a process of its own on free ports, for tests, demo and benchmark. Knows its command line and its log."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sysconfig
import threading
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType

PARLEY = Path(sysconfig.get_path("scripts")) / "parley"


class NodeProcess:
    """`with NodeProcess() as node:` a node that is SERVING at `node.address`; leaving the block ends it."""

    address: str
    metrics_address: str

    def __init__(self, *flags: str) -> None:
        # Neither parley.toml nor the environment of whoever runs this may change what is tested or measured.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PARLEY_")}
        own = ("--config", os.devnull, "--port", "0", "--metrics-port", "0", "--log-format", "json")
        self.process = subprocess.Popen(
            [PARLEY, "serve", *own, *flags],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.log: list[str] = []
        self._served = False
        self._decided = threading.Event()
        self._reader = threading.Thread(target=self._read_log, name="node log", daemon=True)

    def __enter__(self) -> NodeProcess:
        self._reader.start()
        self._decided.wait()
        if not self._served:
            raise RuntimeError(f"the node ended with {self.process.wait()} before it served:\n{''.join(self.log)}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self, timeout_s: float = 30) -> int:
        """SIGTERM, wait for the drain; the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            status = self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        self._reader.join()
        return status

    def _read_log(self) -> None:
        assert self.process.stdout is not None
        try:
            # To the end: a node whose log nobody reads would stop at a full pipe.
            for line in self.process.stdout:
                self.log.append(line)
                if not self._served and line.startswith("{"):
                    self._look_for_address(json.loads(line))
        finally:
            self._decided.set()

    def _look_for_address(self, entry: dict[str, str]) -> None:
        if entry["event"] == "serving":
            self.address, self.metrics_address = entry["address"], entry["metrics_address"]
            self._served = True
            self._decided.set()
