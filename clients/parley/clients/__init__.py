"""Parley's clients: the library (Client, AsyncClient), the `parley` command (cli) and the call simulator."""

from parley.clients.aio import AsyncClient, AsyncStream
from parley.clients.config import Control, Encoding, RecognitionConfig, StreamConfig
from parley.clients.results import (
    Alternative,
    Cursors,
    Latency,
    Lattice,
    LatticeArc,
    Model,
    Result,
    Scores,
    Serving,
    SpeechEvent,
    SpeechEventKind,
    Summary,
    Transcript,
    Word,
)
from parley.clients.sync import Client, Stream
from parley.wire.channel import Tls
from parley.wire.errors import (
    CallError,
    Cancelled,
    Exhausted,
    FieldViolation,
    InvalidRequest,
    NotAuthorized,
    ServerFault,
    TimedOut,
    Unavailable,
)
from parley.wire.retry import Retry

__all__ = [
    "Alternative",
    "AsyncClient",
    "AsyncStream",
    "CallError",
    "Cancelled",
    "Client",
    "Control",
    "Cursors",
    "Encoding",
    "Exhausted",
    "FieldViolation",
    "InvalidRequest",
    "Latency",
    "Lattice",
    "LatticeArc",
    "Model",
    "NotAuthorized",
    "RecognitionConfig",
    "Result",
    "Retry",
    "Scores",
    "ServerFault",
    "Serving",
    "SpeechEvent",
    "SpeechEventKind",
    "Stream",
    "StreamConfig",
    "Summary",
    "TimedOut",
    "Tls",
    "Transcript",
    "Unavailable",
    "Word",
]
