"""How a caller reaches a server: channel options, TLS, token. Knows nothing of speech."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import grpc

if TYPE_CHECKING:
    from pathlib import Path

DEFAULT_ADDRESS = "127.0.0.1:50051"
RECORDING_LIMIT = 128 << 20  # bytes of a recording in one request
_MESSAGE_LIMIT = RECORDING_LIMIT + (64 << 10)  # the recording and its config
KEEPALIVE_MS = 30_000  # finds a dead connection within KEEPALIVE_MS + KEEPALIVE_TIMEOUT_MS
KEEPALIVE_TIMEOUT_MS = 10_000

Metadata: TypeAlias = "tuple[tuple[str, str], ...]"


@dataclass(frozen=True, slots=True)
class Tls:
    """TLS by PEM files. `ca` None: gRPC's own roots. `cert` and `key`: for a server that asks who calls."""

    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None

    def __post_init__(self) -> None:
        if (self.cert is None) != (self.key is None):
            raise ValueError(f"client certificate and key: got cert={self.cert}, key={self.key}, expected both or none")

    def credentials(self) -> grpc.ChannelCredentials:
        return grpc.ssl_channel_credentials(
            root_certificates=self.ca.read_bytes() if self.ca else None,
            private_key=self.key.read_bytes() if self.key else None,
            certificate_chain=self.cert.read_bytes() if self.cert else None,
        )


def open_channel(address: str, tls: Tls | None) -> grpc.Channel:
    options = channel_options()
    return grpc.secure_channel(address, tls.credentials(), options) if tls else grpc.insecure_channel(address, options)


def open_aio_channel(address: str, tls: Tls | None) -> grpc.aio.Channel:
    """For the running event loop."""
    options = channel_options()
    if tls:
        return grpc.aio.secure_channel(address, tls.credentials(), options)
    return grpc.aio.insecure_channel(address, options)


def channel_options() -> list[tuple[str, int]]:
    return [
        ("grpc.max_send_message_length", _MESSAGE_LIMIT),
        ("grpc.max_receive_message_length", _MESSAGE_LIMIT),
        ("grpc.keepalive_time_ms", KEEPALIVE_MS),
        ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_MS),
        # A call on hold sends nothing for minutes and must be pinged all the same.
        ("grpc.http2.max_pings_without_data", 0),
        # The channel's own wait before it connects again must not outlast parley.wire.retry's waits.
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.min_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 2_000),
    ]


def metadata(token: str | None) -> Metadata:
    return (("authorization", f"Bearer {token}"),) if token else ()
