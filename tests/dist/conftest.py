"""The wheels, built from this checkout, and environments that have nothing else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def clean_environment(**more: str) -> dict[str, str]:
    """Without what would let this checkout, its models or its environment be found."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PARLEY_", "VIRTUAL_", "COV_"))}
    return {**kept, **more}


@dataclass(frozen=True)
class Installed:
    """A virtual environment in a folder of its own; commands run in that folder."""

    folder: Path

    @property
    def python(self) -> Path:
        return self.folder / "venv" / "bin" / "python"

    @property
    def parley(self) -> Path:
        return self.folder / "venv" / "bin" / "parley"

    def environment(self, **more: str) -> dict[str, str]:
        return clean_environment(XDG_CACHE_HOME=str(self.folder / "cache"), **more)

    def run(self, *command: str | Path, **more: str) -> subprocess.CompletedProcess[str]:
        """`more`: of the environment."""
        return subprocess.run(
            command, cwd=self.folder, env=self.environment(**more), capture_output=True, text=True, check=False
        )

    def install(self, *requirements: str) -> None:
        # Not with the cache folder of the commands: what pip has downloaded once it should find again.
        subprocess.run(
            [self.python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *requirements],
            cwd=self.folder, env=clean_environment(), check=True,
        )  # fmt: skip

    def packages(self) -> dict[str, str]:
        """Versions by name, without what the environment begins with."""
        listed = self.run(self.python, "-m", "pip", "list", "--format", "json", "--disable-pip-version-check")
        found = {each["name"].lower(): each["version"] for each in json.loads(listed.stdout)}
        return {name: version for name, version in found.items() if name not in ("pip", "setuptools")}


def _installed(folder: Path, *requirements: str) -> Installed:
    folder.mkdir()
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], env=clean_environment(), check=True)
    installed = Installed(folder)
    installed.install(*requirements)
    return installed


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """By the distribution's name, as the file spells it."""
    folder = tmp_path_factory.mktemp("dist")
    for project in (ROOT, ROOT / "models" / "en-streaming"):
        subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder], cwd=project, check=True)
    return {path.name.split("-")[0]: path for path in folder.glob("*.whl")}


@pytest.fixture(scope="session")
def base(wheels: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """What a caller installs."""
    return _installed(tmp_path_factory.mktemp("base") / "empty", str(wheels["parley_asr"]))


@pytest.fixture(scope="session")
def node(wheels: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """What a node runs on and what gets its model."""
    return _installed(tmp_path_factory.mktemp("node") / "empty", f"{wheels['parley_asr']}[node,models]")
