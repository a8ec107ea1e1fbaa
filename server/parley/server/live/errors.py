"""What a live call or a recording is refused or ended for by this room. Texts are fit for the caller's eyes."""

from __future__ import annotations

from parley.decoder.errors import Field, ParleyError


class NotReady(ParleyError):
    """The models are still loading."""

    def __init__(self) -> None:
        super().__init__("the node is loading its models: try again, or watch its health")


class TooLarge(ParleyError):
    """More bytes of audio in one message than the node takes."""

    field = "audio"

    def __init__(self, found: int, limit: int) -> None:
        super().__init__(Field(self.field), f": got {found} bytes, expected at most {limit} bytes a message")


class IdleStream(ParleyError):
    """A client that sends nothing."""

    def __init__(self, limit_s: float) -> None:
        super().__init__(f"no message for {limit_s:g} s (idle_timeout_s)")


class UnreadResponses(ParleyError):
    """A client that reads nothing."""

    def __init__(self, limit_s: float) -> None:
        super().__init__(f"no response was read for {limit_s:g} s (idle_timeout_s): read while you send")
