"""Hotwords as a person gives them: phrase by phrase, or in a file. Knows the file's form; limits are the server's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from parley.clients.cli.common import UsageFault

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

    from parley.clients.config import Hotword


def hotwords(args: argparse.Namespace) -> tuple[Hotword, ...]:
    """Of --hotword and --hotwords. Raises UsageFault."""
    given: list[Hotword] = list(args.hotword)
    if args.hotwords is not None:
        given += read_hotwords(args.hotwords)
    return tuple(given)


def read_hotwords(path: Path) -> list[Hotword]:
    """A phrase a line, behind a tab its boost if it is to have another than the usual; `#` begins a comment line.
    Raises UsageFault."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        raise UsageFault(f"--hotwords: {path}: got bytes that are no UTF-8, expected text") from None
    phrases: list[Hotword] = []
    for number, line in enumerate(lines, 1):
        text, tab, boost = line.partition("\t")
        if not text.strip() or text.startswith("#"):
            continue
        try:
            phrases.append((text.strip(), float(boost)) if tab else text.strip())
        except ValueError:
            raise UsageFault(f"--hotwords: {path}: line {number}: got boost {boost!r}, expected a number") from None
    return phrases
