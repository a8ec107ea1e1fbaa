"""The pages of reference: nothing that the code declares is missing in them."""

from __future__ import annotations

import re

import pytest

from parley.asr.v1 import speech_pb2
from parley.server.kit.settings import settings_of
from parley.server.node.program import PROGRAM
from parley.server.node.telemetry import Metrics
from parley.server.wires.parley.errors import STATUSES
from scripts import reference

PAGES = reference.pages()


def headings(page: str, level: int) -> list[str]:
    return sorted(re.findall(rf"^{'#' * level} (.+)$", PAGES[page], re.MULTILINE))


def test_every_field_and_value_of_the_protocol_has_a_line() -> None:
    file = speech_pb2.DESCRIPTOR
    fields = [(field.name, field.number) for message in file.message_types_by_name.values() for field in message.fields]
    values = [(value.name, value.number) for enum in file.enum_types_by_name.values() for value in enum.values]
    lines = re.findall(r"^- `(\w+)` = (\d+)[,:]", PAGES["rpc.md"], re.MULTILINE)
    assert sorted((name, int(number)) for name, number in lines) == sorted(fields + values)


def test_every_line_of_the_protocol_says_something() -> None:
    assert re.findall(r"^- `\w+` = \d+.*:\n(?!  \S)", PAGES["rpc.md"], re.MULTILINE) == []


def test_every_setting_error_and_metric_has_one_heading() -> None:
    assert headings("settings.md", 3) == sorted(one.name for one in settings_of(PROGRAM.settings))
    assert headings("errors.md", 2) == sorted({"INTERNAL", *(row.reason for row in STATUSES.rows.values())})
    metrics = [name.removesuffix("_total") for name in headings("metrics.md", 2)]
    assert sorted(metrics) == sorted(one.name for one in Metrics().meanings)


@pytest.mark.parametrize(
    "command", ["parley", "parley serve", "parley lm build", "parley graph check", "parley capacity"]
)
def test_commands_and_those_below_them_have_a_heading(command: str) -> None:
    assert command in headings("command-line.md", 2)


def test_the_settings_of_a_node_stand_on_their_own_page_only() -> None:
    assert "--explain" in PAGES["command-line.md"]
    assert "--final-budget-ms" not in PAGES["command-line.md"]
    assert "--final-budget-ms" in PAGES["settings.md"]
