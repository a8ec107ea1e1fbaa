"""A node as a process of its own on free ports, for tests, demo and benchmark. Knows its command line and its log."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sysconfig
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import argparse
    from types import TracebackType

PARLEY = Path(sysconfig.get_path("scripts")) / "parley"


def add_search(parser: argparse.ArgumentParser) -> None:
    """How a node's first pass searches."""
    parser.add_argument("--search", choices=("best_path", "beam", "k2"), default="beam", help="(default: %(default)s)")
    parser.add_argument(
        "--language-model", metavar="FILE", help="an empty string for none (default: the node's, if it is there)"
    )


def search_flags(arguments: argparse.Namespace) -> tuple[str, ...]:
    """The node's flags for what `add_search` has asked for."""
    language_model = () if arguments.language_model is None else ("--language-model", arguments.language_model)
    return ("--search", arguments.search, *language_model)


def in_shares(shares: int, decoders: int) -> tuple[str, ...]:
    """The flags of a node with the CPU in so many shares, or whole, and so many decoders in all (or a few more)."""
    devices = "cpu" if shares == 1 else ",".join(f"cpu:{share}" for share in range(shares))
    return ("--devices", devices, "--decoders", str(-(-decoders // shares)))


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
        self._grown = threading.Condition()  # the log has
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

    def wait_for(self, event: str, count: int = 1, timeout_s: float = 30) -> dict[str, Any]:
        """The log's line of this event, the so many-th since the start, once it is there."""

        def found() -> dict[str, Any] | None:
            lines = (json.loads(line) for line in self.log if line.startswith("{"))
            return next(itertools.islice((line for line in lines if line["event"] == event), count - 1, None), None)

        with self._grown:
            line = self._grown.wait_for(found, timeout_s)
        if line is None:
            raise TimeoutError(f"no {event!r} in {timeout_s:g} s:\n{''.join(self.log[-20:])}")
        return line

    def _read_log(self) -> None:
        assert self.process.stdout is not None
        try:
            # To the end: a node whose log nobody reads would stop at a full pipe.
            for line in self.process.stdout:
                with self._grown:
                    self.log.append(line)
                    self._grown.notify_all()
                if not self._served and line.startswith("{"):
                    self._look_for_address(json.loads(line))
        finally:
            self._decided.set()

    def _look_for_address(self, entry: dict[str, str]) -> None:
        if entry["event"] == "serving":
            self.address, self.metrics_address = entry["address"], entry["metrics_address"]
            self._served = True
            self._decided.set()


def node_cpu_s(node: NodeProcess) -> float:
    """Processor time that the node has used, all its threads."""
    return process_cpu_s(node.process.pid)


def process_cpu_s(pid: int) -> float:
    """Processor time that a process has used, all its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
