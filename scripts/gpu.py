"""Everything that there is to learn of one CUDA card, in one call of some minutes: `make gpu`. A table, then its JSON.

Each part stands alone: one that fails is a row that says why, and the rest goes on. `--device cpu` rehearses what can
run without a card, with small numbers. Exit status: 0; 1 if something was not as it should be; 2 if there is no card.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import queue
import subprocess
import sys
import threading
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any
from unittest import mock

import numpy as np
import onnxruntime as ort
import soundfile
import torch
from rich.console import Console
from rich.table import Table

from clients.simulated_call import Pace
from clients.simulator import simulate_in_processes
from clients.simulator_figures import Figures
from decoder.acoustic import load_acoustic_model
from decoder.errors import DeviceError, OutOfMemory
from decoder.first_pass import FirstPass
from decoder.model_folder import ModelFolder
from decoder.recognizer import Recognizer, RecognizerConfig, wish_maker
from decoder.search.beam import Beam
from decoder.search.settings import beam_settings
from decoder.second_pass import SecondPass
from decoder.torch_device import running
from decoder.types import (
    AudioFormat,
    Encoding,
    Failed,
    Final,
    Finished,
    Passes,
    Precision,
    SearchKind,
    SearchOptions,
    StreamOptions,
)
from decoder.vad import SAMPLE_RATE
from scripts.chunks import chunk_of
from scripts.node_process import NodeProcess, node_cpu_s
from scripts.speech import ROOT, recordings
from scripts.telephone import TELEPHONE_RATE, call_source, make_calls

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from decoder.acoustic import AcousticModel, Chunk
    from decoder.types import Event

FIRST, SECOND = ROOT / "models" / "en-streaming", ROOT / "models" / "moonshine-tiny-en"
LANGUAGE_MODEL = ROOT / "models" / "lm-en" / "en.lm"
CHUNK_MS = 320
TOLERANCE = 2e-3  # of log-probabilities
LATE_S = 2.0  # at p99 of finals: with more calls it only gets worse
LEVEL_S = 20.0  # that a number of calls takes beside the calls themselves
COMPILE_S = 120.0  # that torch.compile may take
MB = 1 << 20
Figure = str | float | int


@dataclass(frozen=True)
class Size:
    """How much of everything."""

    utterances: int = 64
    rows: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1_024)
    rounds: int = 30
    graph_rows: tuple[int, ...] = (1, 32, 256)
    calls: tuple[int, ...] = (64, 128, 256, 512, 1_024)
    call_s: float = 12.0
    searches: tuple[str, ...] = ("best_path", "beam")


REHEARSAL = Size(3, (1, 2), 2, (1,), (2,), 3.0, ("best_path",))


@dataclass(frozen=True)
class Row:
    """ok: None where there is nothing to be right or wrong."""

    part: str
    what: str
    figures: dict[str, Figure]
    ok: bool | None = None

    @property
    def text(self) -> str:
        return ", ".join(str(value) if name == "" else f"{name} {value}" for name, value in self.figures.items())


@dataclass
class Setup:
    device: str
    size: Size
    until: float  # on the monotonic clock
    rows: list[Row] = field(default_factory=list)

    @property
    def on_card(self) -> bool:
        return self.device != "cpu"

    @property
    def left_s(self) -> float:
        return self.until - time.monotonic()

    def model(self, device: str, slots: int) -> AcousticModel:
        return load_acoustic_model(ModelFolder.read(FIRST), device, slots, CHUNK_MS, os.cpu_count() or 1)

    def recognizer(self, device: str, **more: Any) -> Recognizer:
        made = RecognizerConfig(
            FIRST,
            passes=Passes.FIRST,
            devices=(device,),
            decoders=self.size.utterances,
            precision=Precision.FLOAT32,  # as a card has it
            search=SearchKind.BEST_PATH,
        )
        return Recognizer(replace(made, **more))


Part = tuple[str, "Callable[[Setup], Iterator[Row]]"]


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    console = Console(stderr=True)
    if arguments.device != "cpu" and not torch.cuda.is_available():
        console.print(
            f"gpu: torch {torch.__version__} sees no CUDA card here; --device cpu rehearses what can run without one",
            soft_wrap=True,
        )
        return 2
    size = REHEARSAL if arguments.device == "cpu" else Size()
    setup = Setup(arguments.device, size, time.monotonic() + 60 * arguments.minutes)
    measure(PARTS, setup, console)
    print(json.dumps({"device": setup.device, "rows": [asdict(row) for row in setup.rows]}))
    return int(any(row.ok is False for row in setup.rows))


def measure(parts: Sequence[Part], setup: Setup, console: Console) -> None:
    """All parts, each guarded, and the table of their rows."""
    for name, part in parts:
        try:
            if setup.left_s < 0:
                setup.rows.append(Row(name, "left out", {"": "no time was left: --minutes"}))
                continue
            for row in part(setup):
                setup.rows.append(row)
                console.print(f"{row.part}: {row.what}: {row.text}", markup=False, highlight=False, soft_wrap=True)
        except Exception as error:
            logging.getLogger(__name__).exception("%s failed", name)
            setup.rows.append(Row(name, "failed", {"": f"{type(error).__name__}: {essence(error)}"}, ok=False))
    table = Table("part", "what", "found", "", title=f"{setup.device}", title_justify="left")
    for row in setup.rows:
        table.add_row(row.part, row.what, row.text, {None: "", True: "ok", False: "FAILED"}[row.ok])
    Console(width=160).print(table)


def essence(error: Exception) -> str:
    """The last line that says something: of a node it is its log's, of TorchScript the error behind its call stack."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if "error" in line.lower()] or lines or [""]
    return telling[-1][:300]


