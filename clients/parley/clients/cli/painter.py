"""Results on a terminal: the open utterances' words repainted in place below the final ones. Elsewhere finals only."""

from __future__ import annotations

from typing import TYPE_CHECKING, TextIO

from rich.cells import cell_len
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from parley.clients.cli.rendering import labelled

if TYPE_CHECKING:
    from parley.clients.results import Result


class Painter:
    """Shows a stream's results, from `with` to its end."""

    def __init__(self, output: TextIO) -> None:
        self._console = Console(file=output, highlight=False, markup=False, emoji=False)
        self.repaints = self._console.is_terminal
        self._live = Live(console=self._console, auto_refresh=False, transient=True)
        self._open: dict[int, Result] = {}  # by channel

    def show(self, result: Result) -> None:
        if result.is_final:
            self._open.pop(result.channel, None)
            # The old words must be gone before the final ones push them up.
            self._repaint()
            self._console.print(Text(labelled(result)), soft_wrap=True)
        elif result.text:
            before = self._open.get(result.channel)
            self._open[result.channel] = result
            if before is None or before.text != result.text:  # many a chunk of a first pass brings no new word
                self._repaint()
        else:  # taken back
            self._open.pop(result.channel, None)
            self._repaint()

    def __enter__(self) -> Painter:
        if self.repaints:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def _repaint(self) -> None:
        if self.repaints:
            lines = [Text(_tail(self._open[each], self._console.width), style="dim") for each in sorted(self._open)]
            self._live.update(Group(*lines), refresh=True)


def _tail(result: Result, width: int) -> str:
    """As much of the text's end as fits on a line: the newest words are what one looks for."""
    whole = labelled(result)
    if cell_len(whole) <= width:
        return whole
    front = whole.removesuffix(result.text) + "…"
    end = result.text[-width:]
    while cell_len(front + end) > width:
        end = end[1:]
    return front + end
