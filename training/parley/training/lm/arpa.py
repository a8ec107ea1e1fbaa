"""ARPA files, read and written, gzipped if the name ends in .gz. Knows the text format, not what the model is for."""

from __future__ import annotations

import gzip
import io
import math
import zlib
from typing import IO, TYPE_CHECKING, cast

import numpy as np

from parley.training.lm.errors import BadModel
from parley.training.lm.files import written_whole
from parley.training.lm.model import NgramModel, Rows, assemble, row_codes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MOST_ORDER = 5  # that the decoder reads


def read_arpa(path: Path) -> NgramModel:
    """Raises BadModel with the line of the first fault."""
    with _open(path, "r") as file:
        reader = _Reader(path, file)
        try:
            return reader.read()
        except (UnicodeDecodeError, EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise BadModel(f"{path}, after line {reader.line}: not a readable text file ({error})") from None


def write_arpa(model: NgramModel, path: Path) -> None:
    """Puts the file into place as a whole."""
    with written_whole(path) as partial, _open(partial, "w") as file:
        file.write("\\data\\\n")
        file.writelines(f"ngram {order}={count}\n" for order, count in enumerate(model.counts, start=1))
        words = np.array(model.words, object)
        for order, ngrams in enumerate(model.orders, start=1):
            file.write(f"\n\\{order}-grams:\n")
            texts = map(" ".join, words[model.rows(order)])
            # Single precision, which is what a binary model holds, in as many digits as tell its values apart.
            probs = ngrams.log10_probs.astype(np.float32).tolist()
            if order == len(model.orders):
                file.writelines(f"{prob:.9g}\t{text}\n" for prob, text in zip(probs, texts, strict=True))
            else:
                backoffs = ngrams.log10_backoffs.astype(np.float32).tolist()
                lines = zip(probs, texts, backoffs, strict=True)
                file.writelines(f"{prob:.9g}\t{text}\t{backoff:.9g}\n" for prob, text, backoff in lines)
        file.write("\n\\end\\\n")


def _open(path: Path, mode: str) -> IO[str]:
    if path.suffix == ".gz":
        return io.TextIOWrapper(cast("IO[bytes]", gzip.GzipFile(path, f"{mode}b")), encoding="utf8", newline="\n")
    return path.open(mode, encoding="utf8", newline="\n")


class _Reader:
    def __init__(self, path: Path, file: IO[str]) -> None:
        self._path = path
        self.line = 0
        self._lines = self._numbered(file)
        self._words: dict[str, int] = {}

    def fault(self, text: str) -> BadModel:
        return BadModel(f"{self._path}, line {self.line}: {text}")

    def read(self) -> NgramModel:
        counts = self._counts()
        tables = [self._section(order, count, order == len(counts)) for order, count in enumerate(counts, start=1)]
        line = self._next("\\end\\")
        if line != "\\end\\":
            raise self.fault(f"found {line[:80]!r}, expected \\end\\")
        return assemble(list(self._words), tables)

    def _numbered(self, file: IO[str]) -> Iterator[str]:
        """The lines that are not blank."""
        for self.line, line in enumerate(file, start=1):
            if text := line.strip("\r\n \t"):
                yield text

    def _next(self, expected: str) -> str:
        line = next(self._lines, None)
        if line is None:
            raise self.fault(f"the file ends here, expected {expected}")
        return line

    def _counts(self) -> list[int]:
        """Of each order. Whatever stands before \\data\\ is a comment."""
        while self._next("\\data\\, with which an ARPA model begins") != "\\data\\":
            pass
        counts: list[int] = []
        while True:
            expected = f"`ngram {len(counts) + 1}=COUNT`"
            line = self._next(expected)
            if line == "\\1-grams:" and counts:
                return counts
            name, _, count = line.partition("=")
            if name.split() != ["ngram", str(len(counts) + 1)] or not count.strip().isdigit():
                raise self.fault(f"found {line[:80]!r}, expected {expected}")
            counts.append(int(count))
            if not counts[0]:
                raise self.fault("no 1-grams, expected one for each word")
            if len(counts) > MOST_ORDER:
                raise self.fault(f"order {len(counts)}, expected {MOST_ORDER} at most")

    def _section(self, order: int, count: int, last: bool) -> Rows:
        if order > 1:
            line = self._next(f"\\{order}-grams:")
            if line != f"\\{order}-grams:":
                raise self.fault(f"found {line[:80]!r}, expected \\{order}-grams: (the header counts no more)")
        ids = np.zeros((count, order), np.int64)
        probs = np.zeros(count)
        backoffs = np.zeros(count)
        for row in range(count):
            fields = self._next(f"{count} {order}-grams, there are {row}").split()
            if len(fields) != order + 1 and (last or len(fields) != order + 2):
                raise self.fault(
                    f"{len(fields)} fields, expected a probability, {order} words"
                    f"{'' if last else ' and perhaps a back-off'}; the header promises {count} {order}-grams"
                )
            probs[row] = self._number_at_most(fields[0], 0.0, "a log10 probability, 0 or less")
            if order == 1:
                if self._words.setdefault(fields[1], row) != row:
                    raise self.fault(f"{fields[1]!r} for the second time")
                ids[row] = row
            else:
                ids[row] = [self._id(word) for word in fields[1 : order + 1]]
            if len(fields) == order + 2:
                backoffs[row] = self._number_at_most(fields[-1], math.inf, "a log10 back-off")
        if len(np.unique(row_codes(ids))) < count:
            raise self.fault(f"some {order}-gram of the section above comes twice")
        return Rows(ids, probs, backoffs)

    def _id(self, word: str) -> int:
        try:
            return self._words[word]
        except KeyError:
            raise self.fault(f"{word!r} is not among the 1-grams") from None

    def _number_at_most(self, text: str, limit: float, expected: str) -> float:
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if not (math.isfinite(number) and number <= limit):
            raise self.fault(f"found {text[:40]!r}, expected {expected}")
        return number
