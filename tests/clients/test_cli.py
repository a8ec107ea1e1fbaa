"""The `parley` command: what it prints, what it refuses, how it exits."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pty
import signal
import subprocess
import sys
import types
from typing import TYPE_CHECKING

import grpc
import numpy as np
import pyte
import pytest
import soundfile
from google.rpc import error_details_pb2

from parley.asr.v1 import speech_pb2 as pb
from parley.clients.cli import main as cli
from tests.wire.fake_speech import RATE, SPEECH_SERVICE, FakeServer, Fault, toy_audio

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

RAW = ("--encoding", "linear16", "--rate", str(RATE))


@pytest.fixture(autouse=True)
def address(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("PARLEY_SERVER", server.address)
    return server.address


@pytest.fixture
def call(tmp_path: Path) -> Path:
    path = tmp_path / "call.raw"
    path.write_bytes(toy_audio(1, 2, 0, 3, 0))
    return path


@pytest.fixture
def letters(tmp_path: Path) -> list[str]:
    """What the fake takes for recordings: their words."""
    texts = {"one.wav": "how are you\nfine thanks", "two.wav": "good bye", "three.wav": "bad"}
    for name, text in texts.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    return [str(tmp_path / name) for name in texts]


def parley(
    *argv: str, stdin: int = subprocess.DEVNULL, output: int = subprocess.PIPE, **environment: str
) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "parley.clients.cli", *argv]
    return subprocess.Popen(command, stdin=stdin, stdout=output, stderr=output, env={**os.environ, **environment})


# The command as such.


def test_help_is_for_newcomers_and_loads_nothing_heavy() -> None:
    script = (
        "import sys; from parley.clients.cli.main import main\n"
        "try: main(['--help'])\n"
        "finally: print(sorted({'av', 'numpy', 'onnxruntime', 'server', 'decoder', 'rich'} & sys.modules.keys()))"
    )
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    for word in ("serve", "transcribe", "stream", "health", "try it:"):
        assert word in out
    assert out.endswith("[]\n")


@pytest.mark.parametrize("module", ["parley.clients", "parley.clients.cli.stream", "parley.clients.simulator.play"])
def test_what_calls_a_server_loads_nothing_of_the_extras(module: str) -> None:
    heavy = {"av", "numpy", "onnxruntime", "prometheus_client", "pydantic", "structlog", "torch"}
    script = f"import sys, {module}; print(sorted({heavy} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout == "[]\n"


@pytest.mark.parametrize("command", ["transcribe", "stream", "health"])
def test_each_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        cli.main([command, "--help"])
    assert exit_.value.code == 0
    assert "--server HOST:PORT" in capsys.readouterr().out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        cli.main(["--version"])
    assert exit_.value.code == 0
    assert capsys.readouterr().out.startswith("parley 0.")


@pytest.mark.parametrize(
    ("argv", "problem"),
    [
        ((), "COMMAND"),
        (("sing",), "invalid choice: 'sing'"),
        (("transcribe",), "FILE"),
        (("transcribe", "a.wav", "--jobs", "0"), "invalid whole number above 0 value: '0'"),
        (("transcribe", "a.wav", "--timeout", "-1"), "invalid number above 0 value: '-1'"),
        (("stream",), "one of the arguments FILE --mic is required"),
        (("stream", "--mic", "a.wav"), "not allowed with"),
    ],
)
def test_wrong_usage_exits_2(argv: Sequence[str], problem: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        cli.main(argv)
    assert exit_.value.code == 2
    assert problem in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "problem"),
    [
        (("stream", "-"), "expected --encoding and --rate"),
        (("stream", "a.raw", "--encoding", "mulaw"), "got no --rate"),
        (("stream", "a.wav", "--rate", "8000"), "got no --encoding"),
        (("transcribe", "-", "-"), "got it 2 times, expected it once"),
        (("transcribe", "a.wav", "b.wav", "--format", "srt"), "expected --output-dir"),
        (("transcribe", "x/a.wav", "y/a.mp3", "--output-dir", "out"), "got 2 files whose output is a.txt"),
        (("health", "--cert", "cert.pem"), "got cert=cert.pem, key=None, expected both or none"),
    ],
)
def test_wishes_that_cannot_be_exit_2(argv: Sequence[str], problem: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(argv) == 2
    assert problem in capsys.readouterr().err


def test_serve_is_the_nodes_with_all_that_follows(monkeypatch: pytest.MonkeyPatch) -> None:
    node = types.ModuleType("parley.server.node.main")
    seen: list[list[str]] = []

    def main(argv: list[str]) -> int:
        seen.append(argv)
        return 7

    node.main = main  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "parley.server.node.main", node)
    assert cli.main(["serve", "--port", "0", "--help"]) == 7
    assert seen == [["--port", "0", "--help"]]


def test_no_node_is_said_with_what_to_do(server: FakeServer, call: Path, capsys: pytest.CaptureFixture[str]) -> None:
    server.stop()
    assert cli.main(["stream", str(call), *RAW, "--timeout", "0.1"]) == 1
    captured = capsys.readouterr()
    assert f"parley stream: no service at {server.address}" in captured.err
    assert "`parley serve` starts one" in captured.err
    server.start()


def test_token_file_goes_along_and_a_wrong_one_is_explained(
    server: FakeServer, call: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    token = tmp_path / "token"
    token.write_text("secret\n", encoding="utf-8")
    server.speech.stream_faults = [Fault(grpc.StatusCode.UNAUTHENTICATED, text="wrong token")]
    assert cli.main(["stream", str(call), *RAW, "--token-file", str(token)]) == 1
    assert server.speech.connections[0].metadata["authorization"] == "Bearer secret"
    assert "wrong token. Name the file that holds your token with --token-file." in capsys.readouterr().err


def test_missing_token_file_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["health", "--token-file", "/none/token"]) == 1
    assert capsys.readouterr().err == "parley health: /none/token: No such file or directory\n"


# transcribe


def test_transcribe_prints_texts_in_the_order_of_the_files(
    letters: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["transcribe", *letters[:2], "--jobs", "2"]) == 0
    captured = capsys.readouterr()
    assert captured.out == f"==> {letters[0]} <==\nhow are you\nfine thanks\n\n==> {letters[1]} <==\ngood bye\n"
    assert captured.err == ""


def test_failing_file_stops_no_other_and_is_listed(letters: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["transcribe", letters[2], "/none.wav", letters[1]]) == 1
    captured = capsys.readouterr()
    assert captured.out == f"==> {letters[1]} <==\ngood bye\n"
    assert captured.err == (
        f"parley transcribe: {letters[2]}: INVALID_ARGUMENT: audio at byte 0: not audio (request bad-1)\n"
        "parley transcribe: /none.wav: No such file or directory\n"
        "parley transcribe: 2 of 3 failed\n"
    )


def test_transcribe_asks_for_what_is_wanted(
    server: FakeServer, letters: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    wishes = ["--separate-channels", "--model", "toy", "--language", "en-GB", "--written"]
    assert cli.main(["transcribe", letters[0], *wishes]) == 0
    assert capsys.readouterr().out == "[1] how are you\n[2] fine thanks\n"
    assert server.speech.recognized[0].config == pb.RecognitionConfig(
        separate_recognition_per_channel=True,
        model="toy",
        language_code="en-GB",
        max_alternatives=1,
        enable_inverse_text_normalization=True,
    )


HOTWORDS = """# who may call
marianne dashwood

