"""Paced calls and recordings over the peers' wire, as the call simulator plays them at a node. Knows no library."""

from __future__ import annotations

import asyncio
import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from grpc import aio

from parley.clients.pacing import PIECE_S, piece_bytes, schedule
from scripts.peers.wire import CHANNEL_OPTIONS, FILE, RATE, SAMPLE_BYTES, STREAM, Heard

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from parley.clients.simulator.call import CallReport

    Stream = aio.StreamStreamMultiCallable[bytes, bytes]

GRACE_S = 15.0  # a call that has not ended so long after its audio has failed


@dataclass(frozen=True)
class Played:
    """What came of one call. Seconds."""

    final_s: float | None  # from the half-close to the last final, or to the stream's end where none came; None: failed
    behind_s: float  # by how much the half-close missed its time: the server took the audio too slowly
    late_s: tuple[float, ...]  # by how much the caller missed a message's time by its own fault
    finals: int

    @classmethod
    def of(cls, report: CallReport) -> Played:
        """A call that the simulator played at a node."""
        last, end = report.half_close_to_last_final_s, report.half_close_to_end_s
        behind_s = report.sends[-1].done_s - report.sends[-1].due_s if report.sends else 0.0
        return cls(None if report.error else end if last is None else last, behind_s, report.late_s, report.finals)


def play_in_process(addresses: Sequence[str], calls: Sequence[bytes], spread_s: float) -> list[Played]:
    """The calls, PCM as the wire has it, in turn at the addresses, from one process of their own as the simulator's."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_play_all, addresses, calls, spread_s).result()


def _play_all(addresses: Sequence[str], calls: Sequence[bytes], spread_s: float) -> list[Played]:
    async def run() -> list[Played]:
        channels = [aio.insecure_channel(address, CHANNEL_OPTIONS) for address in addresses]
        try:
            return await asyncio.gather(
                *(
                    _play(channels[number % len(channels)], call, spread_s * number / len(calls))
                    for number, call in enumerate(calls)
                )
            )
        finally:
            await asyncio.gather(*(channel.close() for channel in channels))

    return asyncio.run(run())


async def _play(channel: aio.Channel, call: bytes, wait_s: float) -> Played:
    await asyncio.sleep(wait_s)
    bytes_per_s = RATE * SAMPLE_BYTES
    size = piece_bytes(bytes_per_s, PIECE_S, SAMPLE_BYTES)
    began = free = time.monotonic()
    late: list[float] = []
    due_s = 0.0

    async def audio() -> AsyncIterator[bytes]:
        nonlocal free, due_s
        for due_s, piece in schedule((call[at : at + size] for at in range(0, len(call), size)), bytes_per_s):
            if (left_s := began + due_s - time.monotonic()) > 0:
                await asyncio.sleep(left_s)
            late.append(max(0.0, time.monotonic() - max(began + due_s, free)))
            yield piece
            free = time.monotonic()

    last_final: float | None = None
    finals = 0
    try:
        stream: Stream = channel.stream_stream(STREAM)
        async for message in stream(audio(), timeout=len(call) / bytes_per_s + GRACE_S):
            if Heard.from_wire(message).is_final:
                last_final = time.monotonic()
                finals += 1
    except aio.AioRpcError:
        return Played(None, free - began - due_s, tuple(late), finals)
    closed = free
    after = last_final if last_final is not None and last_final > closed else time.monotonic()
    return Played(after - closed, closed - began - due_s, tuple(late), finals)


async def recognize_file(channel: aio.Channel, pcm: bytes) -> str:
    file: aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(FILE)
    return (await file(pcm)).decode()


async def recognize_stream(channel: aio.Channel, pcm: bytes) -> str:
    """As fast as flow control lets it through."""
    size = piece_bytes(RATE * SAMPLE_BYTES, PIECE_S, SAMPLE_BYTES)
    stream: Stream = channel.stream_stream(STREAM)
    pieces = (pcm[at : at + size] for at in range(0, len(pcm), size))
    heard = [Heard.from_wire(message) async for message in stream(pieces)]
    return " ".join(each.text for each in heard if each.is_final and each.text)
