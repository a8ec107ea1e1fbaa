"""The answer in words, in JSON, in a config file, on a page and in a picture."""

from __future__ import annotations

import io
import json
import re
import sys
from dataclasses import replace
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from parley.clients.capacity.curves import even_ticks, panels
from parley.clients.capacity.level import Played
from parley.clients.capacity.page import page
from parley.clients.capacity.picture import draw
from parley.clients.capacity.result import check_config, medians, table, with_decoders, write_decoders
from parley.clients.capacity.search import Outcome, Plan
from parley.clients.capacity.slo import Duration, Slo
from tests.clients.capacity.runs import made, result

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    from pathlib import Path

LEVELS = (4, 8, 16, 12, 10, 11, 10, 11, 10, 11)
FOUND = result(*(made(calls, 10) for calls in LEVELS))


def test_answer_in_words() -> None:
    assert FOUND.headline() == f"10 calls at once: {FOUND.slo}"
    assert FOUND.explanation() == [
        "10 calls held in 3 of 3 runs (110 finals or more behind each p99).",
        "11 calls did not in 3 of 3 runs: final after a call's last packet: p99 <400> ms.",
        "Confidence 80%: the chance that one more run on either side comes out as most did.",
        (
            "Recommended: decoders = 8, 80% of what held. At the edge a busy minute breaks the promise; "
            "calls beyond the decoders are refused, so the promise to the others stands."
        ),
    ]


def test_whose_limit_it_was_is_said() -> None:
    def said(outcome: Outcome) -> str:
        return " ".join(result(made(4, 99), made(8, 99, outcome)).explanation())

    assert "callers' limit, not the node's" in said(Outcome.CALLERS_LATE)
    assert "size of the node's pool" in said(Outcome.REFUSED)
    assert "The search was not finished" in said(Outcome.BROKEN)


def test_what_was_not_tried_is_said() -> None:
    top = result(made(4, 99), plan=Plan(4, 4, 1))
    assert "More were not tried: --max 4." in top.explanation()
    assert (
        "More were not tried: the node's pool has 9 decoders." in replace(top, pool=9, decoders_a_call=2).explanation()
    )
    assert "More were not tried: --max 4." in replace(top, pool=99).explanation()
    assert "More may hold." in result(made(4, 99)).explanation()
    assert (
        "1 of 4 runs contradict this: the machine is noisy."
        in result(made(4, 4), made(4, 4), made(4, 4, Outcome.BROKEN), made(8, 4)).explanation()
    )


def test_nothing_held() -> None:
    none = result(made(4, 0), made(2, 0), *[made(1, 0)] * 3)
    assert none.headline().startswith("No number of calls held: the final within 100 ms")
    assert (none.calls, none.decoders) == (0, 0)
    assert not any("Recommended" in line for line in none.explanation())
    assert (result().headline(), result().explanation()) == (
        "Nothing was measured",
        ["The search was not finished: this is what was known by then."],
    )


@pytest.mark.parametrize(
    ("held", "headroom", "a_call", "devices", "calls", "decoders"),
    [
        (10, 0.8, 1, 1, 8, 8),
        (10, 0.8, 2, 1, 8, 16),
        (10, 0.8, 1, 4, 8, 2),
        (10, 0.8, 2, 4, 8, 4),
        (9, 0.8, 2, 3, 7, 4),  # six calls: the seventh would find one decoder on a device and one on another
        (1, 0.8, 1, 1, 1, 1),
        (10, 1, 1, 1, 10, 10),
    ],
)
def test_calls_become_the_nodes_setting(
    held: int, headroom: float, a_call: int, devices: int, calls: int, decoders: int
) -> None:
    found = replace(result(made(held, 99)), headroom=headroom, decoders_a_call=a_call, devices=devices)
    assert (found.calls, found.decoders) == (calls, decoders)
    assert found.decoders_for(calls) // a_call * devices >= calls


def test_json_has_everything() -> None:
    told = json.loads(FOUND.as_json())
    assert told["recommended"] == {"calls": 8, "decoders": 8}
    assert told["answer"]["limit"] == "broken"
    assert told["answer"]["confidence"] == pytest.approx(0.8)
    assert [run["calls"] for run in told["runs"]] == list(LEVELS)
    assert told["runs"][0]["played"]["final"]["count"] == 104
    assert told["slo"]["file"]["within"]["seconds"] == 2
    assert told["headline"] == FOUND.headline()


def test_table_has_a_line_a_run_and_no_column_for_what_was_not_measured() -> None:
    console = Console(width=80, record=True, file=io.StringIO())
    quiet = replace(made(8, 4, Outcome.REFUSED), played=Played(failed=1), cores=None, memory_bytes=None)
    console.print(table([made(4, 4), quiet]))
    text = console.export_text()
    assert text.splitlines()[-3].split() == ["4", "held", "20/40", "100/300", "500/1900", "104", "4", "0.08", "616"]
    assert text.splitlines()[-2].split() == ["8", "refused", "0"]
    calls_only = replace(made(4, 4), played=replace(made(4, 4).played, partial=None, file=None))
    console.print(table([calls_only]))
    assert "interim" not in console.export_text()


def test_medians_are_of_a_levels_runs() -> None:
    runs = [made(4, 4), made(4, 4), made(4, 2), replace(made(8, 4), played=Played())]
    assert medians(runs, "final", "p50") == [(4, 0.02)]


