"""What each search costs beside the model: a batch of chunks against the network's own time, a final, memory.

Rows of real speech go through the network chunk by chunk, as calls do, and every search takes the same
log-probabilities in the same run, so that a busy machine slows all alike. Knows models and searches, not the node round
them.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import os
import sys
import time
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from statistics import median, quantiles
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import soundfile
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch.nn.utils.rnn import pad_sequence

from parley.decoder.model_folder import ModelFolder
from parley.decoder.models.registry import load_acoustic_model
from parley.decoder.search.beam import Beam
from parley.decoder.search.ctc import Wishes
from parley.decoder.search.greedy import Greedy
from parley.decoder.search.hotwords import automaton
from parley.decoder.search.language_model import LanguageModel, no_language_model
from parley.decoder.search.settings import beam_settings
from parley.decoder.speech.vad import SAMPLE_RATE
from parley.decoder.values import CHUNKS_MS, MOST_CONTEXT, MOST_PHRASES, Phrase
from scripts.chunks import chunk_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from parley.decoder.models.acoustic import AcousticModel, Chunk
    from parley.decoder.search.ctc import Search
    from parley.decoder.search.settings import BeamSettings

T = TypeVar("T")

WARM_CHUNKS = 2  # at a row's start, with little to search
ALTERNATIVES = 5  # of a final that wants some
POINTS = 10  # at which the memory is looked at
SYLLABLES = ("ba", "con", "de", "in", "ma", "per", "re", "sta", "the", "un")


@dataclass
class Cost:
    """Milliseconds: of each batch of chunks, searched and its best paths asked for; of each final's n-best, of one
    and of ALTERNATIVES."""

    name: str
    batch_ms: list[float] = field(default_factory=list)
    final_ms: list[float] = field(default_factory=list)
    finals_ms: list[float] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Line:
    """A search's costs as they are shown: medians. late_batch_ms: 95 % are done by then. share: of the model's time."""

    name: str
    batch_ms: float
    late_batch_ms: float
    share: float
    final_ms: float
    finals_ms: float


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes. slots: of all of them. mapped: the language model's file, one for all processes; tree: what is made of it.
    hotwords: of a request. resident: the process, after each part of the utterances."""

    slots: int
    mapped: int
    tree: int
    hotwords: int
    utterances: int
    resident: tuple[int, ...]

    @property
    def growth(self) -> int:
        """Behind the first part, in which everything has been used once."""
        return self.resident[-1] - self.resident[0]


@dataclass(frozen=True, slots=True)
class Contender:
    name: str
    search: Search
    wishes: Wishes | None


def read_speech(manifest: Path) -> tuple[list[NDArray[np.int16]], list[str]]:
    """Samples and texts."""
    entries = [json.loads(line) for line in manifest.read_text(encoding="utf-8").splitlines()]
    samples = [soundfile.read(manifest.parent / entry["audio"], dtype="int16")[0] for entry in entries]
    return samples, [entry["text"] for entry in entries]


def rows_of(utterances: Sequence[NDArray[np.int16]], count: int, seconds: float) -> list[NDArray[np.int16]]:
    """So many rows of one length: the utterances one behind the other, and again from the first if they are too few."""
    length = int(seconds * SAMPLE_RATE)
    joined = np.resize(np.concatenate(utterances), count * length)
    return list(joined.reshape(count, length))


def made_up(count: int) -> tuple[Phrase, ...]:
    """Phrases of two words, each of which many others begin like."""
    words = ["".join(SYLLABLES[int(digit)] for digit in f"{number:03}") for number in range(1_000)]
    return tuple(Phrase(f"{words[at % 1_000]} {words[(at * 7 + 3) % 1_000]}") for at in range(count))


def contenders(
    model: AcousticModel, language_model: LanguageModel, settings: BeamSettings, beams: Sequence[int], hotwords: int
) -> Iterator[Contender]:
    none, listed = (automaton(made_up(count), language_model.lower) for count in (0, hotwords))
    ways = (
        ("", no_language_model(), none),
        (" + LM", language_model, none),
        (f" + LM + {hotwords:,} hotwords", language_model, listed),
    )
    yield Contender("best path", Greedy(model.slots, model.blank), None)
    for beam in beams:
        for name, words, phrases in ways:
            wishes = Wishes(words, phrases, beam, settings.language_weight, settings.word_bonus)
            search = Beam(model.slots, model.vocabulary, model.blank, settings)
            yield Contender(f"beam of {beam}{name}", search, wishes)


def chunks_of(model: AcousticModel, rows: Sequence[NDArray[np.int16]]) -> Iterator[list[Chunk]]:
    """Batches: the next chunk of every row, all of one length."""
    for index in range(model.chunks(len(rows[0]))):
        yield [chunk_of(model, slot, samples, index) for slot, samples in enumerate(rows)]


