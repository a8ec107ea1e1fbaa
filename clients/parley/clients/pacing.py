"""When each piece of audio is due if it were spoken now. An absolute schedule: a late piece delays no other."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

PIECE_S = 0.1  # of audio in a message, unless somebody wants it otherwise


def piece_bytes(bytes_per_s: float, piece_s: float = PIECE_S, frame_bytes: int = 1) -> int:
    """The size of a piece, in whole frames where the audio has any."""
    return max(1, round(bytes_per_s * piece_s / frame_bytes)) * frame_bytes


def schedule(pieces: Iterable[bytes], bytes_per_s: float) -> Iterator[tuple[float, bytes]]:
    """Each piece with the second, from the first one's beginning, at which its last byte has been spoken."""
    spoken = 0
    for piece in pieces:
        spoken += len(piece)
        yield spoken / bytes_per_s, piece


def paced(
    pieces: Iterable[bytes],
    bytes_per_s: float,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[bytes]:
    """The pieces, each when it is due, counted from when the first one is asked for."""
    began = clock()
    for due_s, piece in schedule(pieces, bytes_per_s):
        wait_s = began + due_s - clock()
        if wait_s > 0:
            sleep(wait_s)
        yield piece
