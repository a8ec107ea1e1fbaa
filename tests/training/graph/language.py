"""What acceptors accept, by walking all of them: small ones only."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING

import numpy as np

from parley.decoder.text.vocabulary import Vocabulary

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from parley.decoder.search.lattice.graph import Graph
    from parley.training.graph.words import WordFsa

# Merged in this order: "ab" is "▁ab", "ba" is "▁b a", "abb" is "▁ab b", "bb" is "▁ bb".
PIECES = ("<blank>", "<unk>", "▁a", "▁ab", "bb", "▁b", "a", "b", "▁")
TINY = Vocabulary([piece.encode() for piece in PIECES])


def sentences(fsa: WordFsa, longest: int) -> dict[tuple[str, ...], float]:
    """Every sentence of up to so many words, with its best score."""
    found: dict[tuple[str, ...], float] = {}
    outgoing: dict[int, list[tuple[int, str, float]]] = {}
    for source, target, word, score in zip(
        fsa.source.tolist(), fsa.target.tolist(), fsa.word.tolist(), fsa.score.tolist(), strict=True
    ):
        outgoing.setdefault(source, []).append((target, fsa.words[word], score))
    waiting: list[tuple[int, tuple[str, ...], float]] = [(state, (), score) for state, score in fsa.starts.items()]
    while waiting:
        state, said, score = waiting.pop()
        if state in fsa.finals:
            found[said] = max(score + fsa.finals[state], found.get(said, -math.inf))
        if len(said) < longest:
            waiting += [(target, (*said, word), score + more) for target, word, more in outgoing.get(state, ())]
    return found


def collapse(labels: tuple[int, ...], blank: int = 0) -> tuple[int, ...]:
    return tuple(label for label, _ in itertools.groupby(labels) if label != blank)


def ways(graph: Graph, frames: int) -> Iterator[tuple[tuple[int, ...], tuple[int, ...], float]]:
    """Every path over so many frames: its labels, the tokens that its arcs say, its score."""
    outgoing: dict[int, list[tuple[int, int, int, float]]] = {}
    for (source, target, label, token), score in zip(graph.arcs.tolist(), graph.scores.tolist(), strict=True):
        outgoing.setdefault(source, []).append((target, label, token, score))
    waiting: list[tuple[int, tuple[int, ...], tuple[int, ...], float]] = [(0, (), (), 0.0)]
    while waiting:
        state, labels, tokens, score = waiting.pop()
        for target, label, token, more in outgoing.get(state, ()):
            if label == -1 and len(labels) == frames:
                yield labels, tokens, score + more
            elif label != -1 and len(labels) < frames:
                waiting.append((target, (*labels, label), (*tokens, token) if token else tokens, score + more))


def readings(log_probs: NDArray[np.float32]) -> dict[tuple[int, ...], float]:
    """Every token sequence with the logarithm of its CTC probability. log_probs: (frames, tokens), few of both."""
    found: dict[tuple[int, ...], float] = {}
    for labels in itertools.product(range(log_probs.shape[1]), repeat=len(log_probs)):
        score = sum(float(log_probs[frame, label]) for frame, label in enumerate(labels))
        tokens = collapse(labels)
        found[tokens] = float(np.logaddexp(score, found.get(tokens, -np.inf)))
    return found
