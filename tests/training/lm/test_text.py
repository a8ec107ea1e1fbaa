"""Sentences out of files."""

from __future__ import annotations

import gzip
import io
import sys
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley.training.lm.errors import BadModel
from parley.training.lm.text import sentences, spoken_words, words_as_they_are
from scripts.scoring import normalize

if TYPE_CHECKING:
    from pathlib import Path


@given(st.text() | st.text("aB'\u2019-_ 7\u00dc.\t"))
def test_words_are_those_that_error_rates_are_counted_in(line: str) -> None:
    assert spoken_words(line) == normalize(line)


def test_plain_and_packed_files_follow_each_other_without_blank_lines(tmp_path: Path) -> None:
    plain, packed = tmp_path / "a.txt", tmp_path / "b.txt.gz"
    plain.write_text("One two.\n\n  \n--\nThree", encoding="utf8")
    packed.write_bytes(gzip.compress("F\u00fcnf\r\nsix\n".encode()))
    read: list[int] = []
    found = list(sentences([str(plain), str(packed)], spoken_words, read.append))
    assert found == [["one", "two"], ["three"], ["f\u00fcnf"], ["six"]]
    assert sum(read) == plain.stat().st_size + packed.stat().st_size


def test_progress_is_told_on_the_way(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("a word\n" * 10_000)
    read: list[int] = []
    assert len(list(sentences([str(path)], spoken_words, read.append))) == 10_000
    assert sum(read) == path.stat().st_size
    assert len(read) > 2


def test_spelling_can_be_kept(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("The 2nd U.S. tour\n")
    assert list(sentences([str(path)], words_as_they_are, lambda _: None)) == [["The", "2nd", "U.S.", "tour"]]


def test_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"one\ntwo three\n")))
    assert list(sentences(["-"], spoken_words, lambda _: None)) == [["one"], ["two", "three"]]


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (b"good\n\xff bad\n", "line 2: not UTF-8 text"),
        (b"good\n\n<s> so </s>\n", "line 3: has the word <s>"),
        (b"so </s>\n", "line 1: has the word </s>"),
        (b"ze\0ro\n", "line 1: has a zero byte"),
    ],
)
def test_faults_name_file_and_line(tmp_path: Path, data: bytes, fault: str) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(data)
    with pytest.raises(BadModel, match=fault) as caught:
        list(sentences([str(path)], words_as_they_are, lambda _: None))
    assert str(path) in str(caught.value)


def test_a_packed_file_cut_short_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.txt.gz"
    path.write_bytes(gzip.compress(b"a line\n" * 5_000)[:-9])
    with pytest.raises(BadModel, match="not a whole gzip file"):
        list(sentences([str(path)], spoken_words, lambda _: None))
