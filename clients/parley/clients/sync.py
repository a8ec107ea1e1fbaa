"""The client for code without an event loop. Knows gRPC's synchronous interface; what it says is core's and resume's.

with Client("127.0.0.1:50051") as client:
    print(client.transcribe("call.wav").text)
    with client.stream(pieces_of_audio, StreamConfig(encoding=Encoding.LINEAR16, sample_rate=16_000)) as results:
        for result in results:
            print(result.text, result.is_final)
    print(results.summary)
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, TypeVar, cast

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from parley.asr.v1 import speech_pb2 as pb
from parley.asr.v1 import speech_pb2_grpc
from parley.clients import connection, core, results
from parley.clients.config import Control, RecognitionConfig, StreamConfig, request
from parley.clients.core import QUICK_TIMEOUT_S, TRANSCRIBE_TIMEOUT_S, Recording, Session, StreamFacts
from parley.clients.errors import CallError, call_error
from parley.clients.results import Model, Result, Serving, SpeechEvent, Transcript
from parley.clients.retry import NEVER, Attempts, Retry

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator

    from parley.clients.connection import Metadata, Tls
    from parley.clients.errors import FailedCall

_Request = TypeVar("_Request")
_Response = TypeVar("_Response")


class Client:
    """Calls a server. Safe to share between threads."""

    def __init__(
        self,
        address: str = connection.DEFAULT_ADDRESS,
        *,
        token: str | None = None,
        tls: Tls | None = None,
        retry: Retry | None = None,
    ) -> None:
        options = connection.channel_options()
        self._channel = (
            grpc.secure_channel(address, tls.credentials(), options) if tls else grpc.insecure_channel(address, options)
        )
        self._metadata = connection.metadata(token)
        self._retry = retry or Retry()
        self._speech = speech_pb2_grpc.SpeechStub(self._channel)
        self._health = health_pb2_grpc.HealthStub(self._channel)

    def stream(
        self,
        audio: Iterable[bytes | Control],
        config: StreamConfig,
        *,
        on_event: Callable[[SpeechEvent], None] | None = None,
        timeout_s: float | None = None,
    ) -> Stream:
        """Recognize live audio: pieces in, results out, while the pieces are still coming.

        `audio` is drawn from another thread. Its end is the stream's: what is left is recognized and the iterator
        ends after the last final. Leaving the iterator cancels the call. `on_event` is called with speech events
        between the results.
        """
        session = Session(config, on_event is not None, self._retry, timeout_s)
        return Stream(session, _stream(self._speech, self._metadata, session, iter(audio), on_event))

    def transcribe(
        self,
        recording: Recording,
        config: RecognitionConfig | None = None,
        *,
        timeout_s: float | None = TRANSCRIBE_TIMEOUT_S,
    ) -> Transcript:
        """Recognize a whole recording, given as bytes or as a path."""
        message = core.recognize_request(recording, config or RecognitionConfig())
        return results.transcript(self._unary(self._speech.Recognize, message, timeout_s, self._retry))

    def models(self, *, timeout_s: float | None = QUICK_TIMEOUT_S) -> tuple[Model, ...]:
        """The server's models, its default first."""
        response = self._unary(self._speech.GetModels, pb.GetModelsRequest(), timeout_s, self._retry)
        return tuple(results.model(each) for each in response.models)

    def health(self, service: str = "", *, timeout_s: float | None = QUICK_TIMEOUT_S) -> Serving:
        """A service's health now, asked once. The empty name asks for the whole server."""
        message = health_pb2.HealthCheckRequest(service=service)
        return Serving(self._unary(self._health.Check, message, timeout_s, NEVER).status)

    def close(self) -> None:
        """Cancels what is still running."""
        self._channel.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _unary(
        self,
        method: grpc.UnaryUnaryMultiCallable[_Request, _Response],
        message: _Request,
        timeout_s: float | None,
        retry: Retry,
    ) -> _Response:
        attempts = Attempts(retry, timeout_s)
        while True:
            try:
                return method(message, timeout=attempts.remaining_s(), metadata=self._metadata)
            except grpc.RpcError as failed:
                error = call_error(cast("FailedCall", failed))
            time.sleep(attempts.wait_s(error))


class Stream(StreamFacts):
    """The results of a stream, as they come. `close`, or leaving its `with` block, cancels the call."""

    def __init__(self, session: Session, incoming: Generator[Result, None, None]) -> None:
        super().__init__(session)
        self._incoming = incoming

    def __iter__(self) -> Iterator[Result]:
        return self

    def __next__(self) -> Result:
        return next(self._incoming)

    def close(self) -> None:
        self._incoming.close()

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Sender:
    """Draws a stream's audio in whichever thread gRPC sends from, and remembers it for the connection after."""

    def __init__(self, session: Session, audio: Iterator[bytes | Control]) -> None:
        self._session = session
        self._audio = audio
        # A dead connection's thread may still stand in the caller's iterator when the next connection begins: it keeps
        # what it draws, and the next one finds it there.
        self._drawing = threading.Lock()
        self._state = threading.Lock()
        self._cancel: Callable[[], object] | None = None
        self._attached = threading.Event()
        self.failure: Exception | None = None

    def requests(self) -> Iterator[pb.StreamingRecognizeRequest]:
        """One connection's requests."""
        with self._state:
            opening, number = self._session.resume.open()
        yield from opening
        while (message := self._draw(number)) is not None:
            yield message
            number += 1

    def attach(self, cancel: Callable[[], object]) -> None:
        """`cancel` ends the present connection: called if the caller's audio fails."""
        with self._state:
            self._cancel = cancel
        self._attached.set()
        if self.failure:
            cancel()

    def detach(self) -> None:
        """A connection is about to begin."""
        self._attached.clear()

    def received(self, response: pb.StreamingRecognizeResponse) -> list[Result | SpeechEvent]:
        with self._state:
            return self._session.resume.received(response)

    def wait_s(self, error: CallError) -> float:
        with self._state:
            return self._session.wait_s(error)

    def _draw(self, number: int) -> pb.StreamingRecognizeRequest | None:
        with self._drawing:
            with self._state:
                kept = self._session.resume.item(number)
            if kept is not None:
                return kept
            try:
                item = next(self._audio)
                message = request(item)
            except StopIteration:
                return None
            except Exception as failure:
                self.failure = failure
                self._attached.wait()  # the end of the requests alone would be the end of the audio
                with self._state:
                    cancel = self._cancel
                if cancel:
                    cancel()
                return None
            with self._state:
                self._session.resume.keep(item)
            return message


def _stream(
    stub: speech_pb2_grpc.SpeechStub,
    metadata: Metadata,
    session: Session,
    audio: Iterator[bytes | Control],
    on_event: Callable[[SpeechEvent], None] | None,
) -> Generator[Result, None, None]:
    sender = _Sender(session, audio)
    while True:
        timeout_s = session.attempts.remaining_s()
        sender.detach()
        call = stub.StreamingRecognize(sender.requests(), timeout=timeout_s, metadata=metadata)
        sender.attach(call.cancel)
        error: CallError | None = None
        try:
            while True:
                try:
                    response = next(call)
                except StopIteration:
                    break
                except grpc.RpcError as failed:
                    error = call_error(cast("FailedCall", failed))
                    break
                for item in sender.received(response):
                    if isinstance(item, Result):
                        yield item
                    elif on_event:
                        on_event(item)
        finally:
            call.cancel()
        if sender.failure:
            raise sender.failure
        if error is None or session.resume.summary:
            return
        time.sleep(sender.wait_s(error))
