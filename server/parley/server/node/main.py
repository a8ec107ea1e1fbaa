"""`parley serve`: load the config, build a node, run it until shutdown. With --explain: only tell what it would be.

Exit status: 0 after a signal or when all is told, 2 for a fault of the configuration, the model or the machine (a lost
device, too, if it was the last), 1 for a bug. The log, on stderr, says "listening" and "serving" with the addresses.
"""

from __future__ import annotations

import asyncio
import gc
import os
import sys
from typing import TYPE_CHECKING

from parley.decoder.errors import DeviceLost, ModelError
from parley.decoder.recognizer import Recognizer
from parley.server.kit import logs
from parley.server.kit.lifecycle import run_until_shutdown
from parley.server.kit.settings import Faults
from parley.server.node import program
from parley.server.node.app import Node
from parley.server.node.explain import explain

if TYPE_CHECKING:
    from collections.abc import Sequence

    from parley.decoder.config import RecognizerConfig
    from parley.decoder.engine.work import Observer
    from parley.server.node.settings import Settings


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a node and returns the exit status."""
    try:
        loaded = program.load(sys.argv[1:] if argv is None else argv, os.environ)
        settings = loaded.settings
        logs.set_up(settings.log_format, settings.log_level)
        if loaded.explain:
            _explain(loaded)
        else:
            return _serve(settings)
    except Faults as error:
        return _refuse(*map(str, error.faults))
    except ModelError as error:
        return _refuse(str(error))
    return 0


def _serve(settings: Settings) -> int:
    node, status = Node(settings, _build), 0
    try:
        asyncio.run(run_until_shutdown(node))
    except DeviceLost as error:
        status = _refuse(str(error))
    if node.lost:
        sys.stderr.flush()
        os._exit(status)  # in the farewell of its libraries a lost card hangs the process, or aborts it
    return status


def _build(config: RecognizerConfig, observer: Observer) -> Recognizer:
    recognizer = Recognizer(config, observer)
    # What is there now stays. Looking through it again for garbage stopped all calls for 0.2 s, now and then.
    gc.collect()
    gc.freeze()
    return recognizer


def _explain(loaded: program.Loaded) -> None:
    with Recognizer(loaded.settings.recognizer()) as recognizer:
        try:
            explain(loaded, recognizer, sys.stdout)
            sys.stdout.flush()
        except BrokenPipeError:
            # Whoever read has gone, as `head` does. Python would complain once more when it flushes at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _refuse(*faults: str) -> int:
    for fault in faults:
        sys.stderr.write(f"parley serve: {fault}\n")
    return 2
