"""`parley graph`: what it makes, what it says, and its exit status."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from parley.training.graph.cli import main
from tests.decoder.conftest import FIRST_MODEL
from tests.training.graph.test_ngram import SMALL

if TYPE_CHECKING:
    from pathlib import Path

GRAMMAR = "#JSGF V1.0;\npublic <call> = [please] call (one | two)+;"
MODEL = f"--model={FIRST_MODEL}"


def test_a_grammar_built_and_checked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, graph = tmp_path / "call.jsgf", tmp_path / "call.graph"
    source.write_text(GRAMMAR, encoding="utf8")
    assert main(["build", str(source), "--output", str(graph), MODEL]) == 0
    assert "jsgf" in capsys.readouterr().out
    assert main(["check", str(graph), MODEL, "--sentence", "Please call two one"]) == 0
    assert "accepted, score 0.00: Please call two one" in capsys.readouterr().out
    sentences = ["call one", "call", "call 1"]
    assert main(["check", str(graph), MODEL, *(f"--sentence={sentence}" for sentence in sentences)]) == 1
    assert capsys.readouterr().out.splitlines()[-3:] == [
        "accepted, score 0.00: call one",
        "not accepted: call",
        "not accepted: call 1",
    ]


def test_a_language_model_is_built_once_into_a_cache(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, cache = tmp_path / "small.arpa", tmp_path / "cache"
    source.write_text(SMALL, encoding="utf8")
    assert main(["build", str(source), "--cache", str(cache), MODEL]) == 0
    (graph,) = cache.iterdir()
    assert str(graph) in capsys.readouterr().out
    before = graph.stat()
    assert main(["build", str(source), "--cache", str(cache), MODEL]) == 0
    assert (graph.stat().st_ino, graph.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    source.write_text(SMALL.replace("-0.8", "-0.9"), encoding="utf8")
    assert main(["build", str(source), "--cache", str(cache), MODEL]) == 0
    assert len(list(cache.iterdir())) == 2


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("x.jsgf", b"#JSGF V1.0;\npublic <a> = 7up;", "x.jsgf: line 2: got '7up', expected words in the letters"),
        ("x.arpa", b"\\data\\\nngram 2=1\n", "x.arpa: line 2: got 'ngram 2=1', expected ngram 1=COUNT"),
        ("x.fst", b"0 1 yes -1\n1", "x.fst: line 1: got '0 1 yes -1', expected a cost of 0 or more"),
        ("x.txt", b"\xff", "x.txt: byte 0: got no UTF-8"),
        ("none.jsgf", None, "No such file"),
    ],
)
def test_what_is_wrong_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, data: bytes | None, message: str
) -> None:
    source = tmp_path / name
    if data is not None:
        source.write_bytes(data)
    assert main(["build", str(source), "--output", str(tmp_path / "x.graph"), MODEL]) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "x.graph").exists()


def test_usage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for wrong in ([], ["build", "a.jsgf"], ["check"]):
        with pytest.raises(SystemExit) as caught:
            main(wrong)
        assert caught.value.code == 2
    assert main(["check", str(tmp_path / "none.graph"), MODEL]) == 1
    assert "none.graph: not a readable graph" in capsys.readouterr().err
