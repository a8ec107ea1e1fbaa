"""`parley serve`: load the config, build a node, run it until shutdown.

Exit status: 0 after a signal, 2 for a fault of the configuration, the model or the machine, 1 for a bug. The log, on
stderr, says "listening" and "serving" with the addresses.
"""

from __future__ import annotations

import asyncio
import os
import sys
from typing import TYPE_CHECKING

from decoder.errors import ModelError
from server import config, logs
from server.lifecycle import run_until_shutdown
from server.node.app import Node

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a node and returns the exit status."""
    try:
        settings = config.load(sys.argv[1:] if argv is None else argv, os.environ)
        logs.set_up(settings.log_format, settings.log_level)
        asyncio.run(run_until_shutdown(Node(settings)))
    except config.ConfigFaults as faults:
        return _refuse(*faults.faults)
    except ModelError as error:
        return _refuse(str(error))
    return 0


def _refuse(*faults: str) -> int:
    for fault in faults:
        sys.stderr.write(f"parley serve: {fault}\n")
    return 2
