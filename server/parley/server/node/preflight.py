"""What a node needs of its machine before it starts: files, keys, ports. Looks at everything, changes nothing."""

from __future__ import annotations

import socket
import ssl
from contextlib import ExitStack
from typing import TYPE_CHECKING

from parley.decoder.errors import ModelError
from parley.decoder.model_folder import ModelFolder
from parley.decoder.values import SearchKind
from parley.server.kit import security

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from parley.server.node.settings import Settings


def problems(settings: Settings, *, ports: bool) -> Iterator[tuple[str, str]]:
    """Every problem, as a setting's name and what is wrong with it; of the ports only if asked to."""
    yield from _decoder(settings)
    yield from _search(settings)
    yield from _tls(settings)
    yield from _tokens(settings)
    if ports:
        yield from _ports(settings)


def _decoder(settings: Settings) -> Iterator[tuple[str, str]]:
    for by, folder in settings.model_dirs().items():
        if fault := _no_model(folder):
            yield f"{by.value}_model_dir", fault
    try:
        settings.recognizer()
    except ValueError as error:
        for fault in str(error).split("; "):
            name, _, problem = fault.partition(": ")
            yield name, problem


def _search(settings: Settings) -> Iterator[tuple[str, str]]:
    if settings.searches():
        files = {"language_model": settings.language_model_file(), "hotwords_file": settings.hotwords_file}
        folder = settings.graphs_dir
        if settings.search is SearchKind.K2 and folder is not None and not folder.is_dir():
            yield "graphs_dir", f"{folder}: no such folder"
        yield from ((name, fault) for name, path in files.items() if path and (fault := _unreadable(path)))


def _no_model(folder: Path) -> str | None:
    try:
        ModelFolder.read(folder)
    except ModelError as error:
        return str(error)
    return None


def _tls(settings: Settings) -> Iterator[tuple[str, str]]:
    given = {"tls_cert": settings.tls_cert, "tls_key": settings.tls_key, "tls_client_ca": settings.tls_client_ca}
    faults = [(name, fault) for name, path in given.items() if path and (fault := _unreadable(path))]
    faults += [(name, "not set, but TLS needs it") for name in ("tls_cert", "tls_key") if not given[name]]
    if not any(given.values()):
        return
    yield from faults
    cert, key, client_ca = given.values()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    broken = dict(faults)
    try:
        if cert and key and not broken.keys() & {"tls_cert", "tls_key"}:
            context.load_cert_chain(cert, key, password="")  # no prompt for a key that wants a password
    except (ssl.SSLError, ValueError) as error:
        yield "tls_cert", f"{cert} and {key} are no PEM certificate and its plain private key: {error}"
    try:
        if client_ca and "tls_client_ca" not in broken:
            context.load_verify_locations(client_ca)
    except ssl.SSLError as error:
        yield "tls_client_ca", f"{client_ca} is no PEM certificate: {error}"


def _tokens(settings: Settings) -> Iterator[tuple[str, str]]:
    if settings.tokens_file:
        try:
            security.read_tokens(settings.tokens_file)
        except (OSError, ValueError) as error:
            yield "tokens_file", f"{settings.tokens_file}: {error}"


def _ports(settings: Settings) -> Iterator[tuple[str, str]]:
    with ExitStack() as open_sockets:  # both at once: the two may be set to the same port
        for name, host, port in (
            ("port", settings.host, settings.port),
            ("metrics_port", settings.metrics_host, settings.metrics_port),
        ):
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            try:
                if port >= 0:
                    open_sockets.enter_context(socket.create_server((host, port), family=family))
            except OSError as error:
                yield name, f"cannot listen on {host}:{port}: {error.strerror or error}"


def _unreadable(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            file.read(1)
    except OSError as error:
        return f"{path}: {error.strerror or error}"
    return None
