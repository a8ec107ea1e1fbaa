"""Blocking calls, message by message: gRPC's own test channel is the server, and its clock the time."""

from __future__ import annotations

import queue
import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, TypeVar

import grpc
import grpc_testing
import pytest
from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2

from parley.asr.v1 import speech_pb2 as pb
from parley.wire import channel as wire_channel
from parley.wire.blocking import Calls, Sender
from parley.wire.errors import DETAILS_TRAILER, Cancelled, Exhausted, FieldViolation, ServerFault, Unavailable
from parley.wire.retry import NEVER, Retry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from google.protobuf.message import Message

SPEECH = pb.DESCRIPTOR.services_by_name["Speech"]
GET_MODELS, STREAM = (SPEECH.methods_by_name[name] for name in ("GetModels", "StreamingRecognize"))
OK, UNAVAILABLE, EXHAUSTED = grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED
RETRY = Retry(tries=3, first_wait_s=1, longest_wait_s=8)
CONFIG = pb.StreamingRecognitionConfig(
    config=pb.RecognitionConfig(encoding=pb.AUDIO_ENCODING_MULAW, sample_rate_hertz=8_000)
)

PATIENCE_S = 30.0  # of a test that fails

T = TypeVar("T")


class Line:
    """Calls over a test channel: made on threads of their own, while the test is the server."""

    def __init__(self) -> None:
        self.time = grpc_testing.strict_fake_time(100.0)
        self.channel = grpc_testing.channel([SPEECH], self.time)
        self.calls = Calls(self.channel, wire_channel.metadata("secret"), RETRY, self.time.time, self.time.sleep_for)

    def models(self, timeout_s: float | None = None, retry: Retry | None = None) -> Future[pb.GetModelsResponse]:
        method = self.calls.speech.GetModels
        return on_its_own_thread(lambda: self.calls.unary(method, pb.GetModelsRequest(), timeout_s, retry))

    def answer_models(self, code: grpc.StatusCode, *details: Message, text: str = "no") -> None:
        _, _, call = self.channel.take_unary_unary(GET_MODELS)
        call.terminate(pb.GetModelsResponse(models=[pb.Model(name="toy")]), trailers(*details), code, text)

    def stream(self, *requests: bytes) -> Heard:
        messages = iter([pb.StreamingRecognizeRequest(audio=audio) for audio in requests])
        return Heard(self.calls.recognize(self.calls.session(CONFIG, None), messages))

    def take_stream(self) -> grpc_testing.StreamStreamChannelRpc:
        _, call = self.channel.take_stream_stream(STREAM)
        assert call.take_request() == pb.StreamingRecognizeRequest(config=CONFIG)
        return call


class Heard:
    """A stream's responses. One has to be taken before its call is failed: the test channel drops those unread."""

    def __init__(self, responses: Iterator[pb.StreamingRecognizeResponse]) -> None:
        self._come: queue.Queue[pb.StreamingRecognizeResponse] = queue.Queue()
        self._over = on_its_own_thread(lambda: self._hear(responses))

    def next(self) -> pb.StreamingRecognizeResponse:
        return self._come.get(timeout=PATIENCE_S)

    def end(self) -> None:
        """Waits for it. Raises what the stream does."""
        self._over.result(PATIENCE_S)
        assert self._come.empty()

    def _hear(self, responses: Iterator[pb.StreamingRecognizeResponse]) -> None:
        for response in responses:
            self._come.put(response)


def on_its_own_thread(call: Callable[[], T]) -> Future[T]:
    done: Future[T] = Future()

    def run() -> None:
        try:
            done.set_result(call())
        except BaseException as error:
            done.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return done


@pytest.fixture
def line() -> Line:
    return Line()


def trailers(*details: Message) -> tuple[tuple[str, bytes], ...]:
    if not details:
        return ()
    status = status_pb2.Status(details=[any_pb2.Any() for _ in details])
    for packed, detail in zip(status.details, details, strict=True):
        packed.Pack(detail)
    return ((DETAILS_TRAILER, status.SerializeToString()),)


