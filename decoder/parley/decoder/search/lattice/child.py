"""The process in which k2 works on a CPU: takes batches from its parent, one by one. Knows the pipe, not who asks."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from parley.decoder.errors import ParleyError
from parley.decoder.search.lattice.graph import read_graph
from parley.decoder.search.lattice.k2 import LatticeSearch
from parley.decoder.search.lattice.lattice import LatticeConfig, LatticeOptions
from parley.decoder.search.lattice.wire import packed, receive, send
from parley.decoder.text.vocabulary import Vocabulary

if TYPE_CHECKING:
    from typing import IO

    import numpy as np
    from numpy.typing import NDArray

logger = logging.getLogger(__name__)

NICENESS = 5  # live calls go first


def main() -> None:
    """Until the parent closes the pipe or is gone."""
    requests = os.fdopen(os.dup(0), "rb")
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints is no reply
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent too, which closes the pipe
    with contextlib.suppress(OSError):
        os.nice(NICENESS)
    with contextlib.suppress(EOFError, BrokenPipeError):
        _serve(requests, replies)


def _serve(requests: IO[bytes], replies: IO[bytes]) -> None:
    setup, _ = receive(requests)
    try:
        search = _search(setup)
    except ParleyError as error:
        send(replies, {"error": str(error)})
        return
    send(replies, {"ready": True})
    while True:
        request, log_probs = receive(requests)
        assert log_probs is not None
        send(replies, _reply(search, request, log_probs))


def _search(setup: dict[str, Any]) -> LatticeSearch:
    torch.set_num_threads(1)
    vocabulary = Vocabulary([piece.encode("latin1") for piece in setup["pieces"]])
    graphs = {name: read_graph(Path(path), vocabulary) for name, path in setup["graphs"].items()}
    search = LatticeSearch(vocabulary, graphs, LatticeConfig(**setup["config"]), blank=setup["blank"])
    for name in search.names:  # what takes time to load is loaded before the first batch
        search.decode(torch.zeros(1, 1, len(vocabulary.pieces)), [1], name, LatticeOptions())
    return search


def _reply(search: LatticeSearch, request: dict[str, Any], log_probs: NDArray[np.float32]) -> dict[str, Any]:
    try:
        options = LatticeOptions(**request["options"])
        results = search.decode(torch.from_numpy(log_probs), request["frames"], request["graph"], options)
        return {"results": packed(results)}
    except ParleyError as error:
        return {"error": str(error)}
    except Exception:
        logger.exception("a batch of %d failed", len(request["frames"]))
        return {"error": "the lattice search failed; its log says why"}
