"""How a node of one's own comes up and ends. Real nodes that serve are in end_to_end."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys

import pytest

from parley.clients.node_process import Leash, NodeFailed, NodeProcess

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


def ends(process: int) -> bool:
    """Whether the process of this file descriptor does, while one has patience."""
    poll = select.poll()
    poll.register(process, select.POLLIN)
    return bool(poll.poll(PATIENCE_MS))
