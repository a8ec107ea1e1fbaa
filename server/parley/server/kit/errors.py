"""What a process refuses a call for, whatever it serves. Texts are fit for the caller's eyes. Knows no wire's codes."""

from __future__ import annotations


class KitError(Exception):
    """Base of what the kit raises on purpose."""


class TooManyStreams(KitError):
    """A peer with more calls at once than the process allows one."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"this peer has {limit} calls open, and max_streams_per_peer allows no more: close one first")


class Draining(KitError):
    """The process is about to end."""

    def __init__(self) -> None:
        super().__init__("the node is shutting down and takes no new calls: use another")


class Unauthenticated(KitError):
    """A missing or wrong token."""

    def __init__(self, problem: str) -> None:
        super().__init__(f"authorization: {problem}, expected `Bearer TOKEN` with a token of this node")