def measure(
    model: AcousticModel, searches: Sequence[Contender], rows: Sequence[NDArray[np.int16]], costs: Sequence[Cost]
) -> list[float]:
    """Milliseconds of each of the model's batches; what the searches cost goes into `costs`."""
    forward_ms, slots = list[float](), range(len(rows))
    for each in searches:
        for slot in slots:
            each.search.begin(slot, each.wishes)
    for index, chunks in enumerate(chunks_of(model, rows)):
        took_ms, (log_probs, frames) = timed(partial(model.forward, chunks))
        if index >= WARM_CHUNKS:
            forward_ms.append(took_ms)
        for each, cost in zip(searches, costs, strict=True):
            took_ms, _ = timed(partial(_step, each.search, slots, log_probs, frames))
            if index >= WARM_CHUNKS:
                cost.batch_ms.append(took_ms)
    for each, cost in zip(searches, costs, strict=True):
        cost.final_ms += [timed(partial(each.search.n_best, slot, 1))[0] for slot in slots]
        cost.finals_ms += [timed(partial(each.search.n_best, slot, ALTERNATIVES))[0] for slot in slots]
        for slot in slots:
            each.search.clear(slot)
    return forward_ms


def _step(search: Search, slots: Sequence[int], log_probs: torch.Tensor, frames: Sequence[int]) -> None:
    search.advance(slots, log_probs, frames)
    for slot in slots:
        search.best(slot)


def timed(run: Callable[[], T]) -> tuple[float, T]:
    """Milliseconds, and what came of it."""
    began = time.perf_counter()
    result = run()
    return (time.perf_counter() - began) * 1000, result


def line_of(cost: Cost, forward_ms: Sequence[float]) -> Line:
    batch_ms = median(cost.batch_ms)
    late_ms = quantiles(cost.batch_ms, n=20)[-1] if len(cost.batch_ms) > 1 else batch_ms
    share = batch_ms / median(forward_ms)
    return Line(cost.name, batch_ms, late_ms, share, median(cost.final_ms), median(cost.finals_ms))


def in_chunks(model: AcousticModel, samples: NDArray[np.int16]) -> torch.Tensor:
    """An utterance's log-probabilities (frames, tokens), as a call has them."""
    parts = []
    for batch in chunks_of(model, [samples]):
        log_probs, frames = model.forward(batch)
        parts.append(log_probs[0, : frames[0]].clone())
    return torch.cat(parts)


def whole(model: AcousticModel, samples: NDArray[np.int16]) -> torch.Tensor:
    """The same, as a recording has them."""
    log_probs, frames = model.whole([samples])
    return log_probs[0, : frames[0]].clone()


def cycle(
    search: Beam,
    slots: int,
    wishes: Callable[[], Wishes],
    speech: Sequence[tuple[str, torch.Tensor]],
    frames: int,
    count: int,
) -> Iterator[int]:
    """So many utterances through the slots, so many frames of each at a time; yields how many are over, one by one.

    wishes: an utterance's, but for the words that its slot has had. speech: texts and log-probabilities, over and over.
    """
    left, before = [torch.empty(0)] * slots, [""] * slots
    begun = over = 0
    while over < count:
        for slot in range(slots):
            if not len(left[slot]):  # also the last ones go on: all slots are busy to the end
                search.begin(slot, replace(wishes(), before=tuple(before[slot].split()[-MOST_CONTEXT:])))
                before[slot], left[slot] = speech[begun % len(speech)]
                begun += 1
        pieces = [row[:frames] for row in left]
        search.advance(range(slots), pad_sequence(pieces, batch_first=True), [len(piece) for piece in pieces])
        for slot in range(slots):
            search.best(slot)
            left[slot] = left[slot][frames:]
            if not len(left[slot]):
                search.n_best(slot, ALTERNATIVES)
                search.clear(slot)
                over += 1
                if over <= count:
                    yield over


def remember(
    search: Beam,
    slots: int,
    wishes: Wishes,
    phrases: Sequence[Phrase],
    speech: Sequence[tuple[str, torch.Tensor]],
    frames: int,
    count: int,
) -> Memory:
    model, resident = wishes.language_model, list[int]()
    tables, made = model.tables, partial(automaton, phrases, model.lower)
    every = cycle(search, slots, lambda: replace(wishes, hotwords=made()), speech, frames, count)
    for over in track(every, "utterances", count):
        if over * POINTS // count > (over - 1) * POINTS // count:
            resident.append(resident_bytes())
    return Memory(
        slots=slots * search.slot_bytes,
        mapped=model.file_bytes,
        tree=sum(part.nbytes for part in (tables.first, tables.label, tables.word, tables.ahead)),
        hotwords=sum(part.nbytes for part in made()),
        utterances=count,
        resident=tuple(resident),
    )


