"""Why a protocol cannot be had, and that a fault of ours is not taken for a package that nobody installed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from parley.server.node import protocols

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def importing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The source of the module of a protocol, "other", yet to be written."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(protocols, "MODULES", {"other": "module_of_another_protocol"})
    return tmp_path / "module_of_another_protocol.py"


def test_a_package_that_is_not_there_is_named_with_its_extra(importing: Path) -> None:
    importing.write_text("import nowhere_to_be_found.at_all\n")
    found = protocols.missing("other")
    assert found == (
        "got 'other', which needs a package that is not installed (nowhere_to_be_found): the extra [other] has it"
    )


@pytest.mark.parametrize("source", ["import parley.server.nowhere", "from os import nowhere"])
def test_what_is_there_and_broken_is_no_package_that_is_missing(importing: Path, source: str) -> None:
    importing.write_text(source)
    with pytest.raises(ImportError, match="nowhere"):
        protocols.missing("other")
