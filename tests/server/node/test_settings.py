from __future__ import annotations

import socket
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trustme

from parley.decoder.values import Passes, SearchKind
from parley.server.kit.settings import Faults, settings_of
from parley.server.node.program import load
from parley.server.node.settings import (
    DEFAULT_FIRST_MODEL,
    DEFAULT_LANGUAGE_MODEL,
    DEFAULT_SECOND_MODEL,
    Settings,
    shown,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

DEFAULTS = Settings.of({})
FREE = ("--port", "0", "--metrics-port", "0")


def loaded(argv: Sequence[str], environ: Mapping[str, str]) -> Settings:
    return load(argv, environ).settings


def faults_of(*argv: str, environ: Mapping[str, str] | None = None) -> list[str]:
    with pytest.raises(Faults) as raised:
        load([*FREE, *argv], environ or {})
    return list(map(str, raised.value.faults))


def the_fault_of(*argv: str, environ: Mapping[str, str] | None = None) -> str:
    (fault,) = faults_of(*argv, environ=environ)
    return fault


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "node.toml"


def test_flag_before_environment_before_file_before_default(file: Path) -> None:
    file.write_text("grace_s = 1\nidle_timeout_s = 1\npool_wait_s = 1\n")
    environ = {"PARLEY_GRACE_S": "2", "PARLEY_IDLE_TIMEOUT_S": "2", "PARLEY_POOL_WAIT_S": ""}
    settings = loaded([*FREE, "--config", str(file), "--grace-s", "3"], environ)
    assert (settings.grace_s, settings.idle_timeout_s, settings.pool_wait_s) == (3, 2, 1)
    assert settings.keepalive_s == DEFAULTS.keepalive_s


def test_the_environment_can_name_the_file(file: Path) -> None:
    file.write_text("grace_s = 7\n")
    assert loaded(FREE, {"PARLEY_CONFIG": str(file)}).grace_s == 7


def test_a_file_in_the_working_directory_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert loaded(FREE, {}).grace_s == DEFAULTS.grace_s
    (tmp_path / "parley.toml").write_text("grace_s = 8\n")
    assert loaded(FREE, {}).grace_s == 8


def test_lists_sizes_and_switches_are_understood_from_every_source(file: Path) -> None:
    file.write_text('devices = ["cpu"]\nmax_file_bytes = "2MiB"\nlog_words = true\n')
    from_file = loaded([*FREE, "--config", str(file)], {})
    from_environ = loaded(
        FREE, {"PARLEY_DEVICES": "cpu", "PARLEY_MAX_FILE_BYTES": "2097152", "PARLEY_LOG_WORDS": "true"}
    )
    from_flags = loaded([*FREE, "--devices", "cpu", "--max-file-bytes", "2MiB", "--log-words"], {})
    assert from_file == from_environ == from_flags
    assert (from_file.core.devices, from_file.max_file_bytes, from_file.log_words) == (("cpu",), 2 << 20, True)
    assert loaded([*FREE, "--no-log-words"], {"PARLEY_LOG_WORDS": "true"}).log_words is False


def test_every_fault_of_every_source_is_listed_with_its_place(file: Path) -> None:
    file.write_text("decoders = 0\nnonsense = 1\nthreads = 'many'\n")
    environ = {"PARLEY_DEVICES": "tpu,cpu", "PARLEY_IDLE_TIMEOUT_S": "-1"}
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        found = faults_of(
            *(
                "--config",
                str(file),
                "--port",
                port,
                "--second-model-dir",
                str(file.parent),
                "--loud",
                "--tls-key",
                "absent",
            ),
            environ=environ,
        )
    for start in (
        "--loud: no such setting",
        f"{file}: threads: got 'many': input should be a valid integer",
        f"{file}: nonsense: no such setting",
        f"{file}: decoders: got 0, expected 1",
        "PARLEY_DEVICES: got 'tpu', expected",
        "PARLEY_IDLE_TIMEOUT_S: got '-1': input should be greater than 0",
        f"--port: cannot listen on 127.0.0.1:{port}: ",
        f"--second-model-dir: {file.parent}: no model.toml there",
        "--tls-key: absent: No such file",
        "tls_cert: not set",
    ):
        assert [fault for fault in found if fault.startswith(start)], start
    assert len(found) == 10


@pytest.mark.parametrize("text", [None, "port = ", "\udcff"])
def test_a_file_that_cannot_be_read_is_a_fault(file: Path, text: str | None) -> None:
    if text is not None:
        file.write_bytes(text.encode(errors="surrogateescape"))
    assert the_fault_of("--config", str(file)).startswith(f"{file}: not a readable TOML file: ")


@pytest.mark.parametrize("flag", ["--port", "--metrics-port"])
def test_a_port_in_use_is_a_fault(flag: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert the_fault_of(flag, str(port)).startswith(f"{flag}: cannot listen on 127.0.0.1:{port}: ")


def test_one_port_cannot_be_used_twice() -> None:
    with socket.create_server(("127.0.0.1", 0)) as once:
        port = str(once.getsockname()[1])
    assert the_fault_of("--port", port, "--metrics-port", port).startswith("--metrics-port: cannot listen on")


def test_metrics_can_be_off_and_addresses_ipv6() -> None:
    assert loaded(["--port", "0", "--metrics-port", "-1", "--host", "::1"], {}).metrics_port == -1


def test_a_broken_model_description_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "model.toml").write_text("name = 3")
    assert the_fault_of("--second-model-dir", str(tmp_path)).startswith(
        f"--second-model-dir: {tmp_path / 'model.toml'}: "
    )


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "no token in it"),
        ("# only a comment\n\n", "no token in it"),
        ("short\n", "line 1: expected a token of 16 or more"),
        ("a-good-token-of-sixteen\n\ntwo words in one line\n", "line 3: "),
    ],
)
def test_a_tokens_file_is_checked(tmp_path: Path, text: str, problem: str) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text(text)
    fault = the_fault_of("--tokens-file", str(tokens))
    assert fault.startswith(f"--tokens-file: {tokens}: {problem}")
    assert "words" not in fault