# What is here.


def versions(setup: Setup) -> Iterator[Row]:
    providers = ", ".join(ort.get_available_providers())
    yield Row("here", "versions", {"torch": torch.__version__, "onnxruntime": ort.__version__, "providers": providers})
    if not setup.on_card:
        return
    found = torch.cuda.get_device_properties(setup.device)
    free, total = torch.cuda.mem_get_info(setup.device)
    figures: dict[str, Figure] = {"": found.name, "CUDA": str(torch.version.cuda), "driver": smi("driver_version")}
    figures |= {"compute": f"{found.major}.{found.minor}", "free_MB": free // MB, "total_MB": total // MB}
    yield Row("here", "card", figures | {"processors": found.multi_processor_count, "cores": os.cpu_count() or 0})


def smi(what: str) -> str:
    """A figure of the first card, as nvidia-smi has it."""
    asked = ["nvidia-smi", f"--query-gpu={what}", "--format=csv,noheader,nounits", "--id=0"]
    try:
        return subprocess.run(asked, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError) as error:
        return f"unknown ({type(error).__name__})"


class Utilisation:
    """The card's, once a second while the block runs."""

    def __init__(self, setup: Setup) -> None:
        self._seen: list[float] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._on_card = setup.on_card

    def __enter__(self) -> Utilisation:
        if self._on_card:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        if self._on_card:
            self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(1.0):
            value = smi("utilization.gpu")
            if value.isdigit():
                self._seen.append(float(value))

    @property
    def figures(self) -> dict[str, Figure]:
        if not self._seen:
            return {}
        return {"card_busy_%": round(float(np.mean(self._seen))), "at_most_%": round(max(self._seen))}


# Is it right?


def speech(count: int, shortest_s: float = 2.0) -> list[NDArray[np.int16]]:
    """So many utterances (n,), no two alike: pieces of real speech, 2 to 6 s."""
    whole = [soundfile.read(recording.path, dtype="int16")[0] for recording in recordings()]
    pieces = []
    for number in range(count):
        source, turn = whole[number % len(whole)], number // len(whole)
        start = int(turn * 0.41 * SAMPLE_RATE) % max(1, len(source) - int(shortest_s * SAMPLE_RATE))
        pieces.append(source[start : start + int((shortest_s + number % 5) * SAMPLE_RATE)])
    return pieces


def chunked(model: AcousticModel, utterances: Sequence[NDArray[np.int16]], slots: int) -> list[torch.Tensor]:
    """log_probs (frames, tokens) of utterances, `slots` of them at a time, in batches and slots that chance gives."""
    rng, free, waiting = np.random.default_rng(slots), list(range(slots)), deque(range(len(utterances)))
    parts: list[list[torch.Tensor]] = [[] for _ in utterances]
    under_way: dict[int, tuple[int, int]] = {}  # by slot: the utterance and its next chunk
    while waiting or under_way:
        while waiting and free:
            under_way[free.pop(rng.integers(len(free)))] = waiting.popleft(), 0
        chosen = [slot for slot in rng.permutation(list(under_way)).tolist() if rng.random() < 0.7] or [*under_way][:1]
        chunks = [chunk_of(model, slot, utterances[under_way[slot][0]], under_way[slot][1]) for slot in chosen]
        log_probs, frames = model.forward(chunks)
        for slot, row, count in zip(chosen, log_probs.cpu(), frames, strict=True):
            number, index = under_way[slot]
            parts[number].append(row[:count].clone())
            under_way[slot] = number, index + 1
            if index + 1 == model.chunks(len(utterances[number])):
                free.append(slot)
                del under_way[slot]
    return [torch.cat(rows) for rows in parts]


def whole(model: AcousticModel, utterances: Sequence[NDArray[np.int16]], batch: int) -> list[torch.Tensor]:
    parts = []
    for at in range(0, len(utterances), batch):
        log_probs, frames = model.whole(utterances[at : at + batch])
        parts += [row[:count] for row, count in zip(log_probs.cpu(), frames, strict=True)]
    return parts


def equality(setup: Setup) -> Iterator[Row]:
    """Log-probabilities against those of the CPU."""
    utterances, slots = speech(min(16, setup.size.utterances)), min(8, setup.size.utterances)
    cpu, card = setup.model("cpu", slots), setup.model(setup.device, slots)
    expected_whole, expected_chunked = whole(cpu, utterances, 1), chunked(cpu, utterances, 1)
    ways: tuple[tuple[str, Callable[[], list[torch.Tensor]], list[torch.Tensor]], ...] = (
        ("whole, one by one", lambda: whole(card, utterances, 1), expected_whole),
        ("whole, in batches", lambda: whole(card, utterances, slots), expected_whole),
        ("in chunks, one by one", lambda: chunked(card, utterances, 1), expected_chunked),
        ("in chunks, among strangers, in used slots", lambda: chunked(card, utterances, slots), expected_chunked),
    )
    for what, run, expected in ways:
        difference = max(float((a - b).abs().max()) for a, b in zip(run(), expected, strict=True))
        figures: dict[str, Figure] = {"largest_difference": f"{difference:.1e}", "allowed": TOLERANCE}
        yield Row("equality with the CPU", what, figures, ok=difference <= TOLERANCE)


def words_of(recognizer: Recognizer, samples: NDArray[np.int16]) -> str:
    """Of one live stream, sent at once."""
    heard: queue.SimpleQueue[Event] = queue.SimpleQueue()
    words = []
    with recognizer.pool.lend(timeout=60.0) as lease:
        fmt = AudioFormat(Encoding.LINEAR16, SAMPLE_RATE, 1)
        stream = recognizer.open_stream(lease, fmt, StreamOptions(), heard.put)
        for _ in (*stream.accept(samples.astype("<i2").tobytes()), *stream.finish()):
            pass
        while not isinstance(event := heard.get(timeout=60.0), Finished):
            if isinstance(event, Failed):
                raise event.error
            if isinstance(event, Final):
                words.append(event.hypotheses[0].text)
        stream.close()
    return " ".join(words)


def words(setup: Setup) -> Iterator[Row]:
    """Of many utterances at once, against the CPU's and against one by one."""
    utterances = speech(setup.size.utterances)
    with setup.recognizer("cpu") as cpu:
        expected = [words_of(cpu, samples) for samples in utterances]
    with setup.recognizer(setup.device, max_chunk_batch=256) as card:
        alone = [words_of(card, samples) for samples in utterances]
        begun = time.monotonic()
        together = at_once(card, utterances)
        wall_s = time.monotonic() - begun
    for what, found, wanted in (("the CPU's", alone, expected), ("all at once, as one by one", together, alone)):
        different = sum(a != b for a, b in zip(found, wanted, strict=True))
        figures: dict[str, Figure] = {"utterances": len(found), "different": different}
        if found is together:
            figures["seconds"] = round(wall_s, 2)
        yield Row("words", what, figures, ok=different == 0 and any(wanted))


class Halvings(logging.Handler):
    """Counts batches that were halved for want of memory."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def emit(self, record: logging.LogRecord) -> None:
        self.count += "trying halves" in record.getMessage()


def out_of_memory(setup: Setup) -> Iterator[Row]:
    """With less and less memory allowed, batches are halved and words stay as they are."""
    utterances = speech(setup.size.utterances)
    log, halvings = logging.getLogger("decoder.device"), Halvings()
    log.addHandler(halvings)
    try:
        with setup.recognizer(setup.device, max_chunk_batch=256) as recognizer:
            expected = at_once(recognizer, utterances)
            for allowed_mb in (256, 64, 32) if setup.on_card else (0,):
                halvings.count = 0
                with LittleMemory(setup, recognizer, allowed_mb):
                    found = at_once(recognizer, utterances)
                different = sum(a != b for a, b in zip(found, expected, strict=True))
                figures: dict[str, Figure] = {"halved": halvings.count, "different": different}
                what = f"{allowed_mb} MB more allowed" if setup.on_card else "two rows at most"
                yield Row("out of memory", what, figures, ok=different == 0)
    finally:
        log.removeHandler(halvings)


def at_once(recognizer: Recognizer, utterances: Sequence[NDArray[np.int16]]) -> list[str]:
    """The words of as many streams as there are utterances, or what went wrong."""

    def heard(samples: NDArray[np.int16]) -> str:
        try:
            return words_of(recognizer, samples)
        except DeviceError as error:
            return f"{type(error).__name__}: {error}"

    with ThreadPoolExecutor(len(utterances)) as callers:
        return list(callers.map(heard, utterances))


class LittleMemory:
    """So many MB beyond what is in use, for this process; on a CPU no memory for more than two rows."""

    def __init__(self, setup: Setup, recognizer: Recognizer, allowed_mb: int) -> None:
        self._setup, self._allowed = setup, allowed_mb * MB
        self._model = recognizer._first[setup.device].model
        self._forward = self._model.forward

    def __enter__(self) -> None:
        if self._setup.on_card:
            torch.cuda.empty_cache()
            total = torch.cuda.get_device_properties(self._setup.device).total_memory
            share = (torch.cuda.memory_reserved(self._setup.device) + self._allowed) / total
            torch.cuda.set_per_process_memory_fraction(share, self._setup.device)
        else:
            self._model.forward = self._short  # type: ignore[method-assign]

    def __exit__(self, *_: object) -> None:
        if self._setup.on_card:
            torch.cuda.set_per_process_memory_fraction(1.0, self._setup.device)
        else:
            self._model.forward = self._forward  # type: ignore[method-assign]

    def _short(self, chunks: Sequence[Chunk]) -> tuple[torch.Tensor, list[int]]:
        if len(chunks) > 2:
            raise OutOfMemory(f"{len(chunks)} rows")
        return self._forward(chunks)


# How fast is it?


def some_chunks(model: AcousticModel, rows: int, index: int = 9) -> list[Chunk]:
    """One chunk of speech in each of so many slots, in the middle of an utterance."""
    samples = speech(1, 6.0)[0]
    return [chunk_of(model, slot, samples, index) for slot in range(rows)]


def milliseconds(setup: Setup, call: Callable[[], object], rounds: int) -> float:
    """That a call takes, on the mean, the wait for the card included."""

    def wait() -> None:
        if setup.on_card:
            torch.cuda.synchronize(setup.device)

    for _ in range(min(3, rounds)):
        call()
    wait()
    begun = time.perf_counter()
    for _ in range(rounds):
        call()
    wait()
    return (time.perf_counter() - begun) / rounds * 1000


def forward(setup: Setup) -> Iterator[Row]:
    """The bare model, then with the searches that follow it, by the size of the batch; and what a decoder holds."""
    before = torch.cuda.memory_allocated(setup.device) if setup.on_card else 0
    model = setup.model(setup.device, max(setup.size.rows))
    held: dict[str, Figure] = {"bytes": model.slot_bytes}
    if setup.on_card:
        taken = torch.cuda.memory_allocated(setup.device) - before
        held |= {"measured": taken // model.slots, "with": f"{model.slots} slots and the weights"}
    yield Row("memory", "a decoder, on the device", held)
    folder = ModelFolder.read(FIRST)
    config = RecognizerConfig(
        FIRST, passes=Passes.FIRST, language_model=LANGUAGE_MODEL if LANGUAGE_MODEL.exists() else None
    )
    wishes = wish_maker(folder, config).wishes(SearchOptions())
    settings = beam_settings(folder)
    passes = {
        "with best path": FirstPass(model),
        "with the beam search": FirstPass(model, lambda n: Beam(n, model.vocabulary, model.blank, settings)),
    }
    for rows in setup.size.rows:
        chunks = some_chunks(model, rows)
        ways: dict[str, Callable[[], object]] = {"bare": lambda chunks=chunks: model.forward(chunks)[0].cpu()}  # type: ignore[misc]
        for name, whole_pass in passes.items():
            begun = [replace(chunk, index=0, wishes=wishes) for chunk in chunks]
            list(whole_pass.advance(begun))
            ways[name] = lambda whole_pass=whole_pass, chunks=chunks: list(whole_pass.advance(chunks))  # type: ignore[misc]
        for name, call in ways.items():
            if name != "bare" and rows not in (1, 64, 256, max(setup.size.rows)):
                continue
            ms = milliseconds(setup, call, setup.size.rounds)
            figures: dict[str, Figure] = {"ms": round(ms, 2), "times_real_time": round(rows * CHUNK_MS / ms)}
            yield Row("a chunk of each", f"{rows} rows, {name}", figures)


def second_pass(setup: Setup) -> Iterator[Row]:
    """Words and speed of the second pass, where onnxruntime can use the card."""
    if setup.on_card and "CUDAExecutionProvider" not in ort.get_available_providers():
        yield Row(
            "second pass", "left out", {"": "onnxruntime has no CUDA provider here: put onnxruntime-gpu in its place"}
        )
        return
    utterances = sorted(speech(min(8, setup.size.utterances)), key=len)
    folder = ModelFolder.read(SECOND)

    def texts(model: SecondPass) -> list[str]:
        found: dict[int, str] = {}
        for finished in model.decode(utterances):
            found |= {row: said.hypotheses[0].text if said.hypotheses else "" for row, said in finished}
        return [found[row] for row in range(len(utterances))]

    expected, card = texts(SecondPass(folder)), SecondPass(folder, setup.device)
    different = sum(a != b for a, b in zip(texts(card), expected, strict=True))
    ms = milliseconds(setup, lambda: texts(card), max(1, setup.size.rounds // 10))
    audio_s = sum(map(len, utterances)) / SAMPLE_RATE
    figures: dict[str, Figure] = {
        "different": different,
        "ms": round(ms),
        "times_real_time": round(audio_s * 1000 / ms),
    }
    yield Row("second pass", f"a batch of {len(utterances)}", figures, ok=different == 0)


# What does a node do?


def node_flags(setup: Setup, decoders: int, search: str) -> tuple[str, ...]:
    sizes = ("--decoders", str(decoders), "--max-chunk-batch", "256", "--stream-wait-s", "60")
    return ("--passes", "first", "--devices", setup.device, "--search", search, *sizes)


def streams(setup: Setup) -> Iterator[Row]:
    """Calls at the pace of speech, through a real node; the callers share the machine's cores with it."""
    call_bytes = int(setup.size.call_s * TELEPHONE_RATE)
    sources = [call_source(number, call[:call_bytes]) for number, call in enumerate(make_calls(8))]
    processes = max(1, min(12, (os.cpu_count() or 1) - 3))
    for search in setup.size.searches:
        if setup.left_s < setup.size.call_s + LEVEL_S:
            yield Row("paced streams", search, {"": "left out: no time was left"})
            continue
        with NodeProcess(*node_flags(setup, max(setup.size.calls), search)) as node:
            for calls in setup.size.calls:
                what = f"{calls} calls, {search}"
                if setup.left_s < setup.size.call_s + LEVEL_S:
                    yield Row("paced streams", what, {"": "left out, with all behind it: no time was left"})
                    break
                chosen = [sources[number % len(sources)] for number in range(calls)]
                pace = Pace(message_ms=100, spread_s=setup.size.call_s / 3)
                begun, cpu_s = time.monotonic(), node_cpu_s(node)
                with Utilisation(setup) as utilisation:
                    reports = simulate_in_processes(node.address, chosen, processes=processes, pace=pace)
                cores = (node_cpu_s(node) - cpu_s) / (time.monotonic() - begun)
                heard = Figures.of(reports)
                figures: dict[str, Figure] = {"failed": heard.failed, "finals": heard.finals}
                for name, spread in (
                    ("partial_lag_ms", heard.partial_lag),
                    ("final_after_half_close_ms", heard.half_close_to_last_final),
                    ("callers_late_ms", heard.simulator_late),
                ):
                    if spread is not None:
                        p50, p95, p99 = (round(1000 * value) for value in (spread.p50, spread.p95, spread.p99))
                        figures[name] = f"{p50}/{p95}/{p99}"
                figures |= {"node_cores": round(cores, 2), **utilisation.figures}
                yield Row("paced streams", what, figures, ok=heard.failed == 0)
                final = heard.half_close_to_last_final
                if heard.failed or (final is not None and final.p99 > LATE_S):
                    break  # more calls would be worse


def second_tenant(setup: Setup) -> Iterator[Row]:
    """Two models that want one card."""
    try:
        RecognizerConfig(FIRST, passes=Passes.FIRST, devices=(setup.device, setup.device))
        yield Row("one card, two models", "named twice", {"": "taken"}, ok=False)
    except ValueError as error:
        yield Row("one card, two models", "named twice", {"": f"refused: {error}"}, ok=True)
    flags = node_flags(setup, 2, "best_path")
    with NodeProcess(*flags), NodeProcess(*flags):
        yield Row("one card, two models", "a second node, with room for both", {"": "both serve"}, ok=True)
    if not setup.on_card:
        return
    free, _ = torch.cuda.mem_get_info(setup.device)
    ballast = torch.empty(max(1, free - 128 * MB), dtype=torch.uint8, device=setup.device)
    try:
        with NodeProcess(*flags):
            yield Row("one card, two models", "a second node, without room", {"": "serves"}, ok=False)
    except RuntimeError as error:
        said = essence(error)
        told = "memory" in said.lower() and "ended with 2" in str(error)
        yield Row("one card, two models", "a second node, without room", {"": f"refused: {said}"}, ok=told)
    del ballast
    torch.cuda.empty_cache()


# Would it pay?


def graphs(setup: Setup) -> Iterator[Row]:
    """The bare network's call replayed as a CUDA graph."""
    if not setup.on_card:
        yield Row("CUDA graph", "left out", {"": "only on a card"})
        return
    model: Any = setup.model(setup.device, max(setup.size.graph_rows))
    for rows in setup.size.graph_rows:
        arguments = network_arguments(model, rows)
        with running():
            plain_ms = milliseconds(setup, lambda arguments=arguments: model._network(*arguments), setup.size.rounds)  # type: ignore[misc]
            expected = model._network(*arguments)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                out = model._network(*arguments)
            ms = milliseconds(setup, graph.replay, setup.size.rounds)
        difference = float((out - expected).abs().max())
        figures: dict[str, Figure] = {"ms": round(ms, 3), "as_it_is_ms": round(plain_ms, 3)}
        yield Row("CUDA graph", f"{rows} rows", figures | {"largest_difference": f"{difference:.1e}"})


def compiled(setup: Setup) -> Iterator[Row]:
    """The bare network compiled by torch.compile."""
    why = "only on a card" if not setup.on_card else "no time was left" if setup.left_s < COMPILE_S else ""
    if why or not hasattr(torch, "compile"):
        yield Row("torch.compile", "left out", {"": why or "this torch has none"})
        return
    with mock.patch.object(torch.jit, "script", lambda network: network):  # it compiles Python, not TorchScript
        plain: Any = setup.model(setup.device, max(setup.size.graph_rows))
    network: Any = torch.compile(plain._network)
    for rows in setup.size.graph_rows:
        arguments = network_arguments(plain, rows)
        with torch.no_grad():
            begun = time.monotonic()
            difference = float((network(*arguments) - plain._network(*arguments)).abs().max())
            compile_s = time.monotonic() - begun
            ms = milliseconds(setup, lambda arguments=arguments: network(*arguments), setup.size.rounds)  # type: ignore[misc]
        figures: dict[str, Figure] = {"ms": round(ms, 3), "compiling_s": round(compile_s, 1)}
        yield Row("torch.compile", f"{rows} rows", figures | {"largest_difference": f"{difference:.1e}"})


def network_arguments(model: Any, rows: int) -> tuple[Any, ...]:
    """What the network takes for so many rows, where it is."""
    chunks = some_chunks(model, rows)
    samples, slots = np.stack([chunk.samples for chunk in chunks]), list(range(rows))
    on_device = (model._put(values) for values in (samples, [chunk.index for chunk in chunks], [33] * rows, slots))
    return (*on_device, [(chunk.slot, chunk.index) for chunk in chunks])


PARTS: tuple[Part, ...] = (
    ("here", versions),
    ("equality with the CPU", equality),
    ("words", words),
    ("out of memory", out_of_memory),
    ("a chunk of each", forward),
    ("second pass", second_pass),
    ("one card, two models", second_tenant),
    ("paced streams", streams),
    ("CUDA graph", graphs),
    ("torch.compile", compiled),
)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m scripts.gpu", description=__doc__.split("\n\n", maxsplit=1)[0])
    parser.add_argument("--device", metavar="DEVICE", default="cuda:0", help="cuda:N or cpu (default: %(default)s)")
    parser.add_argument("--minutes", type=float, default=8.0, help="parts that begin later are left out (%(default)g)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
