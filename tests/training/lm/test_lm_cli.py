"""`parley lm`, as it is typed."""

from __future__ import annotations

import gzip
import io
import json
import os
import subprocess
import sys
import types
from pathlib import Path

import pytest

from parley.clients.cli.main import main as parley_main
from parley.decoder.search.language_model import LanguageModel
from parley.training.lm.arpa import read_arpa
from parley.training.lm.cli import main
from parley.training.lm.perplexity import log_probs_of

ROOT = Path(__file__).resolve().parents[3]
DATA = Path(__file__).with_name("data")
TEXT = "The cat sat on the mat.\nThe dog sat, too!\n\nThe cat saw the dog.\nA dog saw the cat on the mat.\n"


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    path = tmp_path / "corpus.txt"
    path.write_text(TEXT)
    return path


def run(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str, str]:
    status = main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def usage(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    assert ended.value.code == 2
    return capsys.readouterr().err


def test_a_text_becomes_a_model_that_can_be_checked(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out.lm"
    status, _, told = run(capsys, "build", corpus, "--output", output)
    assert status == 0
    assert "counted 4 sentences, 23 words, 9 different; 0 count as <unk>" in told
    assert f"wrote {output}: {output.stat().st_size:,} bytes, 12 words, " in told
    model = LanguageModel.read(output)
    assert (model.order, model.counts[0]) == (3, 12)
    assert sum(log_probs_of(model, ["the", "cat", "sat"])) > sum(log_probs_of(model, ["sat", "cat", "the"]))
    status, said, _ = run(capsys, "check", output, "--text", corpus)
    assert status == 0
    assert f"{output}: {output.stat().st_size:,} bytes, order 3, 12 words, {model.counts[1]} 2-grams, " in said
    assert f"| {corpus} | 4 | 23 | 0.00% | " in said


def test_order_vocabulary_and_spelling(corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "out.arpa"
    status, _, told = run(capsys, "build", corpus, "--output", output, "--order", "2", "--max-words", "4")
    assert status == 0
    assert "8 count as <unk>" in told
    model = read_arpa(output)
    assert len(model.orders) == 2
    assert model.words == ("<unk>", "<s>", "</s>", "the", "cat", "dog", "sat")
    run(capsys, "build", corpus, "--output", output, "--keep-spelling", "--min-count", "2")
    spelled = {"The", "the", "cat", "dog", "saw", "on", "mat."}
    assert set(read_arpa(output).words) == {"<unk>", "<s>", "</s>", *spelled}


def test_several_files_and_standard_input_are_one_text(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    half, output, other = tmp_path / "half.txt.gz", tmp_path / "a.arpa", tmp_path / "b.arpa"
    lines = TEXT.splitlines(keepends=True)
    half.write_bytes(gzip.compress("".join(lines[:2]).encode()))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("".join(lines[2:]).encode())))
    assert run(capsys, "build", half, "-", "--output", output)[0] == 0
    assert run(capsys, "build", corpus, "--output", other)[0] == 0
    assert output.read_text() == other.read_text()


def test_another_tools_model_is_converted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "out.lm"
    assert run(capsys, "build", "--arpa", DATA / "kenlm.arpa", "--output", output)[0] == 0
    assert output.read_bytes() == (DATA / "kenlm.lm").read_bytes()


def test_a_model_can_be_pruned_to_a_size_and_by_a_share(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "out.lm"
    whole = LanguageModel.read(DATA / "kenlm.lm")
    status, _, told = run(capsys, "build", "--arpa", DATA / "kenlm.arpa", "--output", output, "--max-size", "3.5KB")
    assert status == 0
    assert 3_000 < output.stat().st_size <= 3_500
    left = sum(LanguageModel.read(output).counts)
    assert f"pruned {sum(whole.counts) - left:,} of {sum(whole.counts):,} n-grams, threshold " in told
    assert run(capsys, "build", "--arpa", DATA / "kenlm.arpa", "--output", output, "--prune", "0.5")[0] == 0
    assert LanguageModel.read(output).counts == (whole.counts[0], 0, 0, 0)


def test_fewer_spare_places_make_a_smaller_file_with_the_same_scores(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out.lm"
    assert run(capsys, "build", "--arpa", DATA / "kenlm.arpa", "--output", output, "--spare", "1.1")[0] == 0
    assert output.stat().st_size < (DATA / "kenlm.lm").stat().st_size
    sentence = ["it", "was", "the", "season", "of", "wisdom"]
    built, theirs = LanguageModel.read(output), LanguageModel.read(DATA / "kenlm.lm")
    assert log_probs_of(built, sentence) == log_probs_of(theirs, sentence)


def test_a_manifests_texts_are_foretold_and_its_recordings_decoded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recordings = ROOT / "tests" / "data"
    entries = [json.loads(line) for line in (recordings / "manifest.jsonl").read_text("utf8").splitlines()]
    (entry,) = [entry for entry in entries if entry["audio"] == "austen_1.flac"]
    manifest = tmp_path / "manifest.jsonl"
    manifest.write_text(json.dumps({"audio": str(recordings / entry["audio"]), "text": entry["text"]}) + "\n")
    text, model = tmp_path / "said.txt", tmp_path / "said.lm"
    text.write_text(entry["text"])
    assert run(capsys, "build", text, "--output", model)[0] == 0
    folder = ROOT / "models" / "en-streaming"
    status, said, _ = run(capsys, "check", model, "--manifest", manifest, "--model", folder)
    assert status == 0
    words = len(entry["text"].split())
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in said.splitlines() if str(manifest) in line]
    assert rows[0][:4] == [str(manifest), "1", str(words), "0.00%"]
    name, count, without, using = rows[1]
    assert (name, count) == (str(manifest), str(words))
    assert int(using.split(" ")[0]) < int(without.split(" ")[0])


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (["build", "x.txt"], "--output"),
        (["build", "x.txt", "--output", "x.lm", "--order", "1"], "argument --order: got 1, expected 2 to 5"),
        (["build", "x.txt", "--output", "x.lm", "--order", "two"], "argument --order: got two, expected 2 to 5"),
        (["build", "x.txt", "--output", "x.lm", "--max-words", "0"], "got 0, expected a whole number above 0"),
        (["build", "x.txt", "--output", "x.lm", "--max-size", "30XB"], "got 30XB, expected a size such as 30MB"),
        (["build", "x.txt", "--output", "x.lm", "--prune", "2"], "got 2, expected a share between 0 and 1"),
        (["build", "x.txt", "--output", "x.lm", "--spare", "1"], "got 1, expected more than 1, 10 at most"),
        (["build", "x.txt", "--output", "x.lm", "--prune", "1e-8", "--max-size", "1MB"], "not allowed with"),
        (["build", "--arpa", "x", "--sphinx", "--output", "x.lm"], "not allowed with"),
        (["weigh"], "invalid choice: 'weigh'"),
        ([], "required: COMMAND"),
    ],
)
def test_wrong_arguments_are_named(arguments: list[str], fault: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert fault in usage(capsys, *arguments)


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (["build", "--output", "x.lm"], "build: expected a CORPUS, --arpa or --sphinx to build from"),
        (
            ["build", "x.txt", "--arpa", "y.arpa", "--output", "x.lm"],
            "build: got x.txt and --arpa, expected a corpus or",
        ),
        (["build", "--arpa", "y.arpa", "--min-count", "2", "--output", "x.lm"], "build: --min-count is for counting a"),
        (["build", "--sphinx", "--keep-spelling", "--output", "x.lm"], "build: --keep-spelling is for counting a"),
        (["build", "x.txt", "--output", "no/such/folder/x.lm"], "build: --output: no/such/folder is no folder"),
        (
            ["build", "x.txt", "--output", "x.lm.gz"],
            "build: --output: got x.lm.gz, expected a name that ends in .arpa.gz",
        ),
        (["check", str(DATA / "kenlm.lm"), "--model", "m"], "check: --model decodes recordings: expected a --manifest"),
        (
            ["check", str(DATA / "kenlm.lm"), "--manifest", "m", "--model", "m", "--language-weight", "-1"],
            "check: language_weight: got -1.0, expected 0 to 5",
        ),
    ],
)
def test_what_cannot_be_is_wrong_usage(arguments: list[str], fault: str, capsys: pytest.CaptureFixture[str]) -> None:
    status, said, told = run(capsys, *arguments)
    assert (status, said) == (2, "")
    assert told.startswith(f"parley lm {fault}")


