"""Sentences out of text files, one a line, as lists of words. Knows files and spelling, not what is counted."""

from __future__ import annotations

import gzip
import re
import sys
import zlib
from pathlib import Path
from typing import IO, TYPE_CHECKING

from parley.training.lm.errors import BadModel
from parley.training.lm.model import SENTENCE_END, SENTENCE_START

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

STANDARD_INPUT = "-"
NOT_OF_A_WORD = re.compile(r"[^\w' ]|[\d_]")
BLANK = re.compile(r"[-\s]")
# A model's file ends its words by zeros, and counts sentence marks itself.
RESERVED = (SENTENCE_START, SENTENCE_END)


def spoken_words(line: str) -> list[str]:
    """As word error rates are counted: lower case, hyphens to blanks, nothing but letters and apostrophes."""
    return NOT_OF_A_WORD.sub("", BLANK.sub(" ", line.lower().replace("\u2019", "'"))).split()


def words_as_they_are(line: str) -> list[str]:
    return line.split()


def sentences(
    sources: Sequence[str], words_of: Callable[[str], list[str]], read: Callable[[int], object]
) -> Iterator[list[str]]:
    """Of each file in turn (`-` is standard input), without those that have no word. `read` is told the bytes that each
    step took from the disk."""
    for source in sources:
        yield from _sentences(source, words_of, read)


def _sentences(source: str, words_of: Callable[[str], list[str]], read: Callable[[int], object]) -> Iterator[list[str]]:
    if source == STANDARD_INPUT:
        yield from _lines(source, sys.stdin.buffer, words_of, lambda: 0, read)
        return
    path = Path(source)
    with path.open("rb") as raw:
        if path.suffix == ".gz":
            with gzip.GzipFile(fileobj=raw) as unpacked:
                yield from _lines(source, unpacked, words_of, raw.tell, read)
        else:
            yield from _lines(source, raw, words_of, raw.tell, read)


def _lines(
    source: str,
    file: IO[bytes] | gzip.GzipFile,
    words_of: Callable[[str], list[str]],
    tell: Callable[[], int],
    read: Callable[[int], object],
) -> Iterator[list[str]]:
    number = place = 0
    try:
        for number, line in enumerate(file, start=1):
            if number % 4096 == 0:
                read(tell() - place)
                place = tell()
            words = words_of(line.decode("utf8"))
            for word in RESERVED:
                if word in words:
                    raise BadModel(f"{source}, line {number}: has the word {word}, which marks a sentence's edge")
            if any("\0" in word for word in words):
                raise BadModel(f"{source}, line {number}: has a zero byte, expected text")
            if words:
                yield words
    except UnicodeDecodeError as error:
        raise BadModel(f"{source}, line {number}: not UTF-8 text ({error.reason} at byte {error.start})") from None
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise BadModel(f"{source}, after line {number}: not a whole gzip file ({error})") from None
    read(tell() - place)
