"""Commands of extras that are absent, by processes that lack a package; what is listed, against pyproject.toml."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from parley.clients.cli.extras import MODULES, WANTED

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
# `parley` where the package in the first argument cannot be found.
RUN = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name == missing:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

missing = sys.argv.pop(1)
sys.meta_path.insert(0, Absent())
from parley.clients.cli.main import main
sys.exit(main())
"""


def run(missing: str, *arguments: str, first_on_path: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = dict(os.environ)
    if first_on_path:
        environment["PYTHONPATH"] = os.pathsep.join([str(first_on_path), environment.get("PYTHONPATH", "")])
    command = [sys.executable, "-c", RUN, missing, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment, check=False)


@pytest.mark.parametrize(
    ("missing", "arguments", "extra"),
    [
        ("structlog", ("serve", "--help"), "node"),
        ("torch", ("serve", "--explain", "--passes", "first"), "first-pass"),
        ("numpy", ("lm", "build", "README.md", "--output", "never.lm"), "train"),
        ("safetensors", ("graph", "--help"), "train"),
        ("onnx", ("models", "get", "--again", "moonshine-tiny-en"), "models"),
        ("prometheus_client", ("capacity", "--help"), "node"),
    ],
)
def test_the_extra_that_brings_it_is_named_in_one_line(missing: str, arguments: tuple[str, ...], extra: str) -> None:
    done = run(missing, *arguments)
    expected = f"parley {arguments[0]}: got no package {missing}, expected it: pip install 'parley-asr[{extra}]'\n"
    assert done.stderr == expected
    assert done.returncode == 2
    assert not done.stdout


def test_what_is_there_and_broken_is_no_absent_extra(tmp_path: Path) -> None:
    (tmp_path / "structlog.py").write_text("import nowhere_to_be_found\n")
    done = run("none", "serve", "--help", first_on_path=tmp_path)
    assert done.returncode == 1
    assert done.stderr.endswith("ModuleNotFoundError: No module named 'nowhere_to_be_found'\n")


@pytest.mark.parametrize("extra", list(MODULES))
def test_the_list_is_that_of_the_project(extra: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf8"))["project"]
    wanted = project["optional-dependencies"][extra]
    packages = {name for line in wanted if (name := re.split(r"[^\w.-]", line)[0]) != "parley-asr"}
    brought = {package: _modules(package) & MODULES[extra] for package in packages}
    assert all(brought.values()), brought
    assert set().union(*brought.values()) == MODULES[extra]


def test_every_extra_is_wanted_and_every_wanted_one_is_there() -> None:
    assert {extra for extras in WANTED.values() for extra in extras} == MODULES.keys()


def _modules(package: str) -> set[str]:
    """What it may be imported as."""
    if package == "tomli":  # for old Pythons only
        return {package}
    files = metadata.files(package) or ()
    within = {".".join(file.parts[:depth]) for file in files for depth in (1, 2, 3)}  # google's lie deeper
    return within | {file.parts[0].partition(".")[0] for file in files}
