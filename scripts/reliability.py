"""How far confidences and stabilities can be believed: calibration error and reliability diagram of a running node.

Knows the wire and how to count, not how the figures are made. A manifest is that of scripts.wer. A word of a hypothesis
is right if the alignment of fewest edits with the reference keeps it. An interim result survives if each of its words
stands at its place in its utterance's final, capitals and punctuation aside; one whose utterance has no final does not.
What the node says is not known (0) is counted, and left out of everything else.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections import defaultdict
from dataclasses import asdict, dataclass
from html import escape
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from rich.console import Console
from rich.table import Table

from parley.clients import AsyncClient, RecognitionConfig, StreamConfig
from parley.clients.config import SAMPLE_BYTES
from parley.clients.pacing import piece_bytes, schedule
from scripts.alignment import alignment
from scripts.scoring import normalize
from scripts.wer import Utterance, read_manifest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Sequence

    from parley.clients import Word

BINS = 15
THRESHOLDS = (0.0, *(percent / 100 for percent in range(50, 100, 5)))  # 0: all, also where it is not known
MESSAGE_MS = 100

Pair: TypeAlias = "tuple[float, bool]"  # what was said, 0..1, and whether it came true


@dataclass(frozen=True, slots=True)
class Bin:
    """What was said between `low` and `high`: how often, on the mean, and how often it came true."""

    low: float
    high: float
    count: int
    mean: float
    share: float


@dataclass(frozen=True, slots=True)
class Reliability:
    """`error` is the expected calibration error: the bins' distances from mean to share, weighted by their counts."""

    count: int
    unknown: int
    mean: float
    share: float
    error: float
    bins: tuple[Bin, ...]


@dataclass(frozen=True, slots=True)
class Survival:
    """Of the interim results with at least this stability, the share that survived; None: there were none."""

    threshold: float
    count: int
    share: float | None


@dataclass(frozen=True, slots=True)
class Heard:
    """What a node said of one utterance: its words' confidences and its interim results' stabilities, and the truth."""

    words: tuple[Pair, ...]
    interims: tuple[Pair, ...] = ()


def reliability(pairs: Iterable[Pair], bins: int = BINS) -> Reliability:
    """Bins are of equal width; a figure on the border of two is the upper one's, 1 the last one's."""
    said: list[list[Pair]] = [[] for _ in range(bins)]
    known: list[Pair] = []
    unknown = 0
    for chance, truth in pairs:
        if not 0 <= chance <= 1:
            raise ValueError(f"got a confidence of {chance}, expected 0 to 1")
        if chance == 0:
            unknown += 1
            continue
        known.append((chance, truth))
        said[min(int(chance * bins), bins - 1)].append((chance, truth))
    parts = tuple(Bin(at / bins, (at + 1) / bins, len(part), *_means(part)) for at, part in enumerate(said))
    error = sum(part.count * abs(part.mean - part.share) for part in parts) / max(len(known), 1)
    return Reliability(len(known), unknown, *_means(known), error, parts)


def _means(pairs: Sequence[Pair]) -> tuple[float, float]:
    count = max(len(pairs), 1)
    return sum(chance for chance, _ in pairs) / count, sum(truth for _, truth in pairs) / count


def survival(pairs: Sequence[Pair], thresholds: Iterable[float] = THRESHOLDS) -> tuple[Survival, ...]:
    rows = []
    for threshold in thresholds:
        truths = [truth for chance, truth in pairs if chance >= threshold]
        rows.append(Survival(threshold, len(truths), sum(truths) / len(truths) if truths else None))
    return tuple(rows)


def survives(interim: str, final: str) -> bool:
    words = normalize(interim)
    return words == normalize(final)[: len(words)]


def kept(reference: Sequence[str], found: Sequence[str]) -> list[bool]:
    """For each word found, whether it is one of the reference's, by the alignment that scripts.scoring counts: of the
    fewest edits, and of those the fewest substitutions."""
    pairs = alignment(reference, found)
    return [said is not None and reference[said] == found[heard] for said, heard in pairs if heard is not None]


def judged(reference: str, words: Iterable[Word]) -> tuple[Pair, ...]:
    """Each word's confidence, and whether it is right. One that is several when scored is right if all of them are; one
    that is none, as a dash is, is left out."""
    parts = [(word.confidence, normalize(word.text)) for word in words]
    keeps = iter(kept(normalize(reference), [each for _, part in parts for each in part]))
    return tuple((confidence, all(tuple(islice(keeps, len(part))))) for confidence, part in parts if part)


