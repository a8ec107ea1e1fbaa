"""What a terminal shows after each result, by an emulated one."""

from __future__ import annotations

import io

import pyte
import pytest

from parley.clients import Result
from parley.clients.cli.painter import Painter

COLUMNS = 30


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True

    def shows(self) -> list[str]:
        screen = pyte.Screen(COLUMNS, 12)
        stream = pyte.Stream(screen)
        stream.feed(self.getvalue().replace("\n", "\r\n"))  # as the tty driver does
        return [line.rstrip() for line in screen.display if line.strip()]


@pytest.fixture(autouse=True)
def size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", str(COLUMNS))


def result(text: str, *, is_final: bool = False, channel: int = 0) -> Result:
    return Result(text, is_final, 0.0, 1.0, channel, 0, 0.0, 0.0, (), (), "", "", "", None)


def test_partials_give_way_to_their_final() -> None:
    terminal = Terminal()
    with Painter(terminal) as painter:
        assert painter.repaints
        painter.show(result("how"))
        assert terminal.shows() == ["how"]
        painter.show(result("how are"))
        assert terminal.shows() == ["how are"]
        painter.show(result("How are you?", is_final=True))
        assert terminal.shows() == ["How are you?"]
        painter.show(result("fine"))
        assert terminal.shows() == ["How are you?", "fine"]
    assert terminal.shows() == ["How are you?"]


def test_partials_are_taken_back() -> None:
    terminal = Terminal()
    with Painter(terminal) as painter:
        painter.show(result("a cough", channel=2))
        painter.show(result("how", channel=1))
        painter.show(result("", channel=2))
        assert terminal.shows() == ["[1] how"]
        painter.show(result("", channel=1))
        assert terminal.shows() == []


def test_each_channel_keeps_its_own_line() -> None:
    terminal = Terminal()
    with Painter(terminal) as painter:
        painter.show(result("and you", channel=2))
        painter.show(result("how are", channel=1))
        assert terminal.shows() == ["[1] how are", "[2] and you"]
        painter.show(result("How are you?", is_final=True, channel=1))
        assert terminal.shows() == ["[1] How are you?", "[2] and you"]
        painter.show(result("And you?", is_final=True, channel=2))
    assert terminal.shows() == ["[1] How are you?", "[2] And you?"]


def test_long_partial_shows_its_newest_words_on_one_line() -> None:
    terminal = Terminal()
    with Painter(terminal) as painter:
        painter.show(result("one two three four five six seven eight", channel=3))
        (line,) = terminal.shows()
        assert len(line) == COLUMNS
        assert line == "[3] …" + "one two three four five six seven eight"[-(COLUMNS - len("[3] …")) :]
        painter.show(result("語" * 40))  # two columns each
        assert terminal.shows()[0].startswith("…")
        assert len(terminal.shows()) == 2


def test_a_partial_that_says_nothing_new_paints_nothing() -> None:
    terminal = Terminal()
    with Painter(terminal) as painter:
        painter.show(result("how"))
        painted = len(terminal.getvalue())
        for _ in range(10):
            painter.show(result("how"))
        assert len(terminal.getvalue()) == painted
        painter.show(result("how are"))
        assert terminal.shows() == ["how are"]


def test_elsewhere_only_finals_are_written_each_whole_on_its_line() -> None:
    output = io.StringIO()
    with Painter(output) as painter:
        assert not painter.repaints
        painter.show(result("how"))
        painter.show(result("[bold]How[/bold] are you :smile: " + "and " * 20, is_final=True))
    assert output.getvalue() == "[bold]How[/bold] are you :smile: " + "and " * 20 + "\n"
