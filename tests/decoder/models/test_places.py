"""Where models are looked for, with real folders."""

from __future__ import annotations

from pathlib import Path

import pytest

from parley.decoder.models import places

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(places.VARIABLE, raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where this is no checkout."""
    monkeypatch.setattr(places, "checkout", lambda: None)


def complete(place: Path, name: str) -> Path:
    folder = place / name
    folder.mkdir(parents=True)
    (folder / places.SUMS).touch()
    return folder


def test_a_checkout_has_its_own() -> None:
    assert places.home() == places.checkout() == ROOT / "models"
    assert places.find("en-streaming") == ROOT / "models" / "en-streaming"


@pytest.mark.usefixtures("installed")
def test_else_they_are_in_the_users_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert places.home() == tmp_path / ".cache" / "parley" / "models"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "elsewhere"))
    assert places.home() == tmp_path / "elsewhere" / "parley" / "models"


def test_the_variable_goes_before_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(places.VARIABLE, "mine")
    assert places.home() == tmp_path / "mine"
    ours = complete(tmp_path / "mine", "en-streaming")
    assert places.find("en-streaming") == ours


def test_what_is_not_complete_is_looked_for_further_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(places.VARIABLE, str(tmp_path))
    (tmp_path / "en-streaming").mkdir()
    assert places.find("en-streaming") == ROOT / "models" / "en-streaming"
    assert places.find("nobody-has-it") == tmp_path / "nobody-has-it"


@pytest.mark.usefixtures("installed")
def test_a_wheel_brings_a_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    brought = complete(tmp_path / "site" / "parley" / "models", "someones")
    assert places.find("someones") == places.home() / "someones"
    monkeypatch.syspath_prepend(tmp_path / "site")
    assert places.find("someones") == brought
    monkeypatch.setenv(places.VARIABLE, str(tmp_path / "home"))
    assert places.find("someones") == brought
    ours = complete(tmp_path / "home", "someones")
    assert places.find("someones") == ours
