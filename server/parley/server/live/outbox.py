"""A stream's events on their way to the client. Knows order and bounds; not the wire, nor who decodes."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

from parley.decoder.values import Advanced, Final, Partial

if TYPE_CHECKING:
    from typing import TypeAlias

    from parley.decoder.values import Event, Failed, Finished, NoSpeech, SpeechBegin, SpeechEnd

    Taken: TypeAlias = SpeechBegin | SpeechEnd | NoSpeech | Partial | Final | Finished | Failed  # all but Advanced

MOST_WAITING = 256  # events; some 60 utterances: a client may lag this far behind its own audio before it is slowed


class Outbox:
    """Takes events from the decoder's threads, gives them to one writer in order, the newest partial of a channel last.

    Bound: with MOST_WAITING events unread, `has_room` turns false and its stream takes no more audio, so that it holds
    those, what the audio already taken still brings, and one partial a channel. Only partials are ever dropped: by a
    newer one of their channel, or when their utterance is over.
    """

    def __init__(self) -> None:
        self.moved = asyncio.Event()  # set when `has_room`, or the stream's own, may have turned true
        self._loop = asyncio.get_running_loop()
        self._arrived = asyncio.Event()
        self._events: deque[Taken] = deque()
        self._partials: dict[int, Partial] = {}  # channel -> its newest
        self._nudged = False
        self._made = self._taken = 0  # finals; the one under the device's lock, the other on the loop

    @property
    def has_room(self) -> bool:
        """Whether the client keeps up with its results."""
        return len(self._events) < MOST_WAITING

    @property
    def finals_waiting(self) -> bool:
        """Whether the decoder has made a final that `take` has not given yet."""
        return self._made > self._taken

    def sink(self, event: Event) -> None:
        """Takes an event, on any thread; finals one at a time, as they come under their device's lock."""
        if isinstance(event, Final):
            self._made += 1
        self._loop.call_soon_threadsafe(self._put, event)

    def nudge(self) -> None:
        """Has `take` return when nothing else waits: the cursors may have moved."""
        self._nudged = True
        self._arrived.set()

    async def take(self) -> Taken | None:
        """The next event; None for a nudge, or for a decoder that has advanced."""
        while not (self._events or self._partials or self._nudged):
            self._arrived.clear()
            await self._arrived.wait()
        if self._events:
            self.moved.set()
            event = self._events.popleft()
            self._taken += isinstance(event, Final)
            return event
        if self._partials:
            return self._partials.pop(next(iter(self._partials)))
        self._nudged = False
        return None

    def _put(self, event: Event) -> None:
        match event:
            case Partial(channel=channel):
                self._partials[channel] = event
            case Final(channel=channel, segment=segment):
                waiting = self._partials.get(channel)
                if waiting is not None and waiting.segment <= segment:
                    del self._partials[channel]
                self._events.append(event)
            case Advanced(channel=channel, final_ms=final_ms):
                waiting = self._partials.get(channel)
                if waiting is not None and waiting.start_ms < final_ms:
                    del self._partials[channel]
                self.moved.set()
                self._nudged = True
            case _:
                self._events.append(event)
        self._arrived.set()
