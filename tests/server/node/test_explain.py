"""What `parley serve --explain` tells, of settings and a recognizer that is not there."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, cast

import pytest

from parley.decoder.build import Memory
from parley.decoder.model_folder import ModelFolder
from parley.decoder.search.registry import open_searches
from parley.decoder.search.settings import beam_settings
from parley.server.kit.settings import settings_of
from parley.server.node.explain import explain
from parley.server.node.program import load
from parley.server.node.settings import DEFAULT_FIRST_MODEL, Settings
from tests.server.fakes import FakeRecognizer
from tests.server.small_lm import write_lm

FREE = ("--port", "0", "--metrics-port", "0")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def told(*argv: str, recognizer: FakeRecognizer | None = None, output: io.StringIO | None = None) -> str:
    output, loaded = output or io.StringIO(), load([*FREE, "--explain", *argv], {})
    settings, maker = loaded.settings, None
    if settings.searches():
        maker = open_searches(ModelFolder.read(DEFAULT_FIRST_MODEL), settings.recognizer()).wishes
    explain(loaded, cast("Any", recognizer or FakeRecognizer(maker=maker)), output)
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
            ("--passes", "first", "--chunk-ms", "160", "--max-chunk-batch", "5", "--precision", "float32"),
            {
                "interim results": "by the first pass, with every chunk of 160 ms",
                "finals, live": "by the first pass",
                "files": "by the first pass",
                "a step of the first pass": "160 ms of 5 calls at most",
                "its arithmetic": "float32",
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


@pytest.mark.parametrize("pays", [False, True])
def test_shares_of_the_cpu_compute_as_the_whole(monkeypatch: pytest.MonkeyPatch, pays: bool) -> None:
    monkeypatch.setattr("parley.decoder.models.int8.int8_pays", lambda: pays)
    recognizer = FakeRecognizer()
    recognizer.devices = ("cpu:0", "cpu:1")
    argv = ("--passes", "first", "--search", "best_path", "--devices", "cpu:0,cpu:1")
    found = rows(told(*argv, recognizer=recognizer), DECODING)
    assert (found["devices"], found["its arithmetic"]) == ("cpu:0, cpu:1", "int8" if pays else "float32")


def test_memory_is_decoders_times_bytes() -> None:
    recognizer = FakeRecognizer(decoders=8)
    recognizer.devices = ("cuda:0", "cuda:1")
    recognizer.memory = Memory(audio_bytes=1_048_576, search_bytes=262_144, cache_bytes=524_288)
    text = told(recognizer=recognizer)
    assert rows(text, DECODING)["devices"] == "cuda:0, cuda:1"
    found = rows(text, MEMORY)
    assert found["audio, in the process"] == "8 decoders x 1048576 bytes = 8.0 MiB"
    assert found["caches, on cuda:0"] == found["caches, on cuda:1"] == "4 decoders x 524288 bytes = 2.0 MiB"
    assert found["searches, in the process"] == "8 decoders x 262144 bytes = 2.0 MiB"
    assert found["together"] == "8 decoders x 1835008 bytes = 14.0 MiB"


def test_a_search_is_told_with_its_language_model_and_hotwords(tmp_path: Path) -> None:
    language_model = write_lm(tmp_path / "own.lm", ["one two", "one three"])
    (tmp_path / "names").write_text("marianne\nwilloughby\t3\n")
    argv = ("--language-model", str(language_model), "--hotwords-file", str(tmp_path / "names"))
    found = rows(told("--passes", "first", "--beam", "7", "--word-bonus", "0.5", "--language-weight", "0.25", *argv), 0)
    assert found["search"] == "beam: 7 hypotheses an utterance"
    size = language_model.stat().st_size
    assert found["language model"].startswith(f"{language_model}: order 3, 6 + 5 + 4 n-grams, {size} bytes, mapped")
    assert found["its weight"] == "0.25, word bonus 0.5"
    assert found["hotwords"] == f"2 of {tmp_path / 'names'}, and those of requests"


def test_weights_not_set_are_the_models(tmp_path: Path) -> None:
    argv = ("--passes", "both", "--language-model", str(write_lm(tmp_path / "own.lm", ["one two"])))
    found = rows(told(*argv), DECODING)
    model = beam_settings(ModelFolder.read(DEFAULT_FIRST_MODEL))
    assert found["its weight"] == f"{model.language_weight:g}, word bonus {model.word_bonus:g}"


def test_a_search_without_language_model_says_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = rows(told("--passes", "first", "--language-model", ""), DECODING)
    assert (found["language model"], found["hotwords"]) == ("none", "of requests only")
    assert "its weight" not in found
    monkeypatch.setattr(Path, "is_file", lambda self: False)  # as before the default one has been made
    found = rows(told("--passes", "first"), DECODING)
    assert found["language model"] == "none: models/lm-en/en.lm beside the program is not there"


def test_what_does_not_search_has_neither() -> None:
    assert not rows(told("--passes", "second"), DECODING).keys() & {"search", "language model", "hotwords"}
    found = rows(told("--passes", "both", "--search", "best_path"), DECODING)
    assert found["search"].startswith("best_path: ")
    assert not found.keys() & {"language model", "hotwords"}


def test_every_setting_is_told_with_its_source(tmp_path: Path) -> None:
    file = tmp_path / "[odd] name.toml"
    file.write_text("grace_s = 1.5\nmax_file_bytes = '2MiB'\n")
    found = rows(told("--config", str(file), "--no-log-words"), SETTINGS)
    assert list(found) == [one.name for one in settings_of(Settings)]
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
