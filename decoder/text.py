"""Tokens to words. Knows the vocabulary, not the model that chose the tokens."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from decoder.errors import ModelError
from decoder.types import Word

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

SPACE = "\u2581".encode()  # SentencePiece's mark at the start of a word


class Vocabulary:
    """Token id -> bytes; a word's tokens joined are UTF-8, its first token starts with SPACE."""

    def __init__(self, pieces: Sequence[bytes]) -> None:
        self.pieces = tuple(pieces)

    @classmethod
    def read(cls, path: Path) -> Vocabulary:
        """Moonshine's format: each token's length, then its bytes. A length is one byte, or two from 128 on, the lower
        seven bits first. Raises ModelError."""
        data, at = path.read_bytes(), 0
        pieces: list[bytes] = []
        while at < len(data):
            length, at = data[at], at + 1
            if length >= 128 and at < len(data):
                length, at = length - 128 + 128 * data[at], at + 1
            if at + length > len(data):
                raise ModelError(f"{path}: token {len(pieces)} is cut off at byte {at}")
            pieces.append(data[at : at + length])
            at += length
        return cls(pieces)

    def words(self, tokens: Sequence[int]) -> list[tuple[str, range]]:
        """The words, each with the positions of its tokens. Special tokens such as <s> hold no text."""
        spans: list[tuple[list[bytes], range]] = []
        for at, token in enumerate(tokens):
            piece = self.pieces[token]
            if piece.startswith(b"<") and piece.endswith(b">") and len(piece) > 2:
                continue
            if piece.startswith(SPACE) or not spans:
                spans.append(([piece], range(at, at + 1)))
            else:
                parts, span = spans[-1]
                parts.append(piece)
                spans[-1] = (parts, range(span.start, at + 1))
        words = [(b"".join(parts).replace(SPACE, b" ").decode(errors="replace").strip(), span) for parts, span in spans]
        return [(text, span) for text, span in words if text]


def timed_words(
    words: Sequence[tuple[str, range]], log_probs: Sequence[float], edges: Sequence[int], frame_ms: float
) -> tuple[Word, ...]:
    """Words with times. edges: each token's first frame, and the end of the last one's."""
    timed = []
    for text, span in words:
        confidence = math.exp(sum(log_probs[span.start : span.stop]) / len(span))
        start_ms, end_ms = round(edges[span.start] * frame_ms), round(edges[span.stop] * frame_ms)
        timed.append(Word(text, start_ms, end_ms, confidence))
    return tuple(timed)
