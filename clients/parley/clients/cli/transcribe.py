"""`parley transcribe`: many recordings at once; one that fails stops no other."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from parley.clients.aio import AsyncClient
from parley.clients.cli.common import FAILED, UsageFault, access, explain, problem
from parley.clients.cli.hotwords import hotwords
from parley.clients.cli.rendering import SUBTITLES, render
from parley.clients.config import RecognitionConfig
from parley.wire.errors import CallError

if TYPE_CHECKING:
    import argparse

    from parley.clients.core import Recording

STDIN = "-"


def run(args: argparse.Namespace) -> int:
    targets = _targets(args)
    # Read before the event loop begins: a thread that stands in a read cannot be interrupted.
    stdin = sys.stdin.buffer.read() if STDIN in args.files else b""
    failures = asyncio.run(_Batch(args, targets, stdin).run())
    for name, fault in failures:
        # Python's own errors name the file already.
        print(f"parley transcribe: {fault if name in fault else f'{name}: {fault}'}", file=sys.stderr)
    if failures and len(args.files) > 1:
        print(f"parley transcribe: {len(failures)} of {len(args.files)} failed", file=sys.stderr)
    return FAILED if failures else 0


def _targets(args: argparse.Namespace) -> list[Path | None]:
    """Where each transcript goes; None: to standard output."""
    names: list[str] = args.files
    if names.count(STDIN) > 1:
        raise UsageFault(f"standard input: got it {names.count(STDIN)} times, expected it once")
    if args.output_dir is None:
        if args.format in SUBTITLES and len(names) > 1:
            raise UsageFault(f"{len(names)} files as {args.format}: expected --output-dir, for a file each")
        return [None] * len(names)
    stems = ["stdin" if name == STDIN else Path(name).stem for name in names]
    for stem in stems:
        if stems.count(stem) > 1:
            raise UsageFault(f"--output-dir: got {stems.count(stem)} files whose output is {stem}.{args.format}")
    args.output_dir.mkdir(parents=True, exist_ok=True)
    return [args.output_dir / f"{stem}.{args.format}" for stem in stems]


class _Batch:
    """The files of one command."""

    def __init__(self, args: argparse.Namespace, targets: list[Path | None], stdin: bytes) -> None:
        self._args = args
        self._targets = targets
        self._stdin = stdin
        self._config = RecognitionConfig(
            words=args.words or args.format in SUBTITLES,
            separate_channels=args.separate_channels,
            model=args.model,
            language=args.language,
            written=args.written,
            hotwords=hotwords(args),
        )
        self._room = asyncio.Semaphore(args.jobs)
        # Transcripts go out in the order of the files: `None` is one that has gone elsewhere or has failed.
        self._waiting: dict[int, str | None] = {}
        self._next = 0
        self._said = False
        # The bars go where the words go, above which rich can print, or else to whoever watches the errors.
        self._console = Console(stderr=not sys.stdout.isatty())
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    async def run(self) -> list[tuple[str, str]]:
        """Returns what failed, and why."""
        names: list[str] = self._args.files
        with self._progress:
            self._all = self._progress.add_task("all files", total=len(names))
            async with AsyncClient(**access(self._args)) as client:
                faults = await asyncio.gather(*(self._one(client, number) for number in range(len(names))))
        return [(name, fault) for name, fault in zip(names, faults, strict=True) if fault]

    async def _one(self, client: AsyncClient, number: int) -> str | None:
        """Returns what went wrong."""
        name: str = self._args.files[number]
        async with self._room:
            task = self._progress.add_task(name, total=None)
            fault: str | None = None
            text: str | None = None
            try:
                text = await self._transcribe(client, number, self._stdin if name == STDIN else name)
            except CallError as error:
                fault = explain(error, self._args.server)
            except (OSError, ValueError) as error:
                fault = problem(error)
            self._progress.remove_task(task)
            self._progress.advance(self._all)
        self._put(number, text)
        return fault

    async def _transcribe(self, client: AsyncClient, number: int, recording: Recording) -> str | None:
        """Returns what is for standard output."""
        transcript = await client.transcribe(recording, self._config, timeout_s=self._args.timeout)
        name = self._args.files[number]
        text = render(transcript, self._args.format, name)
        target = self._targets[number]
        if target is not None:
            target.write_text(text, encoding="utf-8")
            return None
        if self._args.format == "txt" and len(self._targets) > 1:
            return f"==> {name} <==\n{text}"
        return text

    def _put(self, number: int, text: str | None) -> None:
        self._waiting[number] = text
        while self._next in self._waiting:
            ready = self._waiting.pop(self._next)
            self._next += 1
            if ready is None:
                continue
            if self._said and self._args.format == "txt":
                ready = "\n" + ready
            self._said = True
            if self._progress.disable or not sys.stdout.isatty():
                sys.stdout.write(ready)
                sys.stdout.flush()
            else:
                self._console.print(ready, end="", markup=False, highlight=False, soft_wrap=True)
