"""What `parley serve --explain` tells, of settings and a recognizer that is not there."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, cast

import pytest

from decoder.recognizer import Memory
from server.config import Settings, load
from server.node.explain import explain
from tests.server.fakes import FakeRecognizer

if TYPE_CHECKING:
    from pathlib import Path

FREE = ("--port", "0", "--metrics-port", "0")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def told(*argv: str, recognizer: FakeRecognizer | None = None, output: io.StringIO | None = None) -> str:
    output = output or io.StringIO()
    explain(load([*FREE, "--explain", *argv], {}), cast("Any", recognizer or FakeRecognizer()), output)
    return output.getvalue()


DECODING, MEMORY, SETTINGS = range(3)


def rows(text: str, section: int) -> dict[str, str]:
    """What stands behind each name of a section."""
    _, *lines = text.split("\n\n")[section].splitlines()
    cut = (line.strip().partition("  ") for line in lines)
    return {name: " ".join(value.split()) for name, _, value in cut}


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (
            ("--passes", "second"),
            {
                "interim results": "by the second pass, every 300 ms at most, when nothing else waits",
                "finals, live": "by the second pass",
                "files": "by the second pass",
            },
        ),
        (
            ("--passes", "first", "--chunk-ms", "160", "--max-chunk-batch", "5"),
            {
                "interim results": "by the first pass, with every chunk of 160 ms",
                "finals, live": "by the first pass",
                "files": "by the first pass",
                "a step of the first pass": "160 ms of 5 calls at most",
            },
        ),
        (
            ("--passes", "both", "--final-budget-ms", "700"),
            {
                "interim results": "by the first pass, with every chunk of 320 ms",
                "finals, live": "by the second pass; by the first if the second takes longer than 700 ms",
                "files": "by the second pass",
                "a batch of the second pass": "8 utterances at most, and 20 s of live calls, 160 s of files",
            },
        ),
        (
            ("--passes", "both", "--final-budget-ms", "0", "--partial-interval-ms", "0"),
            {"interim results": "none", "finals, live": "by the second pass, however long it takes"},
        ),
    ],
)
def test_what_each_pass_is_for(argv: tuple[str, ...], expected: dict[str, str]) -> None:
    found = rows(told(*argv), DECODING)
    assert found.items() >= expected.items()
    assert ("first pass" in found, "second pass" in found) == ("second" not in argv, "first" not in argv)
    assert ("a step of the first pass" in found) == ("second" not in argv)
    assert ("a batch of the second pass" in found) == ("first" not in argv)


def test_models_are_named_with_kind_and_licence() -> None:
    found = rows(told("--passes", "both"), DECODING)
    assert found["first pass"].startswith("en-streaming: kind streaming-ctc, licence MIT, ")
    assert found["second pass"].startswith("moonshine-tiny-en: kind moonshine, licence MIT, ")


def test_memory_is_decoders_times_bytes() -> None:
    recognizer = FakeRecognizer(decoders=8)
    recognizer.devices = ("cuda:0", "cuda:1")
    recognizer.memory = Memory(audio_bytes=1_048_576, cache_bytes=524_288)
    text = told(recognizer=recognizer)
    assert rows(text, DECODING)["devices"] == "cuda:0, cuda:1"
    found = rows(text, MEMORY)
    assert found["audio, in the process"] == "8 decoders x 1048576 bytes = 8.0 MiB"
    assert found["caches, on cuda:0"] == found["caches, on cuda:1"] == "4 decoders x 524288 bytes = 2.0 MiB"
    assert found["together"] == "8 decoders x 1572864 bytes = 12.0 MiB"


def test_every_setting_is_told_with_its_source(tmp_path: Path) -> None:
    file = tmp_path / "[odd] name.toml"
    file.write_text("grace_s = 1.5\nmax_file_bytes = '2MiB'\n")
    found = rows(told("--config", str(file), "--no-log-words"), SETTINGS)
    assert list(found) == list(Settings.model_fields)
    assert found["grace_s"] == f"1.5 {file}: grace_s"
    assert found["max_file_bytes"] == f"2MiB {file}: max_file_bytes"
    assert found["log_words"] == "no --log-words"
    assert found["tls_cert"] == "none default"


def test_a_terminal_shows_the_same_in_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "60")
    shown = told("--passes", "both", output=Terminal())
    assert "\x1b[" in shown
    for word in ("en-streaming:", "final_budget_ms", "--passes"):
        assert word in shown
