"""Errors as gRPC statuses, by tables: a row an error's class. Knows codes, details and lengths; not who raises what.

A table is made of the kit's rows and those that are handed in. Its rows are also what the reference of errors is made
of, so each says what its reason means.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from parley.server.kit.errors import Draining, TooManyStreams, Unauthenticated

if TYPE_CHECKING:
    from collections.abc import Mapping

    from google.protobuf.message import Message

RETRY_AFTER_S = 1
LONGEST_TEXT = 1_000  # bytes as they travel, in headers: clients refuse those over 8 KiB, and a text stands there twice
PLAIN = frozenset(map(chr, range(0x20, 0x7F))) - {"%"}  # what travels as it is, and not as %XX a byte


@dataclass(frozen=True, slots=True)
class Row:
    """How one kind of error leaves the process.

    reason: of its ErrorInfo. meaning, remedy: of the reason, for people: what happened, and what a caller does about
    it. field: a BadRequest names the request's field. retry: a RetryInfo says when to call again. public: False for a
    bug or a fault of the machine, whose text is for the log only.
    """

    code: grpc.StatusCode
    reason: str
    meaning: str
    remedy: str
    field: bool = False
    retry: bool = False
    public: bool = True


_C = grpc.StatusCode
ROWS: Mapping[type[Exception], Row] = {
    DecodeError: Row(
        _C.INVALID_ARGUMENT,
        "NOT_PROTOBUF",
        "The request's bytes are no message of this method.",
        "A fault of the client's program: it was built from another protocol, or sends something else.",
    ),
    TooManyStreams: Row(
        _C.RESOURCE_EXHAUSTED,
        "TOO_MANY_STREAMS",
        "This client's address has as many calls open as `max_streams_per_peer` allows.",
        "Close a call first. Behind a gateway set `max_streams_per_peer = 0`: it is one peer.",
        retry=True,
    ),
    Draining: Row(
        _C.UNAVAILABLE,
        "DRAINING",
        "The node was told to end: it finishes the calls it has and takes no new ones.",
        "Call another node.",
    ),
    Unauthenticated: Row(
        _C.UNAUTHENTICATED,
        "UNAUTHENTICATED",
        "The call has no token, or none of this node's.",
        "Send `authorization: Bearer TOKEN` with a token of the node's `tokens_file`.",
    ),
}
UNLISTED = Row(
    _C.INTERNAL,
    "INTERNAL",
    "Anything that is in no other row.",
    "A bug. Tell the operator the request id: the node's log has the traceback under it.",
    public=False,
)


class Words(Protocol):
    """What a wire calls things."""

    def text(self, error: Exception) -> str:
        """What an error says to this wire's clients."""

    def field(self, error: Exception) -> str:
        """The request's field that an error is about, by its name on the wire."""


class Statuses:
    """A table, and what is told by it. domain: of every ErrorInfo."""

    def __init__(self, domain: str, rows: Mapping[type[Exception], Row], words: Words) -> None:
        self.domain = domain
        self.rows = {**ROWS, **rows}
        self._words = words

    def row(self, error: Exception) -> Row:
        """The table's row for an error, or the one for bugs."""
        return next((self.rows[kind] for kind in type(error).__mro__ if kind in self.rows), UNLISTED)

    def text(self, error: Exception) -> str:
        """What an error says, cut: it may quote what a client sent."""
        return cut(self._words.text(error))

    def status(self, error: Exception, request_id: str) -> grpc.Status:
        """What the client is told of an error."""
        row = self.row(error)
        told = self.text(error) if row.public else f"internal error, see the node's log for request {request_id}"
        info = error_details_pb2.ErrorInfo(reason=row.reason, domain=self.domain, metadata={"request_id": request_id})
        details: list[Message] = [info]
        if row.field:
            violation = error_details_pb2.BadRequest.FieldViolation(field=self._words.field(error), description=told)
            details.append(error_details_pb2.BadRequest(field_violations=[violation]))
        if row.retry:
            details.append(error_details_pb2.RetryInfo(retry_delay=duration_pb2.Duration(seconds=RETRY_AFTER_S)))
        code: int = row.code.value[0]
        return rpc_status.to_status(
            status_pb2.Status(code=code, message=told, details=[_packed(one) for one in details])
        )


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


def _packed(message: Message) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(message)
    return packed
