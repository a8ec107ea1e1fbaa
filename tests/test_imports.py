"""Every module can be imported, by every Python and with every torch that a lane has."""

from __future__ import annotations

import importlib
import pkgutil

import pytest

ROOMS = ("parley.asr", "parley.clients", "parley.decoder", "parley.server", "parley.training", "parley.wire", "scripts")
NEED_MORE = {"scripts.make_demo_call"}  # an environment of their own


def modules() -> list[str]:
    paths = {room: importlib.import_module(room).__path__ for room in ROOMS}
    found = [each.name for room in ROOMS for each in pkgutil.walk_packages(paths[room], f"{room}.")]
    return [name for name in found if name not in NEED_MORE and not name.endswith("__main__")]


@pytest.mark.both_lanes
def test_every_module_can_be_imported() -> None:
    names = modules()
    assert {name.rpartition(".")[0] for name in names} >= set(ROOMS)
    for name in names:
        importlib.import_module(name)
