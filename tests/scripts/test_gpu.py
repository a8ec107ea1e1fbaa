"""The script for a card, without one: what it says then, its rehearsal, and its way on a card that is played."""

from __future__ import annotations

import contextlib
import json
import math
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from rich.console import Console

from parley.clients.node_process import NodeFailed
from scripts.gpu import __main__ as gpu
from scripts.gpu import card, node, right, speed
from scripts.gpu.__main__ import measure
from scripts.gpu.setup import REHEARSAL, Row, Setup, essence, speech

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TINY = replace(REHEARSAL, utterances=2, rows=(1, 2), rounds=1, call_s=1.0)
ENDED = "the node ended with exit status 2; its last words:"  # as parley.clients.node_process says it
QUIET = Console(quiet=True)


def setup(left_s: float = 1_000.0, **size: Any) -> Setup:
    return Setup("cpu", replace(TINY, **size), time.monotonic() + left_s)


def found(part: Callable[[Setup], Iterator[Row]], of: Setup | None = None) -> dict[str, Row]:
    return {row.what: row for row in part(of or setup())}


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a card here")
def test_without_a_card_it_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu.main([]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "sees no CUDA card here" in err
    assert len(err.splitlines()) == 1


def test_a_part_that_fails_is_a_row_and_the_rest_goes_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(_: Setup) -> Iterator[Row]:
        yield Row("broken", "before", {"ms": 1})
        raise RuntimeError("Traceback\nRuntimeError: CUDA error: out of memory\nCompile with TORCH_USE_CUDA_DSA.")

    def sound(_: Setup) -> Iterator[Row]:
        yield Row("sound", "after", {"ms": 2, "": "each"}, ok=True)

    monkeypatch.setattr(gpu, "PARTS", (("broken", broken), ("sound", sound)))
    assert gpu.main(["--device", "cpu"]) == 1
    rows = json.loads(capsys.readouterr().out.splitlines()[-1])["rows"]
    assert [(row["part"], row["what"], row["ok"]) for row in rows] == [
        ("broken", "before", None),
        ("broken", "failed", False),
        ("sound", "after", True),
    ]
    assert rows[1]["figures"] == {"": "RuntimeError: RuntimeError: CUDA error: out of memory"}
    monkeypatch.setattr(gpu, "PARTS", (("sound", sound),))
    assert gpu.main(["--device", "cpu"]) == 0
    assert "ms 2, each" in capsys.readouterr().out


def test_what_there_is_no_time_for_is_left_out() -> None:
    late = setup(-1.0)
    measure((("late", lambda _: 1 / 0),), late, QUIET)  # type: ignore[arg-type, return-value, unused-ignore]
    (row,) = late.rows
    assert (row.what, row.ok) == ("left out", None)


def test_an_error_s_essence() -> None:
    assert essence(NodeFailed(f"{ENDED}\n{{}}\nparley serve: no memory for 2 decoders")) == (
        "parley serve: no memory for 2 decoders"
    )
    assert essence(RuntimeError()) == ""


def test_speech_has_no_two_utterances_alike() -> None:
    pieces = speech(64)
    assert len({piece.tobytes() for piece in pieces}) == 64
    assert min(map(len, pieces)) >= 16_000


def test_a_rehearsal() -> None:
    """All but the node."""
    assert [row.ok for row in found(right.equality).values()] == [True] * 4
    words = found(right.words)
    assert [(row.figures["different"], row.ok) for row in words.values()] == [(0, True)] * 2
    (short,) = found(right.out_of_memory, setup(utterances=3)).values()
    assert (short.figures["different"], short.ok) == (0, True)
    assert [row.figures for part in (speed.graphs, speed.compiled) for row in part(setup())] == [
        {"": "only on a card"}
    ] * 2
    assert found(speed.second_pass)["a batch of 2"].ok


@pytest.mark.slow
def test_a_rehearsal_with_a_node() -> None:
    alone, shared = found(node.streams, setup(call_s=0.2)).values()
    assert (alone.what, shared.what) == ("2 calls, best_path, 1 node", "4 calls, beam, 2 nodes")
    for calls in (alone, shared):
        assert calls.ok
        assert {"failed", "callers_late_ms", "nodes_cores"} <= calls.figures.keys()
    left_out = found(node.streams, setup(0.0))["best_path, 1 node"]
    assert left_out.figures == {"": "left out: no time was left"}


class OnCard(Setup):
    """On the CPU, while the script believes it to be a card."""

    @property
    def on_card(self) -> bool:
        return True


class Graph:
    def replay(self) -> None: ...


class Properties:
    name, major, minor, multi_processor_count, total_memory = "Played", 9, 0, 132, 80 << 30


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> OnCard:
    """torch.cuda and nvidia-smi, played. What is not played here the script must not use."""
    for name, value in {
        "get_device_properties": lambda device: Properties,
        "mem_get_info": lambda device: (70 << 30, 80 << 30),
        "memory_allocated": lambda device: 0,
        "memory_reserved": lambda device: 1 << 30,
        "empty_cache": lambda: None,
        "set_per_process_memory_fraction": lambda share, device: shares.append(share),
        "synchronize": lambda device: None,
        "CUDAGraph": Graph,
        "graph": lambda graph: contextlib.nullcontext(),
    }.items():
        monkeypatch.setattr(torch.cuda, name, value)
    monkeypatch.setattr(torch, "compile", lambda network: network, raising=False)
    shares: list[float] = []
    played = OnCard("cpu", replace(TINY, utterances=2), time.monotonic() + 1_000)
    monkeypatch.setattr(played, "shares", shares, raising=False)
    return played


def test_its_way_on_a_card(played: OnCard) -> None:
    here = found(card.versions, played)
    assert here["card"].figures["total_MB"] == 80 * 1024
    assert str(here["card"].figures["driver"]).startswith(("unknown", "5", "4", "6"))
    memory = found(right.out_of_memory, played)
    assert [row.what for row in memory.values()] == [f"{mb} MB more allowed" for mb in (256, 64, 32)]
    shares: list[float] = played.shares  # type: ignore[attr-defined]
    assert shares[1::2] == [1.0] * 3
    assert shares[0] == pytest.approx((1024 + 256) / (80 * 1024))
    forward = found(speed.forward, played)
    assert forward["a decoder, on the device"].figures["measured"] == 0
    assert all(float(row.figures["ms"]) > 0 for row in forward.values() if "ms" in row.figures)
    assert "left out" in found(speed.second_pass, played)
    (graph,) = found(speed.graphs, played).values()
    assert graph.figures["largest_difference"] == "0.0e+00"
    (compiled,) = found(speed.compiled, played).values()
    assert compiled.figures["largest_difference"] == "0.0e+00"
    played.until = -math.inf
    assert found(speed.compiled, played)["left out"].figures == {"": "no time was left"}


def test_a_second_node_without_room(played: OnCard, monkeypatch: pytest.MonkeyPatch) -> None:
    class Node:
        started = 0

        def __init__(self, *flags: str) -> None: ...

        def __enter__(self) -> None:
            Node.started += 1
            if Node.started == 3:
                raise NodeFailed(f"{ENDED}\nparley serve: no memory for 2 decoders")

        def __exit__(self, *_: object) -> None: ...

    empty = torch.empty
    monkeypatch.setattr(node, "NodeProcess", Node)
    monkeypatch.setattr(torch, "empty", lambda size, **_: empty(1))
    rows = found(node.second_tenant, played)
    assert [row.ok for row in rows.values()] == [True] * 3
    assert rows["a second node, without room"].figures == {"": "refused: parley serve: no memory for 2 decoders"}
    assert rows["a second node, without room"].ok
    Node.started = 3
    assert found(node.second_tenant, played)["a second node, without room"].ok is False


def test_utilisation_is_sampled_while_the_block_runs(played: OnCard, monkeypatch: pytest.MonkeyPatch) -> None:
    values = iter(["40", "unknown (FileNotFoundError)", "60"])
    over = iter([False, False, False, True])
    monkeypatch.setattr(card, "smi", lambda what: next(values))
    watch = card.Utilisation(played)
    monkeypatch.setattr(watch._over, "wait", lambda seconds: next(over))
    with watch:
        watch._thread.join()
    assert watch.figures == {"card_busy_%": 50, "at_most_%": 60}
    with card.Utilisation(setup()) as none:
        pass
    assert none.figures == {}