async def hear_file(client: AsyncClient, utterance: Utterance, model: str) -> Heard:
    config = RecognitionConfig(
        encoding=utterance.encoding, sample_rate=utterance.rate, channels=1, model=model, words=True
    )
    transcript = await client.transcribe(utterance.audio, config)
    return Heard(judged(utterance.text, (word for result in transcript.results for word in result.words)))


async def hear_stream(client: AsyncClient, utterance: Utterance, model: str, speed: float, interims: bool) -> Heard:
    """speed: times real time; 0 for as fast as it is taken."""
    config = StreamConfig(
        encoding=utterance.encoding,
        sample_rate=utterance.rate,
        channels=1,
        interim_results=interims,
        model=model,
        words=True,
    )
    words: list[Word] = []
    finals: dict[int, str] = {}
    shown: dict[int, list[tuple[float, str]]] = defaultdict(list)
    async with client.stream(_paced(utterance, speed), config) as results:
        async for result in results:
            if result.is_final:
                words += result.words
                finals[result.segment] = result.text
            elif result.text:
                shown[result.segment].append((result.stability, result.text))
    pairs = [
        (stability, survives(text, finals.get(segment, "")))
        for segment, texts in shown.items()
        for stability, text in texts
    ]
    return Heard(judged(utterance.text, words), tuple(pairs))


async def _paced(utterance: Utterance, speed: float) -> AsyncIterator[bytes]:
    sample_bytes = SAMPLE_BYTES[utterance.encoding]
    bytes_per_s = utterance.rate * sample_bytes
    size = piece_bytes(bytes_per_s, MESSAGE_MS / 1000, sample_bytes)
    began = time.monotonic()
    pieces = (utterance.audio[at : at + size] for at in range(0, len(utterance.audio), size))
    for due_s, piece in schedule(pieces, bytes_per_s):
        if speed and (wait_s := began + due_s / speed - time.monotonic()) > 0:
            await asyncio.sleep(wait_s)
        yield piece


async def hear_all(arguments: argparse.Namespace, utterances: Iterable[Utterance]) -> list[Heard]:
    gate = asyncio.Semaphore(arguments.at_once)

    async with AsyncClient(arguments.server) as client:

        async def one(utterance: Utterance) -> Heard:
            async with gate:
                if arguments.rpc == "file":
                    return await hear_file(client, utterance, arguments.model)
                speed = arguments.speed if arguments.stability else 0.0
                return await hear_stream(client, utterance, arguments.model, speed, arguments.stability)

        return await asyncio.gather(*map(one, utterances))


PANEL, MARGIN, GAP, STRIP = 300, 46, 34, 46  # SVG units: a diagram's side, round it, under it, its counts


def diagram(panels: Sequence[tuple[str, Reliability]]) -> str:
    """Diagrams side by side as an SVG: what was said against what came true, and below how often it was said."""
    width, height = len(panels) * (PANEL + 2 * MARGIN), PANEL + GAP + STRIP + 2 * MARGIN
    names = ", ".join(title for title, _ in panels)
    lines = [
        _element("title", names),
        _element("rect", width=width, height=height, fill="white"),
        *(line for at, panel in enumerate(panels) for line in _panel(at * (PANEL + 2 * MARGIN) + MARGIN, *panel)),
    ]
    head = f'xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    body = "\n".join(lines)
    return f'<svg {head} role="img" font-family="sans-serif" font-size="11">\n{body}\n</svg>\n'


def _element(name: str, content: str = "", /, **attributes: str | float) -> str:
    said = {key.rstrip("_").replace("_", "-"): value for key, value in attributes.items()}
    texts = {
        key: value if isinstance(value, str) else f"{value:.2f}".rstrip("0").rstrip(".") for key, value in said.items()
    }
    head = " ".join([name, *(f'{key}="{escape(text)}"' for key, text in texts.items())])
    return f"<{head}>{escape(content)}</{name}>"


