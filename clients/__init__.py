"""Parley's clients: the library (Client, AsyncClient), the `parley` command (cli) and the call simulator."""

from clients.aio import AsyncClient, AsyncStream
from clients.config import Control, Encoding, RecognitionConfig, StreamConfig
from clients.connection import Tls
from clients.errors import (
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
from clients.results import (
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
from clients.retry import Retry
from clients.sync import Client, Stream

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
