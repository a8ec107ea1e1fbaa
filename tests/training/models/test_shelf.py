"""Models put in place, by processes that are killed at every step of it."""

from __future__ import annotations

import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from parley.decoder.models import places
from parley.training.models import shelf

if TYPE_CHECKING:
    from pathlib import Path

# Puts a model of two files and a text into PLACE/model, and kills itself at the N-th change of a file or folder.
PUTS = """
import os, signal, sys
from pathlib import Path

changes = 0
def killed(event, arguments):
    global changes
    writes = event == "open" and isinstance(arguments[1], str) and "w" in arguments[1]
    if event in ("os.rename", "os.remove", "os.mkdir", "os.rmdir") or writes:
        changes += 1
        if changes == int(sys.argv[2]):
            os.kill(os.getpid(), signal.SIGKILL)

place, content = Path(sys.argv[1]), sys.argv[3]
from parley.training.models import shelf
sys.addaudithook(killed)
with shelf.stage(place) as folder:
    made = folder / "made"
    made.mkdir()
    for name in ("a.bin", "b.bin", "model.toml"):
        (made / name).write_text(content)
    shelf.seal(made)
    shelf.put(made, place / "model")
"""


def put(place: Path, killed_at: int, content: str) -> int:
    """The exit status."""
    command = [sys.executable, "-c", PUTS, str(place), str(killed_at), content]
    return subprocess.run(command, check=False).returncode


def contents(folder: Path) -> set[str]:
    return {(folder / name).read_text() for name in ("a.bin", "b.bin")}


@pytest.mark.parametrize("before", [None, "old"])
def test_no_kill_leaves_a_model_that_is_complete_and_not_whole(tmp_path: Path, before: str | None) -> None:
    outcomes, killed_at, status = set(), 0, -signal.SIGKILL
    while status == -signal.SIGKILL:
        killed_at += 1
        place = tmp_path / str(killed_at)
        if before:
            assert put(place, 0, before) == 0
        status = put(place, killed_at, "new")
        folder = place / "model"
        if (folder / places.SUMS).exists():
            assert shelf.faults(folder) == []
            assert len(contents(folder)) == 1
            outcomes |= contents(folder)
        # What was left behind is no hindrance, and goes.
        assert put(place, 0, "again") == 0
        assert contents(folder) == {"again"}
        assert shelf.faults(folder) == []
        assert sorted(path.name for path in place.iterdir()) == [shelf.LOCK, "model"]
    assert status == 0
    assert killed_at > 10
    assert outcomes == ({"old", "new"} if before else {"new"})


def test_what_is_damaged_is_named(tmp_path: Path) -> None:
    assert put(tmp_path, 0, "good") == 0
    folder = tmp_path / "model"
    (folder / "model.toml").write_text("changed, as a person may")
    assert shelf.faults(folder) == []
    (folder / "a.bin").write_text("bad")
    (folder / "b.bin").unlink()
    damaged, missing = shelf.faults(folder)
    assert damaged.startswith(f"{folder / 'a.bin'}: has the SHA-256 ")
    assert missing == f"{folder / 'b.bin'}: No such file or directory"
    (folder / places.SUMS).unlink()
    assert shelf.faults(folder) == [f"{folder}: no {places.SUMS}, so it is not complete"]


def test_its_sums_are_those_of_sha256sum(tmp_path: Path) -> None:
    assert put(tmp_path, 0, "good") == 0
    done = subprocess.run(
        ["sha256sum", "--check", "--strict", places.SUMS], cwd=tmp_path / "model", capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr


WAITS = """
import sys
from pathlib import Path
from parley.training.models import shelf

with shelf.stage(Path(sys.argv[1]), ["waiting"]):
    print("mine", flush=True)
"""


def test_the_second_waits_for_the_first(tmp_path: Path) -> None:
    with shelf.stage(tmp_path) as folder:
        second = subprocess.Popen([sys.executable, "-c", WAITS, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        assert second.stdout
        assert second.stdout.readline() == "waiting\n"
        assert folder.is_dir()
    assert second.stdout.read() == "mine\n"
    assert second.wait() == 0