def retry_info(seconds: int) -> error_details_pb2.RetryInfo:
    return error_details_pb2.RetryInfo(retry_delay=duration_pb2.Duration(seconds=seconds))


def final(end_ms: int, segment: int = 0) -> pb.StreamingRecognizeResponse:
    result = pb.StreamingRecognitionResult(is_final=True, segment=segment)
    result.result_end_time.FromMilliseconds(end_ms)
    return pb.StreamingRecognizeResponse(results=[result])


def test_call_carries_its_token_and_brings_its_answer(line: Line) -> None:
    asked = line.models()
    metadata, request, call = line.channel.take_unary_unary(GET_MODELS)
    assert ("authorization", "Bearer secret") in metadata
    assert request == pb.GetModelsRequest()
    call.terminate(pb.GetModelsResponse(models=[pb.Model(name="toy")]), (), OK, "")
    assert [model.name for model in asked.result(PATIENCE_S).models] == ["toy"]
    assert line.time.time() == 100


def test_unavailable_server_is_asked_again_after_a_wait_that_grows(line: Line) -> None:
    asked = line.models()
    line.answer_models(UNAVAILABLE)
    line.answer_models(UNAVAILABLE)
    line.answer_models(OK)
    assert asked.result(PATIENCE_S).models
    assert 100 + 0.5 + 1 <= line.time.time() <= 100 + 1 + 2


def test_full_server_is_asked_again_when_it_said(line: Line) -> None:
    asked = line.models()
    line.answer_models(EXHAUSTED, retry_info(60))
    line.answer_models(OK)
    assert asked.result(PATIENCE_S).models
    assert 160 <= line.time.time() <= 161


def test_tries_end_and_the_last_error_is_told(line: Line) -> None:
    asked = line.models()
    for number in range(RETRY.tries):
        line.answer_models(UNAVAILABLE, text=f"try {number}")
    with pytest.raises(Unavailable, match="try 2"):
        asked.result(PATIENCE_S)


def test_call_that_is_not_to_be_tried_again_is_not(line: Line) -> None:
    asked = line.models(retry=NEVER)
    line.answer_models(UNAVAILABLE)
    with pytest.raises(Unavailable):
        asked.result(PATIENCE_S)
    assert line.time.time() == 100


def test_wait_that_would_outlast_the_deadline_is_not_begun(line: Line) -> None:
    asked = line.models(timeout_s=59)
    line.answer_models(EXHAUSTED, retry_info(60))
    with pytest.raises(Exhausted) as refused:
        asked.result(PATIENCE_S)
    assert refused.value.retry_after_s == 60
    assert line.time.time() == 100


def test_details_are_read(line: Line) -> None:
    violation = error_details_pb2.BadRequest.FieldViolation(field="audio", description="not audio")
    asked = line.models()
    line.answer_models(
        grpc.StatusCode.INTERNAL,
        error_details_pb2.ErrorInfo(reason="BAD", domain="parley.asr.v1", metadata={"request_id": "r1"}),
        error_details_pb2.BadRequest(field_violations=[violation]),
        error_details_pb2.Help(),  # nothing that is read
        text="broken",
    )
    with pytest.raises(ServerFault) as failed:
        asked.result(PATIENCE_S)
    error = failed.value
    assert (error.code, error.reason, error.request_id) == (grpc.StatusCode.INTERNAL, "BAD", "r1")
    assert (error.violations, error.retry_after_s) == ((FieldViolation("audio", "not audio"),), None)
    assert str(error) == "INTERNAL: broken (request r1)"


@pytest.mark.parametrize(
    "trailers", [(), ((DETAILS_TRAILER, b"\xff\xff"),), ((DETAILS_TRAILER, "text"),), (("x", "y"),)]
)
def test_mangled_details_leave_the_status(line: Line, trailers: tuple[tuple[str, str | bytes], ...]) -> None:
    asked = line.models()
    _, _, call = line.channel.take_unary_unary(GET_MODELS)
    call.terminate(pb.GetModelsResponse(), trailers, grpc.StatusCode.CANCELLED, None)
    with pytest.raises(Cancelled) as failed:
        asked.result(PATIENCE_S)
    assert (failed.value.text, failed.value.request_id, failed.value.retry_after_s) == ("", "", None)


