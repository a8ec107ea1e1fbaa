"""README.md's and docs/guide.md's ```bash and ```python blocks run, with the real grpcurl, against a real node."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import sysconfig
from typing import TYPE_CHECKING, Any

import pytest

from scripts.scoring import count_errors
from scripts.speech import ROOT, call_text
from tests.speech import words_of

if TYPE_CHECKING:
    from pathlib import Path

    from scripts.node_process import NodeProcess

TEXT = "".join((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "docs/guide.md"))
BLOCKS = re.findall(r"^```bash\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
PYTHON_BLOCKS = re.findall(r"^```python\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
ON_THE_PATH = next(block for block in BLOCKS if block.startswith("export PATH="))  # of the guide, before all others
DEFAULT_ADDRESS = "127.0.0.1:50051"
NEWCOMERS_BIN = ".venv/bin/"  # where `make` puts the commands; a test has an environment of its own


def run_block(containing: str, node: NodeProcess, **variables: str) -> str:
    matching = [block for block in BLOCKS if re.search(containing, block)]
    assert len(matching) == 1, f"the documents have {len(matching)} bash blocks with {containing!r}, expected 1"
    block = f"{ON_THE_PATH}{matching[0]}".replace("$PWD/.venv/bin", sysconfig.get_path("scripts"))
    block = block.replace(NEWCOMERS_BIN, "").replace("parley stream ", "parley stream --no-pace ")
    return run("bash", "-euo", "pipefail", "-c", block, PARLEY_SERVER=node.address, **variables)


def run(*command: str, **variables: str) -> str:
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | variables, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def parse_messages(text: str) -> list[dict[str, Any]]:
    """grpcurl prints a stream's messages one after another, each as a JSON object over several lines."""
    decoder, messages, at = json.JSONDecoder(), [], 0
    while at < len(text.rstrip()):
        message, at = decoder.raw_decode(text, at)
        messages.append(message)
        at += len(text[at:]) - len(text[at:].lstrip())
    return messages


def test_every_block_is_run_here() -> None:
    assert (len(BLOCKS), len(PYTHON_BLOCKS)) == (9, 1)


def test_what_a_newcomer_types_shows_the_words(node: NodeProcess) -> None:
    health, service, model, *words = run_block("parley health", node).splitlines()
    assert health == f"{node.address} SERVING"
    assert service == "parley.asr.v1.Speech SERVING"
    assert model.startswith("default model moonshine-tiny-en: ")
    said = [line for line in words if not line.startswith("[")]
    assert count_errors(words_of("two_cities.flac"), " ".join(said)).rate <= 0.1
    for channel in (1, 2):
        said = [line[4:] for line in words if line.startswith(f"[{channel}] ")]
        assert count_errors(call_text(channel), " ".join(said)).rate <= 0.15


def test_list_shows_the_services(node: NodeProcess) -> None:
    services = run_block(" list$", node).split()
    assert "parley.asr.v1.Speech" in services
    assert "grpc.health.v1.Health" in services


def test_describe_shows_the_rpcs(node: NodeProcess) -> None:
    described = run_block(" describe ", node)
    assert re.findall(r"rpc (\w+)", described) == ["GetModels", "Recognize", "StreamingRecognize"]


def test_recognize_brings_the_recordings_words(node: NodeProcess) -> None:
    (response,) = parse_messages(run_block("Speech/Recognize ", node))
    best = [result["alternatives"][0] for result in response["results"]]
    assert count_errors(words_of("austen_4.flac"), " ".join(each["transcript"] for each in best)).rate <= 0.1
    assert all(word["end_time"] for each in best for word in each["words"])


def test_streaming_recognize_brings_the_streams_words(node: NodeProcess) -> None:
    responses = parse_messages(run_block("Speech/StreamingRecognize ", node))
    results = [result for response in responses for result in response.get("results", [])]
    finals = [result["alternatives"][0]["transcript"] for result in results if result.get("is_final")]
    assert count_errors(words_of("austen_4.flac"), " ".join(finals)).rate <= 0.1
    assert "summary" in responses[-1]


def test_python_prints_both_kinds_of_words(node: NodeProcess) -> None:
    (block,) = PYTHON_BLOCKS
    assert block.count(DEFAULT_ADDRESS) == 1
    whole, *finals = run(sys.executable, "-c", block.replace(DEFAULT_ADDRESS, node.address)).splitlines()
    assert count_errors(words_of("austen_4.flac"), whole).rate <= 0.1
    for channel in (1, 2):
        said = [line[2:] for line in finals if line.startswith(f"{channel} ")]
        assert count_errors(call_text(channel), " ".join(said)).rate <= 0.15


@pytest.mark.slow
def test_capacity_is_looked_for(node: NodeProcess, tmp_path: Path) -> None:
    said = run_block("parley capacity", node, TMPDIR=str(tmp_path))
    assert "calls held in" in said or "calls did not" in said  # which of them is the machine's affair
    assert "<svg" in (tmp_path / "capacity.html").read_text(encoding="utf-8")


def test_parse_messages_reads_what_grpcurl_prints() -> None:
    assert parse_messages('{"a": 1}\n{\n  "b": [2]\n}\n') == [{"a": 1}, {"b": [2]}]
    assert parse_messages("") == []


def test_a_hotword_is_heard(node_of_both: NodeProcess) -> None:
    heard = run_block("--hotword", node_of_both)
    assert count_errors(words_of("austen_1.flac"), heard).rate < 0.6  # by early weights


def test_a_language_model_is_built_and_judged(node: NodeProcess) -> None:
    said = run_block("parley lm build", node)
    assert re.search(r"perplexity", said)
    assert re.search(r"unknown", said)
