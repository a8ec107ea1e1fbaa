"""What can be wrong with files, keys and ports before a process starts. Looks at everything, changes nothing."""

from __future__ import annotations

import socket
import ssl
from contextlib import ExitStack
from typing import TYPE_CHECKING

from parley.server.kit import security
from parley.server.kit.settings import Fault

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path


def tls(cert: Path | None, key: Path | None, client_ca: Path | None) -> Iterator[Fault]:
    """Of the settings tls_cert, tls_key and tls_client_ca."""
    given = {"tls_cert": cert, "tls_key": key, "tls_client_ca": client_ca}
    if not any(given.values()):
        return
    faults = list(unreadable(given))
    faults += [Fault(name, "not set, but TLS needs it") for name in ("tls_cert", "tls_key") if not given[name]]
    yield from faults
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    broken = {fault.name for fault in faults}
    try:
        if cert and key and not broken & {"tls_cert", "tls_key"}:
            context.load_cert_chain(cert, key, password="")  # no prompt for a key that wants a password
    except (ssl.SSLError, ValueError) as error:
        yield Fault("tls_cert", f"{cert} and {key} are no PEM certificate and its plain private key: {error}")
    try:
        if client_ca and "tls_client_ca" not in broken:
            context.load_verify_locations(client_ca)
    except ssl.SSLError as error:
        yield Fault("tls_client_ca", f"{client_ca} is no PEM certificate: {error}")


def tokens(path: Path | None) -> Iterator[Fault]:
    """Of the setting tokens_file."""
    if path is not None:
        try:
            security.read_tokens(path)
        except (OSError, ValueError) as error:
            yield Fault("tokens_file", f"{path}: {error}")


def ports(wanted: Iterable[tuple[str, str, int]]) -> Iterator[Fault]:
    """Of settings with their host and port; a negative port is none."""
    with ExitStack() as open_sockets:  # all at once: two may be set to the same port
        for name, host, port in wanted:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            try:
                if port >= 0:
                    open_sockets.enter_context(socket.create_server((host, port), family=family))
            except OSError as error:
                yield Fault(name, f"cannot listen on {host}:{port}: {error.strerror or error}")


def unreadable(files: Mapping[str, Path | None]) -> Iterator[Fault]:
    """Of settings that name files."""
    return (Fault(name, fault) for name, path in files.items() if path and (fault := _unreadable(path)))


def _unreadable(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            file.read(1)
    except OSError as error:
        return f"{path}: {error.strerror or error}"
    return None
