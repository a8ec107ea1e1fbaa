"""A gRPC server as every process here has one: its limits, who may call, what it tells of itself. Knows no service.

Health, channelz and reflection stand beside the services that are added; see `Door` for the rest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from google.protobuf import descriptor_pool
from grpc import aio
from grpc_channelz.v1 import channelz, channelz_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from parley.server.kit import security
from parley.server.kit.settings import Fault, Faults

if TYPE_CHECKING:
    from pathlib import Path

    from parley.server.kit.admission import Calls
    from parley.server.kit.health import Health
    from parley.server.kit.statuses import Statuses

HEALTH = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
CHANNELZ = channelz_pb2.DESCRIPTOR.services_by_name["Channelz"].full_name

LEAST_PING_INTERVAL_S = 10  # clients may probe this often, with no call open too; more often is answered with GOAWAY
READ_AHEAD = 64 * 1024  # bytes of a stream that gRPC takes in before anybody reads them: 2 s of 16 kHz PCM


@dataclass(frozen=True, slots=True)
class Door:
    """Where a server listens and whom it lets in. most_calls: at once, of any kind: gRPC refuses more before it reads
    their first message. most_bytes: of a message. keepalive_s: quiet time after which a connection is probed."""

    host: str
    port: int
    most_calls: int
    most_bytes: int
    keepalive_s: float
    keepalive_timeout_s: float
    tls_cert: Path | None = None
    tls_key: Path | None = None
    tls_client_ca: Path | None = None
    tokens_file: Path | None = None


def grpc_server(door: Door, health: Health, calls: Calls, statuses: Statuses) -> aio.Server:
    """Not listening yet: services are added first, then `reflect` and `listen`. statuses: of refusals at the door."""
    interceptors = []
    if door.tokens_file:
        interceptors.append(security.TokenCheck(security.read_tokens(door.tokens_file), calls, statuses))
    server = aio.server(interceptors=interceptors, options=_options(door), maximum_concurrent_rpcs=door.most_calls)
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    channelz.add_channelz_servicer(server)
    return server


def reflect(server: aio.Server, services: tuple[str, ...]) -> None:
    """Has the server describe its own services, and those of these that protobuf knows: of a service whose messages
    alone are installed there is nothing to describe."""
    described = (name for name in services if _is_known(name))
    reflection.enable_server_reflection((*described, HEALTH, CHANNELZ, reflection.SERVICE_NAME), server)


def _is_known(service: str) -> bool:
    try:
        descriptor_pool.Default().FindServiceByName(service)
    except KeyError:
        return False
    return True


def listen(server: aio.Server, door: Door) -> int:
    """Takes the port, and returns it. Raises Faults."""
    where = address(door.host, door.port)
    try:
        if door.tls_cert and door.tls_key:
            keys = security.credentials(door.tls_cert, door.tls_key, door.tls_client_ca)
            return server.add_secure_port(where, keys)
        return server.add_insecure_port(where)
    except RuntimeError as error:
        raise Faults([Fault("port", f"cannot listen on {where}: {error}")]) from None


def address(host: str, port: int) -> str:
    """As gRPC and URLs write it."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _options(door: Door) -> list[tuple[str, int]]:
    return [
        ("grpc.so_reuseport", 0),  # two processes on one port would share its calls unnoticed: the second should fail
        ("grpc.max_receive_message_length", door.most_bytes),
        ("grpc.http2.lookahead_bytes", READ_AHEAD),
        ("grpc.http2.bdp_probe", 0),  # it would let each stream's read-ahead grow to 4 MiB
        ("grpc.enable_channelz", 1),
        ("grpc.keepalive_time_ms", int(door.keepalive_s * 1000)),
        ("grpc.keepalive_timeout_ms", int(door.keepalive_timeout_s * 1000)),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),  # any number: a quiet call is probed as long as it lasts
        ("grpc.http2.min_ping_interval_without_data_ms", LEAST_PING_INTERVAL_S * 1000),
    ]
