"""What a stream's messages become. How they come, and come again, is in tests/wire."""

from __future__ import annotations

from parley.asr.v1 import speech_pb2 as pb
from parley.clients import Result, SpeechEvent, SpeechEventKind
from parley.clients.core import StreamFacts
from parley.wire.resume import Session
from parley.wire.retry import NEVER, Attempts


class Stream(StreamFacts):
    """Either client's, without its calls."""

    def __init__(self) -> None:
        self.events: list[SpeechEvent] = []
        super().__init__(
            Session(pb.StreamingRecognitionConfig(), Attempts(NEVER, None)), "asked-for", self.events.append
        )

    def hear(self, response: pb.StreamingRecognizeResponse) -> list[Result]:
        self._received(response)
        return list(iter(self._result, None))


def test_interims_are_taken_back_when_their_utterance_ends_without_words() -> None:
    stream = Stream()

    def heard(final_ms: int, *said: tuple[int, int, str, bool]) -> list[tuple[int, str, bool]]:
        response = pb.StreamingRecognizeResponse()
        response.cursors.final.FromMilliseconds(final_ms)
        for tag, start_ms, text, is_final in said:
            alternatives = [pb.SpeechRecognitionAlternative(transcript=text)]
            result = response.results.add(alternatives=alternatives, channel_tag=tag, is_final=is_final)
            result.result_start_time.FromMilliseconds(start_ms)
            result.result_end_time.FromMilliseconds(start_ms + 500)
        return [(result.channel, result.text, result.is_final) for result in stream.hear(response)]

    assert heard(0, (1, 100, "a", False), (2, 400, "b", False)) == [(1, "a", False), (2, "b", False)]
    assert heard(100) == []  # its utterance may still be open
    assert heard(300) == [(1, "", False)]
    assert heard(300) == []
    assert heard(400, (2, 400, "B", True)) == [(2, "B", True)]
    assert heard(600) == []
    assert heard(700, (1, 650, "late", False)) == [(1, "late", False), (1, "", False)]


def test_events_are_told_behind_the_results_they_came_with() -> None:
    stream = Stream()
    response = pb.StreamingRecognizeResponse(
        results=[pb.StreamingRecognitionResult(is_final=True)],
        speech_event=pb.SpeechEvent(type=pb.SPEECH_EVENT_TYPE_SPEECH_END, channel_tag=2),
    )
    stream._received(response)
    assert stream._result() is not None
    assert stream.events == []
    assert stream._result() is None
    assert stream.events == [SpeechEvent(SpeechEventKind.END, 0.0, 2)]


def test_event_of_a_kind_unknown_here_is_passed_over() -> None:
    stream = Stream()
    assert stream.hear(pb.StreamingRecognizeResponse(speech_event=pb.SpeechEvent(type=99))) == []  # type: ignore[arg-type]
    assert stream.events == []


def test_facts_are_those_of_the_newest_message() -> None:
    stream = Stream()
    assert (stream.request_id, stream.summary, stream.cursors.final_s) == ("asked-for", None, 0.0)
    response = pb.StreamingRecognizeResponse(request_id="given", summary=pb.StreamSummary(finals=3))
    response.cursors.final.FromMilliseconds(1500)
    stream.hear(response)
    assert (stream.request_id, stream.cursors.final_s) == ("given", 1.5)
    assert stream.summary
    assert (stream.summary.finals, stream.summary.worst_final_s, stream.summary.breaks) == (3, None, 0)
