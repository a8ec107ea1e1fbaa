"""Word error rates of a running node over a manifest. Knows the wire and how to score, not how words are found.

A manifest has one JSON object a line: `audio` (a path relative to it) and `text`. Streams are sent as fast as the node
takes them, in messages of every size asked for; the words must not depend on the size.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import soundfile
import soxr
from rich.console import Console
from rich.table import Table

from parley.clients import AsyncClient, Encoding, RecognitionConfig, StreamConfig
from parley.clients.config import SAMPLE_BYTES
from scripts.scoring import WordErrors, count_errors
from scripts.telephone import TELEPHONE_RATE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


@dataclass(frozen=True)
class Utterance:
    name: str
    text: str
    seconds: float
    audio: bytes
    rate: int  # Hz
    encoding: Encoding


@dataclass(frozen=True)
class Run:
    """One pass over the manifest. `message_ms` is 0 for the file RPC."""

    rpc: str
    message_ms: int
    texts: tuple[str, ...]
    errors: WordErrors
    wall_s: float


def read_manifest(manifest: Path, telephone: bool) -> list[Utterance]:
    lines = manifest.read_text(encoding="utf-8").splitlines()
    return [read_utterance(manifest.parent, json.loads(line), telephone) for line in lines if line.strip()]


def read_utterance(folder: Path, entry: dict[str, str], telephone: bool) -> Utterance:
    samples, rate = soundfile.read(folder / entry["audio"], dtype="float32")
    seconds = len(samples) / rate
    raw = io.BytesIO()
    if telephone:
        samples, rate = soxr.resample(samples, rate, TELEPHONE_RATE), TELEPHONE_RATE
        soundfile.write(raw, samples, rate, format="RAW", subtype="ULAW")
        encoding = Encoding.MULAW
    else:
        soundfile.write(raw, samples, rate, format="RAW", subtype="PCM_16", endian="LITTLE")
        encoding = Encoding.LINEAR16
    return Utterance(entry["audio"], entry["text"], seconds, raw.getvalue(), rate, encoding)


async def recognize_file(client: AsyncClient, utterance: Utterance, model: str) -> str:
    config = RecognitionConfig(encoding=utterance.encoding, sample_rate=utterance.rate, channels=1, model=model)
    return (await client.transcribe(utterance.audio, config)).text


async def recognize_stream(client: AsyncClient, utterance: Utterance, message_ms: int, model: str) -> str:
    config = StreamConfig(
        encoding=utterance.encoding, sample_rate=utterance.rate, channels=1, interim_results=False, model=model
    )
    size = utterance.rate * SAMPLE_BYTES[utterance.encoding] * message_ms // 1000
    pieces = (utterance.audio[start : start + size] for start in range(0, len(utterance.audio), size))
    async with client.stream(pieces, config) as results:
        return " ".join([result.text async for result in results if result.is_final])


async def run_all(
    utterances: list[Utterance], at_once: int, recognize: Callable[[Utterance], Awaitable[str]]
) -> tuple[tuple[str, ...], WordErrors, float]:
    gate = asyncio.Semaphore(at_once)

    async def one(utterance: Utterance) -> str:
        async with gate:
            return await recognize(utterance)

    started = time.monotonic()
    texts = tuple(await asyncio.gather(*map(one, utterances)))
    wall_s = time.monotonic() - started
    pairs = zip(utterances, texts, strict=True)
    errors = sum((count_errors(utterance.text, text) for utterance, text in pairs), WordErrors())
    return texts, errors, wall_s


async def measure(arguments: argparse.Namespace, utterances: list[Utterance]) -> list[Run]:
    runs: list[Run] = []
    async with AsyncClient(arguments.server) as client:
        if arguments.rpc in ("file", "both"):
            outcome = await run_all(
                utterances, arguments.at_once, lambda utterance: recognize_file(client, utterance, arguments.model)
            )
            runs.append(Run("file", 0, *outcome))
        for message_ms in arguments.message_ms if arguments.rpc in ("stream", "both") else ():

            def recognize(utterance: Utterance, message_ms: int = message_ms) -> Awaitable[str]:
                return recognize_stream(client, utterance, message_ms, arguments.model)

            runs.append(Run("stream", message_ms, *await run_all(utterances, arguments.at_once, recognize)))
    return runs


def same_words(run: Run, runs: list[Run]) -> bool:
    """Whether a stream's words are those of the first message size, letter for letter."""
    return run.texts == next(other for other in runs if other.rpc == run.rpc).texts


def show(console: Console, title: str, utterances: list[Utterance], runs: list[Run]) -> None:
    audio_s = sum(utterance.seconds for utterance in utterances)
    table = Table(title=f"{title}: {len(utterances)} utterances, {audio_s:.1f} s of audio")
    for heading in ("rpc", "message", "WER", "sub", "ins", "del", "words", "x real time", "same words"):
        table.add_column(heading, justify="left" if heading == "rpc" else "right")
    for run in runs:
        equal = ("yes" if same_words(run, runs) else "NO") if run.rpc == "stream" else ""
        table.add_row(
            run.rpc,
            f"{run.message_ms} ms" if run.message_ms else "",
            f"{run.errors.rate:.2%}",
            str(run.errors.substitutions),
            str(run.errors.insertions),
            str(run.errors.deletions),
            str(run.errors.words),
            f"{audio_s / run.wall_s:.1f}",
            equal,
        )
    console.print(table)


def parse_sizes(text: str) -> list[int]:
    sizes = [int(size) for size in text.split(",")]
    if min(sizes) < 1:
        raise argparse.ArgumentTypeError(f"got {text}, expected milliseconds of 1 or more, for instance 20,100,1000")
    return sizes


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m scripts.wer", description=__doc__)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--server", default="127.0.0.1:50051")
    parser.add_argument("--model", default="", help="its name, of those that the node has (default: the node's choice)")
    parser.add_argument("--rpc", choices=("file", "stream", "both"), default="both")
    parser.add_argument("--message-ms", type=parse_sizes, default=[20, 100, 1000], metavar="MS,MS,...")
    parser.add_argument("--at-once", type=int, default=8, metavar="N", help="calls at a time (default: 8)")
    parser.add_argument("--telephone", action="store_true", help="pass the audio through 8 kHz mu-law")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every run with its words")
    arguments = parser.parse_args()

    utterances = read_manifest(arguments.manifest, arguments.telephone)
    runs = asyncio.run(measure(arguments, utterances))
    title = f"{arguments.manifest}{', telephone' if arguments.telephone else ''}"
    show(Console(), title, utterances, runs)
    if arguments.json:
        report = {
            "manifest": str(arguments.manifest),
            "telephone": arguments.telephone,
            "utterances": [{"audio": each.name, "text": each.text, "seconds": each.seconds} for each in utterances],
            "runs": [asdict(run) | {"wer": run.errors.rate} for run in runs],
        }
        arguments.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return 0 if all(same_words(run, runs) for run in runs) else 1


if __name__ == "__main__":
    sys.exit(main())