willoughby\t4.5
"""


@pytest.mark.parametrize("command", ["transcribe", "stream"])
def test_hotwords_are_phrases_and_files_of_them(
    server: FakeServer, letters: list[str], call: Path, tmp_path: Path, command: str
) -> None:
    (tmp_path / "names").write_text(HOTWORDS)
    given = ["--hotword", "colonel brandon", "--hotword", "sir john", "--hotwords", str(tmp_path / "names")]
    audio = {"transcribe": [letters[0]], "stream": [str(call), *RAW]}[command]
    assert cli.main([command, *audio, *given]) == 0
    if command == "transcribe":
        config = server.speech.recognized[0].config
    else:
        opened = server.speech.connections[0].config
        assert opened is not None
        config = opened.config
    assert list(config.speech_contexts) == [
        pb.SpeechContext(phrases=["colonel brandon", "sir john", "marianne dashwood"]),
        pb.SpeechContext(phrases=["willoughby"], boost=4.5),
    ]


@pytest.mark.parametrize(
    ("content", "problem"),
    [(b"one\nbrandon\tloud\n", "line 2: got boost 'loud', expected a number"), (b"\xff", "expected text")],
)
def test_a_hotwords_file_that_cannot_be_is_refused_with_its_line(
    letters: list[str], tmp_path: Path, content: bytes, problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "names").write_bytes(content)
    assert cli.main(["transcribe", letters[0], "--hotwords", str(tmp_path / "names")]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"parley transcribe: --hotwords: {tmp_path / 'names'}: ")
    assert problem in error


def test_json_has_scores_where_a_search_gives_them(letters: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["transcribe", letters[1], "--format", "json", "--hotword", "good"]) == 0
    assert cli.main(["transcribe", letters[1], "--format", "json"]) == 0
    with_scores, without = (json.loads(line)["results"][0] for line in capsys.readouterr().out.splitlines())
    assert with_scores["scores"] == {"acoustic": -7.25, "language": 0.0, "hotwords": 2.0, "total": -5.25}
    assert "scores" not in without


def test_json_is_a_line_a_file(letters: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["transcribe", *letters[:2], "--format", "json", "--words"]) == 0
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert first["file"] == letters[0]
    assert first["text"] == "how are you fine thanks"
    assert (first["results"][1]["source"], first["results"][1]["word_timing"]) == ("second", "attention")
    assert first["results"][1]["words"][0] == {"text": "fine", "start_s": 3.0, "end_s": 3.9, "confidence": 0.0}
    assert second["audio_s"] == 2.0


def test_subtitles_go_into_files(letters: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "new" / "subtitles"
    assert cli.main(["transcribe", *letters[:2], "--format", "vtt", "--output-dir", str(out)]) == 0
    assert capsys.readouterr().out == ""
    assert sorted(path.name for path in out.iterdir()) == ["one.vtt", "two.vtt"]
    text = (out / "two.vtt").read_text(encoding="utf-8")
    assert text == "WEBVTT\n\n00:00:00.000 --> 00:00:01.900\ngood bye\n"
    assert cli.main(["transcribe", letters[1], "--format", "srt"]) == 0
    assert capsys.readouterr().out == "1\n00:00:00,000 --> 00:00:01,900\ngood bye\n"


def test_transcribe_reads_standard_input(tmp_path: Path) -> None:
    command = parley("transcribe", "-", "--output-dir", str(tmp_path), stdin=subprocess.PIPE)
    assert command.communicate(b"from a pipe", timeout=30) == (b"", b"")
    assert command.returncode == 0
    assert (tmp_path / "stdin.txt").read_text(encoding="utf-8") == "from a pipe\n"


def test_transcribe_ends_on_ctrl_c(server: FakeServer, tmp_path: Path) -> None:
    path = tmp_path / "long.wav"
    path.write_text("hang", encoding="utf-8")
    command = parley("transcribe", str(path))
    assert server.speech.hanging.wait(30)
    command.send_signal(signal.SIGINT)
    out, err = command.communicate(timeout=30)
    assert (command.returncode, out, err) == (130, b"", b"")


def test_reader_that_has_gone_is_no_traceback(letters: list[str]) -> None:
    command = parley("transcribe", *letters)
    assert command.stdout
    assert command.stderr
    command.stdout.close()
    assert command.wait(30) == 1
    assert b"Traceback" not in command.stderr.read()
    command.stderr.close()


def test_timeout_of_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "long.wav"
    path.write_text("hang", encoding="utf-8")
    assert cli.main(["transcribe", str(path), "--timeout", "0.2"]) == 1
    assert "DEADLINE_EXCEEDED" in capsys.readouterr().err


# stream


def test_stream_prints_finals_and_figures(server: FakeServer, call: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["stream", str(call), *RAW, "--no-pace", "--model", "toy", "--language", "en"]) == 0
    captured = capsys.readouterr()
    assert captured.out == "1 2\n3\n"
    assert captured.err.startswith("0.1 s of audio, 2 finals")
    connection = server.speech.connections[0]
    assert bytes(connection.audio) == call.read_bytes()
    assert connection.config
    assert connection.config.config.model == "toy"
    assert not connection.config.interim_results  # nobody would see them


def test_final_after_the_end_of_the_audio_is_timed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "call.raw"
    path.write_bytes(toy_audio(1))
    assert cli.main(["stream", str(path), *RAW]) == 0
    assert "s after the audio's end (by the server's clock 0.01 s)" in capsys.readouterr().err


def test_finals_that_the_first_pass_gave_in_time_are_counted(
    server: FakeServer, call: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.speech.source = pb.FINAL_SOURCE_FIRST_PASS_IN_TIME
    assert cli.main(["stream", str(call), *RAW, "--no-pace"]) == 0
    assert "2 finals, 2 of them by the first pass because the second was late" in capsys.readouterr().err
    server.speech.source = pb.FINAL_SOURCE_SECOND_PASS
    assert cli.main(["stream", str(call), *RAW, "--no-pace"]) == 0
    assert "first pass" not in capsys.readouterr().err


def test_break_in_a_stream_is_counted(server: FakeServer, call: Path, capsys: pytest.CaptureFixture[str]) -> None:
    server.speech.stream_faults = [Fault(after_responses=1)]
    assert cli.main(["stream", str(call), *RAW, "--no-pace"]) == 0
    captured = capsys.readouterr()
    assert captured.out == "1 2\n3\n"
    assert "1 break of the connection survived" in captured.err


def test_stream_of_a_container_sends_its_bytes(server: FakeServer, tmp_path: Path) -> None:
    path = tmp_path / "call.wav"
    soundfile.write(path, np.zeros((4_000, 2), np.int16), 48_000)
    assert cli.main(["stream", str(path)]) == 0
    connection = server.speech.connections[0]
    assert bytes(connection.audio) == path.read_bytes()
    assert connection.config
    assert connection.config.config.encoding == pb.AUDIO_ENCODING_UNSPECIFIED
    assert connection.config.config.audio_channel_count == 2


def test_stream_of_what_only_a_decoder_can_pace_names_its_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    path = tmp_path / "call.mp3"
    path.write_bytes(b"ID3")
    # Nor is it known how many channels there are, which whoever separates them must say.
    for more in ([], ["--no-pace", "--separate-channels"]):
        assert cli.main(["stream", str(path), *more]) == 2
        assert capsys.readouterr().err == (
            f"parley stream: {path}: got no package av, expected it to tell length, channels and samples of what is no "
            "WAV of 16 bits or G.711: pip install 'parley-asr[audio]'\n"
        )


def test_stream_labels_separate_channels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "call.ul"
    path.write_bytes(bytes([255 - 1, 255 - 2]) * 200 + b"\xff" * 400)
    argv = ["stream", str(path), "--encoding", "mulaw", "--rate", str(RATE), "--channels", "2", "--separate-channels"]
    assert cli.main(argv) == 0
    assert capsys.readouterr().out == "[1] 1\n[2] 2\n"


def test_stream_from_a_pipe_goes_on_as_it_comes() -> None:
    command = parley("stream", "-", *RAW, stdin=subprocess.PIPE)
    assert command.stdin
    assert command.stdout
    command.stdin.write(toy_audio(1, 0))
    command.stdin.flush()
    assert command.stdout.readline() == b"1\n"
    command.stdin.write(toy_audio(2))
    out, err = command.communicate(timeout=30)
    assert out == b"2\n"
    assert command.returncode == 0, err


def test_an_error_of_the_cancelled_call_is_still_a_ctrl_c(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(_: object) -> int:
        try:
            raise KeyboardInterrupt
        finally:
            raise OSError("the call was cancelled")

    monkeypatch.setattr(cli, "_run", run)
    assert cli.main(["health"]) == 130
    assert capsys.readouterr().err == ""


def test_stream_ends_on_ctrl_c_while_its_pipe_is_silent() -> None:
    command = parley("stream", "-", *RAW, stdin=subprocess.PIPE)
    assert command.stdin
    assert command.stdout
    command.stdin.write(toy_audio(1, 0))
    command.stdin.flush()
    assert command.stdout.readline() == b"1\n"
    command.send_signal(signal.SIGINT)
    assert command.wait(30) == 130
    assert command.stderr
    assert command.stderr.read() == b""
    for pipe in (command.stdin, command.stdout, command.stderr):
        pipe.close()


class Microphone:
    """sounddevice's stream: says a word, then silence until Ctrl-C, which comes by itself."""

    def __init__(self, **format_: object) -> None:
        assert format_ == {"samplerate": 16_000, "channels": 1, "dtype": "int16"}
        self.reads = 0

    def __enter__(self) -> Microphone:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def read(self, frames: int) -> tuple[bytes, bool]:
        self.reads += 1
        if self.reads == 3:
            os.kill(os.getpid(), signal.SIGINT)
        word = 5 if self.reads == 1 else 0
        return toy_audio(word, samples=frames), False


