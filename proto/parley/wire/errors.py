"""A failed call as a typed exception. Knows gRPC's status and google.rpc's details; decides nothing about retrying."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

if TYPE_CHECKING:
    from collections.abc import Iterable

DETAILS_TRAILER = "grpc-status-details-bin"


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """An option that the server refused, and why."""

    field: str
    text: str


class CallError(Exception):
    """A call failed. `text` is the server's own, `reason` its short name for the case (POOL_EXHAUSTED, BAD_AUDIO, ...),
    `retry_after_s` its wish, `request_id` what its log calls the call.
    """

    def __init__(
        self,
        code: grpc.StatusCode,
        text: str,
        retry_after_s: float | None = None,
        reason: str = "",
        request_id: str = "",
        violations: tuple[FieldViolation, ...] = (),
    ) -> None:
        super().__init__(f"{code.name}: {text}" + (f" (request {request_id})" if request_id else ""))
        self.code = code
        self.text = text
        self.retry_after_s = retry_after_s
        self.reason = reason
        self.request_id = request_id
        self.violations = violations


class InvalidRequest(CallError):
    """The config or the audio is not what the server takes."""


class NotAuthorized(CallError):
    """The token is missing or wrong, or not for this."""


class Exhausted(CallError):
    """The server has no room now (then `retry_after_s` says when to try again), or the message is too large."""


class TimedOut(CallError):
    """The caller's deadline passed, or the stream was idle for longer than the server allows."""


class Unavailable(CallError):
    """No server answers, it is loading or draining, or the connection broke where a stream cannot be taken up again."""


class Cancelled(CallError):
    """The call was cancelled: here, by closing the client, or by something on the way."""


class ServerFault(CallError):
    """The server failed, or answered with a status this client has no name for."""


_CLASSES: dict[grpc.StatusCode, type[CallError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidRequest,
    grpc.StatusCode.NOT_FOUND: InvalidRequest,
    grpc.StatusCode.OUT_OF_RANGE: InvalidRequest,
    grpc.StatusCode.FAILED_PRECONDITION: InvalidRequest,
    grpc.StatusCode.UNAUTHENTICATED: NotAuthorized,
    grpc.StatusCode.PERMISSION_DENIED: NotAuthorized,
    grpc.StatusCode.RESOURCE_EXHAUSTED: Exhausted,
    grpc.StatusCode.DEADLINE_EXCEEDED: TimedOut,
    grpc.StatusCode.UNAVAILABLE: Unavailable,
    grpc.StatusCode.CANCELLED: Cancelled,
}


class FailedCall(Protocol):
    """What the errors of gRPC's two Python interfaces have in common."""

    def code(self) -> grpc.StatusCode: ...
    def details(self) -> str | None: ...
    def trailing_metadata(self) -> Iterable[tuple[str, str | bytes]] | None: ...


def call_error(failed: FailedCall) -> CallError:
    """The typed exception for a failed call."""
    retry_after_s: float | None = None
    reason = request_id = ""
    violations: tuple[FieldViolation, ...] = ()
    for detail in _details(failed.trailing_metadata() or ()):
        if isinstance(detail, error_details_pb2.RetryInfo):
            retry_after_s = detail.retry_delay.ToTimedelta().total_seconds()
        elif isinstance(detail, error_details_pb2.ErrorInfo):
            reason, request_id = detail.reason, detail.metadata.get("request_id", "")
        else:
            violations = tuple(FieldViolation(each.field, each.description) for each in detail.field_violations)
    kind = _CLASSES.get(failed.code(), ServerFault)
    return kind(failed.code(), failed.details() or "", retry_after_s, reason, request_id, violations)


_Detail: TypeAlias = "error_details_pb2.RetryInfo | error_details_pb2.ErrorInfo | error_details_pb2.BadRequest"


def _details(trailers: Iterable[tuple[str, str | bytes]]) -> Iterable[_Detail]:
    for key, value in trailers:
        if key != DETAILS_TRAILER or not isinstance(value, bytes):
            continue
        try:
            packed = status_pb2.Status.FromString(value).details
        except DecodeError:  # a proxy may mangle trailers; the status itself still stands
            continue
        for any_message in packed:
            for kind in (error_details_pb2.RetryInfo, error_details_pb2.ErrorInfo, error_details_pb2.BadRequest):
                detail = kind()
                if any_message.Unpack(detail):
                    yield detail
