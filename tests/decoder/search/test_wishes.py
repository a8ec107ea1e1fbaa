"""What requests' searches are made of: defaults and their own, files read anew while others go on, files refused."""

from __future__ import annotations

import gc
import weakref
from typing import TYPE_CHECKING

import numpy as np
import pytest

from parley.decoder.errors import InvalidOption, ModelError
from parley.decoder.search.hotwords import automaton, step
from parley.decoder.search.wishes import Weights, WishMaker, read_phrases
from parley.decoder.values import MOST_PHRASES, Phrase, SearchOptions
from parley.training.lm.perplexity import log_probs_of
from tests.decoder.searching import random_table, read_model

if TYPE_CHECKING:
    from pathlib import Path

    from parley.decoder.search.hotwords import Automaton

WEIGHTS = Weights(beam=12, language_weight=0.75, word_bonus=1.5)


def write_model(path: Path, *words: str) -> Path:
    table = random_table(np.random.default_rng(len(words)), words, 2)
    read_model(table, path)
    return path


def write_hotwords(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines), encoding="utf8")
    return path


def earned(phrases: Automaton, text: str) -> float:
    state, total = 0, 0.0
    for byte in f" {text} ".encode():
        state, gained = step(phrases, state, byte)
        total += gained
    return total


def test_a_request_that_says_nothing_has_what_the_node_has(tmp_path: Path) -> None:
    model = write_model(tmp_path / "a.lm", "anna", "lena")
    maker = WishMaker(WEIGHTS, model, write_hotwords(tmp_path / "hot", "anna\t4"))
    wishes = maker.wishes(SearchOptions())
    assert (wishes.beam, wishes.language_weight, wishes.word_bonus, wishes.before) == (12, 0.75, 1.5, ())
    assert wishes.language_model is maker.sources.language_model
    assert wishes.language_model.index("lena") > 0
    assert earned(wishes.hotwords, "anna") == 4.0
    assert maker.wishes(SearchOptions()).hotwords is wishes.hotwords  # made once for all


def test_a_request_has_its_own(tmp_path: Path) -> None:
    maker = WishMaker(WEIGHTS, write_model(tmp_path / "a.lm", "anna"), write_hotwords(tmp_path / "hot", "anna\t4"))
    options = SearchOptions(beam=1, language_weight=0.0, word_bonus=0.0, hotwords=(Phrase("Lena K", 2.0),))
    wishes = maker.wishes(options)
    assert (wishes.beam, wishes.language_weight, wishes.word_bonus) == (1, 0.0, 0.0)
    assert earned(wishes.hotwords, "anna lena k") == 4.0 + 3.0  # beside the node's own
    assert earned(maker.wishes(SearchOptions()).hotwords, "lena k") == 0.0


def test_case_is_the_language_models(tmp_path: Path) -> None:
    for name, index, heard, other in (("Anna", 1, "Anna", "anna"), ("anna", 0, "anna", "Anna")):
        maker = WishMaker(WEIGHTS, write_model(tmp_path / f"{index}.lm", name), None)
        hotwords = maker.wishes(SearchOptions(hotwords=(Phrase("Anna", 4.0),))).hotwords
        assert (earned(hotwords, heard), earned(hotwords, other)) == (4.0, 0.0)
    plain = WishMaker(WEIGHTS, None, None).wishes(SearchOptions(hotwords=(Phrase("Anna", 4.0),)))
    assert earned(plain.hotwords, "anna") == 4.0


def test_without_a_language_model_there_is_no_weight_to_set() -> None:
    maker = WishMaker(WEIGHTS, None, None)
    assert maker.sources.language_model.order == 0
    assert maker.wishes(SearchOptions(language_weight=0.0)).language_weight == 0.0
    assert maker.wishes(SearchOptions()).language_model.order == 0
    with pytest.raises(InvalidOption, match="no language model is loaded") as caught:
        maker.wishes(SearchOptions(language_weight=0.5))
    assert "language_weight" in str(caught.value)


