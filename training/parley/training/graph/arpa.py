"""ARPA files, the text form of n-gram language models. Knows the format, not what the model is for."""

from __future__ import annotations

import gzip
import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, TextIO

import numpy as np

from parley.training.graph.words import GrammarError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

LOG_10 = math.log(10.0)
NEVER = -99.0  # and below: how ARPA writes the logarithm of 0
MOST_ORDER = 6


@dataclass(frozen=True, slots=True, eq=False)
class Grams:
    """The n-grams of one order: words (n, order), natural logarithms (n,). Without back-off: 0."""

    words: NDArray[np.int32]
    log_prob: NDArray[np.float32]
    backoff: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Arpa:
    """`words[id]`; `orders[n - 1]` are the n-grams."""

    words: tuple[str, ...]
    orders: tuple[Grams, ...]


def read_arpa(path: Path) -> Arpa:
    """A .arpa or .arpa.gz. Raises GrammarError with the line's number."""
    try:
        with gzip.open(path, "rt", encoding="utf8") if path.suffix == ".gz" else path.open(encoding="utf8") as file:
            return _Reader(file, str(path)).read()
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise GrammarError(f"{path}: not a readable ARPA file: {error}") from None


class _Reader:
    def __init__(self, file: TextIO, name: str) -> None:
        self._file, self._name, self._number, self._line = file, name, 0, ""

    def read(self) -> Arpa:
        while self._next() != "\\data\\":
            pass
        counts: list[int] = []
        while (found := re.fullmatch(r"ngram +(\d+) *= *(\d+)", self._next())) is not None:
            if int(found[1]) != len(counts) + 1 or len(counts) == MOST_ORDER:
                raise self._fault(f"ngram {len(counts) + 1}=COUNT; orders up to {MOST_ORDER}")
            counts.append(int(found[2]))
        if not counts:
            raise self._fault("ngram 1=COUNT")
        words: dict[str, int] = {}
        orders = []
        for order, count in enumerate(counts, 1):
            if self._line != f"\\{order}-grams:":
                raise self._fault(f"\\{order}-grams:")
            orders.append(self._grams(order, count, len(counts), words))
        if self._line != "\\end\\":
            raise self._fault("\\end\\")
        return Arpa(tuple(words), tuple(orders))

    def _grams(self, order: int, count: int, highest: int, words: dict[str, int]) -> Grams:
        ids, log_probs, backoffs = [], [], []
        expected = f"a base-10 logarithm, {order} known words" + (", and a back-off" if order < highest else "")
        while not self._next().startswith("\\"):
            fields = self._line.split()
            try:
                log_prob = float(fields[0])
                backoff = float(fields[order + 1]) if len(fields) > order + 1 and order < highest else 0.0
                if order == 1:
                    ids.append([words.setdefault(fields[1], len(words))])
                else:
                    ids.append([words[word] for word in fields[1 : order + 1]])
            except (ValueError, KeyError, IndexError):
                raise self._fault(expected) from None
            if len(fields) not in (order + 1, order + 2) or len(ids[-1]) != order:
                raise self._fault(expected)
            if not (log_prob < 0.01 and math.isfinite(backoff)):  # rounding makes it more than 0 here and there
                raise self._fault(expected)
            log_probs.append(log_prob)
            backoffs.append(backoff)
        if len(ids) != count or (order == 1 and len(words) != count):
            raise self._fault(f"{count} different {order}-grams, of which there were {len(ids)}")
        logs = np.array(log_probs, np.float32)
        return Grams(
            np.array(ids, np.int32).reshape(-1, order),
            np.where(logs <= NEVER, -np.inf, logs * LOG_10).astype(np.float32),
            (np.array(backoffs, np.float32) * LOG_10).astype(np.float32),
        )

    def _next(self) -> str:
        """The next line with something on it."""
        for line in self._file:
            self._number += 1
            self._line = line.strip()
            if self._line:
                return self._line
        self._number += 1
        self._line = ""
        raise GrammarError(f"{self._name}: line {self._number}: got the file's end, expected \\end\\ before it")

    def _fault(self, expected: str) -> GrammarError:
        found = self._line if len(self._line) <= 80 else self._line[:77] + "..."
        return GrammarError(f"{self._name}: line {self._number}: got {found!r}, expected {expected}")
