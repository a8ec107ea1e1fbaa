"""The node beside a service of the first generation ("1.0"), under the same bursty arrivals: mean and TP999.

1.0 is the node's own second pass in one process a core: one recording at a time each, no batching, and a client's
recordings always go to the same process. The node is as it comes. Short voice messages arrive in bursts of a client's,
as a Poisson process at three quarters of what 1.0 can do; both are sent the same ones at the same times, in turns.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
import zlib
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import soundfile
from grpc import aio
from rich.console import Console
from rich.table import Table

from parley.clients.simulator.figures import Spread
from scripts.peers.callers import recognize_file
from scripts.peers.systems import CORES, Meter, Others, Parley, Peer
from scripts.peers.wire import CHANNEL_OPTIONS, RATE, duration_s
from scripts.speech import recordings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
    from contextlib import AbstractAsyncContextManager

    # A client's recording to its words.
    Answer = Callable[[str, bytes], Awaitable[str]]


CLIENTS = 200
BURST = 3.0  # messages in one, on the mean
WITHIN_BURST_S = 0.3  # from one message of a burst to the next, on the mean
SHORTEST_S, LONGEST_S = 2.0, 6.0
LOAD = 0.75
MEAN_GOAL, TP999_GOAL = -0.88, -0.98


@dataclass(frozen=True)
class Arrival:
    due_s: float
    client: str
    message: int  # which of the recordings


@dataclass(frozen=True)
class Answered:
    """Seconds: from when a message was due to its words, and by how much the sender missed that time."""

    response_s: float
    late_s: float


@dataclass(frozen=True)
class Responses:
    requests: int
    mean_s: float
    p50_s: float
    tp999_s: float
    late_p99_s: float

    @classmethod
    def of(cls, answered: Sequence[Answered]) -> Responses:
        times_s = sorted(each.response_s for each in answered)
        late = Spread.of([each.late_s for each in answered])
        assert late is not None
        return cls(
            len(times_s), float(np.mean(times_s)), percentile(times_s, 0.5), percentile(times_s, 0.999), late.p99
        )


def percentile(ordered: Sequence[float], share: float) -> float:
    """The least value that `share` of the sorted values do not exceed."""
    return ordered[max(0, int(np.ceil(share * len(ordered) - 1e-9)) - 1)]


def arrivals(count: int, per_s: float, messages: int, seed: int) -> list[Arrival]:
    """`count` messages in bursts, `per_s` on the mean. Same seed, same arrivals."""
    dice = np.random.default_rng(seed)
    made: list[Arrival] = []
    burst_s = 0.0
    while len(made) < count:
        burst_s += dice.exponential(BURST / per_s)
        client, due_s = f"client {dice.integers(CLIENTS)}", burst_s
        for _ in range(dice.geometric(1 / BURST)):
            made.append(Arrival(due_s, client, int(dice.integers(messages))))
            due_s += dice.exponential(WITHIN_BURST_S)
    # Bursts overlap: what counts is when a message comes.
    return sorted(made[:count], key=lambda arrival: arrival.due_s)


def voice_messages(count: int) -> list[bytes]:
    """Pieces of the real speech in tests/data, 2 to 6 s of 16 kHz PCM."""
    dice = np.random.default_rng(0)
    spoken = [soundfile.read(recording.path, dtype="int16")[0] for recording in recordings()]
    made = []
    for _ in range(count):
        samples = spoken[dice.integers(len(spoken))]
        length = min(len(samples), round(dice.uniform(SHORTEST_S, LONGEST_S) * RATE))
        start = dice.integers(len(samples) - length + 1)
        made.append(samples[start : start + length].astype("<i2").tobytes())
    return made


def route(client: str, workers: int) -> int:
    """Always the same worker for a client."""
    return zlib.crc32(client.encode()) % workers


@asynccontextmanager
async def routed(addresses: Sequence[str]) -> AsyncIterator[Answer]:
    """1.0, from outside."""
    channels = [aio.insecure_channel(address, CHANNEL_OPTIONS) for address in addresses]
    try:
        yield lambda client, pcm: recognize_file(channels[route(client, len(channels))], pcm)
    finally:
        for channel in channels:
            await channel.close()


@asynccontextmanager
async def node(parley: Parley) -> AsyncIterator[Answer]:
    async with parley.client(streamed=False) as recognize:
        yield lambda _, pcm: recognize(pcm)


def send(
    opened: AbstractAsyncContextManager[Answer], coming: Sequence[Arrival], messages: Sequence[bytes]
) -> list[Answered]:
    """Each message when it is due, whatever became of those before."""

    async def one(answer: Answer, arrival: Arrival, began: float) -> Answered:
        due = began + arrival.due_s
        await asyncio.sleep(due - time.monotonic())
        late_s = time.monotonic() - due
        await answer(arrival.client, messages[arrival.message])
        return Answered(time.monotonic() - due, late_s)

    async def run() -> list[Answered]:
        async with opened as answer:
            await answer("", messages[0])  # connected and warm
            began = time.monotonic()
            return await asyncio.gather(*(one(answer, arrival, began) for arrival in coming))

    return asyncio.run(run())


def capacity_per_s(first: Peer, messages: Sequence[bytes]) -> float:
    """Messages a second that 1.0 answers when every process always has one."""

    async def run() -> float:
        async with first.client(streamed=False) as recognize:
            rest = iter(messages)

            async def sender() -> None:
                for message in rest:
                    await recognize(message)

            await recognize(messages[0])
            begun = time.perf_counter()
            await asyncio.gather(*(sender() for _ in range(CORES)))
            return len(messages) / (time.perf_counter() - begun)

    return asyncio.run(run())


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    console = Console()
    messages = voice_messages(100)
    blocks, each = (2, 50) if arguments.quick else (4, 500)
    first = Peer((sys.executable, "-m", "scripts.peers.serve", "first-generation", "1"), CORES)
    with first, Parley("--passes", "second") as parley:
        per_s = capacity_per_s(first, messages)
        mean_s = float(np.mean([duration_s(message) for message in messages]))
        console.print(
            f"1.0 ({CORES} processes): {per_s:.1f} messages of {mean_s:.1f} s a second; load {LOAD:g} of that, "
            f"{blocks} turns of {each} messages"
        )
        answered: dict[str, list[Answered]] = {"1.0": [], "this node": []}
        meters = {"1.0": Meter(first.pids), "this node": Meter(parley.pids)}
        for seed in range(blocks):
            coming = arrivals(each, LOAD * per_s, len(messages), seed)
            for name in answered:
                opened, others = routed(first.addresses) if name == "1.0" else node(parley), Others()
                answered[name] += send(opened, coming, messages)
                meters[name].settle()
                console.print(f"turn {seed + 1}, {name}: others on {others.cores():.2f} cores", highlight=False)
    responses = {name: Responses.of(all_of) for name, all_of in answered.items()}
    console.print(table(responses))
    if arguments.json:
        facts = {"capacity_per_s": per_s, "load": LOAD, "responses": {k: asdict(v) for k, v in responses.items()}}
        arguments.json.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    return 0


def table(responses: dict[str, Responses]) -> Table:
    shown = Table(title="from a message's arrival to its words, ms", title_justify="left")
    for heading in ("", "requests", "mean", "p50", "TP999", "senders late, p99"):
        shown.add_column(heading, justify="right" if heading else "left")
    for name, it in responses.items():
        times = (it.mean_s, it.p50_s, it.tp999_s, it.late_p99_s)
        shown.add_row(name, str(it.requests), *(f"{time_s * 1000:.0f}" for time_s in times))
    before, now = responses["1.0"], responses["this node"]
    shown.add_row("change", "", change(before.mean_s, now.mean_s), "", change(before.tp999_s, now.tp999_s), "")
    shown.add_row("goal", "", f"{MEAN_GOAL:+.0%}", "", f"{TP999_GOAL:+.0%}", "")
    return shown


def change(before: float, now: float) -> str:
    return f"{now / before - 1:+.0%}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m scripts.peers.first_generation", description=(__doc__ or "").split("\n\n")[0]
    )
    parser.add_argument("--quick", action="store_true", help="half a minute: the harness at work, no figures to quote")
    parser.add_argument("--json", metavar="FILE", type=Path, help="all figures")
    return parser


if __name__ == "__main__":
    sys.exit(main())
