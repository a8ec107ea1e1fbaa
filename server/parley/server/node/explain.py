"""`parley serve --explain`: what a node of given settings would be. Knows settings and recognizers; serves nobody."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TextIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

from parley.decoder.build import resolve_devices
from parley.decoder.model_folder import ModelFolder
from parley.decoder.models.registry import resolve_precision
from parley.decoder.values import Passes, SearchKind
from parley.server.kit.settings import values_of
from parley.server.node import settings as config

if TYPE_CHECKING:
    from collections.abc import Sequence

    from parley.decoder.recognizer import Recognizer
    from parley.server.node.program import Loaded
    from parley.server.node.settings import Settings

Row = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Section:
    title: str
    rows: Sequence[Row]


def explain(loaded: Loaded, recognizer: Recognizer, output: TextIO) -> None:
    """Tells what the node would do, hold and be set to. `recognizer`: made of these settings."""
    settings = loaded.settings
    sections = (
        Section(
            "This node would decode",
            [*_decoding(settings), *_search(settings, recognizer), *_devices(settings, recognizer)],
        ),
        Section("and hold, beside its models", _memory(recognizer)),
        Section("with these settings, from", _settings(loaded)),
    )
    console = Console(file=output, highlight=False, markup=False, emoji=False)
    for section in sections:
        _show(section, console)


def _decoding(settings: Settings) -> list[Row]:
    """Which pass gives what, by which model."""
    folders = {by: ModelFolder.read(path) for by, path in settings.core.model_dirs().items()}
    return [
        ("passes", settings.core.passes.value),
        ("interim results", _interims(settings)),
        ("finals, live", _finals(settings)),
        ("files", "by the first pass" if settings.core.passes is Passes.FIRST else "by the second pass"),
        *(
            (
                f"{by.value} pass",
                f"{folder.info.name}: kind {folder.kind}, licence {folder.info.license}, {folder.path}",
            )
            for by, folder in folders.items()
        ),
    ]


def _interims(settings: Settings) -> str:
    if not settings.core.partial_interval_ms:
        return "none"
    if settings.core.passes is Passes.SECOND:
        return f"by the second pass, every {settings.core.partial_interval_ms} ms at most, when nothing else waits"
    return f"by the first pass, with every chunk of {settings.core.chunk_ms} ms"


def _finals(settings: Settings) -> str:
    if settings.core.passes is not Passes.BOTH:
        return f"by the {settings.core.passes.value} pass"
    if not settings.core.final_budget_ms:
        return "by the second pass, however long it takes"
    return f"by the second pass; by the first if the second takes longer than {settings.core.final_budget_ms} ms"


def _search(settings: Settings, recognizer: Recognizer) -> list[Row]:
    """How the first pass's words are found, and by what."""
    if settings.core.passes is Passes.SECOND:
        return []
    search, path = recognizer.search, settings.language_model_file()
    if search is None:
        return [("search", "best_path: the likeliest token of each frame, without language model and hotwords")]
    rows: list[Row] = [("search", f"{settings.core.search.value}: {search.weights.beam} hypotheses an utterance")]
    if path is not None:
        ngrams = " + ".join(map(str, search.ngrams))
        found = f"{path}: order {len(search.ngrams)}, {ngrams} n-grams, {search.language_model_bytes} bytes"
        rows += [
            ("language model", f"{found}, mapped, shared by all decoders and nodes"),
            ("its weight", f"{search.weights.language_weight:g}, word bonus {search.weights.word_bonus:g}"),
        ]
    elif settings.core.language_model is not None:
        rows.append(("language model", f"none: {config.shown(settings.core.language_model)} is not there"))
    else:
        rows.append(("language model", "none"))
    if settings.core.search is SearchKind.K2:
        rows += [
            ("recordings", f"over the graph {settings.core.graph!r}, or one that the request names"),
            (
                "live finals",
                "over it too" if settings.core.lattice_finals else "by beams, or over the graph of a request",
            ),
        ]
    phrases = "of requests only"
    if settings.core.hotwords is not None:
        phrases = f"{search.hotwords} of {settings.core.hotwords}, and those of requests"
    return [*rows, ("hotwords", phrases)]


def _devices(settings: Settings, recognizer: Recognizer) -> list[Row]:
    rows: list[Row] = [("devices", ", ".join(recognizer.devices))]
    if settings.core.passes is not Passes.SECOND:
        rows.append(
            (
                "a step of the first pass",
                f"{settings.core.chunk_ms} ms of {settings.core.max_chunk_batch} calls at most",
            )
        )
        folder = ModelFolder.read(settings.core.model_dirs()[Passes.FIRST])
        found = {
            resolve_precision(folder, device.place, settings.core.precision).value
            for device in resolve_devices(settings.core.devices, settings.core.passes)
        }
        rows.append(("its arithmetic", ", ".join(sorted(found))))
    if settings.core.passes is not Passes.FIRST:
        most_s = f"{settings.core.max_live_batch_s:g} s of live calls, {settings.core.max_batch_s:g} s of files"
        rows.append(("a batch of the second pass", f"{settings.core.max_batch} utterances at most, and {most_s}"))
    return rows


def _memory(recognizer: Recognizer) -> list[Row]:
    memory, decoders = recognizer.memory, recognizer.pool.snapshot().total
    a_device = decoders // len(recognizer.devices)
    rows: list[Row] = [
        ("audio, in the process", _product(decoders, memory.audio_bytes)),
        ("searches, in the process", _product(decoders, memory.search_bytes)),
    ]
    rows += [(f"caches, on {device}", _product(a_device, memory.cache_bytes)) for device in recognizer.devices]
    each = memory.audio_bytes + memory.search_bytes + memory.cache_bytes
    return [*rows, ("together", _product(decoders, each))]


def _product(decoders: int, each: int) -> str:
    return f"{decoders} decoders x {each} bytes = {decoders * each / config.MIB:.1f} MiB"


def _settings(loaded: Loaded) -> list[Row]:
    values = values_of(loaded.settings)
    return [(name, config.shown(values[name]), source) for name, source in loaded.sources.items()]


def _show(section: Section, console: Console) -> None:
    if console.is_terminal:
        table = Table.grid(padding=(0, 2))
        for row in section.rows:
            table.add_row("", Text(row[0], style="bold"), *map(Text, row[1:]))
        console.print(Text(section.title, style="bold underline"), table, "", sep="\n")
    else:  # each row on a line of its own, however long
        widths = [max(map(len, column)) for column in zip(*section.rows, strict=True)]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in section.rows]
        console.file.write("\n".join([section.title, *(f"  {line.rstrip()}" for line in lines), "", ""]))
