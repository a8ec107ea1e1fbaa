from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc
import pytest
import trustme
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from prometheus_client import generate_latest

from parley.asr.v1 import speech_pb2 as pb
from parley.asr.v1 import speech_pb2_grpc
from tests.server.wire import configured, read_all, refusal, refusal_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from tests.server.conftest import Running

    Serve = Callable[..., Awaitable[Running]]

TOKEN, OTHER = "first-token-of-the-node", "second-token-of-the-node"
MODELS = pb.GetModelsRequest()


@pytest.fixture
def ca() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def tls(ca: trustme.CA, tmp_path: Path) -> dict[str, str]:
    """Settings for a node with a certificate."""
    issued = ca.issue_cert("localhost")
    paths = {"tls_cert": tmp_path / "cert.pem", "tls_key": tmp_path / "key.pem"}
    paths["tls_cert"].write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    paths["tls_key"].write_bytes(issued.private_key_pem.bytes())
    return {name: str(path) for name, path in paths.items()}


@pytest.fixture
def tokens(tmp_path: Path) -> dict[str, str]:
    path = tmp_path / "tokens"
    path.write_text(f"# ours\n{TOKEN}\n\n{OTHER}\n")
    return {"tokens_file": str(path)}


def secure(port: int, ca: trustme.CA, client: trustme.LeafCert | None = None) -> aio.Channel:
    chain = b"".join(blob.bytes() for blob in client.cert_chain_pems) if client else None
    key = client.private_key_pem.bytes() if client else None
    return aio.secure_channel(f"localhost:{port}", grpc.ssl_channel_credentials(ca.cert_pem.bytes(), key, chain))


async def models(channel: aio.Channel, **options: Any) -> list[str]:
    stub: speech_pb2_grpc.SpeechAsyncStub = speech_pb2_grpc.SpeechStub(channel)
    return [model.name for model in (await stub.GetModels(MODELS, **options)).models]


async def test_tls(serve: Serve, ca: trustme.CA, tls: dict[str, str]) -> None:
    running = await serve(host="localhost", **tls)
    async with secure(running.port, ca) as channel:
        assert await models(channel) == ["fake"]
    async with secure(running.port, trustme.CA()) as stranger:
        assert (await refusal(models(stranger))).code == grpc.StatusCode.UNAVAILABLE
    assert (await refusal(models(running.channel))).code == grpc.StatusCode.UNAVAILABLE  # without TLS


async def test_mutual_tls(serve: Serve, ca: trustme.CA, tls: dict[str, str], tmp_path: Path) -> None:
    clients = trustme.CA()
    clients.cert_pem.write_to_path(str(tmp_path / "clients.pem"))
    running = await serve(host="localhost", tls_client_ca=str(tmp_path / "clients.pem"), **tls)
    async with secure(running.port, ca, clients.issue_cert("caller.example")) as channel:
        assert await models(channel) == ["fake"]
    for wrong in (None, trustme.CA().issue_cert("caller.example")):
        async with secure(running.port, ca, wrong) as channel:
            assert (await refusal(models(channel))).code == grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize("value", [f"Bearer {TOKEN}", f"bearer  {OTHER} "])
async def test_a_token_of_the_node_lets_in(serve: Serve, tokens: dict[str, str], value: str) -> None:
    running = await serve(**tokens)
    metadata = (("authorization", value),)
    assert await models(running.channel, metadata=metadata) == ["fake"]
    stream = running.stub.StreamingRecognize(iter([configured()]), metadata=metadata)
    assert (await read_all(stream))[-1].HasField("summary")


@pytest.mark.parametrize(
    ("metadata", "problem"),
    [
        ((), "got none"),
        ((("authorization", f"Basic {TOKEN}"),), "got another scheme"),
        ((("authorization", f"Bearer {TOKEN}x"),), "got an unknown token"),
        ((("authorization", "Bearer"),), "got an unknown token"),
    ],
)
async def test_without_a_token_nothing_but_health_answers(
    serve: Serve,
    tokens: dict[str, str],
    metadata: tuple[tuple[str, str], ...],
    problem: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    running = await serve(**tokens)
    for refused in (
        await refusal_of(running.stub, [configured()], metadata=metadata),
        await refusal(read_all(running.stub.StreamingRecognize(metadata=metadata))),  # before it has sent anything
        await refusal(running.stub.Recognize(pb.RecognizeRequest(), metadata=metadata)),
        await refusal(models(running.channel, metadata=metadata)),
    ):
        assert refused.code == grpc.StatusCode.UNAUTHENTICATED
        assert problem in refused.text
        assert refused.info.reason == "UNAUTHENTICATED"
    reflection: Any = reflection_pb2_grpc.ServerReflectionStub(running.channel)
    listing = reflection.ServerReflectionInfo(iter([reflection_pb2.ServerReflectionRequest(list_services="")]))
    assert (await refusal(read_all(listing))).code == grpc.StatusCode.UNAUTHENTICATED
    health: Any = health_pb2_grpc.HealthStub(running.channel)
    assert (await health.Check(health_pb2.HealthCheckRequest())).status == health_pb2.HealthCheckResponse.SERVING
    assert TOKEN not in "".join(capsys.readouterr())


async def test_strangers_make_no_metrics_by_made_up_names(serve: Serve, tokens: dict[str, str]) -> None:
    running = await serve(**tokens)
    for number in range(3):
        made_up: Any = running.channel.unary_unary(f"/made.up/Name{number}")
        assert (await refusal(made_up(b""))).code == grpc.StatusCode.UNAUTHENTICATED
    page = generate_latest(running.node.metrics.registry).decode()
    assert 'parley_calls_total{code="UNAUTHENTICATED",method="unauthenticated"} 3.0' in page
    assert "Name" not in page


async def test_tokens_in_clear_are_warned_of(
    serve: Serve, tokens: dict[str, str], tls: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    await serve(**tokens)
    assert "travel in clear" in "".join(capsys.readouterr())
    await serve(host="localhost", **tokens, **tls)
    assert "travel in clear" not in "".join(capsys.readouterr())
