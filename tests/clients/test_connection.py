"""TLS, mutual TLS and what the channel is told."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc
import pytest
import trustme

from parley.clients import AsyncClient, Client, Retry, Serving, Tls, Unavailable
from parley.clients.cli import main as cli
from tests.wire.fake_speech import FakeServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def secure_server(authority: trustme.CA) -> Iterator[FakeServer]:
    """Asks its clients for certificates."""
    issued = authority.issue_cert("127.0.0.1")
    pair = (issued.private_key_pem.bytes(), issued.cert_chain_pems[0].bytes())
    credentials = grpc.ssl_server_credentials([pair], authority.cert_pem.bytes(), require_client_auth=True)
    with FakeServer(credentials) as running:
        yield running


@pytest.fixture
def tls(authority: trustme.CA, tmp_path: Path) -> Tls:
    issued = authority.issue_cert("client.example")
    files = Tls(ca=tmp_path / "ca.pem", cert=tmp_path / "cert.pem", key=tmp_path / "key.pem")
    assert files.ca
    assert files.cert
    assert files.key
    files.ca.write_bytes(authority.cert_pem.bytes())
    files.cert.write_bytes(issued.cert_chain_pems[0].bytes())
    files.key.write_bytes(issued.private_key_pem.bytes())
    return files


async def test_both_clients_speak_mutual_tls(secure_server: FakeServer, tls: Tls) -> None:
    with Client(secure_server.address, tls=tls) as client:
        assert client.health() is Serving.SERVING
    async with AsyncClient(secure_server.address, tls=tls) as async_client:
        assert await async_client.health() is Serving.SERVING


def test_command_line_speaks_mutual_tls(
    secure_server: FakeServer, tls: Tls, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["--server", secure_server.address, "--ca", str(tls.ca), "--cert", str(tls.cert), "--key", str(tls.key)]
    assert cli.main(["health", *argv]) == 0
    assert "SERVING" in capsys.readouterr().out


@pytest.mark.parametrize("tls", [None, Tls()])
def test_stranger_is_not_let_in(secure_server: FakeServer, tls: Tls | None) -> None:
    with Client(secure_server.address, tls=tls, retry=Retry(tries=1)) as client, pytest.raises(Unavailable):
        client.models()
