"""Calls over gRPC's blocking interface, each tried again where that is safe. Knows messages, not what is in them.

A stream's requests are drawn in gRPC's own threads, its responses in the caller's.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, TypeVar, cast

import grpc

from parley.asr.v1 import speech_pb2_grpc
from parley.wire.errors import CallError, call_error
from parley.wire.resume import Session
from parley.wire.retry import Attempts, Retry

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from parley.asr.v1 import speech_pb2 as pb
    from parley.wire.channel import Metadata
    from parley.wire.errors import FailedCall

_Request = TypeVar("_Request")
_Response = TypeVar("_Response")


class Calls:
    """A channel's calls. Safe to share between threads."""

    def __init__(
        self,
        channel: grpc.Channel,
        metadata: Metadata,
        retry: Retry,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._metadata = metadata
        self._retry = retry
        self._clock = clock
        self._sleep = sleep
        self.speech = speech_pb2_grpc.SpeechStub(channel)

    def unary(
        self,
        method: grpc.UnaryUnaryMultiCallable[_Request, _Response],
        message: _Request,
        timeout_s: float | None,
        retry: Retry | None = None,
    ) -> _Response:
        """The answer to one message. `retry`: another than the channel's. Raises CallError."""
        attempts = Attempts(retry or self._retry, timeout_s, self._clock)
        while True:
            try:
                return method(message, timeout=attempts.remaining_s(), metadata=self._metadata)
            except grpc.RpcError as failed:
                error = call_error(cast("FailedCall", failed))
            self._sleep(attempts.wait_s(error))

    def session(self, config: pb.StreamingRecognitionConfig, timeout_s: float | None) -> Session:
        return Session(config, Attempts(self._retry, timeout_s, self._clock))

    def recognize(
        self, session: Session, requests: Iterator[pb.StreamingRecognizeRequest]
    ) -> Generator[pb.StreamingRecognizeResponse, None, None]:
        """The responses of a stream, in its own times and numbers however often the connection breaks.

        `requests`: what follows the config. Closing the generator cancels the call. Raises CallError, and whatever
        `requests` raises.
        """
        sender = Sender(session, requests)
        while True:
            timeout_s = session.attempts.remaining_s()
            sender.detach()
            call = self.speech.StreamingRecognize(sender.requests(), timeout=timeout_s, metadata=self._metadata)
            sender.attach(call.cancel)
            error: CallError | None = None
            try:
                for response in call:
                    yield sender.received(response)
            except grpc.RpcError as failed:
                error = call_error(cast("FailedCall", failed))
            finally:
                call.cancel()
            if sender.failure:
                raise sender.failure
            if error is None or session.resume.complete:
                return
            self._sleep(sender.wait_s(error))


class Sender:
    """Draws a stream's requests in whichever thread gRPC sends from, and remembers them for the connection after."""

    def __init__(self, session: Session, requests: Iterator[pb.StreamingRecognizeRequest]) -> None:
        self._session = session
        self._requests = requests
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
        """`cancel` ends the present connection: called if the caller's requests fail."""
        with self._state:
            self._cancel = cancel
        self._attached.set()
        if self.failure:
            cancel()

    def detach(self) -> None:
        """A connection is about to begin."""
        self._attached.clear()

    def received(self, response: pb.StreamingRecognizeResponse) -> pb.StreamingRecognizeResponse:
        with self._state:
            return self._session.resume.received(response)

    def wait_s(self, error: CallError) -> float:
        with self._state:
            return self._session.wait_s(error)

    def _draw(self, number: int) -> pb.StreamingRecognizeRequest | None:
        with self._drawing:
            with self._state:
                kept = self._session.resume.message(number)
            if kept is not None:
                return kept
            try:
                message = next(self._requests, None)
            except Exception as failure:
                self._fail(failure)
                return None
            if message is not None:
                with self._state:
                    self._session.resume.keep(message)
            return message

    def _fail(self, failure: Exception) -> None:
        self.failure = failure
        self._attached.wait()  # the end of the requests alone would be the end of the audio
        with self._state:
            cancel = self._cancel
        if cancel:
            cancel()
