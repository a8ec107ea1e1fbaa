"""Searches by kind: each offers what the table says, and what it runs on is asked for by name where it is missing."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from parley.decoder.config import RecognizerConfig
from parley.decoder.device import CPU
from parley.decoder.errors import InvalidOption, ModelError
from parley.decoder.model_folder import ModelFolder
from parley.decoder.search.lattice.k2 import available
from parley.decoder.search.registry import KINDS, graph_files, open_searches
from parley.decoder.text.vocabulary import Vocabulary
from parley.decoder.values import Passes, SearchKind, SearchOptions
from tests.decoder.reference import EN_STREAMING

if TYPE_CHECKING:
    from pathlib import Path

    from parley.decoder.search.registry import Searches

HERE = [kind for kind in SearchKind if kind is not SearchKind.K2 or available() is None]
TINY = Vocabulary([b"<blk>", "▁a".encode()])


def opened(kind: SearchKind) -> Searches:
    config = RecognizerConfig(first_model_dir=EN_STREAMING, passes=Passes.FIRST, search=kind)
    return open_searches(ModelFolder.read(EN_STREAMING), config)


def test_every_kind_is_there() -> None:
    assert KINDS.keys() == set(SearchKind)


@pytest.mark.parametrize("kind", HERE)
def test_each_offers_what_the_table_says(kind: SearchKind) -> None:
    searches, row = opened(kind), KINDS[kind]
    assert (searches.wishes is not None) is row.wishes
    if searches.wishes is None:
        return
    wished = SearchOptions(lattice=True)
    if kind is SearchKind.K2:
        assert searches.wishes.wishes(wished).lattice
    else:
        with pytest.raises(InvalidOption, match=r"search\.lattice"):
            searches.wishes.wishes(wished)


@pytest.mark.parametrize("kind", HERE)
def test_each_makes_searches_for_as_many_slots_as_are_asked_for(kind: SearchKind) -> None:
    searches = opened(kind)
    try:
        here = searches.on(CPU, 1, TINY, 0)
        assert (here.lattices is not None) is (kind is SearchKind.K2)
        search = here.searches(3)
        for slot in range(3):
            search.begin(slot, None if searches.wishes is None else searches.wishes.wishes(SearchOptions()))
            assert search.best(slot).tokens == ()
    finally:
        searches.close()


@pytest.mark.parametrize(("kind", "package"), [(SearchKind.BEST_PATH, "torch"), (SearchKind.BEAM, "numba")])
def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch, kind: SearchKind, package: str) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ModelError) as refused:
        opened(kind)
    assert str(refused.value) == (
        f"search = '{kind.value}': got no package {package}, expected it: pip install 'parley-asr[first-pass]'"
    )


def test_a_graph_may_not_be_called_as_that_which_is_always_there(tmp_path: Path) -> None:
    (tmp_path / "bank.graph").touch()
    assert graph_files(tmp_path) == {"bank": tmp_path / "bank.graph"}
    (tmp_path / "tokens.graph").touch()
    with pytest.raises(ModelError, match=r"tokens\.graph: got a graph of this name, expected another"):
        graph_files(tmp_path)


def test_the_registries_load_nothing_heavy() -> None:
    """A node without a first pass has no torch and no numba."""
    code = (
        "import sys, parley.decoder.search.registry, parley.decoder.models.registry;"
        "print({'torch', 'numba', 'onnxruntime', 'k2', 'safetensors'} & sys.modules.keys())"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "set()"
