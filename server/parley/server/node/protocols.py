"""The protocols that a node can speak, by their names in its settings. Knows where each is; imports what is wanted."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Protocol, cast

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from grpc import aio

    from parley.server.kit.admission import Calls
    from parley.server.kit.statuses import Statuses
    from parley.server.live.recognition import Recognition

MODULES = {"parley": "parley.server.wires.parley.speech", "google": "parley.server.wires.google.speech"}


class Wires(Protocol):
    """A protocol's module. SERVICE: its service's full name. STATUSES: how errors leave by it."""

    SERVICE: str
    STATUSES: Statuses

    def serve(self, server: aio.Server, recognition: Recognition, calls: Calls) -> None:
        """Adds the service to a server."""


def missing(name: str) -> str | None:
    """Why a protocol cannot be had in this installation; None if it can."""
    try:
        _module(name)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] == "parley":
            raise  # a bug, and not for whoever sets up a node
        return f"got {name!r}, which needs a package that is not installed ({error.name}): the extra [{name}] has it"
    return None


def services(names: Iterable[str]) -> tuple[str, ...]:
    """The full names of the services of these protocols."""
    return tuple(_module(name).SERVICE for name in names)


def door(names: Sequence[str]) -> Statuses:
    """How those leave who are refused before it is known what the call is: by the first of these protocols."""
    return _module(names[0]).STATUSES


def add(names: Iterable[str], server: aio.Server, recognition: Recognition, calls: Calls) -> tuple[str, ...]:
    """Adds them to a server; returns the services' names."""
    for name in names:
        _module(name).serve(server, recognition, calls)
    return services(names)


def _module(name: str) -> Wires:
    return cast("Wires", import_module(MODULES[name]))
