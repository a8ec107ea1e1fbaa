"""Every time of a response that counts from the audio's start moves, and no length does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from hypothesis import given
from hypothesis import strategies as st

from parley.asr.v1 import speech_pb2 as pb
from parley.wire.shift import nanos, shift

if TYPE_CHECKING:
    from collections.abc import Iterator

    from google.protobuf.message import Message

# What is told in durations and is no point of the audio.
LENGTHS = {
    "FinalLatency.total",
    "FinalLatency.queue",
    "StreamSummary.half_close_to_last_final",
    "StreamSummary.worst_final",
    "StreamSummary.speech_to_first_result",
}


def fill(message: Message, at: int) -> None:
    """Every duration there could be, set to `at` nanoseconds; of what is repeated, one."""
    for field in message.DESCRIPTOR.fields:
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            value = getattr(message, field.name)
            each = value.add() if field.is_repeated else value
            if isinstance(each, Duration):
                each.FromNanoseconds(at)
            else:
                each.SetInParent()
                fill(each, at)


def durations(message: Message) -> Iterator[tuple[str, int]]:
    """All that are there: the name of their field, and nanoseconds."""
    for field, value in message.ListFields():
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            for each in value if field.is_repeated else [value]:
                if isinstance(each, Duration):
                    yield f"{message.DESCRIPTOR.name}.{field.name}", nanos(each)
                else:
                    yield from durations(each)


@given(st.integers(0, 10**14), st.integers(0, 10**14))
def test_times_move_and_lengths_stay(at: int, by: int) -> None:
    response = pb.StreamingRecognizeResponse()
    fill(response, at)
    names = [name for name, _ in durations(response)]
    assert len(names) > len(LENGTHS)
    shift(response, by, {})
    assert list(durations(response)) == [(name, at if name in LENGTHS else at + by) for name in names]


def test_segments_go_up_by_channel() -> None:
    results = [pb.StreamingRecognitionResult(channel_tag=tag, segment=3) for tag in (1, 2, 3)]
    response = pb.StreamingRecognizeResponse(results=results)
    shift(response, 0, {1: 10, 3: 1})
    assert [result.segment for result in response.results] == [13, 3, 4]
