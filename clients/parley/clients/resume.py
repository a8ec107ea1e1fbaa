"""A stream's state that outlives a connection: what was sent, what came back, where to take it up again. Without I/O.

A stream may be opened again where that loses nothing and doubles nothing:

- While no final result has come, from its first byte, if all of it is still held.
- Later, only if the audio is headerless, so that bytes map to time: from the first moment that is not final on every
  channel. A channel that was further than the slowest one is sent as silence up to its own last final.

What is sent after a break counts its time from 0 again, so times are shifted by where it began, and segments are
numbered on from the channel's last final.
"""

from __future__ import annotations

from collections import defaultdict, deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from parley.asr.v1 import speech_pb2 as pb
from parley.clients import results
from parley.clients.config import SAMPLE_BYTES, SILENCE, Control, StreamConfig, request
from parley.clients.results import Cursors, Result, SpeechEvent, SpeechEventKind, Summary

if TYPE_CHECKING:
    from collections.abc import Iterator

    from google.protobuf.duration_pb2 import Duration

HELD_LIMIT = 16 << 20  # bytes of audio held for sending again: 8 minutes of 16 kHz, 17 of an 8 kHz stereo G.711 call


@dataclass(slots=True)
class _Channel:
    """What came of one channel so far."""

    final_frame: int = 0  # samples of the stream before this one are final
    next_segment: int = 0
    speaking: bool = False
    last_event_s: float = -1.0
    heard_s: float = -1.0  # events up to here came over an earlier connection
    interim: Result | None = None  # the newest, while its utterance is open