def test_files_are_read_anew_for_those_who_come_then(tmp_path: Path) -> None:
    """Those who are there go on with the old ones, which are free with the last of them."""
    model, hotwords = write_model(tmp_path / "a.lm", "anna"), write_hotwords(tmp_path / "hot", "anna\t4")
    maker = WishMaker(WEIGHTS, model, hotwords)
    first, second = maker.wishes(SearchOptions()), maker.wishes(SearchOptions())
    old = weakref.ref(first.language_model)
    write_model(model, "lena", "mia")
    write_hotwords(hotwords, "lena\t8")
    maker.reload()
    new = maker.wishes(SearchOptions())
    assert (new.language_model.index("lena") > 0, new.language_model.index("anna")) == (True, 0)
    assert (earned(new.hotwords, "lena"), earned(new.hotwords, "anna")) == (8.0, 0.0)
    assert first.language_model.index("anna") > 0
    assert log_probs_of(first.language_model, ["anna"])[0] < 0  # the old file's numbers are still there
    assert earned(first.hotwords, "anna") == 4.0
    del first
    gc.collect()
    assert old() is not None
    del second
    gc.collect()
    assert old() is None


@pytest.mark.parametrize("broken", ["model", "hotwords"])
def test_files_that_cannot_be_read_anew_change_nothing(tmp_path: Path, broken: str) -> None:
    model, hotwords = write_model(tmp_path / "a.lm", "anna"), write_hotwords(tmp_path / "hot", "anna\t4")
    maker = WishMaker(WEIGHTS, model, hotwords)
    before = maker.wishes(SearchOptions())
    if broken == "model":
        replacement = tmp_path / "new"
        replacement.write_bytes(b"no model at all")
        replacement.replace(model)  # as a file that is mapped is to be replaced
        write_hotwords(hotwords, "lena")
    else:
        write_model(model, "lena", "mia")
        hotwords.unlink()
    with pytest.raises(ModelError):
        maker.reload()
    after = maker.wishes(SearchOptions())
    assert after.language_model is before.language_model
    assert after.hotwords is before.hotwords


def test_a_maker_is_refused_with_its_files(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="not a readable language model"):
        WishMaker(WEIGHTS, tmp_path / "none.lm", None)
    with pytest.raises(ModelError, match="not a readable list of hotwords"):
        WishMaker(WEIGHTS, None, tmp_path / "none")


# Lists of hotwords.


def test_a_list_of_hotwords(tmp_path: Path) -> None:
    path = write_hotwords(
        tmp_path / "hot", "# names", "Anna Karenina", "  Łódź\t7.5", "", " \t3", "x\t0", "c# minor ", "a\t 2 "
    )
    assert read_phrases(path) == (
        Phrase("Anna Karenina"),
        Phrase("Łódź", 7.5),
        Phrase("x", 0.0),
        Phrase("c# minor"),
        Phrase("a", 2.0),
    )
    assert earned(automaton(read_phrases(path), lower=True), "łódź") == 7.5 * len("łódź".encode()) / 4


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("anna\tmuch", "could not convert"),
        ("anna\t", "could not convert"),
        ("anna\t2\t3", "could not convert"),
        ("anna\t21", "0 to 20"),
        ("anna\t-1", "0 to 20"),
        ("anna\tnan", "0 to 20"),
        ("x" * 101, "1 to 100 printable characters"),
        ("an\x07na", "1 to 100 printable characters"),
    ],
)
def test_a_list_that_is_not_right(tmp_path: Path, line: str, fault: str) -> None:
    path = write_hotwords(tmp_path / "hot", "anna", line)
    with pytest.raises(ModelError) as caught:
        read_phrases(path)
    assert str(caught.value).startswith(f"{path}: line 2: ")
    assert fault in str(caught.value)


def test_lists_that_are_none(tmp_path: Path) -> None:
    path = tmp_path / "hot"
    path.write_bytes(b"anna\n\xff\xfe")
    with pytest.raises(ModelError, match="not a readable list of hotwords"):
        read_phrases(path)
    write_hotwords(path, *["anna"] * (MOST_PHRASES + 1))
    with pytest.raises(ModelError, match="got 1001 phrases, expected at most 1000"):
        read_phrases(path)
    assert len(read_phrases(write_hotwords(path, *["anna"] * MOST_PHRASES))) == MOST_PHRASES
