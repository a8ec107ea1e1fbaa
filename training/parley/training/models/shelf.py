"""Models' folders as wholes: put in place at once, and told from damaged ones. Knows files, not what is in them.

SHA256SUMS is as sha256sum writes and reads it. TEXTS are not in it: model.toml is there to be changed.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING

from parley.decoder.models.places import SUMS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

TEXTS = ("model.toml", "LICENSE", "README.md")
STAGE = ".getting-"
LOCK = ".lock"


@contextmanager
def stage(place: Path, waiting: Iterable[str] = ()) -> Iterator[Path]:
    """A folder to work in, on the disk of `place`, gone afterwards; what a killed run left there goes too.

    One process at a time: the next waits, once it has printed `waiting`.
    """
    place.mkdir(parents=True, exist_ok=True)
    with (place / LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            for line in waiting:
                print(line, flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        for left in place.glob(f"{STAGE}*"):
            shutil.rmtree(left, ignore_errors=True)
        folder = place / f"{STAGE}{os.getpid()}"
        folder.mkdir()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def seal(folder: Path) -> None:
    """Writes SHA256SUMS over all but the texts."""
    names = sorted({path.name for path in folder.iterdir()}.difference(TEXTS))
    (folder / SUMS).write_text("".join(f"{_sha256(folder / name)}  {name}\n" for name in names), encoding="utf8")


def put(made: Path, folder: Path) -> None:
    """Moves a sealed folder's files to `folder`: never is it complete with half of them."""
    if not folder.exists():
        made.rename(folder)
        return
    (folder / SUMS).unlink(missing_ok=True)
    for path in sorted(made.iterdir(), key=lambda path: path.name == SUMS):
        path.replace(folder / path.name)


def faults(folder: Path) -> list[str]:
    """What is not as it was made; a line each."""
    try:
        lines = (folder / SUMS).read_text(encoding="utf8").splitlines()
    except OSError:
        return [f"{folder}: no {SUMS}, so it is not complete"]
    listed = [line.partition("  ")[::2] for line in lines]
    return [fault for expected, name in listed if (fault := _fault(folder / name, expected))]


def size_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir() if path.is_file())


def _fault(path: Path, expected: str) -> str | None:
    try:
        found = _sha256(path)
    except OSError as error:
        return f"{path}: {error.strerror}"
    return None if found == expected else f"{path}: has the SHA-256 {found}, expected {expected}"


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()
