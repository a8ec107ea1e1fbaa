"""A node over a long day, in minutes: an hour of one call, an hour as a file, 500 idle connections (`make soak`).

Shows that memory and the time for a piece of audio stay flat. The hour is sent as fast as flow control lets it through;
the idle connections are real ones, each with its own socket, and one call at the pace of speech runs among them.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import numpy as np
from grpc import aio
from rich.console import Console
from rich.table import Table

from parley.clients.aio import AsyncClient
from parley.clients.config import Encoding, RecognitionConfig, StreamConfig
from parley.clients.simulator.figures import Figures
from parley.clients.simulator.play import simulate
from parley.wire.channel import channel_options
from scripts.node_process import NodeProcess, add_search, search_flags
from scripts.telephone import TELEPHONE_RATE, call_source, make_calls, mulaw

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence

SLICES = 6  # of the hour, shown side by side
MESSAGE = TELEPHONE_RATE // 10  # bytes of mu-law in 100 ms


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    console = Console()
    flags = ("--max-stream-s", "14400", "--passes", arguments.passes, *search_flags(arguments))
    with NodeProcess(*flags) as node:
        asyncio.run(_soak(node, arguments.minutes, arguments.connections, console))
    return 0


async def _soak(node: NodeProcess, minutes: int, connections: int, console: Console) -> None:
    hour = _audio(minutes)
    console.print(f"idle: {_memory_mib(node):.0f} MiB")
    table = Table(title=f"{minutes} minutes in one stream, as fast as it goes", title_justify="left")
    for column in ("audio, min", "wall ms an audio second", "memory, MiB"):
        table.add_column(column, justify="right")
    async with AsyncClient(node.address) as client:
        for until_min, pace_ms, memory_mib in [row async for row in _stream(client, node, hour, minutes)]:
            table.add_row(f"{until_min:.0f}", f"{pace_ms:.1f}", f"{memory_mib:.0f}")
        console.print(table)
        begun = time.perf_counter()
        transcript = await client.transcribe(mulaw(hour, "WAV"), RecognitionConfig(words=True))
        console.print(
            f"{minutes} minutes as a file: {time.perf_counter() - begun:.0f} s, {len(transcript.text.split())} words, "
            f"memory then {_memory_mib(node):.0f} MiB"
        )
    before = _memory_mib(node)
    async with _idle(node.address, connections):
        opened = _memory_mib(node)
        reports = await simulate(node.address, [call_source(0, make_calls(1)[0])])
        console.print(
            f"{connections} idle connections: {before:.0f} MiB before, {opened:.0f} MiB once open, "
            f"{_memory_mib(node):.0f} MiB after a call of {len(reports[0].sends) / 10:.0f} s among them"
        )
        close = Figures.of(reports).half_close_to_last_final
        assert close is not None
        console.print(f"that call's final came {close.most * 1000:.0f} ms after its half-close")


def _audio(minutes: int) -> np.ndarray[tuple[int], np.dtype[np.int16]]:
    calls = make_calls(8)
    wanted = minutes * 60 * TELEPHONE_RATE
    return np.resize(np.concatenate(calls), wanted)


async def _stream(
    client: AsyncClient, node: NodeProcess, samples: np.ndarray[tuple[int], np.dtype[np.int16]], minutes: int
) -> AsyncIterator[tuple[float, float, float]]:
    """After each slice of the audio: minutes so far, wall milliseconds for a second of the slice, the node's memory."""
    audio = mulaw(samples, "RAW")
    config = StreamConfig(encoding=Encoding.MULAW, sample_rate=TELEPHONE_RATE, channels=1, words=True)

    def messages() -> Iterator[bytes]:
        return (audio[at : at + MESSAGE] for at in range(0, len(audio), MESSAGE))

    slice_s = minutes * 60 / SLICES
    mark_s, marked = 0.0, time.perf_counter()
    async with client.stream(_each(messages()), config) as results:
        async for result in results:
            # The last utterance ends a little before the audio does.
            if result.is_final and result.end_s >= mark_s + slice_s - 10:
                now = time.perf_counter()
                yield result.end_s / 60, (now - marked) * 1000 / (result.end_s - mark_s), _memory_mib(node)
                mark_s, marked = result.end_s, now


async def _each(messages: Iterator[bytes]) -> AsyncIterator[bytes]:
    for message in messages:
        yield message


@contextlib.asynccontextmanager
async def _idle(address: str, count: int) -> AsyncIterator[None]:
    options = [*channel_options(), ("grpc.use_local_subchannel_pool", 1)]  # a socket each
    async with contextlib.AsyncExitStack() as stack:
        channels = [await stack.enter_async_context(aio.insecure_channel(address, options)) for _ in range(count)]
        await asyncio.gather(*(channel.channel_ready() for channel in channels))
        yield
        still = sum(channel.get_state() is grpc.ChannelConnectivity.READY for channel in channels)
        assert still == count, f"{count - still} of {count} connections were lost"


def _memory_mib(node: NodeProcess) -> float:
    status = Path(f"/proc/{node.process.pid}/status").read_text(encoding="ascii")
    (line,) = (line for line in status.splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) / 1024


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m scripts.soak", description=__doc__.split("\n\n", maxsplit=1)[0])
    parser.add_argument("--minutes", metavar="N", type=int, default=60, help="(default: %(default)s)")
    parser.add_argument(
        "--passes", choices=("first", "second", "both"), default="second", help="(default: %(default)s)"
    )
    add_search(parser)
    parser.add_argument("--connections", metavar="N", type=int, default=500, help="(default: %(default)s)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
