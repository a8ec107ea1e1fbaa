"""What a node needs of its machine before it starts: models, files, keys, ports. Looks only, changes nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from parley.decoder.errors import ModelError
from parley.decoder.model_folder import ModelFolder
from parley.decoder.values import SearchKind
from parley.server.kit import preflight
from parley.server.kit.settings import Fault
from parley.server.node import protocols

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from parley.server.node.settings import Settings


def faults(settings: Settings, *, ports: bool) -> Iterator[Fault]:
    """Every fault; of the ports only if asked to."""
    for by, folder in settings.core.model_dirs().items():
        if fault := _no_model(folder):
            yield Fault(f"{by.value}_model_dir", fault)
    yield from _search(settings)
    if len(set(settings.protocols)) < len(settings.protocols):
        yield Fault("protocols", f"got {','.join(settings.protocols)!r}, expected each once")
    yield from (Fault("protocols", fault) for name in settings.protocols if (fault := protocols.missing(name)))
    yield from preflight.tls(settings.tls_cert, settings.tls_key, settings.tls_client_ca)
    yield from preflight.tokens(settings.tokens_file)
    if ports:
        wanted = [("port", settings.host, settings.port)]
        yield from preflight.ports([*wanted, ("metrics_port", settings.metrics_host, settings.metrics_port)])


def _no_model(folder: Path) -> str | None:
    try:
        ModelFolder.read(folder)
    except ModelError as error:
        return str(error)
    return None


def _search(settings: Settings) -> Iterator[Fault]:
    if settings.searches():
        folder = settings.core.graphs_dir
        if settings.core.search is SearchKind.K2 and folder is not None and not folder.is_dir():
            yield Fault("graphs_dir", f"{folder}: no such folder")
        files = {"language_model": settings.language_model_file(), "hotwords_file": settings.core.hotwords}
        yield from preflight.unreadable(files)
