"""The documents' form: lines that fit, and links that lead somewhere."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from scripts.speech import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

LONGEST_LINE = 120
SOURCES = [path.as_posix() for path in ROOT.glob("*/**/*.py") if path.relative_to(ROOT).parts[0][0] != "."]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
OTHERS = sorted(page for room in ("models", "scripts", "tests") for page in (ROOT / room).rglob("README.md"))
FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"\]\(([^)\s]+)\)")
DEFINED = re.compile(r"^\[[^\]]+\]: (\S+)$", re.MULTILINE)


def anchors(page: str) -> set[str]:
    """What GitHub calls the headings: lower case, without marks, blanks as hyphens, a second one of a name counted."""
    found: set[str] = set()
    for heading in re.findall(r"^#+ (.+)$", FENCED.sub("", page), re.MULTILINE):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", text.strip().lower()).replace(" ", "-")
        number = next(number for number in range(1000) if _numbered(slug, number) not in found)
        found.add(_numbered(slug, number))
    return found


def _numbered(slug: str, number: int) -> str:
    return f"{slug}-{number}" if number else slug


def links(page: str) -> Iterator[str]:
    prose = FENCED.sub("", page)
    yield from INLINE.findall(prose)
    yield from DEFINED.findall(prose)


def leads_nowhere(link: str, page: Path) -> bool:
    """Of links within the repository; those to the web are not asked."""
    if re.match(r"[a-z]+:", link):
        return False
    path, _, anchor = link.partition("#")
    target = (page.parent / path).resolve() if path else page
    if not target.exists():
        return True
    return bool(anchor) and anchor not in anchors(target.read_text(encoding="utf-8"))


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", [*PAGES, *OTHERS], ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    assert [link for link in links(page.read_text(encoding="utf-8")) if leads_nowhere(link, page)] == []


@pytest.mark.parametrize("page", [*PAGES, *OTHERS], ids=name)
def test_lines_fit(page: Path) -> None:
    rows_too = page in PAGES
    lines = page.read_text(encoding="utf-8").splitlines()
    long = [f"{at}: {line}" for at, line in enumerate(lines, start=1) if len(line) > LONGEST_LINE]
    assert [line for line in long if rows_too or ": | " not in line] == []


@pytest.mark.parametrize("page", [*PAGES, *OTHERS], ids=name)
def test_files_that_are_named_are_there(page: Path) -> None:
    """`engine/queue.py` is a file of some room, wherever that lies."""
    named = set(re.findall(r"`([\w./-]+\.py)`", page.read_text(encoding="utf-8")))
    assert {file for file in named if not any(f"/{each}".endswith(f"/{file}") for each in SOURCES)} == set()


def test_anchors_are_those_of_github() -> None:
    page = "# One, two\n\n## `a_b` and [c](d.md)\n\n```\n# not one\n```\n\n## One, two\n"
    assert anchors(page) == {"one-two", "a_b-and-c", "one-two-1"}


def test_a_link_to_nothing_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Here\n", encoding="utf-8")
    assert not leads_nowhere("#here", page)
    assert not leads_nowhere("page.md#here", page)
    assert not leads_nowhere("https://example.com/#x", page)
    assert leads_nowhere("#there", page)
    assert leads_nowhere("other.md", page)


# The README's rows, and those of the measurements' first table that they are from.
ROWS = {
    "words wrong": "words wrong",
    "calls held": "calls held",
    "within 500 ms": "within 500 ms",
    "last words": "final after half-close",
    "first words": "first words",
    "recordings": "files, s of recording",
    "start": "start to SERVING",
    "memory": "memory when serving",
}


def test_the_readmes_figures_are_those_that_hold_now() -> None:
    """Each of a row's figures stands in the same column of its row of the measurements: neither goes on alone."""
    columns, measured = table(ROOT / "docs" / "measurements.md")
    ours, told = table(ROOT / "README.md")
    assert [column.split()[0] for column in ours] == ["second", "first"]
    assert len(told) == len(ROWS)
    for row, cells in told.items():
        theirs = measured[one_of(measured, ROWS[one_of(ROWS, row, reverse=True)])]
        assert figures(" ".join(cells)), row
        for column, cell in zip(ours, cells, strict=True):
            at = next(at for at, name in enumerate(columns) if name.split()[:1] == column.split()[:1])
            assert figures(cell) <= figures(theirs[at]), (row, column)


def one_of(names: Iterable[str], wanted: str, *, reverse: bool = False) -> str:
    """The name that begins as is wanted; reverse: as which the wanted begins."""
    (found,) = [name for name in names if (wanted.startswith(name) if reverse else name.startswith(wanted))]
    return found


def table(page: Path) -> tuple[list[str], dict[str, list[str]]]:
    """The columns of a page's first table, and its rows by their names, all without marks."""
    head, rows = re.split(r"^\| --- .*\n", page.read_text(encoding="utf-8"), maxsplit=1, flags=re.MULTILINE)
    cells = [[cell.strip(" *") for cell in line.strip("|").split("|")] for line in rows.split("\n\n")[0].splitlines()]
    columns = [cell.strip(" *") for cell in head.rstrip().splitlines()[-1].strip("|").split("|")][1:]
    return columns, {row[0].replace("**", ""): row[1:] for row in cells}


def figures(cell: str) -> set[str]:
    return set(re.findall(r"\d+(?:\.\d+)?", cell))