def test_what_fails_says_why_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str], corpus: Path) -> None:
    output = tmp_path / "out.lm"
    binary = tmp_path / "binary"
    binary.write_bytes(b"\xff\xfe\n")
    cases: list[tuple[list[str | Path], str]] = [
        (["build", tmp_path / "none.txt", "--output", output], "none.txt: No such file or directory"),
        (["build", binary, "--output", output], "binary, line 1: not UTF-8 text"),
        (["build", "--arpa", corpus, "--output", output], "corpus.txt, line 5: the file ends here, expected \\data\\"),
        (["build", "--sphinx", corpus, "--output", output], "corpus.txt: begins with b'The cat sat on the ',"),
        (["build", corpus, "--output", output, "--max-size", "100"], "expected 100 or less"),
        (["check", corpus], "corpus.txt: got a file that begins with b'The cat"),
        (["check", DATA / "kenlm.lm", "--manifest", corpus], "corpus.txt, line 1: not JSON"),
        (["check", DATA / "kenlm.lm", "--text", tmp_path / "none"], "none: No such file or directory"),
    ]
    for arguments, fault in cases:
        status, _, told = run(capsys, *arguments)
        assert status == 1, arguments
        last = told.splitlines()[-1]
        assert last.startswith(f"parley lm {arguments[0]}: "), told
        assert fault in last
    assert sorted(each.name for each in tmp_path.iterdir()) == ["binary", "corpus.txt"]


