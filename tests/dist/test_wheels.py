"""The wheels in empty environments in empty folders: a caller's few packages, and a node that gets its model and serves.

Nothing here may find the checkout: no path leads to it, and no variable.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import zipfile
from typing import TYPE_CHECKING

import pytest

from parley.decoder.models.places import SUMS
from scripts.scoring import count_errors
from scripts.speech import recordings
from tests.dist.conftest import ROOT, clean_environment

if TYPE_CHECKING:
    from pathlib import Path

    from tests.dist.conftest import Installed

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

OFFLINE = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": os.devnull, "PIP_CONFIG_FILE": os.devnull}
SPEECH = next(recording for recording in recordings() if recording.path.name == "austen_4.flac")

CALLER = """
from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import assert_type

from parley.asr.v1 import speech_pb2
from parley.clients import AsyncClient, Client, Result, StreamConfig, Transcript


def words(audio: Iterator[bytes]) -> list[str]:
    with Client("127.0.0.1:50051") as client:
        assert_type(client.transcribe("a.wav"), Transcript)
        with client.stream(audio, StreamConfig(channels=2, separate_channels=True)) as results:
            return [result.text for result in results if result.is_final]


async def later(audio: AsyncIterator[bytes]) -> list[Result]:
    async with AsyncClient() as client, client.stream(audio, StreamConfig()) as results:
        return [result async for result in results]


request = speech_pb2.RecognizeRequest(audio=b"")
assert_type(request.audio, bytes)
"""


def test_a_caller_installs_little(base: Installed) -> None:
    found = base.packages()
    assert found.keys() >= {"parley-asr", "grpcio", "protobuf", "rich"}
    assert len(found) <= 12, sorted(found)  # with what those four need
    assert found.keys().isdisjoint({"av", "numba", "numpy", "onnxruntime", "pydantic", "structlog", "torch"})


def test_the_client_is_imported_from_the_wheel_alone(base: Installed) -> None:
    done = base.run(base.python, "-I", "-c", "import parley.clients; print(parley.clients.__file__)")
    assert done.stdout.startswith(str(base.folder)), done.stderr
    assert base.run(base.parley, "--help").returncode == 0
    assert base.run(base.parley, "transcribe", "--help").returncode == 0


@pytest.mark.parametrize(
    ("command", "extra"),
    [
        (("serve",), "node"),
        (("capacity", "--p99-final", "1s"), "node"),
        (("models", "get"), "models"),
        (("lm", "build", "text", "--output", "my.lm"), "train"),
        (("lm", "check", "my.lm"), "train"),
        (("graph", "check", "my.graph"), "train"),
        (("stream", "--mic"), "mic"),
    ],
)
def test_a_command_names_the_extra_that_it_needs(base: Installed, command: tuple[str, ...], extra: str) -> None:
    done = base.run(base.parley, *command)
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"parley {command[0]}: ")
    assert line.endswith(f"pip install 'parley-asr[{extra}]'")


@pytest.mark.parametrize("editable", [False, True])
def test_a_callers_program_is_strictly_typed(base: Installed, editable: bool, tmp_path: Path) -> None:
    (tmp_path / "caller.py").write_text(CALLER)
    command = [sys.executable, "-m", "mypy", "--strict", "--python-version", "3.11", "--config-file="]
    if not editable:  # else this environment's own, which is editable
        command += ["--python-executable", str(base.python)]
    done = subprocess.run(
        [*command, "caller.py"], cwd=tmp_path, env=clean_environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_portion_says_that_it_is_typed(wheels: dict[str, Path]) -> None:
    with zipfile.ZipFile(wheels["parley_asr"]) as wheel:
        names = wheel.namelist()
    portions = {name.split("/")[1] for name in names if name.startswith("parley/")}
    assert {portion for portion in portions if f"parley/{portion}/py.typed" in names} == portions
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"parley"}


def test_a_node_gets_its_model_and_serves(node: Installed) -> None:
    assert node.packages().keys().isdisjoint({"numba", "torch"})
    refused = node.run(node.parley, "serve", "--port", "0", "--metrics-port", "-1")
    assert refused.returncode == 2
    assert "`parley models get` makes the default ones" in refused.stderr

    got = node.run(node.parley, "models", "get")
    assert got.returncode == 0, got.stderr
    assert str(node.folder / "cache" / "parley" / "models" / "lm-en") in got.stdout
    # From here on without an index.
    assert node.run(node.parley, "models", "get", **OFFLINE).stdout.count("there already") == 2
    assert node.run(node.parley, "models", "check", **OFFLINE).returncode == 0

    serving = subprocess.Popen(
        [node.parley, "serve", "--port", "0", "--metrics-port", "-1", "--log-format", "json"],
        cwd=node.folder, env=node.environment(**OFFLINE), stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert serving.stderr
        events = map(json.loads, serving.stderr)
        address = next(event["address"] for event in events if event["event"] == "serving")
        heard = node.run(node.parley, "transcribe", "--server", address, SPEECH.path)
    finally:
        serving.send_signal(signal.SIGTERM)
        serving.communicate()
    assert heard.returncode == 0, heard.stderr
    errors = count_errors(SPEECH.text, heard.stdout)
    assert errors.words == 18
    assert errors.substitutions + errors.insertions + errors.deletions == 0, heard.stdout


def test_the_first_passs_model_is_a_wheel_that_is_found(node: Installed, wheels: dict[str, Path]) -> None:
    node.install(str(wheels["parley_model_en_streaming"]))
    checked = node.run(node.parley, "models", "check", "en-streaming")
    assert checked.returncode == 0, checked.stderr
    assert checked.stdout.startswith(f"en-streaming: as it was made, in {node.folder / 'venv'}")
    # Its model is there: what is missing is torch.
    asked = node.run(node.parley, "serve", "--explain", "--passes", "first")
    assert asked.stderr == "parley serve: got no package torch, expected it: pip install 'parley-asr[first-pass]'\n"


def test_the_models_wheel_carries_all_that_is_in_its_folder(wheels: dict[str, Path]) -> None:
    with zipfile.ZipFile(wheels["parley_model_en_streaming"]) as wheel:
        carried = {name.rpartition("/")[2] for name in wheel.namelist() if name.startswith("parley/models/en-streaming/")}
    folder = ROOT / "models" / "en-streaming"
    assert carried == {path.name for path in folder.iterdir()} - {"pyproject.toml"}
    assert SUMS in carried
