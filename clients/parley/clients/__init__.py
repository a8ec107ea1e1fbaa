"""Parley's clients: the library (Client, AsyncClient), the `parley` command (cli) and the call simulator."""

from parley.clients.aio import AsyncClient, AsyncStream
from parley.clients.config import Control, Encoding, RecognitionConfig, StreamConfig
from parley.clients.connection import Tls
from parley.clients.errors import (
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
from parley.clients.retry import Retry
from parley.clients.sync import Client, Stream

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
