"""What a user would take instead of Parley, beside it: the same audio, machine and run, in turn. `make bench-peers`.

Rounds go over all systems, so that whatever else the machine does falls on all of them: each plays one number of calls,
then the next one, until for each the most that it holds is known; recordings and words likewise.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from parley.clients.capacity.search import Plan, next_level_of_any
from scripts.peers import measure, report
from scripts.peers.report import Row
from scripts.peers.systems import ENTRIES, PEERS_PYTHON, Meter, wideband
from scripts.speech import ROOT, recordings
from scripts.telephone import make_calls
from scripts.wer import read_manifest

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from parley.clients.simulator.figures import Spread
    from scripts.peers.systems import Entry, System

SPOKEN = slice(1, None, 2)  # of tests/data's recordings: three, 3 to 7 s, which make calls of 21 s
FILE_CALLS = 4  # recordings: calls of 49 s
FILE_ROUNDS = 3
FILES_S, QUICK_FILES_S = 12.0, 2.0  # for which recordings are begun, a round
AT_ONCE_FOR_WORDS = 4
QUIET_CORES = 0.25  # a trial beside somebody else's work on more than this says nothing of anybody
MOST_CALLS = 512
PARTS = 8  # the most calls are known to an eighth
MOST_TRIES = 3  # of such a trial; the last counts, for want of better


class Running:
    """One system, up for the whole comparison."""

    def __init__(self, entry: Entry, system: System) -> None:
        self.entry = entry
        self.system = system
        self.meter = Meter(system.pids)
        self.plan = Plan(entry.first, MOST_CALLS, repeats=1, parts=PARTS)
        self.row = Row(entry.name, entry.what)

    def next_count(self) -> int | None:
        """None: every limit's most is known, to one in PARTS."""
        return next_level_of_any(self.plan, self.row.within)


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    if not PEERS_PYTHON.exists():
        print(f"peers: no {PEERS_PYTHON}: `make bench-peers` makes it", file=sys.stderr)
        return 1
    console = Console(width=200)
    begun = time.monotonic()
    only: list[str] = arguments.only
    entries = [entry for entry in ENTRIES if not only or any(name in entry.name for name in only)]
    with ExitStack() as stack:
        running = [Running(entry, stack.enter_context(entry.make())) for entry in entries]
        for each in running:
            each.meter.settle()
            console.print(f"{each.entry.name}: {each.entry.what}; up with {each.meter.peak_mib():.0f} MiB")
        files(running, arguments.quick, console)
        streams(running, arguments.quick, console)
        for manifest in arguments.manifests:
            words(running, manifest, console)
    rows = [each.row for each in running]
    console.print(report.table(rows))
    for line in report.goals(rows):
        console.print(line, highlight=False)
    console.print(f"{(time.monotonic() - begun) / 60:.0f} minutes")
    if arguments.json:
        facts = {"cores": os.cpu_count(), "machine": platform.machine(), "minutes": (time.monotonic() - begun) / 60}
        arguments.json.write_text(json.dumps(report.to_json(rows, facts), indent=1) + "\n", encoding="utf-8")
        if arguments.plot:
            plot = (PEERS_PYTHON, "-m", "scripts.peers.plot", arguments.json.resolve(), arguments.plot.resolve())
            subprocess.run(plot, cwd=ROOT, check=True)
    return 0


def streams(running: Sequence[Running], quick: bool, console: Console) -> None:
    """The most calls each holds within each limit; `quick`: a single trial of each."""
    calls = make_calls(3, recordings()[SPOKEN])
    waiting = [each for each in running if each.entry.streams]
    while waiting:
        for each in waiting:
            count = each.entry.first if quick else each.next_count()
            assert count is not None
            tries = 1 if quick else MOST_TRIES
            trial = _play(each, calls, count, console)
            while trial.others_cores > QUIET_CORES and (tries := tries - 1):
                trial = _play(each, calls, count, console)
            each.row.trials.append(trial)
            each.row.take(each.plan)
        waiting = [] if quick else [each for each in waiting if each.next_count()]


def _play(each: Running, calls: Sequence[NDArray[np.int16]], count: int, console: Console) -> measure.Trial:
    trial = measure.play(each.system, each.meter, calls, count)
    console.print(f"{each.entry.name}: {describe(trial)}", highlight=False)
    return trial


def files(running: Sequence[Running], quick: bool, console: Console) -> None:
    pieces = [wideband(call) for call in make_calls(FILE_CALLS)]
    for _ in range(1 if quick else FILE_ROUNDS):
        for each in running:
            done = measure.files(
                each.system, each.meter, pieces, each.entry.at_once, QUICK_FILES_S if quick else FILES_S
            )
            each.row.files.append(done)
            each.meter.settle()
            console.print(
                f"{each.entry.name}: {each.entry.at_once} recordings at once, {done.audio_s_per_s:.1f} audio-s/s, "
                f"others on {done.others_cores:.2f} cores",
                highlight=False,
            )


def words(running: Sequence[Running], manifest: Path, console: Console) -> None:
    utterances = read_manifest(manifest, telephone=False)
    for each in running:
        for streamed in (False, True):
            if each.entry.english and (each.entry.streams or not streamed):
                errors = measure.word_errors(each.system, utterances, AT_ONCE_FOR_WORDS, streamed)
                name = f"{manifest.parent.name}, {'streams' if streamed else 'files'}"
                each.row.errors[name] = errors
                console.print(f"{each.entry.name}: {name}: {errors.rate:.1%}", highlight=False)


def describe(trial: measure.Trial) -> str:
    def ms(spread: Spread | None) -> str:
        return "none" if spread is None else f"{spread.p50 * 1000:.0f}/{spread.p99 * 1000:.0f}"

    return (
        f"{trial.calls} calls, {trial.failed} failed, ms p50/p99: final {ms(trial.final)}, behind {ms(trial.behind)}, "
        f"callers late {ms(trial.late)}; {trial.cpu_s_per_audio_h:.0f} CPU s an audio hour, "
        f"{trial.peak_mib:.0f} MiB, others on {trial.others_cores:.2f} cores"
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m scripts.peers", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("manifests", metavar="MANIFEST", nargs="*", type=Path, help="speech to score words on")
    parser.add_argument("--quick", action="store_true", help="some minutes: the harness at work, not figures to quote")
    parser.add_argument("--only", metavar="NAME", action="append", default=[], help="systems with this in their name")
    parser.add_argument("--json", metavar="FILE", type=Path, help="all figures")
    parser.add_argument("--plot", metavar="FILE", type=Path, help="with --json: the same as a picture")
    return parser


if __name__ == "__main__":
    sys.exit(main())
