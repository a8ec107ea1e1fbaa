"""A stream's state that outlives a connection: what was sent, what came back, where to take it up again. Without I/O.

A stream may be opened again where that loses nothing and doubles nothing:

- While no final result has come, from its first byte, if all of it is still held.
- Later, only if the audio is headerless, so that bytes map to time: from the first moment that is not final on every
  channel. A channel that was further than the slowest one is sent as silence up to its own last final.

What is sent after a break counts its time from 0 again, so times are shifted by where it began, and segments are
numbered on from the channel's last final. Whoever reads the stream's messages sees one stream that never broke.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from parley.asr.v1 import speech_pb2 as pb
from parley.wire.audio import Headerless
from parley.wire.errors import CallError, Exhausted
from parley.wire.held import HELD_LIMIT, Held
from parley.wire.shift import nanos, shift

if TYPE_CHECKING:
    from collections.abc import Iterator

    from parley.wire.retry import Attempts

_RIFF = b"RIFF"
_BEGIN, _END = pb.SPEECH_EVENT_TYPE_SPEECH_BEGIN, pb.SPEECH_EVENT_TYPE_SPEECH_END


@dataclass(slots=True)
class _Channel:
    """What came of one channel so far."""

    final_frame: int = 0  # samples of the stream before this one are final
    next_segment: int = 0
    speaking: bool = False
    last_event_us: int = -1
    heard_us: int = -1  # events up to here came over an earlier connection


class Resume:
    """One stream's memory, of the wire's own messages. Not thread-safe: the caller locks."""

    def __init__(self, config: pb.StreamingRecognitionConfig, held_limit: int = HELD_LIMIT) -> None:
        self._config = config
        self._form = Headerless.of(config.config)
        self._head = b""
        self._held = Held(held_limit)
        self._channels: dict[int, _Channel] = defaultdict(_Channel)
        self._cursor_frame = 0
        self._base_frame = 0  # where the present connection's audio began
        self._base_segments: dict[int, int] = {}
        self._finals = self._interims = self._connections = self._answers = 0
        self._mark = (0, 0)
        self.answered = False  # the present connection has brought a response
        self.complete = False  # the summary has come: all is said

    @property
    def breaks(self) -> int:
        """Of the connection, each survived."""
        return max(0, self._answers - 1)

    # Sending.

    def open(self) -> tuple[list[pb.StreamingRecognizeRequest], int]:
        """Begin a connection: what to send first, and the number of the message that follows."""
        self._base_frame = self._start_frame()
        self._base_segments = {tag: channel.next_segment for tag, channel in self._channels.items()}
        for channel in self._channels.values():
            channel.heard_us = channel.last_event_us
        self._connections += 1
        self.answered = False
        return [pb.StreamingRecognizeRequest(config=self._config), *self._replay()], self._held.count

    def message(self, number: int) -> pb.StreamingRecognizeRequest | None:
        """The message of that number; None: not kept yet."""
        return self._held.message(number)

    def keep(self, message: pb.StreamingRecognizeRequest) -> None:
        """Take in a message of audio or a control before it is sent."""
        audio = message.audio
        if len(self._head) < len(_RIFF):
            self._head += audio[: len(_RIFF) - len(self._head)]
            if self._head == _RIFF:
                self._form = None  # behind a header the samples begin somewhere else: only a whole replay is safe
        self._held.keep(message, len(audio))

    # Receiving.

    def received(self, response: pb.StreamingRecognizeResponse) -> pb.StreamingRecognizeResponse:
        """The same message in the stream's own times and numbers, without an event that an earlier connection brought.
        It is changed in place, and left alone while there was no break."""
        self._answers += not self.answered
        self.answered = True
        for result in response.results:
            self._note(result)
        if response.HasField("cursors"):
            self._cursor_frame = max(self._cursor_frame, self._frame_at(nanos(response.cursors.final)))
        if self._base_frame or self._base_segments:
            shift(response, self._form.nanos_at(self._base_frame) if self._form else 0, self._base_segments)
        if response.HasField("speech_event") and not self._is_news(response.speech_event):
            response.ClearField("speech_event")
        if response.HasField("summary"):
            self.complete = True
            response.summary.finals, response.summary.interims = self._finals, self._interims
        self._forget_final()
        return response

    def _note(self, result: pb.StreamingRecognitionResult) -> None:
        if not result.is_final:
            self._interims += 1
            return
        self._finals += 1
        tag = result.channel_tag
        channel = self._channels[tag]
        channel.next_segment = self._base_segments.get(tag, 0) + result.segment + 1
        channel.final_frame = max(channel.final_frame, self._frame_at(nanos(result.result_end_time)))

    def _is_news(self, event: pb.SpeechEvent) -> bool:
        """Whether an event is not one that an earlier connection brought, its time a little moved perhaps."""
        channel = self._channels[event.channel_tag]
        time_us = round(nanos(event.time) / 1000)  # what a shift by whole frames has rounded is not seen
        begins, ends = (event.type == kind for kind in (_BEGIN, _END))
        if self._connections > 1 and (time_us <= channel.heard_us or ((begins or ends) and channel.speaking is begins)):
            return False
        if begins or ends or event.type == pb.SPEECH_EVENT_TYPE_NO_SPEECH:  # a newer server may have other kinds
            channel.speaking = begins
        channel.last_event_us = time_us
        return True

    # Taking up again.

    def resumable(self) -> bool:
        """Whether a new connection would lose and double nothing."""
        if self._finals and (self._config.single_utterance or self._form is None):
            return False
        return self._held.lost_before <= self._start_byte()

    def progressed(self) -> bool:
        """Whether anything became final since this was last asked."""
        mark = (self._start_frame(), self._finals)
        changed = mark != self._mark
        self._mark = mark
        return changed

    def _start_byte(self) -> int:
        return self._start_frame() * self._form.frame_bytes if self._form else 0

    def _start_frame(self) -> int:
        """The first frame that a new connection would be sent."""
        if self._form is None:
            return 0
        tags = range(1, self._form.channels + 1) if self._config.config.separate_recognition_per_channel else (0,)
        start = min(max(self._cursor_frame, self._channels[tag].final_frame) for tag in tags)
        return min(start, self._held.sent // self._form.frame_bytes)

    def _replay(self) -> Iterator[pb.StreamingRecognizeRequest]:
        start = self._base_frame * self._form.frame_bytes if self._form else 0
        until = {tag: channel.final_frame for tag, channel in self._channels.items() if tag and channel.final_frame}
        for first, message in self._held.since(start):
            cut = max(0, start - first)
            if not message.HasField("audio") or self._form is None or not (cut or until):
                yield message
            else:
                audio = self._form.silenced(message.audio[cut:], first + cut, until)
                yield pb.StreamingRecognizeRequest(audio=audio)

    def _forget_final(self) -> None:
        if self._finals and self._form is None:
            self._held.forget_all()  # never resumable again
        self._held.forget_before(self._start_byte())

    def _frame_at(self, since_base_nanos: int) -> int:
        return self._base_frame + self._form.frame_at(since_base_nanos) if self._form else 0


class Session:
    """One stream from its opening to its summary, over as many connections as it takes."""

    def __init__(self, config: pb.StreamingRecognitionConfig, attempts: Attempts) -> None:
        self.resume = Resume(config)
        self.attempts = attempts

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
