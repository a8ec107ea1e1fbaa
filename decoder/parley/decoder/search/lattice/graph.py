"""A graph that a lattice search runs over, and its file. Knows arrays and checksums, not what the graph is for.

The file is a safetensors file, `arcs (arcs, 4)` int32 (from, to, label, token) and `scores (arcs,)` float32; its
metadata say the format and what it was made from. It holds no code, and what it holds is checked before a search runs
over it: k2 believes what it is given.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import SafetensorError, safe_open

from parley.decoder.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from numpy.typing import NDArray

    from parley.decoder.text.vocabulary import Vocabulary

FORMAT = "parley-graph-1"
FINAL = -1  # the label of arcs into the last state


@dataclass(frozen=True, slots=True, eq=False)
class Graph:
    """arcs: (arcs, 4) int32: from, to, label in this frame, and the token that is said here or 0, sorted. The first
    state is 0; the last is where all ends. scores: (arcs,) natural logarithms, of the words alone.

    about: what it was made from, for people.
    """

    arcs: NDArray[np.int32]
    scores: NDArray[np.float32]
    vocabulary: str = ""  # fingerprint() of the tokens' pieces
    about: tuple[tuple[str, str], ...] = ()

    @property
    def states(self) -> int:
        return int(self.arcs[:, :2].max()) + 1

    @classmethod
    def of(
        cls,
        source: NDArray[Any],
        target: NDArray[Any],
        label: NDArray[Any],
        token: NDArray[Any],
        score: NDArray[np.float64],
    ) -> Graph:
        """Sorted as k2 wants it: by state, label and target, the final label last."""
        last = int(label.max(initial=0)) + 1
        order = np.lexsort((target, source.astype(np.int64) * (last + 1) + np.where(label == FINAL, last, label)))
        arcs = np.stack((source, target, label, token), 1).astype(np.int32)[order]
        return cls(np.ascontiguousarray(arcs), score.astype(np.float32)[order])

    def fault(self, tokens: int) -> str | None:
        """What is wrong with it for a model of so many tokens, if anything is."""
        arcs, scores = self.arcs, self.scores
        if arcs.ndim != 2 or arcs.shape[1] != 4 or arcs.dtype != np.int32 or not len(arcs):
            return f"got arcs {arcs.shape} of {arcs.dtype}, expected (1 or more, 4) of int32"
        if scores.shape != (len(arcs),) or scores.dtype != np.float32:
            return f"got scores {scores.shape} of {scores.dtype}, expected ({len(arcs)},) of float32"
        source, target, label, token = arcs.T
        last = self.states - 1
        least, most = min(source.min(), target.min()), max(source.max(), target.max())
        if least < 0 or source.max() >= last:
            return f"got states {least} to {most}, expected 0 to {last}, and no arc from the last"
        if label.min() < FINAL or label.max() >= tokens or token.min() < 0 or token.max() >= tokens:
            return f"got labels {label.min()} to {label.max()}, expected -1 to {tokens - 1}"
        if ((label == FINAL) != (target == last)).any():
            return "got an arc into the last state that is not final, or a final one elsewhere"
        if (np.diff(source) < 0).any():
            return "got arcs that are not sorted by their states"
        if not np.isfinite(scores).all():
            return "got scores that are not finite"
        return None


def fingerprint(vocabulary: Vocabulary) -> str:
    """Tells one table of tokens from another."""
    return digest(b"\0".join([*vocabulary.pieces, b""]))


def digest(*parts: bytes | Iterable[bytes]) -> str:
    total = hashlib.sha256()
    for part in parts:
        inner = hashlib.sha256()
        for piece in (part,) if isinstance(part, bytes) else part:
            inner.update(piece)
        total.update(inner.digest())
    return total.hexdigest()


def read_graph(path: Path, vocabulary: Vocabulary) -> Graph:
    """Raises ModelError if it is not a graph, or one over other tokens."""
    try:
        with safe_open(path, "numpy") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != FORMAT:
                raise ModelError(f"{path}: got format {metadata.get('format')!r}, expected {FORMAT}: build it again")
            names = set(file.keys())
            if names != {"arcs", "scores"}:
                raise ModelError(f"{path}: got {', '.join(sorted(names))}, expected arcs and scores")
            about = json.loads(metadata.get("about", "{}"))
            graph = Graph(file.get_tensor("arcs"), file.get_tensor("scores"), metadata.get("vocabulary", ""))
    except (OSError, SafetensorError, ValueError) as error:
        raise ModelError(f"{path}: not a readable graph: {error}") from None
    if graph.vocabulary != fingerprint(vocabulary):
        raise ModelError(f"{path}: got a graph over other tokens than this model's: build it again with this model")
    if (fault := graph.fault(len(vocabulary.pieces))) is not None:
        raise ModelError(f"{path}: {fault}")
    return Graph(graph.arcs, graph.scores, graph.vocabulary, tuple((str(k), str(v)) for k, v in about.items()))
