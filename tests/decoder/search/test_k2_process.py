"""The lattice search in a process of its own. Runs in the lane that has k2 (make test-k2)."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from parley.decoder.errors import DeviceError, ModelError
from parley.decoder.search.lattice.graph import read_graph
from parley.decoder.search.lattice.k2 import LatticeSearch
from parley.decoder.search.lattice.lattice import LatticeConfig, LatticeOptions
from parley.decoder.search.lattice.process import LatticeProcess
from parley.decoder.text.vocabulary import Vocabulary
from parley.decoder.values import TOKENS
from parley.training.graph.build import grammar_graph
from parley.training.graph.files import write_graph
from tests.decoder.conftest import FIRST_MODEL

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

pytestmark = pytest.mark.k2

DIGITS = "#JSGF V1.0; public <d> = (zero | one | two | three | four | five | six | seven | eight | nine)+;"
VOCABULARY = Vocabulary.read_tokens(FIRST_MODEL / "tokens.txt")
TICK_S = 0.001


@pytest.fixture(scope="module")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    path = tmp_path_factory.mktemp("graphs") / "digits.graph"
    write_graph(grammar_graph(DIGITS, VOCABULARY), path)
    return {"digits": path}


@pytest.fixture(scope="module")
def process(graphs: dict[str, Path]) -> Iterator[LatticeProcess]:
    with LatticeProcess(VOCABULARY, graphs) as process:
        yield process


def random_log_probs(seed: int, *frames: int, sharp: float = 3.0) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    scores = sharp * rng.normal(size=(len(frames), max(frames), len(VOCABULARY.pieces))).astype(np.float32)
    log_probs: NDArray[np.float32] = torch.from_numpy(scores).log_softmax(-1).numpy()
    return log_probs


@pytest.mark.parametrize("graph", [TOKENS, "digits"])
def test_it_gives_what_the_search_itself_gives(process: LatticeProcess, graphs: dict[str, Path], graph: str) -> None:
    direct = LatticeSearch(VOCABULARY, {name: read_graph(path, VOCABULARY) for name, path in graphs.items()})
    options = LatticeOptions(n_best=3, lattice=True)
    batches = [
        (random_log_probs(seed, *frames), list(frames)) for seed, frames in enumerate([(5,), (40, 30, 0, 9), (1,)])
    ]
    waiting = [process.submit(log_probs, frames, graph, options) for log_probs, frames in batches]
    for future, (log_probs, frames) in zip(waiting, batches, strict=True):
        found, expected = future.result(), direct.decode(torch.from_numpy(log_probs), frames, graph, options)
        assert [result.paths for result in found] == [result.paths for result in expected]
        for one, other in zip(found, expected, strict=True):
            assert (one.lattice is None) == (other.lattice is None)
            if one.lattice is not None and other.lattice is not None:
                assert one.lattice.as_dict() == other.lattice.as_dict()


def test_what_does_not_fit_is_said_and_the_process_lives(process: LatticeProcess) -> None:
    log_probs = random_log_probs(1, 4)
    process.start().result()
    before = process.pid
    with pytest.raises(DeviceError, match="graph: got 'menu', expected one of tokens, digits"):
        process.submit(log_probs, [4], "menu", LatticeOptions()).result()
    with pytest.raises(DeviceError, match="the lattice search failed"):
        process.submit(log_probs, [5], TOKENS, LatticeOptions()).result()  # there are only 4 frames
    assert process.submit(log_probs, [4], TOKENS, LatticeOptions()).result()[0].paths
    assert process.pid == before


def test_a_process_that_dies_fails_its_batch_and_is_started_anew(graphs: dict[str, Path]) -> None:
    with LatticeProcess(VOCABULARY, graphs) as process:
        process.start().result()
        first = process.pid
        assert first is not None
        os.kill(first, signal.SIGSTOP)  # so that the batch is certainly not through
        log_probs = random_log_probs(1, 20)
        lost = process.submit(log_probs, [20], "digits", LatticeOptions())
        kept = process.submit(log_probs, [20], "digits", LatticeOptions())
        while not lost.running():
            time.sleep(TICK_S)
        os.kill(first, signal.SIGKILL)
        with pytest.raises(DeviceError, match="its process ended with -9 on a batch of 1"):
            lost.result()
        assert kept.result()[0].paths
        assert process.pid not in (None, first)


def test_a_process_that_dies_between_batches_costs_none(graphs: dict[str, Path]) -> None:
    with LatticeProcess(VOCABULARY, graphs) as process:
        process.start().result()
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        # All of it: its first thread is a zombie before the others are gone, and until then it is still ending.
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert process.submit(random_log_probs(1, 5), [5], "digits", LatticeOptions()).result()[0].paths


def test_one_that_cannot_start_says_why(tmp_path: Path) -> None:
    path = tmp_path / "x.graph"
    path.write_bytes(b"no graph")
    with LatticeProcess(VOCABULARY, {"x": path}) as process:
        for _ in range(2):
            with pytest.raises(DeviceError, match=r"x\.graph: not a readable graph"):
                process.start().result()
    assert process.pid is None


def test_more_batches_than_may_wait_fail_at_once(graphs: dict[str, Path]) -> None:
    with LatticeProcess(VOCABULARY, graphs, waiting=2) as process:
        process.start().result()
        assert process.pid is not None
        os.kill(process.pid, signal.SIGSTOP)
        log_probs = random_log_probs(1, 5)
        first = process.submit(log_probs, [5], "digits", LatticeOptions())
        wait_for(first.running)
        waiting = [process.submit(log_probs, [5], "digits", LatticeOptions()) for _ in range(2)]
        with pytest.raises(DeviceError, match="2 batches wait already"):
            process.submit(log_probs, [5], "digits", LatticeOptions()).result()
        assert waiting[0].cancel()
        os.kill(process.pid, signal.SIGCONT)
        assert first.result()[0].paths
        assert waiting[1].result()[0].paths


def test_closing_fails_what_waits(graphs: dict[str, Path]) -> None:
    process = LatticeProcess(VOCABULARY, graphs)
    process.start().result()
    pid = process.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    waiting = [process.submit(random_log_probs(1, 5), [5], "digits", LatticeOptions()) for _ in range(3)]
    wait_for(waiting[0].running)
    process.close()
    process.close()
    waiting.append(process.submit(random_log_probs(1, 5), [5], "digits", LatticeOptions()))
    for future in waiting:
        with pytest.raises(DeviceError, match="has stopped"):
            future.result()
    assert not alive(pid)


def test_it_goes_with_its_parent(graphs: dict[str, Path]) -> None:
    """Also with one that is killed and can tell nobody."""
    program = (
        "import sys, json, time; sys.path[:] = json.loads(sys.argv[1])\n"
        "from tests.decoder.search.test_k2_process import VOCABULARY, LatticeProcess\n"
        "process = LatticeProcess(VOCABULARY, {}); process.start().result()\n"
        "print(process.pid, flush=True); time.sleep(600)"
    )
    parent = subprocess.Popen([sys.executable, "-c", program, json.dumps([".", *sys.path])], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    assert alive(child)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    wait_for(lambda: not alive(child))


def test_live_calls_go_first(process: LatticeProcess) -> None:
    process.start().result()
    assert process.pid is not None
    assert os.getpriority(os.PRIO_PROCESS, process.pid) > os.getpriority(os.PRIO_PROCESS, 0)


class Ticks:
    """A thread that wants Python's lock every millisecond, and how often it has had it."""

    def __init__(self) -> None:
        self._count, self._over = 0, False
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._over:
            self._count += 1
            time.sleep(TICK_S)

    def beside(self, work: Callable[[], object]) -> float:
        """Ticks a second while the work is done."""
        count, begun = self._count, time.monotonic()
        work()
        return (self._count - count) / (time.monotonic() - begun)

    def stop(self) -> None:
        self._over = True
        self._thread.join()


