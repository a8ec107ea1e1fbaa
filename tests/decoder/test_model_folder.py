"""model.toml: what it must say."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from decoder.errors import ModelError
from decoder.model_folder import ModelFolder

if TYPE_CHECKING:
    from pathlib import Path

GOOD = """\
name = "parrot"
kind = "moonshine"
languages = ["en", "de"]
sample_rate = 16000
description = "says it again"
license = "MIT"
[decoding]
start_token = 1
end_token = 2
frame_samples = 384
shortest_samples = 3200
tokens_per_second = 6.5
min_log_prob = -1.5
min_share_on_path = 0.25
max_spread = 1
"""


def test_read(tmp_path: Path) -> None:
    (tmp_path / "model.toml").write_text(GOOD)
    folder = ModelFolder.read(tmp_path)
    assert (folder.path, folder.kind) == (tmp_path, "moonshine")
    assert (folder.info.name, folder.info.languages, folder.info.sample_rate) == ("parrot", ("en", "de"), 16_000)
    assert (folder.info.description, folder.info.license) == ("says it again", "MIT")
    assert (folder.decoding.frame_samples, folder.decoding.min_log_prob) == (384, -1.5)
    assert type(folder.decoding.max_spread) is float  # a whole number will do


@pytest.mark.parametrize("line", [line for line in GOOD.splitlines() if "=" in line])
def test_nothing_may_be_missing(tmp_path: Path, line: str) -> None:
    (tmp_path / "model.toml").write_text(GOOD.replace(line + "\n", ""))
    with pytest.raises(ModelError, match=rf"model\.toml: {line.split(' ')[0]} is missing$"):
        ModelFolder.read(tmp_path)


@pytest.mark.parametrize(
    ("right", "wrong", "problem"),
    [
        ('"parrot"', "7", "name: got 7, expected a value of type str"),
        ("16000", "16000.0", "sample_rate: got 16000.0, expected a value of type int"),
        ("16000", "true", "sample_rate: got True, expected a value of type int"),
        ('["en", "de"]', '"en"', "languages: got 'en', expected a value of type list"),
        ('["en", "de"]', "[]", r"languages: got \[\], expected one name or more"),
        ('["en", "de"]', '["en", 5]', r"languages: got \['en', 5\], expected one name or more"),
        ("6.5", '"fast"', "tokens_per_second: got 'fast', expected a value of type float"),
        ("6.5", "0", "tokens_per_second: got 0.0, expected more than 0"),
        ("6.5", "nan", "tokens_per_second: got nan, expected more than 0"),
        ("384", "0", "frame_samples: got 0, expected more than 0"),
        ("3200", "-3200", "shortest_samples: got -3200, expected more than 0"),
        ("[decoding]", "decoding = 3\n[other]", "decoding: got 3, expected a value of type dict"),
        ("[decoding]", "[decoding", "not a readable TOML file: "),
        ('"MIT"', '"\udcff"', "not a readable TOML file: "),
    ],
)
def test_bad_values_are_refused(tmp_path: Path, right: str, wrong: str, problem: str) -> None:
    text = GOOD.replace(right, wrong)
    assert text != GOOD
    (tmp_path / "model.toml").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(ModelError, match=rf"model\.toml: {problem}"):
        ModelFolder.read(tmp_path)


def test_a_folder_without_a_model(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    for path in (tmp_path, file, tmp_path / "absent"):
        with pytest.raises(ModelError, match=rf"^{path}: no model\.toml there; a model is a folder with one$"):
            ModelFolder.read(path)
    (tmp_path / "model.toml").mkdir()
    with pytest.raises(ModelError, match="not a readable TOML file: "):
        ModelFolder.read(tmp_path)


def test_file(tmp_path: Path) -> None:
    (tmp_path / "model.toml").write_text(GOOD)
    (tmp_path / "tokens.bin").touch()
    folder = ModelFolder.read(tmp_path)
    assert folder.file("tokens.bin") == tmp_path / "tokens.bin"
    with pytest.raises(ModelError, match=r"encoder\.onnx is missing; `make setup` makes the embedded model's files"):
        folder.file("encoder.onnx")
