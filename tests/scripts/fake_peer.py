"""A peer's process whose words are its own number: `python -m tests.scripts.fake_peer`. Fails at audio of all ones."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from scripts.peers.serve import serve
from scripts.peers.wire import Heard

if TYPE_CHECKING:
    from collections.abc import Sequence

LOUD = b"\x01\x01" * 8


class Numbered:
    def open(self) -> NumberedLine:
        return NumberedLine()

    def recognize(self, pcm: bytes) -> str:
        return str(os.getpid())


class NumberedLine:
    def __init__(self) -> None:
        self._heard = 0

    def accept(self, pcm: bytes) -> Sequence[Heard]:
        if pcm.startswith(LOUD):
            raise ValueError("too loud")
        self._heard += len(pcm)
        return [Heard(f"{self._heard} bytes", False)]

    def finish(self) -> Sequence[Heard]:
        return [Heard(f"{self._heard} bytes", True)]

    def close(self) -> None: ...


if __name__ == "__main__":
    serve(Numbered(), threads=4)