def test_code_that_no_class_is_for_is_the_servers_fault(line: Line) -> None:
    asked = line.models()
    line.answer_models(grpc.StatusCode.UNIMPLEMENTED)
    with pytest.raises(ServerFault):
        asked.result(PATIENCE_S)


def test_stream_that_breaks_is_taken_up_where_it_is_not_final(line: Line) -> None:
    heard = line.stream(bytes(800), b"\x01" * 800)
    first = line.take_stream()
    assert [len(first.take_request().audio) for _ in range(2)] == [800, 800]
    first.requests_closed()
    first.send_response(final(150, segment=3))
    one = heard.next().results[0]
    first.terminate((), UNAVAILABLE, "gone")
    second = line.take_stream()
    assert second.take_request().audio == b"\x01" * 400
    second.requests_closed()
    second.send_response(final(50))
    second.send_response(pb.StreamingRecognizeResponse(summary=pb.StreamSummary(finals=1)))
    second.terminate((), OK, "")
    two, summary = heard.next().results[0], heard.next().summary
    heard.end()
    assert (one.segment, one.result_end_time.ToMilliseconds()) == (3, 150)
    assert (two.segment, two.result_end_time.ToMilliseconds()) == (4, 200)
    assert summary.finals == 2
    assert 100.5 <= line.time.time() <= 101


def test_stream_whose_server_is_full_waits_until_there_is_room(line: Line) -> None:
    heard = line.stream()
    line.take_stream().terminate(trailers(retry_info(30)), EXHAUSTED, "full")
    line.take_stream().terminate((), OK, "")
    heard.end()
    assert 130 <= line.time.time() <= 131


def test_stream_that_meets_a_limit_once_it_was_let_in_ends(line: Line) -> None:
    heard = line.stream()
    call = line.take_stream()
    call.send_response(pb.StreamingRecognizeResponse(request_id="r"))
    assert heard.next().request_id == "r"
    call.terminate(trailers(retry_info(30)), EXHAUSTED, "too much audio")
    with pytest.raises(Exhausted, match="too much audio"):
        heard.end()


def test_failure_behind_the_summary_is_none(line: Line) -> None:
    heard = line.stream()
    call = line.take_stream()
    call.send_response(pb.StreamingRecognizeResponse(summary=pb.StreamSummary()))
    assert heard.next().HasField("summary")
    call.terminate((), UNAVAILABLE, "gone")
    heard.end()


def test_closing_the_generator_cancels_the_call(line: Line) -> None:
    responses = line.calls.recognize(line.calls.session(CONFIG, None), iter(()))
    first = on_its_own_thread(lambda: next(responses))
    call = line.take_stream()
    call.send_response(pb.StreamingRecognizeResponse(request_id="r"))
    assert first.result(PATIENCE_S).request_id == "r"
    responses.close()
    call.cancelled()


def test_requests_that_fail_before_their_connection_is_known_end_it(line: Line) -> None:
    """gRPC draws from its own thread at once, before the caller's thread holds the call."""

    def failing() -> Iterator[pb.StreamingRecognizeRequest]:
        failed.set()
        raise OSError("no microphone")
        yield pb.StreamingRecognizeRequest()

    failed, cancelled = threading.Event(), threading.Event()
    sender = Sender(line.calls.session(CONFIG, None), failing())
    drawn = on_its_own_thread(lambda: [one.WhichOneof("request") for one in sender.requests()])
    assert failed.wait(PATIENCE_S)
    assert not drawn.done()  # the end of the requests would be a half-close
    sender.attach(cancelled.set)
    assert drawn.result(PATIENCE_S) == ["config"]
    assert cancelled.is_set()
    assert isinstance(sender.failure, OSError)
