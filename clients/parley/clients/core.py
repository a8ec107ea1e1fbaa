"""What both clients do the same way, without I/O: a stream's session and a recording's request."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from parley.asr.v1 import speech_pb2 as pb
from parley.clients.connection import RECORDING_LIMIT
from parley.clients.errors import CallError, Exhausted
from parley.clients.resume import Resume
from parley.clients.retry import Attempts

if TYPE_CHECKING:
    import os

    from parley.clients.config import RecognitionConfig, StreamConfig
    from parley.clients.results import Cursors, Summary
    from parley.clients.retry import Retry

TRANSCRIBE_TIMEOUT_S = 600.0  # an hour's recording on a slow machine that is busy with others
QUICK_TIMEOUT_S = 10.0  # models, health
SPEECH_SERVICE = "parley.asr.v1.Speech"

Recording: TypeAlias = "bytes | str | os.PathLike[str]"


class Session:
    """One stream from its opening to its summary, over as many connections as it takes."""

    def __init__(self, config: StreamConfig, speech_events: bool, retry: Retry, timeout_s: float | None) -> None:
        self.resume = Resume(config, speech_events)
        self.attempts = Attempts(retry, timeout_s)

    def wait_s(self, error: CallError) -> float:
        """After a failure: how long to wait before opening again. Raises `error` where that is not safe or no use."""
        if self.resume.progressed():
            self.attempts.progressed()
        if not self.resume.resumable():
            raise error
        # Once it has been let in, a stream that meets a limit has met its own, and would meet it again.
        if isinstance(error, Exhausted) and self.resume.answered:
            raise error
        return self.attempts.wait_s(error)


class StreamFacts:
    """What a stream's iterator knows beside its results. Complete when the iteration has ended."""

    def __init__(self, session: Session) -> None:
        self._session = session

    @property
    def summary(self) -> Summary | None:
        """None until the server has said all."""
        return self._session.resume.summary

    @property
    def cursors(self) -> Cursors:
        return self._session.resume.cursors

    @property
    def request_id(self) -> str:
        return self._session.resume.request_id


def recognize_request(recording: Recording, config: RecognitionConfig) -> pb.RecognizeRequest:
    """The request for a recording's bytes or path. Reads the file."""
    if isinstance(recording, bytes):
        name, size = "recording", len(recording)
    else:
        name, size = str(recording), Path(recording).stat().st_size
    if size > RECORDING_LIMIT:
        raise ValueError(
            f"{name}: got {size / (1 << 20):.0f} MiB, expected at most {RECORDING_LIMIT >> 20} MiB in one request; "
            "compress it (Opus, FLAC) or stream it"
        )
    audio = recording if isinstance(recording, bytes) else Path(recording).read_bytes()
    return pb.RecognizeRequest(config=config.to_wire(), audio=audio)