def test_tls_files_are_checked(tmp_path: Path) -> None:
    ca = trustme.CA()
    one, two = ca.issue_cert("one.example"), ca.issue_cert("two.example")
    cert, key, other_key, text = (str(tmp_path / name) for name in ("cert", "key", "other", "text"))
    one.cert_chain_pems[0].write_to_path(cert)
    one.private_key_pem.write_to_path(key)
    two.private_key_pem.write_to_path(other_key)
    (tmp_path / "text").write_text("not PEM")

    assert loaded([*FREE, "--tls-cert", cert, "--tls-key", key, "--tls-client-ca", cert], {}).tls_cert
    for argv, starts in (
        (("--tls-cert", cert), ["tls_key: not set"]),
        (("--tls-client-ca", cert), ["tls_cert: not set", "tls_key: not set"]),
        (("--tls-cert", cert, "--tls-key", other_key), [f"--tls-cert: {cert} and {other_key} are no PEM"]),
        (("--tls-cert", text, "--tls-key", key), [f"--tls-cert: {text} and {key} are no PEM"]),
        (
            ("--tls-cert", "absent", "--tls-key", "absent"),
            ["--tls-cert: absent: No such", "--tls-key: absent: No such"],
        ),
        (("--tls-cert", cert, "--tls-key", key, "--tls-client-ca", "absent"), ["--tls-client-ca: absent: No such"]),
        (("--tls-cert", cert, "--tls-key", key, "--tls-client-ca", text), [f"--tls-client-ca: {text} is no PEM"]),
    ):
        found = faults_of(*argv)
        assert len(found) == len(starts), found
        assert all(fault.startswith(start) for fault, start in zip(found, starts, strict=True)), found


