"""model.toml: what it must say, whatever the kind of model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from parley.decoder.errors import ModelError
from parley.decoder.model_folder import ModelFolder

if TYPE_CHECKING:
    from pathlib import Path

GOOD = """\
name = "parrot"
kind = "moonshine"
languages = ["en", "de"]
sample_rate = 16000
description = "says it again"
license = "MIT"
[extra]
count = 7
share = 1
"""


def test_read(tmp_path: Path) -> None:
    (tmp_path / "model.toml").write_text(GOOD)
    folder = ModelFolder.read(tmp_path)
    assert (folder.path, folder.kind) == (tmp_path, "moonshine")
    assert (folder.info.name, folder.info.languages, folder.info.sample_rate) == ("parrot", ("en", "de"), 16_000)
    assert (folder.info.description, folder.info.license) == ("says it again", "MIT")
    assert folder.config["extra"] == {"count": 7, "share": 1}


@pytest.mark.parametrize("line", GOOD.partition("[extra]")[0].splitlines())
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
        ("[extra]", "[extra", "not a readable TOML file: "),
        ('"MIT"', '"\udcff"', "not a readable TOML file: "),
    ],
)
def test_bad_values_are_refused(tmp_path: Path, right: str, wrong: str, problem: str) -> None:
    text = GOOD.replace(right, wrong)
    assert text != GOOD
    (tmp_path / "model.toml").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(ModelError, match=rf"model\.toml: {problem}"):
        ModelFolder.read(tmp_path)


def test_values_of_a_kind_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "model.toml").write_text(GOOD)
    folder = ModelFolder.read(tmp_path)
    assert folder.value("name", str) == "parrot"
    assert folder.value("count", int, "extra") == 7
    share = folder.value("share", float, "extra")
    assert (share, type(share)) == (1.0, float)  # a whole number will do
    for key, kind, section, problem in (
        ("count", str, "extra", "extra.count: got 7, expected a value of type str"),
        ("none", int, "extra", "extra.none is missing"),
        ("none", int, "", "none is missing"),
        ("count", int, "other", "other is missing"),
        ("count", int, "name", "name: got 'parrot', expected a value of type dict"),
    ):
        with pytest.raises(ModelError) as caught:
            folder.value(key, kind, section)
        assert str(caught.value) == f"{tmp_path / 'model.toml'}: {problem}"


def test_a_folder_without_a_model(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    for path in (tmp_path, file, tmp_path / "absent"):
        with pytest.raises(
            ModelError, match=rf"^{path}: no model\.toml there; a model is a folder with one; `parley models"
        ):
            ModelFolder.read(path)
    (tmp_path / "model.toml").mkdir()
    with pytest.raises(ModelError, match="not a readable TOML file: "):
        ModelFolder.read(tmp_path)


def test_file(tmp_path: Path) -> None:
    (tmp_path / "model.toml").write_text(GOOD)
    (tmp_path / "tokens.bin").touch()
    folder = ModelFolder.read(tmp_path)
    assert folder.file("tokens.bin") == tmp_path / "tokens.bin"
    with pytest.raises(ModelError, match=r"encoder\.onnx is missing; `parley models get` makes the default models"):
        folder.file("encoder.onnx")