names = st.sampled_from(["host", "passes", "decoders_too", "pool_wait_s"])
values = st.sampled_from(["1", '"a # b"', "[1, 2]", "true", "1_000"])
others = st.dictionaries(names, values, max_size=4)


@given(
    others, st.none() | st.integers(1, 10**6), st.integers(0, 4), st.integers(1, 10**6), st.booleans(), st.booleans()
)
def test_only_the_decoders_of_a_config_change(
    settings: dict[str, str], old: int | None, at: int, new: int, table_behind: bool, open_end: bool
) -> None:
    lines = [f"{name} = {value}  # why" for name, value in settings.items()]
    if old is not None:
        lines.insert(min(at, len(lines)), f"decoders={old} # so many")
    if table_behind:
        lines += ["[extra]", "decoders = 3"]
    text = "\n".join(lines) + ("" if open_end else "\n")
    after = with_decoders(text, new)
    assert tomllib.loads(after) == tomllib.loads(text) | {"decoders": new}
    kept = [line for line in after.splitlines() if not line.startswith("decoders")]
    assert kept == [line for line in text.splitlines() if not line.startswith("decoders")]
    if old is not None:
        assert f"decoders={new} # so many" in after.splitlines()


@pytest.mark.parametrize(
    "text",
    [
        'note = """\ndecoders = 3\n"""\ndecoders = 4\n',
        "decoders = 0x10\n",
        '"decoders" = 4\n',
        '"decoders" = 1\n',
        '"decoders" = 2\n',
    ],
)
def test_config_that_cannot_be_changed_safely_is_left_alone(text: str, tmp_path: Path) -> None:
    path = tmp_path / "parley.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=r"parley.toml: got .* write `decoders = 5` there yourself"):
        write_decoders(path, 5)
    with pytest.raises(ValueError, match=r"parley.toml: got "):
        check_config(path)
    assert path.read_text(encoding="utf-8") == text
    assert list(tmp_path.iterdir()) == [path]


def test_config_is_written_in_place_with_its_rights(tmp_path: Path) -> None:
    path = tmp_path / "parley.toml"
    check_config(path)
    assert not path.exists()
    write_decoders(path, 5)
    check_config(path)
    assert path.read_text(encoding="utf-8") == "decoders = 5\n"
    path.write_bytes(b"port = 1\r\ndecoders = 5\r\n")
    path.chmod(0o640)
    write_decoders(path, 6)
    assert path.read_bytes() == b"port = 1\r\ndecoders = 6\r\n"
    assert path.stat().st_mode & 0o777 == 0o640
    path.write_text("decoders = ", encoding="utf-8")
    with pytest.raises(ValueError, match=r"parley.toml: "):
        write_decoders(path, 5)


def test_curves_are_in_the_order_of_the_calls_with_all_that_was_promised_in_sight() -> None:
    drawn = panels(FOUND)
    assert [panel.unit for panel in drawn] == ["ms", "ms", "ms", "cores", "MiB"]
    for panel in drawn:
        assert panel.limit
        inside = [*(value for points in panel.curves.values() for _, value in points), panel.limit.value]
        assert panel.low <= min(inside)
        assert max(inside) <= panel.high
        assert len([tick for tick in panel.ticks if panel.low <= tick <= panel.high]) >= 2
        for points in panel.curves.values():
            assert [calls for calls, _ in points] == sorted(set(LEVELS))
    assert [held for (calls, _), held in drawn[0].dots if calls == 11] == [False] * 3
    bare = replace(made(4, 0), played=Played(failed=1), cores=None, memory_bytes=None)
    assert panels(result(bare)) == []


@given(st.floats(0.01, 1e6), st.integers(2, 10))
def test_ticks_are_round_and_few(high: float, about: int) -> None:
    ticks = even_ticks(high, about)
    assert ticks[0] == 0
    assert ticks[-1] <= high * (1 + 1e-6)
    assert len(ticks) <= about + 1
    assert len(ticks) >= about / 2.6


def test_page_stands_alone_and_is_well_formed() -> None:
    text = page(FOUND)
    tree = ElementTree.fromstring(text.removeprefix("<!doctype html>"))
    assert len(tree.findall(".//svg")) == 5
    assert len(tree.findall(".//tbody/tr")) == len(LEVELS)
    assert not re.search(r"https?:|<script|<link|url\(", text)
    assert "prefers-color-scheme: dark" in text
    assert "10 held" in text
    assert "8 recommended" in text
    assert "p99 &lt;400&gt; ms" in text
    nothing = page(result(made(4, 0), slo=Slo(final=Duration(0.1)), cores=None))
    assert "recommended" not in nothing
    assert "No number of calls held" in nothing


def test_picture_is_drawn(tmp_path: Path) -> None:
    for number, each in enumerate((FOUND, result(made(4, 0)), result(made(1, 9), plan=Plan(1, 1, 1)))):
        path = tmp_path / f"{number}.png"
        draw(each, path)
        assert path.read_bytes().startswith(b"\x89PNG")


def test_nothing_to_draw_is_no_fault(tmp_path: Path) -> None:
    bare = result(replace(made(4, 0), played=Played(failed=1), cores=None, memory_bytes=None))
    assert "<svg" not in page(bare)
    draw(bare, tmp_path / "bare.png")
