"""A connection's times and segments as the whole stream's. Changes messages in place: they are the receiver's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from google.protobuf.duration_pb2 import Duration

    from parley.asr.v1 import speech_pb2 as pb

_NANOS = 1_000_000_000  # in a second


def shift(response: pb.StreamingRecognizeResponse, by_nanos: int, segments: Mapping[int, int]) -> None:
    """Moves every time that counts from the audio's start; `segments`: by channel, what its numbers go up by."""
    for result in response.results:
        result.segment += segments.get(result.channel_tag, 0)
    if by_nanos:
        for time in _times(response):
            time.seconds, time.nanos = divmod(nanos(time) + by_nanos, _NANOS)


def nanos(duration: Duration) -> int:
    """All of it, in nanoseconds."""
    return duration.seconds * _NANOS + duration.nanos


def _times(response: pb.StreamingRecognizeResponse) -> Iterator[Duration]:
    for result in response.results:
        yield result.result_start_time
        yield result.result_end_time
        for alternative in result.alternatives:
            for word in alternative.words:
                yield word.start_time
                yield word.end_time
        if result.HasField("lattice"):
            for arc in result.lattice.arcs:
                yield arc.start_time
                yield arc.end_time
    if response.HasField("speech_event"):
        yield response.speech_event.time
    if response.HasField("cursors"):
        yield response.cursors.received
        yield response.cursors.processed
        yield response.cursors.final
    if response.HasField("summary"):
        yield response.summary.audio