def test_sphinx_without_the_package_says_what_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    status, _, told = run(capsys, "build", "--sphinx", "--output", tmp_path / "out.lm")
    assert status == 1
    carries = "pocketsphinx is not installed, whose wheel carries the English model"
    assert told == f"parley lm build: {carries}: pip install 'parley-asr[train]'\n"


def test_ctrl_c_ends_it_quietly(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("parley.training.lm.cli._check", interrupt)
    assert run(capsys, "check", "x") == (130, "", "")


def test_a_reader_that_left_ends_it_quietly() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "parley.training.lm.cli", "check", str(DATA / "kenlm.lm")]
    with os.fdopen(writer, "w") as output:
        ended = subprocess.run(command, cwd=ROOT, stdout=output, stderr=subprocess.PIPE, check=False)
    assert (ended.returncode, ended.stderr) == (1, b"")


def test_parley_hands_lm_on_with_all_that_follows(monkeypatch: pytest.MonkeyPatch) -> None:
    tool = types.ModuleType("parley.training.lm.cli")
    given: list[list[str]] = []

    def record(arguments: list[str]) -> int:
        given.append(arguments)
        return 7

    tool.main = record  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "parley.training.lm.cli", tool)
    assert parley_main(["lm", "build", "--help"]) == 7
    assert given == [["build", "--help"]]


def test_help_shows_the_way(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, words in (
        (["--help"], ("build", "check", "try it:", "Exit status")),
        (["build", "--help"], ("--max-size", "--sphinx", "Kneser-Ney")),
        (["check", "--help"], ("--manifest", "--model", "perplexity")),
    ):
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert ended.value.code == 0
        said = capsys.readouterr().out
        assert all(word in said for word in words)
