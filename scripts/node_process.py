"""A node's flags for a measurement, and the processor time that it takes. Starting one is the clients' NodeProcess."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from parley.clients.node_process import NodeProcess

if TYPE_CHECKING:
    import argparse

__all__ = ["NodeProcess", "add_search", "in_shares", "node_cpu_s", "process_cpu_s", "search_flags"]


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


def node_cpu_s(node: NodeProcess) -> float:
    """Processor time that the node has used, all its threads."""
    return process_cpu_s(node.process.pid)


def process_cpu_s(pid: int) -> float:
    """Processor time that a process has used, all its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
