"""The client for code without an event loop: its caller's values, over the wire's blocking calls.

with Client("127.0.0.1:50051") as client:
    print(client.transcribe("call.wav").text)
    with client.stream(pieces_of_audio, StreamConfig(encoding=Encoding.LINEAR16, sample_rate=16_000)) as results:
        for result in results:
            print(result.text, result.is_final)
    print(results.summary)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from grpc_health.v1 import health_pb2, health_pb2_grpc

from parley.asr.v1 import speech_pb2 as pb
from parley.clients import core, results
from parley.clients.config import Control, RecognitionConfig, StreamConfig, request
from parley.clients.core import QUICK_TIMEOUT_S, TRANSCRIBE_TIMEOUT_S, Recording, StreamFacts
from parley.clients.results import Model, Result, Serving, SpeechEvent, Transcript
from parley.wire import channel
from parley.wire.blocking import Calls
from parley.wire.retry import NEVER, Retry

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator

    from parley.wire.channel import Tls
    from parley.wire.resume import Session


class Client:
    """Calls a server. Safe to share between threads."""

    def __init__(
        self,
        address: str = channel.DEFAULT_ADDRESS,
        *,
        token: str | None = None,
        tls: Tls | None = None,
        retry: Retry | None = None,
    ) -> None:
        self._channel = channel.open_channel(address, tls)
        self._calls = Calls(self._channel, channel.metadata(token), retry or Retry())
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
        session = self._calls.session(config.to_stream_wire(on_event is not None), timeout_s)
        responses = self._calls.recognize(session, map(request, audio))
        return Stream(session, config.request_id, on_event, responses)

    def transcribe(
        self,
        recording: Recording,
        config: RecognitionConfig | None = None,
        *,
        timeout_s: float | None = TRANSCRIBE_TIMEOUT_S,
    ) -> Transcript:
        """Recognize a whole recording, given as bytes or as a path."""
        message = core.recognize_request(recording, config or RecognitionConfig())
        return results.transcript(self._calls.unary(self._calls.speech.Recognize, message, timeout_s))

    def models(self, *, timeout_s: float | None = QUICK_TIMEOUT_S) -> tuple[Model, ...]:
        """The server's models, its default first."""
        response = self._calls.unary(self._calls.speech.GetModels, pb.GetModelsRequest(), timeout_s)
        return tuple(results.model(each) for each in response.models)

    def health(self, service: str = "", *, timeout_s: float | None = QUICK_TIMEOUT_S) -> Serving:
        """A service's health now, asked once. The empty name asks for the whole server."""
        message = health_pb2.HealthCheckRequest(service=service)
        return Serving(self._calls.unary(self._health.Check, message, timeout_s, NEVER).status)

    def close(self) -> None:
        """Cancels what is still running."""
        self._channel.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Stream(StreamFacts):
    """The results of a stream, as they come. `close`, or leaving its `with` block, cancels the call."""

    def __init__(
        self,
        session: Session,
        request_id: str,
        on_event: Callable[[SpeechEvent], None] | None,
        responses: Generator[pb.StreamingRecognizeResponse, None, None],
    ) -> None:
        super().__init__(session, request_id, on_event)
        self._responses = responses

    def __iter__(self) -> Iterator[Result]:
        return self

    def __next__(self) -> Result:
        try:
            while (result := self._result()) is None:
                self._received(next(self._responses))
        except BaseException:  # of `on_event` too: whoever gives up without a `with` block leaves no call behind
            self.close()
            raise
        return result

    def close(self) -> None:
        self._come.clear()
        self._responses.close()

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
