"""How a node of one's own comes up and ends. Real nodes that serve are in end_to_end."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from parley.clients import node_process
from parley.clients.node_process import Leash, NodeFailed, NodeProcess

if TYPE_CHECKING:
    from pathlib import Path

PATIENCE_MS = 30_000  # of a test that fails

HARNESS = """
import subprocess, sys, time
from parley.clients.node_process import Leash
held = subprocess.Popen(["sleep", "1000"], start_new_session=True, stdout=subprocess.DEVNULL)
leash = Leash(held.pid)
print(held.pid, flush=True)
time.sleep(1000)
"""


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_process_on_a_leash_does_not_outlive_whoever_holds_it(how: signal.Signals) -> None:
    with subprocess.Popen([sys.executable, "-c", HARNESS], stdout=subprocess.PIPE, text=True) as harness:
        assert harness.stdout
        held = os.pidfd_open(int(harness.stdout.readline()))
        try:
            harness.send_signal(how)
            harness.wait()
            assert ends(held)
        finally:
            os.close(held)


def test_leash_that_is_cut_ends_nothing() -> None:
    with subprocess.Popen(["sleep", "1000"]) as free:
        leash = Leash(free.pid)
        leash.cut()
        assert free.poll() is None
        free.terminate()
        assert free.wait() == -signal.SIGTERM


def test_node_that_does_not_come_up_says_why() -> None:
    with (
        pytest.raises(NodeFailed, match=r"exit status 2; its last words:(.|\n)*--nonsense 1: no such setting"),
        NodeProcess("--nonsense", "1"),
    ):
        pass


NODE = """#!{python}
import json, time
print("{{ is no JSON")
print("[]")
for _ in range(5):
    print(json.dumps({{"event": "noise"}}))
print(json.dumps({{"event": "serving", "address": "here", "metrics_address": "there"}}), flush=True)
time.sleep(1000)
"""


def test_log_may_hold_what_is_no_json_and_is_not_kept_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python = tmp_path / "node"
    python.write_text(NODE.format(python=sys.executable))
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    monkeypatch.setattr(node_process, "KEPT", 3)
    node = NodeProcess()
    node.start()
    try:
        assert node.address == "here"
        assert node.wait_for("serving")["metrics_address"] == "there"
        assert len(node.log) == 3
    finally:
        node.end()


def ends(process: int) -> bool:
    """Whether the process of this file descriptor does, while one has patience."""
    poll = select.poll()
    poll.register(process, select.POLLIN)
    return bool(poll.poll(PATIENCE_MS))