class Resume:
    """One stream's memory. Not thread-safe: the caller locks."""

    def __init__(self, config: StreamConfig, speech_events: bool, held_limit: int = HELD_LIMIT) -> None:
        self._config = config
        self._speech_events = speech_events
        self._held_limit = held_limit
        self._width = SAMPLE_BYTES.get(config.encoding, 0)
        self._frame_bytes = self._width * (config.channels or 1)
        self._head = b""
        # Sent items and their first byte's place in the stream.
        self._held: deque[tuple[int, bytes | Control]] = deque()
        self._held_bytes = 0
        self._lost_before = 0  # bytes of the stream before this one are no longer held
        self._sent = 0  # bytes
        self._count = 0  # items ever kept
        self._channels: dict[int, _Channel] = defaultdict(_Channel)
        self._cursor_frame = 0
        self._base_frame = 0  # where the present connection's audio began
        self._base_segments: dict[int, int] = {}
        self._finals = self._interims = self._connections = self._answers = 0
        self._mark = (0, 0)
        self.answered = False  # the present connection has brought a response
        self.cursors = Cursors()
        self.summary: Summary | None = None
        self.request_id = config.request_id

    # Sending.

    def open(self) -> tuple[list[pb.StreamingRecognizeRequest], int]:
        """Begin a connection: what to send first, and the number of the item that follows."""
        self._base_frame = self._start_frame()
        self._base_segments = {tag: channel.next_segment for tag, channel in self._channels.items()}
        for channel in self._channels.values():
            channel.heard_s = channel.last_event_s
        self._connections += 1
        self.answered = False
        config = pb.StreamingRecognizeRequest(config=self._config.to_stream_wire(self._speech_events))
        return [config, *(request(item) for item in self._replay())], self._count

    def item(self, number: int) -> pb.StreamingRecognizeRequest | None:
        """The item of that number as a message; None: not kept yet."""
        back = self._count - number
        return request(self._held[-back][1]) if back else None

    def keep(self, item: bytes | Control) -> None:
        """Take in an item before it is sent."""
        self._held.append((self._sent, item))
        self._count += 1
        if isinstance(item, bytes):
            self._head += item[: 4 - len(self._head)]
            self._sent += len(item)
            self._held_bytes += len(item)
        while self._held_bytes > self._held_limit and self._drop_oldest():
            pass

    # Receiving.

    def received(self, response: pb.StreamingRecognizeResponse) -> list[Result | SpeechEvent]:
        """What a response brings, in the stream's own times and numbers."""
        self._answers += not self.answered
        self.answered = True
        self.request_id = response.request_id or self.request_id
        shift_s = self._base_s()
        items: list[Result | SpeechEvent] = []
        for message in response.results:
            tag = message.channel_tag
            result = results.stream_result(message, shift_s, message.segment + self._base_segments.get(tag, 0))
            items.append(result)
            if result.is_final:
                self._finals += 1
                channel = self._channels[tag]
                channel.next_segment = result.segment + 1
                channel.final_frame = max(channel.final_frame, self._frame_at(message.result_end_time))
                if channel.interim is not None and channel.interim.segment <= result.segment:
                    channel.interim = None
            else:
                self._interims += 1
                self._channels[tag].interim = result
        if response.HasField("speech_event"):
            event = results.speech_event(response.speech_event, shift_s)
            if event is not None and self._is_news(event):
                items.append(event)
        if response.HasField("cursors"):
            self.cursors = results.cursors(response.cursors, shift_s)
            self._cursor_frame = max(self._cursor_frame, self._frame_at(response.cursors.final))
            items += self._taken_back()
        if response.HasField("summary"):
            self.summary = self._make_summary(response.summary, shift_s)
        self._forget_final()
        return items

    def _taken_back(self) -> Iterator[Result]:
        """For each interim result whose utterance is over and held no words, one without text."""
        for channel in self._channels.values():
            if channel.interim is not None and self.cursors.final_s > channel.interim.start_s:
                yield replace(channel.interim, text="", words=(), word_timing="", confidence=0.0, stability=0.0)
                channel.interim = None

    # Taking up again.

    def resumable(self) -> bool:
        """Whether a new connection would lose and double nothing."""
        if self._finals and (self._config.single_utterance or not self._maps()):
            return False
        return self._lost_before <= self._start_frame() * self._frame_bytes

    def progressed(self) -> bool:
        """Whether anything became final since this was last asked."""
        mark = (self._start_frame(), self._finals)
        changed = mark != self._mark
        self._mark = mark
        return changed

    def _maps(self) -> bool:
        # Behind a RIFF header the samples begin somewhere else: only a whole replay is safe.
        return bool(self._width and self._config.sample_rate) and self._head != b"RIFF"

    def _start_frame(self) -> int:
        if not self._maps():
            return 0
        config = self._config
        tags = range(1, (config.channels or 1) + 1) if config.separate_channels else (0,)
        start = min(max(self._cursor_frame, self._channels[tag].final_frame) for tag in tags)
        return min(start, self._sent // self._frame_bytes)

    def _replay(self) -> Iterator[bytes | Control]:
        start = self._base_frame * self._frame_bytes
        for position, item in self._held:
            if isinstance(item, Control):
                yield item
            elif position + len(item) > start:
                cut = max(0, start - position)
                yield self._without_final_speech(position + cut, item[cut:])

    def _without_final_speech(self, position: int, audio: bytes) -> bytes:
        """The audio with silence on every channel up to the end of its last final."""
        silenced = bytearray(audio)
        for tag, channel in self._channels.items():
            stop = min(channel.final_frame * self._frame_bytes - position, len(audio))
            if tag == 0 or stop <= 0:
                continue
            for byte in range((tag - 1) * self._width, tag * self._width):
                first = (byte - position) % self._frame_bytes
                count = len(range(first, stop, self._frame_bytes))
                silenced[first : stop : self._frame_bytes] = bytes([SILENCE[self._config.encoding]]) * count
        return bytes(silenced)

    def _forget_final(self) -> None:
        if self._finals and not self._maps():
            self._held_limit = 0  # never resumable again
        start = self._start_frame() * self._frame_bytes
        while self._held and self._end_of_oldest() <= start and self._drop_oldest():
            pass

    def _end_of_oldest(self) -> int:
        position, item = self._held[0]
        return position + (len(item) if isinstance(item, bytes) else 0)

    def _drop_oldest(self) -> bool:
        # The newest item stays, whatever its size: it may be yet to be sent.
        if len(self._held) == 1:
            return False
        self._lost_before = self._end_of_oldest()
        _, item = self._held.popleft()
        self._held_bytes -= len(item) if isinstance(item, bytes) else 0
        return True

    def _frame_at(self, time: Duration) -> int:
        rate = self._config.sample_rate
        return self._base_frame + time.seconds * rate + time.nanos * rate // 1_000_000_000

    def _base_s(self) -> float:
        return self._base_frame / self._config.sample_rate if self._base_frame else 0.0

    def _is_news(self, event: SpeechEvent) -> bool:
        """Whether an event is not one that an earlier connection brought, its time a little moved perhaps."""
        channel = self._channels[event.channel]
        if self._connections > 1:
            if event.time_s <= channel.heard_s:
                return False
            if event.kind is not SpeechEventKind.NO_SPEECH and channel.speaking is (
                event.kind is SpeechEventKind.BEGIN
            ):
                return False
        channel.speaking = event.kind is SpeechEventKind.BEGIN
        channel.last_event_s = event.time_s
        return True

    def _make_summary(self, message: pb.StreamSummary, shift_s: float) -> Summary:
        def optional(field: str, duration: Duration) -> float | None:
            return results.seconds(duration) if message.HasField(field) else None  # type: ignore[arg-type]

        return Summary(
            audio_s=results.seconds(message.audio, shift_s),
            finals=self._finals,
            interims=self._interims,
            half_close_to_last_final_s=optional("half_close_to_last_final", message.half_close_to_last_final),
            worst_final_s=optional("worst_final", message.worst_final),
            speech_to_first_result_s=optional("speech_to_first_result", message.speech_to_first_result),
            breaks=self._answers - 1,
        )
