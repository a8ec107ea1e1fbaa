"""What leaves a stream: its events, and the state that it is in. Knows no audio, no words and no device.

Whoever moves it or sends through it, the feeding thread, the device's or a stage's, holds the device's lock.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

from parley.decoder.values import Failed, Finished

if TYPE_CHECKING:
    from collections.abc import Mapping

    from parley.decoder.values import Event, Sink


class State(enum.Enum):
    """Of a decoder. Without a stream it awaits one's config."""

    AWAITING_CONFIG = enum.auto()
    SILENCE = enum.auto()
    UTTERANCE = enum.auto()
    DRAINING = enum.auto()  # takes no more audio; results are still to come
    CLOSED = enum.auto()
    FAILED = enum.auto()


class Move(enum.Enum):
    BEGIN = enum.auto()  # an utterance begins
    END = enum.auto()  # it ends, and not by a cut
    DRAIN = enum.auto()  # the audio has ended, single_utterance is over or silent too long, or Failed is to come
    CLOSE = enum.auto()  # the last result is sent
    FAIL = enum.auto()


# A lent decoder's stream begins in SILENCE, and with it ends whatever it is in: the decoder is AWAITING_CONFIG again.
TABLE: Mapping[State, Mapping[Move, State]] = {
    State.AWAITING_CONFIG: {},
    State.SILENCE: {Move.BEGIN: State.UTTERANCE, Move.DRAIN: State.DRAINING, Move.FAIL: State.FAILED},
    State.UTTERANCE: {Move.END: State.SILENCE, Move.DRAIN: State.DRAINING, Move.FAIL: State.FAILED},
    State.DRAINING: {Move.CLOSE: State.CLOSED, Move.FAIL: State.FAILED},
    State.CLOSED: {},
    State.FAILED: {},
}


class Outlet:
    """One stream's. sink: gets its events; nothing comes behind Finished or Failed, or once it is shut."""

    def __init__(self, channel: int, sink: Sink) -> None:
        self.channel, self.sink = channel, sink
        self._become(State.SILENCE)

    def _become(self, state: State) -> None:
        self.state = state
        self.listening = state in (State.SILENCE, State.UTTERANCE)  # whether more audio is taken
        self.over = not TABLE[state]  # nothing comes any more

    def move(self, move: Move) -> bool:
        """Whether its state allows the move; then it is made."""
        becomes = TABLE[self.state].get(move)
        if becomes is not None:
            self._become(becomes)
        return becomes is not None

    def send(self, event: Event) -> None:
        if not self.over:
            self.sink(event)

    def close(self) -> None:
        if self.move(Move.CLOSE):
            self.sink(Finished())

    def fail(self, error: Exception) -> None:
        """At once: see Finals.fail."""
        if self.move(Move.FAIL):
            self.sink(Failed(error))

    def shut(self) -> None:
        """The stream is given up."""
        self._become(State.AWAITING_CONFIG)