def test_while_it_decodes_python_goes_on_here(graphs: dict[str, Path]) -> None:
    """Beside k2 in this process a thread hardly has its turn; beside the other process it has it as beside nothing."""
    wide = LatticeConfig(search_beam=20, output_beam=8, max_active=10_000)
    frames = [120] * 8
    log_probs = random_log_probs(1, *frames, sharp=1.0)
    direct = LatticeSearch(VOCABULARY, {}, wide)
    ticks = Ticks()
    try:
        with LatticeProcess(VOCABULARY, {}, wide) as process:
            process.start().result()
            options = LatticeOptions()
            beside_child = ticks.beside(lambda: process.submit(log_probs, frames, TOKENS, options).result())
        beside_nothing = ticks.beside(lambda: time.sleep(0.5))
        beside_k2 = ticks.beside(lambda: direct.decode(torch.from_numpy(log_probs), frames, TOKENS, options))
    finally:
        ticks.stop()
    assert beside_child > 0.3 * beside_nothing
    assert beside_k2 < 0.7 * beside_child


def wait_for(true: Callable[[], bool]) -> None:
    """The test's own time limit ends it."""
    while not true():
        time.sleep(TICK_S)


def alive(pid: int | None) -> bool:
    """Whether the process runs; one that has ended and is not yet waited for does not."""
    if pid is None:
        return False
    try:
        with open(f"/proc/{pid}/stat", encoding="utf8") as file:  # noqa: PTH123
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_model_that_does_not_suit_is_refused() -> None:
    with (
        LatticeProcess(VOCABULARY, {}, blank=1) as process,
        pytest.raises(DeviceError, match="got a model with blank 1"),
    ):
        process.start().result()
    with pytest.raises(ModelError, match="got a model with blank 1"):
        LatticeSearch(VOCABULARY, {}, blank=1)
