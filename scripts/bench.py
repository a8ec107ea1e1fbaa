"""What a node does on this machine, against the bare model on the same cores in the same run. `make bench` runs it.

The floor comes first (scripts.floor), by best path whatever the node's search. Then recordings through the file RPC,
then calls at the pace of speech: more and more of them until the slowest finals come too late. At 80 % of what was
held: the delays; the same calls with recordings beside them; and a node of so many decoders that more calls come to.
The simulated callers take their share of the same cores. Every figure is a ratio to the floor, which is the one number
that may be compared between machines.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console
from rich.table import Table

from parley.clients.aio import AsyncClient
from parley.clients.capacity import search
from parley.clients.capacity.node import BUSY, scrape
from parley.clients.config import RecognitionConfig
from parley.clients.simulator.call import Pace
from parley.clients.simulator.figures import Figures, Spread
from parley.clients.simulator.play import simulate_in_processes
from parley.decoder.device import CPU
from parley.decoder.model_folder import ModelFolder
from parley.decoder.models.first_pass import FirstPass
from parley.decoder.models.moonshine import SecondPass
from parley.decoder.models.registry import load_acoustic_model
from parley.decoder.values import EndpointRules, Passes, Precision
from parley.wire.errors import Exhausted
from parley.wire.retry import NEVER
from scripts.floor import CONFIG, Floor, chunk_floor, file_floor, model_folder, one_after_the_other, whole_floor
from scripts.node_process import NodeProcess, add_search, in_shares, node_cpu_s, search_flags
from scripts.telephone import TELEPHONE_RATE, call_source, make_calls, mulaw

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator, Sequence

    from numpy.typing import NDArray

    from parley.clients.simulator.call import CallSource
    from parley.decoder.models.passes import WholeModel

MOST_CALLS = 4_096  # where looking for more ends
FILES_AT_ONCE = 16
FILES_BESIDE = 8  # recordings at once, over and over, beside calls
LATE_SIMULATOR_S = 0.05  # with one of a hundred messages: then the callers, not the node, are the limit
TOO_MANY_A_S = 20  # calls more than there are decoders that come in a second


@dataclass(frozen=True)
class Streams:
    calls: int
    share_of_floor: float  # of the bare model's speed: speech in the calls a second, over Floor.audio_s_per_s
    held: bool
    partial_lag: Spread | None
    first_result: Spread | None  # of a call, after its first speech
    final_after_half_close: Spread | None
    endpoint_to_final: Spread | None
    simulator_late: Spread | None
    node_cores: float  # that it had busy, on the mean


@dataclass
class Report:
    live_floor: Floor
    file_floor: Floor
    shares: int = 1  # of the CPU
    files_share_of_floor: float = 0.0
    files_audio_s_per_s: float = 0.0
    trials: list[Streams] = field(default_factory=list)
    most_held: int = 0
    at_80_percent: Streams | None = None
    beside_files: Streams | None = None  # the same calls, with recordings
    beside_calls_audio_s_per_s: float = 0.0  # of those recordings
    past_capacity: Streams | None = None  # the same calls, on a node of so many decoders that is called by more
    refused: Spread | None = None  # how long those waited for their answer, s
    refused_without_retry_info: int = 0
    silent_share_of_speech: float = 0.0  # the node's processor time for a silent stream, over that for the calls


def main(argv: Sequence[str] | None = None) -> int:
    parser = _parser()
    arguments = parser.parse_args(argv)
    quick: bool = arguments.quick
    fixed: int | None = arguments.calls or (4 if quick else None)
    if arguments.shares < 1 or (fixed or 0) % arguments.shares:
        parser.error(f"--shares: got {arguments.shares}, expected 1 or more, with as many of --calls on each")
    console = Console()
    calls = [call[: int(arguments.seconds * TELEPHONE_RATE)] for call in make_calls(2 if quick else 8)]
    passes = Passes(arguments.passes)

    console.print("[bold]the floor[/bold]: the bare model, batched, sorted by length")
    report = _floors(passes, calls, arguments.chunk_ms, Precision(arguments.precision))
    report.shares = arguments.shares
    for name, bare in (("live pieces", report.live_floor), ("file segments", report.file_floor)):
        console.print(
            f"  {bare.pieces} {name}, {bare.speech_s:.0f} s in {bare.calls_s:.0f} s of calls: "
            f"{bare.audio_s_per_s:.1f} audio-s/s"
        )
    model_flags = ("--chunk-ms", str(arguments.chunk_ms), "--precision", arguments.precision)
    flags = ("--passes", passes.value, *model_flags, *search_flags(arguments))
    with NodeProcess(*flags, *in_shares(arguments.shares, arguments.decoders)) as node:
        files(node.address, calls, report)
        console.print(
            f"[bold]files[/bold], {FILES_AT_ONCE} at once: {report.files_audio_s_per_s:.1f} audio-s/s of recording, "
            f"{report.files_share_of_floor:.2f} of the floor"
        )
        console.print(f"[bold]calls[/bold], until p99 of final after half-close is over {arguments.p99_final:g} s")
        streams(node, calls, report, arguments.p99_final, fixed, arguments.shares, console)
        report.silent_share_of_speech = silence(node, calls)
        console.print(
            f"a silent stream takes {report.silent_share_of_speech:.3f} of the processor time of a call of its length"
        )
        if report.at_80_percent is not None:
            beside_files(node, calls, report, arguments.p99_final)
            console.print(f"recordings beside those calls: {report.beside_calls_audio_s_per_s:.1f} audio-s/s")
    if report.at_80_percent is not None:
        with NodeProcess(*flags, *in_shares(arguments.shares, report.at_80_percent.calls)) as node:
            past_capacity(node, calls, report, arguments.p99_final)
    console.print(_table(report))
    if arguments.json:
        arguments.json.write_text(json.dumps(asdict(report), indent=1), encoding="utf-8")
    return 0


def _floors(passes: Passes, calls: Sequence[NDArray[np.int16]], chunk_ms: int, precision: Precision) -> Report:
    if passes is Passes.SECOND:
        whole: WholeModel = SecondPass(ModelFolder.read(model_folder(passes)))
        return Report(whole_floor(whole, calls, EndpointRules(), passes, False), file_floor(whole, calls, passes))
    first = ModelFolder.read(model_folder(Passes.FIRST))
    threads = os.cpu_count() or 1
    model = load_acoustic_model(first, CPU, CONFIG.max_chunk_batch, chunk_ms, threads, precision)
    live = chunk_floor(model, calls)
    if passes is Passes.FIRST:
        return Report(live, file_floor(FirstPass(model), calls, passes))
    whole = SecondPass(ModelFolder.read(model_folder(Passes.SECOND)))
    finals = whole_floor(whole, calls, EndpointRules(), Passes.SECOND, False)
    return Report(one_after_the_other(live, finals), file_floor(whole, calls, Passes.SECOND))


def files(address: str, calls: Sequence[NDArray[np.int16]], report: Report) -> None:
    """All calls as recordings, several at once, until each was sent as often as keeps the pipeline full."""
    recordings = [mulaw(call, "WAV") for call in calls] * 4

    async def run() -> float:
        at_once = asyncio.Semaphore(FILES_AT_ONCE)

        async def one(client: AsyncClient, audio: bytes) -> None:
            async with at_once:
                await client.transcribe(audio, RecognitionConfig(words=True))

        async with AsyncClient(address) as client:
            await asyncio.gather(*(one(client, audio) for audio in recordings[:2]))
            begun = time.perf_counter()
            await asyncio.gather(*(one(client, audio) for audio in recordings))
            return time.perf_counter() - begun

    wall_s = asyncio.run(run())
    bare = report.file_floor
    report.files_audio_s_per_s = 4 * bare.calls_s / wall_s
    report.files_share_of_floor = 4 * bare.speech_s / wall_s / bare.audio_s_per_s


def streams(
    node: NodeProcess,
    calls: Sequence[NDArray[np.int16]],
    report: Report,
    p99_final_s: float,
    fixed: int | None,
    shares: int,
    console: Console,
) -> None:
    """Finds the most calls held, then measures at 80 % of it, as many on each share."""
    sources = _sources(calls)

    def attempt(count: int) -> Streams:
        trial = _play(node, sources, count, report.live_floor, p99_final_s)
        report.trials.append(trial)
        late, close = trial.simulator_late, trial.final_after_half_close
        console.print(
            f"  {count} calls: {'held' if trial.held else 'not held'}, {trial.share_of_floor:.2f} of the floor, "
            f"p99 final {close.p99 * 1000 if close else math.nan:.0f} ms, "
            f"callers late {late.p99 * 1000 if late else math.nan:.0f} ms, node busy on {trial.node_cores:.2f} cores"
        )
        return trial

    if fixed:
        report.most_held = fixed if attempt(fixed).held else 0
        report.at_80_percent = report.trials[-1]
        return
    first = max(2, round(0.4 * report.live_floor.audio_s_per_s * _calls_a_speech(report.live_floor)))
    plan = search.Plan(first, max(first, MOST_CALLS), repeats=1, growth=1.5, parts=12)
    trials: list[search.Trial] = []
    while (count := search.next_level(plan, trials)) is not None:
        outcome = search.Outcome.HELD if attempt(count).held else search.Outcome.BROKEN
        trials.append(search.Trial(count, outcome))
    report.most_held = search.answer(plan, trials).held
    if report.most_held:
        report.at_80_percent = attempt(max(1, report.most_held * 4 // 5 // shares) * shares)


def _calls_a_speech(bare: Floor) -> float:
    """Seconds of call for a second of speech in it."""
    return bare.calls_s / bare.speech_s


def silence(node: NodeProcess, calls: Sequence[NDArray[np.int16]]) -> float:
    """The node's processor time for a second of a line's hiss, over that for a second of the calls. Both are sent as
    fast as flow control lets them."""
    hiss = np.random.default_rng(1).normal(0, 8, sum(map(len, calls))).astype(np.int16)

    async def run(audio: bytes) -> float:
        config = call_source(0, calls[0]).config
        pieces = (audio[at : at + TELEPHONE_RATE // 10] for at in range(0, len(audio), TELEPHONE_RATE // 10))
        before_s = node_cpu_s(node)
        async with AsyncClient(node.address) as client, client.stream(pieces, config) as results:
            async for _ in results:
                pass
        return node_cpu_s(node) - before_s

    speech = mulaw(np.concatenate(calls), "RAW")
    return asyncio.run(run(mulaw(hiss, "RAW"))) / asyncio.run(run(speech))


def beside_files(node: NodeProcess, calls: Sequence[NDArray[np.int16]], report: Report, p99_final_s: float) -> None:
    """The calls of `at_80_percent` again, while recordings come one after the other."""
    assert report.at_80_percent is not None
    recordings = [mulaw(call, "WAV") for call in calls]
    done_s = 0.0

    async def run(over: threading.Event) -> None:
        async def one(client: AsyncClient, number: int) -> None:
            nonlocal done_s
            while not over.is_set():
                await client.transcribe(recordings[number % len(calls)], RecognitionConfig(words=True))
                done_s += len(calls[number % len(calls)]) / TELEPHONE_RATE

        async with AsyncClient(node.address) as client:
            await asyncio.gather(*(one(client, number) for number in range(FILES_BESIDE)))

    begun = time.perf_counter()
    with _beside(run):
        report.beside_files = _play(node, _sources(calls), report.at_80_percent.calls, report.live_floor, p99_final_s)
    report.beside_calls_audio_s_per_s = done_s / (time.perf_counter() - begun)


def past_capacity(node: NodeProcess, calls: Sequence[NDArray[np.int16]], report: Report, p99_final_s: float) -> None:
    """The calls of `at_80_percent` again, on a node that has so many decoders, while more calls come than it has."""
    assert report.at_80_percent is not None
    decoders, answers = report.at_80_percent.calls, list[float]()

    async def run(over: threading.Event) -> None:
        config = call_source(0, calls[0]).config
        async with AsyncClient(node.address, retry=NEVER) as client:
            while not over.is_set():
                await asyncio.sleep(1 / TOO_MANY_A_S)
                if not answers and scrape(f"http://{node.metrics_address}/metrics")[BUSY] < decoders:
                    continue  # or we would take what those calls are to have
                begun = time.perf_counter()
                try:
                    async with client.stream((), config) as results:
                        async for _ in results:
                            pass
                except Exhausted as refusal:
                    answers.append(time.perf_counter() - begun)
                    report.refused_without_retry_info += refusal.retry_after_s is None

    with _beside(run):
        report.past_capacity = _play(node, _sources(calls), decoders, report.live_floor, p99_final_s)
    report.refused = Spread.of(answers)


@contextmanager
def _beside(run: Callable[[threading.Event], Coroutine[None, None, None]]) -> Iterator[None]:
    """Runs it on a thread of its own until the block ends; it then stops by itself."""
    over = threading.Event()
    with ThreadPoolExecutor(1) as thread:
        running = thread.submit(lambda: asyncio.run(run(over)))
        try:
            yield
        finally:
            over.set()
        running.result()


def _sources(calls: Sequence[NDArray[np.int16]]) -> list[CallSource]:
    return [call_source(number, call) for number, call in enumerate(calls)]


def _play(node: NodeProcess, sources: Sequence[CallSource], count: int, bare: Floor, p99_final_s: float) -> Streams:
    chosen = [sources[number % len(sources)] for number in range(count)]
    longest_s = max(len(source.audio) / source.bytes_per_s for source in chosen)
    # Calls begin all over the first quarter, so that they do not breathe in step.
    pace = Pace(message_ms=100, spread_s=longest_s / 4)
    begun, before_s = time.perf_counter(), node_cpu_s(node)
    reports = simulate_in_processes(node.address, chosen, processes=1, pace=pace)
    node_cores = (node_cpu_s(node) - before_s) / (time.perf_counter() - begun)
    figures = Figures.of(reports)
    close, late = figures.half_close_to_last_final, figures.simulator_late
    summaries = [report.summary for report in reports if report.summary is not None]
    worst = [summary.worst_final_s for summary in summaries if summary.worst_final_s is not None]
    held = (
        figures.failed == 0
        and close is not None
        and close.p99 <= p99_final_s
        and late is not None
        and late.p99 <= LATE_SIMULATOR_S
    )
    return Streams(
        calls=count,
        share_of_floor=count / _calls_a_speech(bare) / bare.audio_s_per_s,
        held=held,
        partial_lag=figures.partial_lag,
        first_result=Spread.of(
            [summary.speech_to_first_result_s for summary in summaries if summary.speech_to_first_result_s is not None]
        ),
        final_after_half_close=close,
        endpoint_to_final=Spread.of(worst),
        simulator_late=late,
        node_cores=node_cores,
    )


def _table(report: Report) -> Table:
    table = Table(title=f"{report.most_held} calls held in real time", title_justify="left")
    for column in ("delay, ms", "p50", "p95", "p99", "most", "measured"):
        table.add_column(column, justify="right" if column != "delay, ms" else "left")
    at, beside, past = report.at_80_percent, report.beside_files, report.past_capacity
    if at is None or beside is None or past is None:
        return table
    rows = (
        (f"partial lag at {at.calls} calls", at.partial_lag),
        ("first result of a call, after its first speech", at.first_result),
        ("final after half-close", at.final_after_half_close),
        ("slowest final of a call", at.endpoint_to_final),
        ("callers' own lateness", at.simulator_late),
        (f"beside {FILES_BESIDE} recordings: partial lag", beside.partial_lag),
        ("final after half-close", beside.final_after_half_close),
        (f"on {at.calls} decoders, past capacity: partial lag", past.partial_lag),
        ("final after half-close", past.final_after_half_close),
        ("refusal", report.refused),
    )
    for name, spread in rows:
        if spread is not None:
            times = (spread.p50, spread.p95, spread.p99, spread.most)
            table.add_row(name, *(f"{value * 1000:.0f}" for value in times), str(spread.count))
    return table


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m scripts.bench", description=__doc__.split("\n\n", maxsplit=1)[0])
    parser.add_argument("--quick", action="store_true", help="one minute: the harness at work, not figures to quote")
    parser.add_argument("--p99-final", metavar="SECONDS", type=float, default=1.0, help="(default: %(default)g)")
    parser.add_argument(
        "--passes", choices=[by.value for by in Passes], default="second", help="(default: %(default)s)"
    )
    add_search(parser)
    parser.add_argument("--chunk-ms", metavar="MS", type=int, default=CONFIG.chunk_ms, help="(default: %(default)s)")
    parser.add_argument("--decoders", metavar="N", type=int, default=256, help="of the node (default: %(default)s)")
    parser.add_argument(
        "--shares", metavar="N", type=int, default=1, help="of the CPU (default: %(default)s, the whole)"
    )
    parser.add_argument("--precision", choices=[one.value for one in Precision], default=Precision.AUTO.value)
    parser.add_argument("--calls", metavar="N", type=int, help="play so many, and look for no most")
    parser.add_argument(
        "--seconds",
        metavar="S",
        type=float,
        default=60.0,
        help="of each call, at most; they have 49 (default: %(default)g)",
    )
    parser.add_argument("--json", metavar="FILE", type=Path, help="all figures")
    return parser


if __name__ == "__main__":
    sys.exit(main())
