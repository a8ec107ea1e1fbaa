from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING

import pytest
import structlog

from parley.server.kit import logs

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.server.conftest import Lines


def test_other_libraries_lines_come_the_same_way(start_log: Callable[[], Lines]) -> None:
    lines = start_log()
    logging.getLogger("grpc").warning("something %s", "odd")
    logging.getLogger("grpc").debug("nothing")
    (line,) = lines()
    assert (line["event"], line["logger"], line["level"]) == ("something odd", "grpc", "warning")


@pytest.mark.parametrize(
    ("form", "terminal", "pretty"), [("auto", True, True), ("auto", False, False), ("pretty", False, True)]
)
def test_a_terminal_gets_lines_for_people(
    form: str,
    terminal: bool,
    pretty: bool,
    unconfigured: None,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    logs.set_up(form, "info")
    structlog.stdlib.get_logger("here").info("hello", figure=3)
    line = capsys.readouterr().err
    assert "hello" in line
    assert line.startswith("{") is not pretty