def resident_bytes() -> int:
    """Of this process, without what is free and could be given back: it would hide growth."""
    gc.collect()
    if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):
        trim(0)
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def show(console: Console, forward_ms: float, batch: str, lines: Sequence[Line]) -> None:
    table = Table(title=f"{batch}: the model {forward_ms:.1f} ms")
    table.add_column("search")
    for heading in ("ms a batch", "95 % within", "of the model's", "ms a final", f"of {ALTERNATIVES}"):
        table.add_column(heading, justify="right")
    for line in lines:
        table.add_row(
            line.name,
            f"{line.batch_ms:.2f}",
            f"{line.late_batch_ms:.2f}",
            f"{line.share:.1%}",
            f"{line.final_ms:.2f}",
            f"{line.finals_ms:.2f}",
        )
    console.print(table)


def show_memory(console: Console, slots: int, memory: Memory) -> None:
    console.print(
        f"{slots} slots {_mb(memory.slots)} (allocated at start); the language model's file {_mb(memory.mapped)} "
        f"(mapped, shared), the tree of its words {_mb(memory.tree)}; a request's hotwords {_mb(memory.hotwords)}",
        soft_wrap=True,
    )
    points = ", ".join(f"{count / 1e6:.1f}" for count in memory.resident)
    console.print(
        f"The process after each tenth of {memory.utterances:,} utterances: {points} MB: {memory.growth / 1e6:+.1f} MB",
        soft_wrap=True,
    )


def _mb(count: int) -> str:
    return f"{count / 1e6:.1f} MB"


def whole_numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",")]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m scripts.search_cost", description=__doc__)
    parser.add_argument("manifest", type=Path, help="as scripts.wer takes it")
    parser.add_argument("--model", type=Path, default=Path("models/en-streaming"), help="default: %(default)s")
    parser.add_argument("--language-model", type=Path, default=Path("models/lm-en/en.lm"), help="default: %(default)s")
    parser.add_argument(
        "--beams", type=whole_numbers, default=[4, 8, 16, 32], metavar="N,N,...", help="default: 4,8,16,32"
    )
    parser.add_argument("--hotwords", type=int, default=MOST_PHRASES, metavar="N", help="default: %(default)s")
    parser.add_argument("--chunk-ms", type=int, default=320, choices=CHUNKS_MS, help="default: %(default)s")
    parser.add_argument(
        "--threads", type=int, default=len(os.sched_getaffinity(0)), help="the model's (default: all cores)"
    )
    parser.add_argument("--rows", type=int, default=32, help="of a batch (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=10.0, help="of audio in a row (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=2, help="of so many rows (default: %(default)s)")
    parser.add_argument(
        "--utterances",
        type=int,
        default=0,
        metavar="N",
        help="that memory is watched over, searched with all of the last --beams (default: none)",
    )
    parser.add_argument("--slots", type=int, default=64, help="that they go through (default: %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    parser = _parser()
    arguments = parser.parse_args(argv)
    if arguments.utterances and arguments.utterances < POINTS:
        parser.error(f"got --utterances {arguments.utterances}, expected 0 or {POINTS} and more")
    folder, language_model = ModelFolder.read(arguments.model), LanguageModel.read(arguments.language_model)
    model = load_acoustic_model(folder, "cpu", arguments.rows, arguments.chunk_ms, arguments.threads)
    settings, console = beam_settings(folder), Console()
    samples, texts = read_speech(arguments.manifest)
    searches = list(contenders(model, language_model, settings, arguments.beams, arguments.hotwords))
    report: dict[str, object] = {"manifest": str(arguments.manifest), "chunk_ms": arguments.chunk_ms}

    costs, forward_ms = [Cost(each.name) for each in searches], list[float]()
    rows = rows_of(samples, arguments.rows * arguments.rounds, arguments.seconds)
    for at in track(range(0, len(rows), arguments.rows), "rounds"):
        forward_ms += measure(model, searches, rows[at : at + arguments.rows], costs)
    lines = [line_of(cost, forward_ms) for cost in costs]
    batch = f"{arguments.rows} chunks of {arguments.chunk_ms} ms, {arguments.threads} threads"
    show(console, median(forward_ms), batch, lines)
    report |= {"rows": arguments.rows, "threads": arguments.threads, "forward_ms": median(forward_ms)}
    report |= {"searches": [asdict(line) for line in lines]}

    if arguments.utterances:
        last = searches[-1].wishes
        assert last is not None
        speech = [(text, whole(model, each)) for text, each in zip(texts, samples, strict=True)]
        search = Beam(arguments.slots, model.vocabulary, model.blank, settings)
        frames = round(arguments.chunk_ms / model.frame_ms)
        phrases = made_up(arguments.hotwords)
        memory = remember(search, arguments.slots, last, phrases, speech, frames, arguments.utterances)
        show_memory(console, arguments.slots, memory)
        report["memory"] = asdict(memory)
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