def test_settings_stand_where_one_looks_for_them(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        load(["--help"], {})
    text = capsys.readouterr().out
    begun = {
        "the models and their devices:": "--passes",
        "how the first pass searches:": "--search",
        "utterances, unless a request says otherwise:": "--vad-aggressiveness",
        "limits:": "--stream-wait-s",
    }
    for title, first in begun.items():
        assert text.partition(title)[2].split()[0] == first


def test_help_shows_every_setting_with_meaning_and_default(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        load(["--help"], {})
    assert ended.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    for setting in settings_of(Settings):
        assert f"--{setting.name.replace('_', '-')}" in text
        assert setting.description in text
    assert "(default: 128MiB)" in text
    assert "PARLEY_POOL_WAIT_S" in text


def test_the_nodes_endpoint_rules_are_the_settings() -> None:
    settings = loaded([*FREE, "--silence-after-speech-ms", "500", "--longest-utterance-ms", "9000"], {})
    rules = settings.rules
    assert (rules.silence_before_speech_ms, rules.silence_after_speech_ms, rules.longest_utterance_ms) == (
        0,
        500,
        9_000,
    )


def test_the_decoders_config_is_the_settings() -> None:
    config = loaded([*FREE, "--decoders", "3", "--partial-interval-ms", "0"], {}).recognizer()
    assert (config.decoders, config.partial_interval_ms) == (3, 0)
    assert config.max_batch == DEFAULTS.core.max_batch
    assert (config.passes, config.chunk_ms) == (DEFAULTS.core.passes, DEFAULTS.core.chunk_ms)
    assert (config.first_model_dir, config.second_model_dir) == (DEFAULT_FIRST_MODEL, DEFAULT_SECOND_MODEL)


def test_the_first_pass_is_set_by_name() -> None:
    argv = [*FREE, "--passes", "both", "--chunk-ms", "160", "--max-chunk-batch", "99", "--final-budget-ms", "0"]
    config = loaded(argv, {}).recognizer()
    assert (config.passes, config.chunk_ms) == (Passes.BOTH, 160)
    assert (config.max_chunk_batch, config.final_budget_ms) == (99, 0)
    assert the_fault_of("--passes", "third") == "--passes: got 'third': input should be 'first', 'second' or 'both'"
    assert the_fault_of("--chunk-ms", "100") == "--chunk-ms: got 100, expected one of 160, 320, 640"


def test_only_the_folders_that_the_passes_use_are_looked_at(tmp_path: Path) -> None:
    for passes, starts in (
        ("first", ["--first-model-dir: "]),
        ("second", ["--second-model-dir: "]),
        ("both", ["--first-model-dir: ", "--second-model-dir: "]),
    ):
        nowhere = ("--first-model-dir", str(tmp_path / "1"), "--second-model-dir", str(tmp_path / "2"))
        found = faults_of("--passes", passes, *nowhere)
        assert [fault.partition("/")[0] for fault in found] == starts


def test_the_source_of_every_value_is_known(file: Path) -> None:
    file.write_text("grace_s = 1\ndecoders = 3\n")
    got = load([*FREE, "--config", str(file), "--grace-s", "3"], {"PARLEY_THREADS": "2"})
    assert not got.explain
    assert list(got.sources) == [setting.name for setting in settings_of(Settings)]
    assert {name: source for name, source in got.sources.items() if source != "default"} == {
        "port": "--port",
        "metrics_port": "--metrics-port",
        "grace_s": "--grace-s",
        "threads": "PARLEY_THREADS",
        "decoders": f"{file}: decoders",
    }


def test_to_explain_takes_no_port_but_everything_else() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert load(["--explain", "--port", port, "--metrics-port", port], {}).explain
    assert the_fault_of("--explain", "--decoders", "0").startswith("--decoders: got 0")


def test_the_search_is_set_by_name(tmp_path: Path) -> None:
    language_model, hotwords = tmp_path / "own.lm", tmp_path / "names"
    language_model.touch()
    hotwords.touch()
    argv = ["--passes", "first", "--search", "k2", "--beam", "5", "--language-model", str(language_model)]
    argv += ["--language-weight", "0", "--word-bonus", "-1.5", "--hotwords-file", str(hotwords)]
    config = loaded([*FREE, *argv], {}).recognizer()
    assert (config.search, config.beam, config.language_model) == (SearchKind.K2, 5, language_model)
    assert (config.language_weight, config.word_bonus, config.hotwords) == (0, -1.5, hotwords)
    default = loaded(FREE, {}).recognizer()
    assert (default.search, default.language_weight, default.word_bonus) == (SearchKind.BEAM, None, None)


def test_the_default_language_model_may_be_missing_but_not_one_that_was_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Path, "is_file", lambda self: self == DEFAULT_LANGUAGE_MODEL)
    assert DEFAULTS.recognizer().language_model == DEFAULT_LANGUAGE_MODEL
    monkeypatch.setattr(Path, "is_file", lambda self: False)
    assert loaded([*FREE, "--passes", "first"], {}).recognizer().language_model is None
    fault = the_fault_of("--passes", "first", "--language-model", "/nowhere/en.lm")
    assert fault == "--language-model: /nowhere/en.lm: No such file or directory"
    assert shown(DEFAULTS.core.language_model) == "models/lm-en/en.lm beside the program"


def test_an_empty_string_is_no_language_model_from_every_source(file: Path) -> None:
    file.write_text('language_model = ""\nhotwords_file = ""\n')
    settings = loaded([*FREE, "--config", str(file)], {})
    assert (settings.core.language_model, settings.core.hotwords) == (None, None)
    assert loaded([*FREE, "--language-model", ""], {}).recognizer().language_model is None
    file.write_text('language_model = "/nowhere/en.lm"\n')
    given = loaded([*FREE, "--config", str(file)], {"PARLEY_LANGUAGE_MODEL": ""})
    assert given.core.language_model is None


def test_a_searchs_files_are_looked_at_where_there_is_a_search(tmp_path: Path) -> None:
    argv = ("--language-model", str(tmp_path), "--hotwords-file", str(tmp_path / "absent"))
    found = faults_of("--passes", "both", *argv)
    assert [fault.partition(":")[0] for fault in found] == ["--language-model", "--hotwords-file"]
    for unused in (("--passes", "second"), ("--passes", "first", "--search", "best_path")):
        assert loaded([*FREE, *unused, *argv], {}).core.beam == DEFAULTS.core.beam


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("--search", "magic"),
        ("--beam", "0"),
        ("--beam", "65"),
        ("--language-weight", "5.1"),
        ("--language-weight", "nan"),
        ("--word-bonus", "-11"),
        ("--word-bonus", "inf"),
    ],
)
def test_a_search_out_of_range_is_a_fault(flag: str, value: str) -> None:
    assert the_fault_of(flag, value).startswith(f"{flag}: got ")
