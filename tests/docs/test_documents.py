"""The documents' form: lines that fit, and links that lead somewhere."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from scripts.speech import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LONGEST_LINE = 120
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


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_lines_fit(page: Path) -> None:
    lines = page.read_text(encoding="utf-8").splitlines()
    assert [f"{at}: {line}" for at, line in enumerate(lines, start=1) if len(line) > LONGEST_LINE] == []


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


def test_the_readmes_figures_are_those_that_hold_now() -> None:
    """Each row's numbers stand in one row of the first table of the measurements: neither goes on without the other."""
    measured = [figures(row) for row in table(ROOT / "docs" / "measurements.md")]
    told = table(ROOT / "README.md")
    assert len(told) >= 8
    assert [row for row in told if not any(figures(row) <= each for each in measured)] == []


def table(page: Path) -> list[list[str]]:
    """The cells of a page's first table, without those that name its rows and columns."""
    lines = re.split(r"^\| --- .*\n", page.read_text(encoding="utf-8"), maxsplit=1, flags=re.MULTILINE)[1]
    return [line.strip("|").split("|")[1:] for line in lines.split("\n\n")[0].splitlines()]


def figures(cells: list[str]) -> set[str]:
    return set(re.findall(r"\d+(?:\.\d+)?", " ".join(cells)))
