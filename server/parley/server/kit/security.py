"""Who may call: TLS, client certificates, bearer tokens. Knows keys and tokens; never logs them."""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING, Any

import grpc
from grpc import aio

from parley.server.kit.errors import Unauthenticated

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from parley.server.kit.admission import Calls
    from parley.server.kit.statuses import Statuses

SHORTEST_TOKEN = 16  # characters: shorter ones can be guessed
OPEN = "/grpc.health.v1.Health/"  # needs no token: load balancers and orchestrators have none


def credentials(cert: Path, key: Path, client_ca: Path | None) -> grpc.ServerCredentials:
    """TLS with the process's certificate; with `client_ca`, only for clients whose certificate it signed."""
    return grpc.ssl_server_credentials(
        [(key.read_bytes(), cert.read_bytes())],
        root_certificates=client_ca.read_bytes() if client_ca else None,
        require_client_auth=client_ca is not None,
    )


def read_tokens(path: Path) -> tuple[bytes, ...]:
    """One token a line; blank lines and lines that begin with # are skipped. Raises ValueError, OSError."""
    tokens: list[bytes] = []
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        token = line.strip()
        if not token or token.startswith(b"#"):
            continue
        if len(token) < SHORTEST_TOKEN or b" " in token or not token.isascii():
            raise ValueError(f"line {number}: expected a token of {SHORTEST_TOKEN} or more ASCII characters, no spaces")
        tokens.append(token)
    if not tokens:
        raise ValueError("no token in it, expected one a line")
    return tuple(tokens)


class TokenCheck(aio.ServerInterceptor):
    """Lets only calls with one of the tokens pass, but for health."""

    def __init__(self, tokens: tuple[bytes, ...], calls: Calls, statuses: Statuses) -> None:
        """statuses: of refusals, whatever wire the call is for."""
        self._tokens = tokens
        self._calls = calls
        self._statuses = statuses

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        method = handler_call_details.method
        problem = None if method.startswith(OPEN) else self._problem(handler_call_details)
        if problem is None:
            return await continuation(handler_call_details)
        return self._refusal(problem)

    def _problem(self, details: grpc.HandlerCallDetails) -> str | None:
        given = [value for key, value in details.invocation_metadata if key == "authorization"]
        if not given:
            return "got none"
        scheme, _, token = str(given[0]).partition(" ")
        if scheme.lower() != "bearer":
            return "got another scheme"
        # All are compared, each in constant time: how long it takes tells nothing of a token.
        matches = [hmac.compare_digest(token.strip().encode(), known) for known in self._tokens]
        return None if any(matches) else "got an unknown token"

    def _refusal(self, problem: str) -> grpc.RpcMethodHandler[Any, Any]:
        async def refuse(_: object, context: aio.ServicerContext[Any, Any]) -> None:
            # Not the method's name: strangers can make up any number of them, and each would be a metric of its own.
            async with self._calls.open("unauthenticated", context, self._statuses):
                raise Unauthenticated(problem)

        # A handler of two streams fits every kind of method: it reads nothing and ends with a status.
        return grpc.stream_stream_rpc_method_handler(refuse)
