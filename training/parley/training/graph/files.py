"""Graphs to files: whole or not at all, and built once for what they are made from. Knows no grammar."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors.numpy import save_file

from parley.decoder.search.lattice.graph import FORMAT, Graph, read_graph

if TYPE_CHECKING:
    from collections.abc import Callable

    from parley.decoder.text.vocabulary import Vocabulary


def write_graph(graph: Graph, path: Path) -> None:
    """In one move: who reads the path has the old graph or the whole new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=path.name, suffix=".part", dir=path.parent)
    os.close(descriptor)
    try:
        metadata = {"format": FORMAT, "vocabulary": graph.vocabulary, "about": json.dumps(dict(graph.about))}
        save_file({"arcs": graph.arcs, "scores": graph.scores}, name, metadata)
        Path(name).chmod(0o644)
        Path(name).replace(path)
    finally:
        Path(name).unlink(missing_ok=True)


def cached(folder: Path, key: str, vocabulary: Vocabulary, build: Callable[[], Graph]) -> Graph:
    """The graph that was built under this key, or built now. The key is a digest of all that it depends on."""
    path = folder / f"{key}.graph"
    if path.is_file():
        return read_graph(path, vocabulary)
    graph = build()
    write_graph(graph, path)
    return graph


def file_digest(path: Path) -> bytes:
    total = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            total.update(block)
    return total.digest()
