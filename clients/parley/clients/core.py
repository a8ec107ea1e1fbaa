"""What both clients do the same way, without I/O: a stream's values from its messages, and a recording's request."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from parley.asr.v1 import speech_pb2 as pb
from parley.clients import results
from parley.clients.results import Cursors, Result
from parley.wire.channel import RECORDING_LIMIT

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator

    from parley.clients.config import RecognitionConfig
    from parley.clients.results import SpeechEvent, Summary
    from parley.wire.resume import Session

TRANSCRIBE_TIMEOUT_S = 600.0  # an hour's recording on a slow machine that is busy with others
QUICK_TIMEOUT_S = 10.0  # models, health
SPEECH_SERVICE = "parley.asr.v1.Speech"

Recording: TypeAlias = "bytes | str | os.PathLike[str]"


class StreamFacts:
    """What a stream's iterator knows beside its results. Complete when the iteration has ended."""

    def __init__(self, session: Session, request_id: str, on_event: Callable[[SpeechEvent], None] | None) -> None:
        self._session = session
        self._on_event = on_event
        self._come: deque[Result | SpeechEvent] = deque()  # and not yet asked for
        self._interims: dict[int, Result] = {}  # by channel the newest, while its utterance is open
        self._summary: Summary | None = None
        self._cursors = Cursors()
        self._request_id = request_id

    @property
    def summary(self) -> Summary | None:
        """None until the server has said all."""
        return self._summary

    @property
    def cursors(self) -> Cursors:
        return self._cursors

    @property
    def request_id(self) -> str:
        return self._request_id

    def _result(self) -> Result | None:
        """The next result of what has come, the events before it told; None: more has to come."""
        while self._come:
            item = self._come.popleft()
            if isinstance(item, Result):
                return item
            if self._on_event:
                self._on_event(item)
        return None

    def _received(self, response: pb.StreamingRecognizeResponse) -> None:
        """Takes in a response, in the stream's own times and numbers."""
        self._request_id = response.request_id or self._request_id
        for message in response.results:
            result = results.stream_result(message)
            self._come.append(result)
            interim = self._interims.get(result.channel)
            if not result.is_final:
                self._interims[result.channel] = result
            elif interim is not None and interim.segment <= result.segment:
                del self._interims[result.channel]
        if response.HasField("speech_event"):
            event = results.speech_event(response.speech_event)
            if event is not None:
                self._come.append(event)
        if response.HasField("cursors"):
            self._cursors = results.cursors(response.cursors)
            self._come.extend(self._taken_back())
        if response.HasField("summary"):
            self._summary = results.summary(response.summary, self._session.resume.breaks)

    def _taken_back(self) -> Iterator[Result]:
        """For each interim result whose utterance is over and held no words, one without text."""
        over = [interim for interim in self._interims.values() if self._cursors.final_s > interim.start_s]
        for interim in over:
            del self._interims[interim.channel]
            yield replace(interim, text="", words=(), word_timing="", confidence=0.0, stability=0.0)


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
