"""The demo: a node, a telephone call streamed through it live, recordings transcribed at once, and what came of it.

Exits 1 when the words are badly wrong, so that it also proves an installation. Knows the client library only; the node
runs its default passes, without torch.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.text import Text

from parley.clients import AsyncClient, StreamConfig
from scripts.node_process import NodeProcess
from scripts.scoring import WordErrors, count_errors
from scripts.speech import CALL, call_text, recordings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from parley.clients import Result, Transcript
    from scripts.speech import Recording

SPEED = 2  # times real time, so that the demo is short
PIECE_S = 0.1
CALL_BYTES_PER_S = 16_000  # two channels of 8 kHz mu-law
SPEAKERS = {1: ("agent", "cyan"), 2: ("caller", "yellow")}
WORST_RATE = 0.2  # word errors: above it, something is wrong with the installation


async def live(audio: bytes) -> AsyncIterator[bytes]:
    """The call's bytes at the pace at which a telephone would bring them, SPEED times over."""
    size = int(CALL_BYTES_PER_S * PIECE_S)
    started = time.monotonic()
    for number, start in enumerate(range(0, len(audio), size), start=1):
        await asyncio.sleep(max(0.0, started + number * PIECE_S / SPEED - time.monotonic()))
        yield audio[start : start + size]


def show(result: Result) -> Text:
    name, colour = SPEAKERS[result.channel]
    minutes, seconds = divmod(result.start_s, 60)
    line = Text(f"  {int(minutes)}:{seconds:04.1f}  ")
    line.append(f"{name:8}", style=colour)
    return line.append(result.text, style="" if result.is_final else "dim")


async def play_call(client: AsyncClient, console: Console) -> WordErrors:
    config = StreamConfig(channels=2, separate_channels=True)
    said: dict[int, list[str]] = {channel: [] for channel in SPEAKERS}
    still_open: dict[int, Result] = {}
    with Live(console=console, transient=True) as screen:
        async with client.stream(live(CALL.read_bytes()), config) as results:
            async for result in results:
                if not result.text:  # taken back: there were no words after all
                    still_open.pop(result.channel, None)
                    continue
                still_open[result.channel] = result
                if result.is_final:
                    del still_open[result.channel]
                    said[result.channel].append(result.text)
                screen.update(Group(*map(show, still_open.values())))
                if result.is_final:
                    console.print(show(result), soft_wrap=True)
    summary = results.summary
    if summary and summary.half_close_to_last_final_s is not None:
        console.print(f"  [dim]last words {summary.half_close_to_last_final_s:.2f} s after the call's end[/dim]")
    errors = (count_errors(call_text(channel), " ".join(texts)) for channel, texts in said.items())
    return sum(errors, WordErrors())


async def transcribe_all(client: AsyncClient, console: Console) -> WordErrors:
    async def one(recording: Recording) -> tuple[Recording, Transcript]:
        return recording, await client.transcribe(recording.path)

    errors = WordErrors()
    for done in asyncio.as_completed([one(recording) for recording in recordings()]):
        recording, transcript = await done
        errors += count_errors(recording.text, transcript.text)
        console.print(
            f"  [green]{recording.path.name}[/green] [dim]{transcript.audio_s:.1f} s "
            f"in {transcript.processing_s:.1f} s[/dim]\n    {escape(transcript.text)}",
            soft_wrap=True,
        )
    return errors


async def show_all(address: str, console: Console) -> WordErrors:
    async with AsyncClient(address) as client:
        console.print(f"\n[bold]A telephone call, live, one speaker a channel[/bold] (at {SPEED} times its speed)")
        call_errors = await play_call(client, console)
        console.print("\n[bold]Recordings, all at once[/bold]")
        return call_errors + await transcribe_all(client, console)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m scripts.demo", description=__doc__.split("\n\n", maxsplit=1)[0])
    parser.add_argument("--svg", metavar="FILE", help="what was shown, as a picture: the README's is made so")
    arguments = parser.parse_args(argv)
    console = Console(highlight=False, record=arguments.svg is not None)
    console.print("[bold]Starting a node[/bold]")
    started = time.monotonic()
    with NodeProcess() as node:
        console.print(f"  serving at {node.address} after {time.monotonic() - started:.1f} s")
        errors = asyncio.run(show_all(node.address, console))
    wrong = errors.substitutions + errors.insertions + errors.deletions
    console.print(f"\n{wrong} of {errors.words} words wrong, {errors.rate:.1%}.")
    if errors.rate > WORST_RATE:
        console.print(f"[red]More than {WORST_RATE:.0%} of the words are wrong: something is broken here.[/red]")
        return 1
    if arguments.svg:
        console.save_svg(arguments.svg, title="make demo")
    return 0


if __name__ == "__main__":
    sys.exit(main())
