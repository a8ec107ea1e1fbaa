"""The one table from errors to gRPC statuses. Knows codes and details; not who raises what, nor when."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from parley.decoder.errors import (
    AudioTooLong,
    BadAudio,
    Cancelled,
    DeviceError,
    DeviceLost,
    InvalidOption,
    ModelError,
    ParleyError,
    PoolExhausted,
    UnknownModel,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from google.protobuf.message import Message

DOMAIN = "parley.asr.v1"  # of every ErrorInfo
RETRY_AFTER_S = 1
LONGEST_TEXT = 1_000  # bytes as they travel, in headers: clients refuse those over 8 KiB, and a text stands there twice
PLAIN = frozenset(map(chr, range(0x20, 0x7F))) - {"%"}  # what travels as it is, and not as %XX a byte


class BadMessage(ParleyError):
    """A request message that may not stand where it stands. `field` is its name on the wire."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field = field


class TooLarge(ParleyError):
    """More bytes in one message than the node takes. `field` is the bytes' name on the wire."""

    def __init__(self, field: str, found: int, limit: int) -> None:
        super().__init__(f"{field}: got {found} bytes, expected at most {limit} bytes a message")
        self.field = field


class IdleStream(ParleyError):
    """A client that sends nothing."""

    def __init__(self, limit_s: float) -> None:
        super().__init__(
            f"no message for {limit_s:g} s (idle_timeout_s): send audio, or KEEP_ALIVE while there is none"
        )


class UnreadResponses(ParleyError):
    """A client that reads nothing."""

    def __init__(self, limit_s: float) -> None:
        super().__init__(f"no response was read for {limit_s:g} s (idle_timeout_s): read while you send")


class TooManyStreams(ParleyError):
    """A peer with more calls at once than the node allows one."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"this peer has {limit} calls open, and max_streams_per_peer allows no more: close one first")


class NotReady(ParleyError):
    """The models are still loading."""

    def __init__(self) -> None:
        super().__init__("the node is loading its models: try again, or watch its health")


class Draining(ParleyError):
    """The node is about to end."""

    def __init__(self) -> None:
        super().__init__("the node is shutting down and takes no new calls: use another")


class Unauthenticated(ParleyError):
    """A missing or wrong token."""

    def __init__(self, problem: str) -> None:
        super().__init__(f"authorization: {problem}, expected `Bearer TOKEN` with a token of this node")


@dataclass(frozen=True, slots=True)
class Row:
    """How one kind of error leaves the node."""

    code: grpc.StatusCode
    reason: str  # of its ErrorInfo
    details: Callable[[Exception], Message] | None = None
    public: bool = True  # False: a bug or a fault of the machine, whose text is for the log only


def _violation(error: Exception) -> Message:
    field = getattr(error, "field", "audio")
    violation = error_details_pb2.BadRequest.FieldViolation(field=field, description=text(error))
    details: Message = error_details_pb2.BadRequest(field_violations=[violation])
    return details


def _retry(_: Exception) -> Message:
    details: Message = error_details_pb2.RetryInfo(retry_delay=duration_pb2.Duration(seconds=RETRY_AFTER_S))
    return details


_C = grpc.StatusCode
TABLE: dict[type[Exception], Row] = {
    InvalidOption: Row(_C.INVALID_ARGUMENT, "INVALID_OPTION", _violation),
    UnknownModel: Row(_C.NOT_FOUND, "UNKNOWN_MODEL", _violation),
    BadMessage: Row(_C.INVALID_ARGUMENT, "BAD_MESSAGE", _violation),
    DecodeError: Row(_C.INVALID_ARGUMENT, "NOT_PROTOBUF"),
    BadAudio: Row(_C.INVALID_ARGUMENT, "BAD_AUDIO", _violation),
    AudioTooLong: Row(_C.OUT_OF_RANGE, "AUDIO_TOO_LONG", _violation),
    TooLarge: Row(_C.OUT_OF_RANGE, "MESSAGE_TOO_LARGE", _violation),
    PoolExhausted: Row(_C.RESOURCE_EXHAUSTED, "POOL_EXHAUSTED", _retry),
    TooManyStreams: Row(_C.RESOURCE_EXHAUSTED, "TOO_MANY_STREAMS", _retry),
    IdleStream: Row(_C.DEADLINE_EXCEEDED, "IDLE_STREAM"),
    UnreadResponses: Row(_C.DEADLINE_EXCEEDED, "UNREAD_RESPONSES"),
    NotReady: Row(_C.UNAVAILABLE, "LOADING", _retry),
    Draining: Row(_C.UNAVAILABLE, "DRAINING"),
    Unauthenticated: Row(_C.UNAUTHENTICATED, "UNAUTHENTICATED"),
    Cancelled: Row(_C.CANCELLED, "CANCELLED"),
    ModelError: Row(_C.INTERNAL, "MODEL_FAILED", public=False),
    DeviceError: Row(_C.INTERNAL, "DEVICE_FAILED", public=False),
    DeviceLost: Row(_C.UNAVAILABLE, "DEVICE_LOST", _retry),
}
UNLISTED = Row(_C.INTERNAL, "INTERNAL", public=False)


def row(error: Exception) -> Row:
    """The table's row for an error, or the one for bugs."""
    return next((TABLE[kind] for kind in type(error).__mro__ if kind in TABLE), UNLISTED)


def text(error: Exception) -> str:
    """What an error says, cut: it may quote what a client sent."""
    return cut(str(error))


def cut(whole: str, longest: int = LONGEST_TEXT) -> str:
    """As much of a text's beginning as is no longer than that when it travels."""
    left, kept = longest, 0
    for at, character in enumerate(whole):
        if left >= len("..."):
            kept = at
        left -= 1 if character in PLAIN else 3 * len(character.encode())
        if left < 0:
            return whole[:kept] + "..."
    return whole


def status(error: Exception, request_id: str) -> grpc.Status:
    """What the client is told of an error."""
    found = row(error)
    told = text(error) if found.public else f"internal error, see the node's log for request {request_id}"
    info = error_details_pb2.ErrorInfo(reason=found.reason, domain=DOMAIN, metadata={"request_id": request_id})
    details: list[Message] = [info]
    if found.details is not None:
        details.append(found.details(error))
    code: int = found.code.value[0]
    return rpc_status.to_status(status_pb2.Status(code=code, message=told, details=[_packed(one) for one in details]))


def _packed(message: Message) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(message)
    return packed
