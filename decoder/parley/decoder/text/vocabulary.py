"""Tokens to words. Knows the vocabulary, not the model that chose the tokens."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

from parley.decoder.errors import ModelError
from parley.decoder.values import Word

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

SPACE = "\u2581".encode()  # SentencePiece's mark at the start of a word
CONTINUATION = range(0x80, 0xC0)  # bytes inside a UTF-8 character
BLANKS = (b"<blank>", b"<blk>", b"<eps>")  # names of CTC's blank
PIECE = r"([^ \t]+)"
PIECE_AND_ID = r"([^ \t]+)[ \t]+([0-9]{1,9})"


class Vocabulary:
    """Token id -> bytes; a word's tokens joined are UTF-8, its first token starts with SPACE.

    Where no token has SPACE, as for languages that write none, every token is a word.
    """

    def __init__(self, pieces: Sequence[bytes]) -> None:
        self.pieces = tuple(pieces)
        self._spaced = any(SPACE in piece for piece in self.pieces)

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

    @classmethod
    def read_tokens(cls, path: Path) -> Vocabulary:
        """A table of lines: a piece each, whose id is the line's number from 0 on, or, as WeNet's and icefall's are, a
        piece and its id, every id from 0 on once. The first line says which. Raises ModelError."""
        try:
            lines = path.read_bytes().decode().split("\n")
        except UnicodeDecodeError as error:
            raise ModelError(f"{path}: byte {error.start}: got no UTF-8, expected a piece a line") from None
        lines = [line.rstrip("\r") for line in lines]
        while lines and not lines[-1]:
            lines.pop()
        if not lines:
            raise ModelError(f"{path}: got an empty table, expected a piece a line")
        with_ids = re.fullmatch(PIECE_AND_ID, lines[0]) is not None
        form, expected = (PIECE_AND_ID, "a piece and its id") if with_ids else (PIECE, "a piece alone, as on line 1")
        pieces, seen = [b""] * len(lines), [0] * len(lines)
        for number, line in enumerate(lines, 1):
            parts = re.fullmatch(form, line)
            if parts is None:
                raise ModelError(f"{path}: line {number}: got {line!r}, expected {expected}")
            at = int(parts[2]) if with_ids else number - 1
            if at >= len(lines) or seen[at]:
                again = f", which line {seen[at]} has" if at < len(lines) else ""
                every = f"every id from 0 to {len(lines) - 1} once, for {len(lines)} lines"
                raise ModelError(f"{path}: line {number}: got id {at}{again}; expected {every}")
            pieces[at], seen[at] = _piece_bytes(parts[1]), number
        # Symbols of icefall's graphs, #0, #1 and so on behind the tokens: no model gives them.
        while with_ids and pieces and re.fullmatch(rb"#[0-9]+", pieces[-1]):
            pieces.pop()
        return cls(pieces)

    def blank(self) -> int | None:
        """The id of CTC's blank, if one is named as it usually is."""
        return next((self.pieces.index(name) for name in BLANKS if name in self.pieces), None)

    @property
    def separator(self) -> str:
        """Between words: nothing, if tokens do not mark where one begins."""
        return " " if self._spaced else ""

    def is_special(self, piece: bytes) -> bool:
        """Whether it holds no text, as <s> does."""
        return piece.startswith(b"<") and piece.endswith(b">") and len(piece) > 2

    def begins_word(self, piece: bytes) -> bool:
        return piece.startswith(SPACE) or (not self._spaced and not self.is_special(piece) and not _continues(piece))

    def words(self, tokens: Sequence[int]) -> list[tuple[str, range]]:
        """The words, each with the positions of its tokens. Special tokens such as <s> hold no text."""
        spans: list[tuple[list[bytes], range]] = []
        for at, token in enumerate(tokens):
            piece = self.pieces[token]
            if self.is_special(piece):
                continue
            if self.begins_word(piece) or not spans:
                spans.append(([piece], range(at, at + 1)))
            else:
                parts, span = spans[-1]
                parts.append(piece)
                spans[-1] = (parts, range(span.start, at + 1))
        words = [(b"".join(parts).replace(SPACE, b" ").decode(errors="replace").strip(), span) for parts, span in spans]
        return [(text, span) for text, span in words if text]


def _piece_bytes(text: str) -> bytes:
    """A piece's bytes. <0xE4> is the byte itself, for text that the tokens have no piece for; <space> is a space."""
    byte = re.fullmatch(r"<0x([0-9A-Fa-f]{2})>", text)
    if byte is not None:
        return bytes.fromhex(byte[1])
    return SPACE if text == "<space>" else text.encode()


def _continues(piece: bytes) -> bool:
    return bool(piece) and piece[0] in CONTINUATION


def timed_words(
    words: Sequence[tuple[str, range]],
    log_probs: Sequence[float],
    spans: Sequence[tuple[int, int]],
    frame_ms: float,
) -> tuple[Word, ...]:
    """Words with times. spans: each token's frames [start, end)."""
    timed = []
    for text, span in words:
        confidence = math.exp(sum(log_probs[span.start : span.stop]) / len(span))
        start_ms, end_ms = round(spans[span.start][0] * frame_ms), round(spans[span.stop - 1][1] * frame_ms)
        timed.append(Word(text, start_ms, end_ms, confidence))
    return tuple(timed)