@pytest.fixture
def sounddevice(monkeypatch: pytest.MonkeyPatch) -> Iterator[types.ModuleType]:
    module = types.ModuleType("sounddevice")
    module.RawInputStream = Microphone  # type: ignore[attr-defined]
    module.PortAudioError = type("PortAudioError", (Exception,), {})  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "sounddevice", module)
    handler = signal.getsignal(signal.SIGINT)
    yield module
    signal.signal(signal.SIGINT, handler)


@pytest.mark.usefixtures("sounddevice")
def test_microphone_ends_with_ctrl_c_and_its_last_words(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["stream", "--mic"]) == 0
    captured = capsys.readouterr()
    assert captured.out == "5\n"
    assert "Speak; Ctrl-C ends." in captured.err


def test_microphone_that_fails_is_told(sounddevice: types.ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    def none(**_: object) -> None:
        raise sounddevice.PortAudioError("no input device")

    sounddevice.RawInputStream = none  # type: ignore[attr-defined]
    assert cli.main(["stream", "--mic"]) == 1
    assert "parley stream: --mic: no input device" in capsys.readouterr().err


def test_microphone_needs_its_extra(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    assert cli.main(["stream", "--mic"]) == 2
    assert "pip install 'parley-asr[mic]'" in capsys.readouterr().err


def test_microphone_needs_portaudio(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "sounddevice.py").write_text("raise OSError('PortAudio library not found')", encoding="utf-8")
    monkeypatch.delitem(sys.modules, "sounddevice", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    assert cli.main(["stream", "--mic"]) == 2
    assert "PortAudio library not found; on Debian: apt install libportaudio2" in capsys.readouterr().err


# On a terminal.


def on_terminal(*argv: str, columns: int = 40) -> tuple[int, str, list[str]]:
    """The exit status, everything written, and what the screen shows in the end."""
    master, slave = pty.openpty()
    command = parley(*argv, output=slave, TERM="xterm", COLUMNS=str(columns), LINES="24")
    os.close(slave)
    written = b""
    with contextlib.suppress(OSError):  # how Linux says that the other side is closed
        while True:
            written += os.read(master, 1 << 16)
    os.close(master)
    status = command.wait(30)
    screen = pyte.Screen(columns, 24)
    pyte.ByteStream(screen).feed(written)
    return status, written.decode(), [line.rstrip() for line in screen.display if line.strip()]


def test_partials_are_repainted_in_place(tmp_path: Path) -> None:
    path = tmp_path / "call.raw"
    words = range(1001, 1060)
    path.write_bytes(toy_audio(*words, 0, samples=RATE // 20) + toy_audio(7, 0))
    status, written, screen = on_terminal("stream", str(path), *RAW, "--no-pace")
    assert status == 0
    final = " ".join(map(str, words))
    # Each partial is wiped out before the next one; one that is longer than a line shows its newest words.
    assert "1001 1002" in written
    assert written.count("…") > 2
    assert written.count("\x1b[2K") >= written.count("…")
    # What stays: the finals, each on its own lines, then the figures. No partial.
    shown = " ".join(screen)
    assert shown.replace(" ", "").startswith((final + "7").replace(" ", ""))
    assert "…" not in shown
    assert "2 finals" in shown


def test_partials_of_two_channels_have_a_line_each(tmp_path: Path) -> None:
    path = tmp_path / "call.ul"
    path.write_bytes(bytes([255 - 1, 255 - 2]) * 4_000 + bytes([255, 255 - 3]) * 4_000 + b"\xff" * 800)
    argv = ["--encoding", "mulaw", "--rate", str(RATE), "--channels", "2", "--separate-channels", "--no-pace"]
    status, written, screen = on_terminal("stream", str(path), *argv)
    assert status == 0
    assert screen[:2] == ["[1] 1", "[2] 2 3"]
    assert written.count("[2] 2") > 2


def test_progress_bars_come_and_go_on_a_terminal(letters: list[str]) -> None:
    status, written, screen = on_terminal("transcribe", *letters[:2], columns=200)
    assert status == 0
    assert "all files" in written
    assert screen == [f"==> {letters[0]} <==", "how are you", "fine thanks", f"==> {letters[1]} <==", "good bye"]


# health


def test_health_of_a_server_that_serves(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["health"]) == 0
    assert capsys.readouterr().out == (
        f"{server.address} SERVING\n{SPEECH_SERVICE} SERVING\ndefault model toy: en; 8000 Hz; MIT. Counts.\n"
    )


def test_health_of_a_server_that_drains(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.set_serving(False)
    assert cli.main(["health"]) == 1
    assert capsys.readouterr().out == f"{server.address} NOT_SERVING\n{SPEECH_SERVICE} NOT_SERVING\n"


def test_health_of_a_server_that_knows_no_speech(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.set_serving(False, "")
    server.forget(SPEECH_SERVICE)
    assert cli.main(["health"]) == 1
    assert f"{SPEECH_SERVICE} NOT_FOUND" in capsys.readouterr().out


def test_health_of_nobody(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.stop()
    assert cli.main(["health"]) == 1
    assert f"no service at {server.address}" in capsys.readouterr().err
    server.start()


@pytest.mark.parametrize("begin", [FakeServer.stop, lambda server: server.set_serving(False)])
def test_health_waits_until_the_server_serves(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch, begin: Callable[[FakeServer], None]
) -> None:
    begin(server)
    waited = []

    def sleep(seconds: float) -> None:
        waited.append(seconds)
        if len(waited) == 3:
            if begin is FakeServer.stop:
                server.start()
            server.set_serving(True)

    monkeypatch.setattr("parley.clients.cli.health.time.sleep", sleep)
    assert cli.main(["health", "--wait", "60"]) == 0
    assert len(waited) >= 3


def test_health_waits_no_longer_than_told(server: FakeServer) -> None:
    server.set_serving(False)
    assert cli.main(["health", "--wait", "0.3"]) == 1
    server.stop()
    assert cli.main(["health", "--wait", "0.3"]) == 1
    server.start()


def test_usage_errors_of_the_server_name_the_option(
    server: FakeServer, call: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    violation = error_details_pb2.BadRequest.FieldViolation(field="model", description="no such model")
    details = (error_details_pb2.BadRequest(field_violations=[violation]),)
    server.speech.stream_faults = [Fault(grpc.StatusCode.NOT_FOUND, text="model: got 'x'", details=details)]
    assert cli.main(["stream", str(call), *RAW, "--model", "x"]) == 1
    assert capsys.readouterr().err == "parley stream: NOT_FOUND: model: got 'x'\n"


def test_standard_input_may_be_no_file(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"spoken words")))
    assert cli.main(["transcribe", "-"]) == 0
    assert capsys.readouterr().out == "spoken words\n"
