"""The table of errors that all gRPC wires have: the decoder's, those of live calls, and messages out of place.

A wire brings its names of the core's fields: by these an error's text and its BadRequest are made.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc

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
from parley.server.kit.statuses import Row, Statuses
from parley.server.live.errors import IdleStream, NotReady, TooLarge, UnreadResponses

if TYPE_CHECKING:
    from collections.abc import Mapping


class BadMessage(ParleyError):
    """A request message that may not stand where it stands. `field` is its name on the wire."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field = field


_C = grpc.StatusCode
ROWS: Mapping[type[Exception], Row] = {
    InvalidOption: Row(
        _C.INVALID_ARGUMENT,
        "INVALID_OPTION",
        "A field of the request is out of its range, or asks for what this node does not have. The text says what was "
        "found and what was expected.",
        field=True,
    ),
    UnknownModel: Row(
        _C.NOT_FOUND,
        "UNKNOWN_MODEL",
        "The node has no model of this name, or none for this language. The text says what it has.",
        field=True,
    ),
    BadMessage: Row(
        _C.INVALID_ARGUMENT,
        "BAD_MESSAGE",
        "A message may not stand where it stands: a stream begins with its config, once, and audio or controls follow.",
        field=True,
    ),
    BadAudio: Row(
        _C.INVALID_ARGUMENT,
        "BAD_AUDIO",
        "The audio's bytes are not what the request or their header says. The text says at which byte.",
        field=True,
    ),
    AudioTooLong: Row(
        _C.OUT_OF_RANGE,
        "AUDIO_TOO_LONG",
        "More audio than `max_stream_s` or `max_file_s` allows. Cut it into several requests.",
        field=True,
    ),
    TooLarge: Row(
        _C.OUT_OF_RANGE,
        "MESSAGE_TOO_LARGE",
        "More bytes of audio in a message than `max_chunk_bytes` or `max_file_bytes` allows. Send smaller messages.",
        field=True,
    ),
    PoolExhausted: Row(
        _C.RESOURCE_EXHAUSTED,
        "POOL_EXHAUSTED",
        "Every decoder is lent, and none came free within `stream_wait_s` or `pool_wait_s`. Call again, or another "
        "node.",
        retry=True,
    ),
    IdleStream: Row(
        _C.DEADLINE_EXCEEDED,
        "IDLE_STREAM",
        "The client has sent nothing for `idle_timeout_s`. Send audio, or keep-alives while there is none.",
    ),
    UnreadResponses: Row(
        _C.DEADLINE_EXCEEDED,
        "UNREAD_RESPONSES",
        "The client has read no response for `idle_timeout_s` while one waited. Read while you send.",
    ),
    NotReady: Row(
        _C.UNAVAILABLE,
        "LOADING",
        "The node still loads its models. Call again, or watch its health.",
        retry=True,
    ),
    Cancelled: Row(_C.CANCELLED, "CANCELLED", "The client has given the call up."),
    ModelError: Row(
        _C.INTERNAL,
        "MODEL_FAILED",
        "A model failed at its work. The node's log says more under the request's id.",
        public=False,
    ),
    DeviceError: Row(
        _C.INTERNAL,
        "DEVICE_FAILED",
        "The device gave no result, or had no memory for it. The node's log says more under the request's id.",
        public=False,
    ),
    DeviceLost: Row(
        _C.UNAVAILABLE,
        "DEVICE_LOST",
        "A card works no more, and what it was at is lost; other devices of the node go on. Call again.",
        retry=True,
    ),
}


class _Names:
    """Words of a wire, by its names of the core's fields; None: not on this wire."""

    def __init__(self, fields: Mapping[str, str | None]) -> None:
        self._fields = fields

    def text(self, error: Exception) -> str:
        return error.told(self._name) if isinstance(error, ParleyError) else str(error)

    def field(self, error: Exception) -> str:
        return self._name(getattr(error, "field", "audio"))

    def _name(self, field: str) -> str:
        return self._fields.get(field) or field


def statuses(domain: str, fields: Mapping[str, str | None]) -> Statuses:
    """A gRPC wire's table. fields: its names of the core's, None for one that it does not have."""
    return Statuses(domain, ROWS, _Names(fields))