def _panel(left: float, title: str, measured: Reliability) -> list[str]:
    top, bottom, foot = MARGIN, MARGIN + PANEL, MARGIN + PANEL + GAP + STRIP
    most = max((part.count for part in measured.bins), default=0) or 1
    facts = f"{measured.count} of them, expected calibration error {measured.error:.3f}"
    legend = f"blue: came true; red: how far off; grey: how often, at most {most}"
    lines = [
        _element("text", title, x=left, y=top - 22, font_size=13, font_weight="bold"),
        _element("text", facts, x=left, y=top - 7),
        _element("text", legend, x=left + PANEL / 2, y=foot + 16, text_anchor="middle"),
    ]
    for tick in (0.0, 0.5, 1.0):
        lines.append(_element("text", f"{tick:g}", x=left + tick * PANEL, y=bottom + 14, text_anchor="middle"))
        lines.append(_element("text", f"{tick:g}", x=left - 5, y=bottom - tick * PANEL + 4, text_anchor="end"))
    for part in measured.bins:
        share, mean, tall = part.share * PANEL, part.mean * PANEL, part.count / most * STRIP
        low, high = sorted((share, mean))
        across = {"x": left + part.low * PANEL, "width": (part.high - part.low) * PANEL}
        if part.count:
            lines += [
                _bar("share", bottom, share, across, fill="#4878a8", stroke="white"),
                _bar("gap", bottom - low, high - low, across, fill="#d05050", fill_opacity=0.45),
            ]
        lines.append(_bar("count", foot, tall, across, fill="#999999", stroke="white"))
    return [
        *lines,
        _element("path", d=f"M{left} {bottom}L{left + PANEL} {top}", stroke="black", stroke_dasharray="4 4"),
        _element("rect", x=left, y=top, width=PANEL, height=PANEL, fill="none", stroke="black"),
    ]


def _bar(kind: str, foot: float, tall: float, across: dict[str, float], **look: str | float) -> str:
    return _element("rect", class_=kind, y=foot - tall, height=tall, **across, **look)


def show(console: Console, title: str, measured: Reliability) -> None:
    console.print(
        f"[bold]{title}[/bold]: {measured.count}, said {measured.mean:.3f} on the mean, true {measured.share:.3f}; "
        f"expected calibration error {measured.error:.4f}; not known: {measured.unknown}",
        soft_wrap=True,
    )
    table = Table()
    for heading in ("said", "count", "mean", "true", "true - mean"):
        table.add_column(heading, justify="right")
    for part in measured.bins:
        if part.count:
            table.add_row(
                f"{part.low:.2f} to {part.high:.2f}",
                str(part.count),
                f"{part.mean:.3f}",
                f"{part.share:.3f}",
                f"{part.share - part.mean:+.3f}",
            )
    console.print(table)


def show_survival(console: Console, rows: Iterable[Survival]) -> None:
    console.print("[bold]Interim results that survive into their final[/bold]")
    table = Table()
    for heading in ("stability at least", "count", "survived"):
        table.add_column(heading, justify="right")
    for row in rows:
        table.add_row(f"{row.threshold:.2f}", str(row.count), "" if row.share is None else f"{row.share:.3f}")
    console.print(table)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m scripts.reliability", description=__doc__)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--server", default="127.0.0.1:50051")
    parser.add_argument("--model", default="", help="its name, of those that the node has (default: the node's choice)")
    parser.add_argument("--rpc", choices=("file", "stream"), default="stream")
    parser.add_argument(
        "--stability", action="store_true", help="interim results too; streams go at the pace of speech"
    )
    parser.add_argument("--speed", type=float, default=1.0, help="of those, times real time (default: 1)")
    parser.add_argument("--at-once", type=int, default=8, metavar="N", help="calls at a time (default: 8)")
    parser.add_argument("--telephone", action="store_true", help="pass the audio through 8 kHz mu-law")
    parser.add_argument("--svg", type=Path, metavar="FILE", help="draw the reliability diagrams")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    parser = _parser()
    arguments = parser.parse_args(argv)
    if arguments.stability and arguments.rpc == "file":
        parser.error("got --stability with --rpc file, expected --rpc stream: recordings have no interim results")
    if not arguments.speed > 0:
        parser.error(f"got --speed {arguments.speed:g}, expected more than 0")
    heard = asyncio.run(hear_all(arguments, read_manifest(arguments.manifest, arguments.telephone)))

    console = Console()
    words = reliability(pair for each in heard for pair in each.words)
    panels = [("Word confidence", words)]
    report: dict[str, object] = {
        "manifest": str(arguments.manifest),
        "telephone": arguments.telephone,
        "model": arguments.model,
        "rpc": arguments.rpc,
        "words": asdict(words),
    }
    show(console, "Word confidence", words)
    if arguments.stability:
        pairs = [pair for each in heard for pair in each.interims]
        stability, rows = reliability(pairs), survival(pairs)
        panels.append(("Stability of interim results", stability))
        report |= {"stability": asdict(stability), "survival": [asdict(row) for row in rows]}
        show(console, "Stability of interim results", stability)
        show_survival(console, rows)
    if arguments.svg:
        arguments.svg.write_text(diagram(panels), encoding="utf-8")
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
