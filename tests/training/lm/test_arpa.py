"""ARPA files: read, written, refused with the line."""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING

import pytest

from parley.training.lm.arpa import read_arpa, write_arpa
from parley.training.lm.errors import BadModel
from tests.training.lm.tables import table_of

if TYPE_CHECKING:
    from pathlib import Path

TEXT = """made by hand
\\data\\
ngram 1=5
ngram 2=3
ngram 3=1

\\1-grams:
-2\t<unk>
-99\t<s>\t-0.25
-0.5\t</s>\t0
-1\tder\t-0.125
-1.5 \u00fcber -0.5

\\2-grams:
-0.5\t<s> der\t-0.25
-0.75\tder \u00fcber\t-1
-1\t\u00fcber </s>

\\3-grams:
-0.0625\t<s> der \u00fcber

\\end\\
"""


def test_an_arpa_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.arpa"
    path.write_text(TEXT, encoding="utf8")
    model = read_arpa(path)
    assert model.words == ("<unk>", "<s>", "</s>", "der", "\u00fcber")
    assert table_of(model) == {
        ("<unk>",): (-2.0, 0.0),
        ("<s>",): (-99.0, -0.25),
        ("</s>",): (-0.5, 0.0),
        ("der",): (-1.0, -0.125),
        ("\u00fcber",): (-1.5, -0.5),
        ("<s>", "der"): (-0.5, -0.25),
        ("der", "\u00fcber"): (-0.75, -1.0),
        ("\u00fcber", "</s>"): (-1.0, 0.0),
        ("<s>", "der", "\u00fcber"): (-0.0625, 0.0),
    }


@pytest.mark.parametrize("name", ["b.arpa", "b.arpa.gz"])
def test_what_is_written_is_read_again(tmp_path: Path, name: str) -> None:
    source = tmp_path / "a.arpa"
    source.write_text(TEXT, encoding="utf8")
    model = read_arpa(source)
    write_arpa(model, tmp_path / name)
    assert table_of(read_arpa(tmp_path / name)) == table_of(model)
    assert (tmp_path / name).read_bytes().startswith(b"\x1f\x8b") == name.endswith(".gz")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["a.arpa", name]


def test_windows_line_ends_and_blanks_for_tabs_do_no_harm(tmp_path: Path) -> None:
    plain, other = tmp_path / "a.arpa", tmp_path / "b.arpa"
    plain.write_text(TEXT, encoding="utf8")
    other.write_bytes(TEXT.replace("\t", "  ").replace("\n", "\r\n").encode())
    assert table_of(read_arpa(other)) == table_of(read_arpa(plain))


@pytest.mark.parametrize(
    ("found", "instead", "fault"),
    [
        ("\\data\\", "data", "line 22: the file ends here, expected \\data\\"),
        ("ngram 2=3", "ngram 3=3", "line 4: found 'ngram 3=3', expected `ngram 2=COUNT`"),
        ("ngram 1=5", "ngram 1=many", "line 3: found 'ngram 1=many'"),
        ("ngram 1=5", "ngram 1=0", "line 3: no 1-grams, expected one for each word"),
        ("ngram 3=1", "ngram 3=1\nngram 4=0\nngram 5=0\nngram 6=0", "line 8: order 6, expected 5 at most"),
        (
            "ngram 1=5",
            "ngram 1=6",
            "line 14: 1 fields, expected a probability, 1 words and perhaps a back-off; the header promises 6 1-grams",
        ),
        ("ngram 1=5", "ngram 1=4", "line 12: found '-1.5 \u00fcber -0.5', expected \\2-grams:"),
        ("-1\tder", "1\tder", "line 11: found '1', expected a log10 probability, 0 or less"),
        ("-1\tder", "nan\tder", "line 11: found 'nan', expected a log10 probability"),
        ("-1\tder\t-0.125", "-1\tder\tx", "line 11: found 'x', expected a log10 back-off"),
        ("-1\tder\t-0.125", "-1\tder\tinf", "line 11: found 'inf', expected a log10 back-off"),
        ("-0.5\t</s>", "-0.5\tder", "line 11: 'der' for the second time"),
        ("\u00fcber </s>", "uber </s>", "line 17: 'uber' is not among the 1-grams"),
        ("<s> der\t", "<s> der der der\t", "line 15: 6 fields, expected a probability, 2 words and perhaps a back-off"),
        ("<s> der \u00fcber", "<s> der \u00fcber -1", "line 20: 5 fields, expected a probability, 3 words;"),
        ("der \u00fcber\t-1", "<s> der\t-1", "line 17: some 2-gram of the section above comes twice"),
        ("\\end\\", "\\4-grams:", "line 22: found '\\\\4-grams:', expected \\end\\"),
        ("\\end\\\n", "", "line 21: the file ends here, expected \\end\\"),
    ],
)
def test_faults_name_the_line(tmp_path: Path, found: str, instead: str, fault: str) -> None:
    path = tmp_path / "a.arpa"
    assert TEXT.count(found) == 1
    path.write_text(TEXT.replace(found, instead), encoding="utf8")
    with pytest.raises(BadModel) as caught:
        read_arpa(path)
    assert str(caught.value).startswith(f"{path}, ")
    assert fault in str(caught.value)


def test_files_that_are_no_text_are_refused(tmp_path: Path) -> None:
    path, packed = tmp_path / "a.arpa", tmp_path / "a.arpa.gz"
    path.write_bytes(b"\\data\\\nngram 1=1\n\xff\xfe")
    packed.write_bytes(gzip.compress(TEXT.encode())[:-20])
    for each in (path, packed):
        with pytest.raises(BadModel, match="not a readable text file"):
            read_arpa(each)


def test_a_file_that_only_looks_packed_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.arpa.gz"
    path.write_text(TEXT, encoding="utf8")
    with pytest.raises(BadModel, match="not a readable text file"):
        read_arpa(path)
