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
        "A field of the request is out of its range, or asks for what this node does not have.",
        "Mend the field that BadRequest names; its text says what was found and expected.",
        field=True,
    ),
    UnknownModel: Row(
        _C.NOT_FOUND,
        "UNKNOWN_MODEL",
        "The node has no model of this name, or none for this language.",
        "Ask GetModels for what the node has, or leave the field empty.",
        field=True,
    ),
    BadMessage: Row(
        _C.INVALID_ARGUMENT,
        "BAD_MESSAGE",
        "A request message may not stand where it stands.",
        "A fault of the client's program: config first and once, then audio or a control.",
        field=True,
    ),
    BadAudio: Row(
        _C.INVALID_ARGUMENT,
        "BAD_AUDIO",
        "The audio's bytes are not what the request, or their own header, says they are.",
        "Look at the encoding and rate that were said; the text has the place in the bytes.",
        field=True,
    ),
    AudioTooLong: Row(
        _C.OUT_OF_RANGE,
        "AUDIO_TOO_LONG",
        "More audio than a request may have.",
        "Cut the recording, or open another stream; `max_stream_s` and `max_file_s` are the limits.",
        field=True,
    ),
    TooLarge: Row(
        _C.OUT_OF_RANGE,
        "MESSAGE_TOO_LARGE",
        "More bytes of audio in one message than the node takes.",
        "Send smaller pieces (`max_chunk_bytes`), or stream a file that is over `max_file_bytes`.",
        field=True,
    ),
    PoolExhausted: Row(
        _C.RESOURCE_EXHAUSTED,
        "POOL_EXHAUSTED",
        "Every decoder is lent, and none came free within `stream_wait_s` or `pool_wait_s`.",
        "Try another node at once, or this one after RetryInfo's delay, which grows if it happens again. If it happens "
        "often the fleet is too small: see `parley_pool_busy`.",
        retry=True,
    ),
    IdleStream: Row(
        _C.DEADLINE_EXCEEDED,
        "IDLE_STREAM",
        "The client has sent nothing for `idle_timeout_s`.",
        "Send audio, or `CONTROL_KEEP_ALIVE` while there is none.",
    ),
    UnreadResponses: Row(
        _C.DEADLINE_EXCEEDED,
        "UNREAD_RESPONSES",
        "The client has read nothing for `idle_timeout_s` while a response waited.",
        "Read responses while you send.",
    ),
    NotReady: Row(
        _C.UNAVAILABLE,
        "LOADING",
        "The models are still loading.",
        "Wait for the node's health to say SERVING (`parley health --wait 60`), or try another.",
        retry=True,
    ),
    Cancelled: Row(
        _C.CANCELLED,
        "CANCELLED",
        "The caller gave up: nobody waits for this.",
        "Nothing: you have cancelled it yourself.",
    ),
    ModelError: Row(
        _C.INTERNAL,
        "MODEL_FAILED",
        "A model failed at its work.",
        "Tell the operator the request id: the node's log has what happened under it.",
        public=False,
    ),
    DeviceError: Row(
        _C.INTERNAL,
        "DEVICE_FAILED",
        "The device has stopped, has no memory for an utterance, or gave no result for it.",
        "Call again: another batch may go well. The node's log tells more under the request id.",
        public=False,
    ),
    DeviceLost: Row(
        _C.UNAVAILABLE,
        "DEVICE_LOST",
        "The device works no more, and what it was at is lost; other devices of the node go on.",
        "Call again, after RetryInfo's delay; a node with no device left ends and is started anew.",
        retry=True,
    ),
}


class _Names:
    """Words of a wire, by its names of the core's fields (None: not on it) and of what a silent client may send."""

    def __init__(self, fields: Mapping[str, str | None], while_silent: str) -> None:
        self._fields = fields
        self._while_silent = while_silent

    def text(self, error: Exception) -> str:
        text = error.told(self._name) if isinstance(error, ParleyError) else str(error)
        return f"{text}: send {self._while_silent}" if isinstance(error, IdleStream) else text

    def field(self, error: Exception) -> str:
        return self._name(getattr(error, "field", "audio"))

    def _name(self, field: str) -> str:
        return self._fields.get(field) or field


def statuses(domain: str, fields: Mapping[str, str | None], while_silent: str) -> Statuses:
    """A gRPC wire's table. fields: its names of the core's, None for one that it does not have. while_silent: what its
    clients send, so as not to be taken for gone."""
    return Statuses(domain, ROWS, _Names(fields, while_silent))
