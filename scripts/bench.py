"""What a node does on this machine, against the bare model on the same cores in the same run. `make bench` runs it.

The floor comes first: the model's own batched work on the very utterances, or chunks of the first pass, that the node
will cut out of the calls, with no server, no audio and no clock around it, by best path whatever the node's search.
Then recordings through the file RPC, then calls at the pace of speech: more and more of them until the slowest finals
come too late, and at 80 % of what was held the delays. The simulated callers take their share of the same cores. Every
figure is a ratio to the floor, which is the one number that may be compared between machines.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import itertools
import json
import math
import os
import sys
import threading
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import soundfile
import soxr
from rich.console import Console
from rich.table import Table

from clients.aio import AsyncClient
from clients.config import Encoding as WireEncoding
from clients.config import RecognitionConfig, StreamConfig
from clients.simulated_call import CallSource, Pace
from clients.simulator import simulate_in_processes
from clients.simulator_figures import Figures, Spread
from decoder.acoustic import Chunk, load_acoustic_model
from decoder.audio import open_file
from decoder.device import Outcome, Whole
from decoder.first_pass import FirstPass
from decoder.model_folder import ModelFolder
from decoder.recognizer import FILE_RULES, RecognizerConfig
from decoder.second_pass import SecondPass
from decoder.stream import Decoder, StreamSettings
from decoder.types import AudioFormat, EndpointRules, Event, Passes, StreamOptions, Transcript
from decoder.vad import SAMPLE_RATE
from scripts.node_process import NodeProcess, add_search, search_flags
from scripts.speech import ROOT, recordings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from decoder.acoustic import AcousticModel
    from decoder.device import Job, WholeModel

CONFIG = RecognizerConfig(ROOT / "models" / "en-streaming", ROOT / "models" / "moonshine-tiny-en")
TELEPHONE_RATE = 8_000  # Hz
FILES_AT_ONCE = 16
PAUSES_S = (1.5, 2.5, 1.0, 3.0)  # between a call's utterances: somebody else talks
LATE_SIMULATOR_S = 0.05  # with one of a hundred messages: then the callers, not the node, are the limit


class _Captor:
    """Stands where a device would be, and keeps what would be decoded; a chunk is answered at once, for the next."""

    name = "captor"

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.jobs: list[Job] = []

    def bind(self) -> int:
        return 1

    def submit(self, job: Job) -> None:
        self.jobs.append(job)
        if isinstance(job.task, Chunk):
            job.done(Outcome(Transcript(()), 0.0, 1))

    def finish(self, slot: int, count: int) -> Transcript:
        return Transcript(())


@dataclass(frozen=True)
class Floor:
    """The bare model on the pieces of one condition: utterances, or chunks of them."""

    pieces: int
    speech_s: float  # audio in them
    calls_s: float  # audio of the calls that they were cut from
    audio_s_per_s: float  # speech decoded a second


@dataclass(frozen=True)
class Streams:
    calls: int
    share_of_floor: float  # of the bare model's speed: speech in the calls a second, over Floor.audio_s_per_s
    held: bool
    partial_lag: Spread | None
    final_after_half_close: Spread | None
    endpoint_to_final: Spread | None
    simulator_late: Spread | None
    node_cores: float  # that it had busy, on the mean


@dataclass
class Report:
    live_floor: Floor
    file_floor: Floor
    files_share_of_floor: float = 0.0
    files_audio_s_per_s: float = 0.0
    trials: list[Streams] = field(default_factory=list)
    most_held: int = 0
    at_80_percent: Streams | None = None
    silent_share_of_speech: float = 0.0  # the node's processor time for a silent stream, over that for the calls


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    console = Console()
    quick: bool = arguments.quick
    calls = make_calls(2 if quick else 8)

    passes, chunk_ms = Passes(arguments.passes), arguments.chunk_ms
    console.print("[bold]the floor[/bold]: the bare model, batched, sorted by length")
    if passes is Passes.SECOND:
        whole: WholeModel = SecondPass(ModelFolder.read(_folder(passes)))
        report = Report(whole_floor(whole, calls, EndpointRules(), passes, False), _file_floor(whole, calls, passes))
    else:
        first = ModelFolder.read(_folder(Passes.FIRST))
        model = load_acoustic_model(first, "cpu", CONFIG.max_chunk_batch, chunk_ms, threads=os.cpu_count() or 1)
        by = Passes.FIRST if passes is Passes.FIRST else Passes.SECOND
        whole = FirstPass(model) if passes is Passes.FIRST else SecondPass(ModelFolder.read(_folder(by)))
        live = chunk_floor(model, calls)
        if passes is Passes.BOTH:
            live = _one_after_the_other(live, whole_floor(whole, calls, EndpointRules(), by, False))
        report = Report(live, _file_floor(whole, calls, by))
    for name, bare in (("live pieces", report.live_floor), ("file segments", report.file_floor)):
        console.print(
            f"  {bare.pieces} {name}, {bare.speech_s:.0f} s in {bare.calls_s:.0f} s of calls: "
            f"{bare.audio_s_per_s:.1f} audio-s/s"
        )
    flags = ("--passes", passes.value, "--chunk-ms", str(chunk_ms), "--decoders", str(arguments.decoders))
    with NodeProcess(*flags, *search_flags(arguments)) as node:
        files(node.address, calls, report)
        console.print(
            f"[bold]files[/bold], {FILES_AT_ONCE} at once: {report.files_audio_s_per_s:.1f} audio-s/s of recording, "
            f"{report.files_share_of_floor:.2f} of the floor"
        )
        console.print(f"[bold]calls[/bold], until p99 of final after half-close is over {arguments.p99_final:g} s")
        streams(node, calls, report, arguments.p99_final, 4 if quick else arguments.calls, console)
        report.silent_share_of_speech = silence(node, calls)
        console.print(
            f"a silent stream takes {report.silent_share_of_speech:.3f} of the processor time of a call of its length"
        )
    console.print(_table(report))
    if arguments.json:
        arguments.json.write_text(json.dumps(asdict(report), indent=1), encoding="utf-8")
    return 0


def make_calls(count: int) -> list[NDArray[np.int16]]:
    """Mono telephone calls (n,) at 8 kHz: real utterances of one speaker with pauses, the last word at the very end."""
    clips = []
    for recording in recordings():
        samples, rate = soundfile.read(recording.path, dtype="float32")
        samples = soxr.resample(samples[: 12 * rate], rate, TELEPHONE_RATE)
        clips.append(np.clip(samples * 32768, -32768, 32767).astype(np.int16))
    noise = np.random.default_rng(0)
    calls = []
    for number in range(count):
        parts = []
        order = [clips[(number + k) % len(clips)] for k in range(len(clips))]
        for clip, pause_s in zip(order, itertools.cycle(PAUSES_S)):
            quiet = noise.normal(0, 8, int(pause_s * TELEPHONE_RATE))  # a line's hiss, about -72 dB
            parts += [quiet.astype(np.int16), clip]
        calls.append(np.concatenate(parts))
    return calls


def mulaw(samples: NDArray[np.int16], container: str) -> bytes:
    raw = io.BytesIO()
    soundfile.write(raw, samples, TELEPHONE_RATE, format=container, subtype="ULAW")
    return raw.getvalue()


def _folder(by: Passes) -> Path:
    folder = CONFIG.first_model_dir if by is Passes.FIRST else CONFIG.second_model_dir
    assert folder is not None
    return folder


def _captured(
    calls: Sequence[NDArray[np.int16]],
    rules: EndpointRules,
    settings: StreamSettings,
    model: AcousticModel | None = None,
) -> list[list[Job]]:
    """What a node would have the device do, a list a call."""
    captured = []
    for call in calls:
        captor = _Captor()
        decoder = Decoder(captor, 0, CONFIG.vad_aggressiveness, model)  # type: ignore[arg-type]
        decoder.bind()
        decoder.open(0, StreamOptions(rules=rules), settings, _ignore)
        for block in open_file(mulaw(call, "WAV"), AudioFormat()).blocks():
            decoder.accept(block[0])
        decoder.finish()
        captured.append(captor.jobs)
    return captured


def chunk_floor(model: AcousticModel, calls: Sequence[NDArray[np.int16]]) -> Floor:
    """The chunks of all calls, as many calls at once as a batch may have, with nothing in the way."""
    captured = _captured(calls, EndpointRules(), StreamSettings(Passes.FIRST), model)
    chunks = [[job.task for job in jobs if isinstance(job.task, Chunk)] for jobs in captured]
    streams_ = [
        [replace(chunk, slot=slot) for chunk in chunks[slot % len(calls)]] for slot in range(CONFIG.max_chunk_batch)
    ]
    batches = [[stream[at] for stream in streams_ if at < len(stream)] for at in range(max(map(len, streams_)))]
    for batch in batches[:3]:
        model.forward(batch)  # warms up
    begun = time.perf_counter()
    for batch in batches:
        model.forward(batch)
    wall_s = time.perf_counter() - begun
    speech_s = sum(map(len, streams_)) * model.shape.step / SAMPLE_RATE
    calls_s = sum(len(calls[slot % len(calls)]) for slot in range(CONFIG.max_chunk_batch)) / TELEPHONE_RATE
    return Floor(sum(map(len, streams_)), speech_s, calls_s, speech_s / wall_s)


def _one_after_the_other(first: Floor, second: Floor) -> Floor:
    """Both on the same calls."""
    together = 1 / (1 / first.audio_s_per_s + 1 / second.audio_s_per_s)
    return replace(first, pieces=first.pieces + second.pieces, audio_s_per_s=together)


def _file_floor(model: WholeModel, calls: Sequence[NDArray[np.int16]], by: Passes) -> Floor:
    return whole_floor(model, calls, FILE_RULES, by, True)


def whole_floor(
    model: WholeModel, calls: Sequence[NDArray[np.int16]], rules: EndpointRules, by: Passes, recording: bool
) -> Floor:
    """Cuts the calls as a node does and decodes the pieces with nothing in the way."""
    captured = _captured(calls, rules, StreamSettings(by, partial_interval_ms=0, recording=recording))
    samples = [job.task.samples for jobs in captured for job in jobs if isinstance(job.task, Whole)]
    batches: list[list[NDArray[np.int16]]] = [[]]
    for piece in sorted(samples, key=len):
        full = len(piece) * (len(batches[-1]) + 1) > CONFIG.max_batch_s * SAMPLE_RATE
        if batches[-1] and (full or len(batches[-1]) == CONFIG.max_batch):
            batches.append([])
        batches[-1].append(piece)
    times = []
    for _ in range(3):  # the first warms up
        begun = time.perf_counter()
        for batch in batches:
            for _ in model.decode(batch, beam=1, word_times=True):
                pass
        times.append(time.perf_counter() - begun)
    speech_s = sum(map(len, samples)) / SAMPLE_RATE
    calls_s = sum(map(len, calls)) / TELEPHONE_RATE
    return Floor(len(samples), speech_s, calls_s, speech_s / min(times))


def files(address: str, calls: Sequence[NDArray[np.int16]], report: Report) -> None:
    """All calls as recordings, several at once, until each was sent as often as keeps the pipeline full."""
    recordings_ = [mulaw(call, "WAV") for call in calls] * 4

    async def run() -> float:
        at_once = asyncio.Semaphore(FILES_AT_ONCE)

        async def one(client: AsyncClient, audio: bytes) -> None:
            async with at_once:
                await client.transcribe(audio, RecognitionConfig(words=True))

        async with AsyncClient(address) as client:
            await asyncio.gather(*(one(client, audio) for audio in recordings_[:2]))
            begun = time.perf_counter()
            await asyncio.gather(*(one(client, audio) for audio in recordings_))
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
    console: Console,
) -> None:
    """Finds the most calls held by doubling and bisection, then measures at 80 % of it."""
    sources = [call_source(number, call) for number, call in enumerate(calls)]

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
    good, bad = 0, 0
    count = max(2, round(0.4 * report.live_floor.audio_s_per_s * _calls_a_speech(report.live_floor)))
    while not bad or bad - good > max(1, good // 12):
        if attempt(count).held:
            good = count
        else:
            bad = count
        count = (good + bad) // 2 if bad else good * 3 // 2
        if count == 0:
            break
    report.most_held = good
    if good:
        report.at_80_percent = attempt(max(1, good * 4 // 5))


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


def node_cpu_s(node: NodeProcess) -> float:
    """Processor time that the node has used, all its threads."""
    fields = Path(f"/proc/{node.process.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


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
        final_after_half_close=close,
        endpoint_to_final=Spread.of(worst),
        simulator_late=late,
        node_cores=node_cores,
    )


def call_source(number: int, call: NDArray[np.int16]) -> CallSource:
    config = StreamConfig(
        encoding=WireEncoding.MULAW, sample_rate=TELEPHONE_RATE, channels=1, interim_results=True, words=True
    )
    return CallSource(f"call {number}", config, mulaw(call, "RAW"), float(TELEPHONE_RATE))


def _table(report: Report) -> Table:
    table = Table(title=f"{report.most_held} calls held in real time", title_justify="left")
    for column in ("delay, ms", "p50", "p95", "p99", "most", "measured"):
        table.add_column(column, justify="right" if column != "delay, ms" else "left")
    at = report.at_80_percent
    if at is not None:
        rows = {
            f"partial lag at {at.calls} calls": at.partial_lag,
            "final after half-close": at.final_after_half_close,
            "slowest final of a call": at.endpoint_to_final,
            "callers' own lateness": at.simulator_late,
        }
        for name, spread in rows.items():
            if spread is not None:
                times = (spread.p50, spread.p95, spread.p99, spread.most)
                table.add_row(name, *(f"{value * 1000:.0f}" for value in times), str(spread.count))
    return table


def _ignore(_: Event) -> None: ...


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
    parser.add_argument("--calls", metavar="N", type=int, help="play so many, and look for no most")
    parser.add_argument("--json", metavar="FILE", type=Path, help="all figures")
    return parser


if __name__ == "__main__":
    sys.exit(main())
