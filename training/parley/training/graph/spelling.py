"""Words to tokens. Knows a vocabulary's pieces, not the model behind them.

The pieces are a byte pair encoding as SentencePiece makes it: a piece that was merged earlier stands earlier in the
table. So the table alone says how the training text was cut: of all neighbours that form a piece the earliest piece is
merged first (Sennrich et al. 2016, "Neural Machine Translation of Rare Words with Subword Units").
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from parley.decoder.text.vocabulary import SPACE

if TYPE_CHECKING:
    from parley.decoder.text.vocabulary import Vocabulary

MARK = SPACE.decode()


class Spelling:
    def __init__(self, vocabulary: Vocabulary) -> None:
        self._ids: dict[str, int] = {}
        for at, piece in enumerate(vocabulary.pieces):
            text = piece.decode(errors="replace")
            if not vocabulary.is_special(piece):
                self._ids.setdefault(text, at)
        self.tokens = len(vocabulary.pieces)
        letters = "".join(self._ids)
        self._fold = str.upper if letters.upper() == letters else str.lower if letters.lower() == letters else str

    def folded(self, word: str) -> str:
        """In the case that the vocabulary has."""
        return self._fold(word)

    def spell(self, word: str) -> tuple[int, ...] | None:
        """None if a letter of it is not among the pieces."""
        parts = [*(MARK + self.folded(word))]
        while len(parts) > 1:
            ranked = [
                (self._ids.get(left + right, self.tokens), at) for at, (left, right) in enumerate(pairwise(parts))
            ]
            rank, at = min(ranked)
            if rank == self.tokens:
                break
            parts[at : at + 2] = [parts[at] + parts[at + 1]]
        if any(part not in self._ids for part in parts):
            return None
        return tuple(self._ids[part] for part in parts)
