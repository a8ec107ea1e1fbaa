"""What is measured of a system, the same for all: calls held, recordings a second, words. Knows no system's insides."""

from __future__ import annotations

import asyncio
import itertools
import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from parley.clients.simulator.figures import Spread
from scripts.peers.systems import Others
from scripts.peers.wire import duration_s
from scripts.telephone import TELEPHONE_RATE
from scripts.wer import run_all

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from scripts.peers.callers import Played
    from scripts.peers.systems import Meter, System
    from scripts.scoring import WordErrors
    from scripts.wer import Utterance

LATE_CALLER_S = 0.05  # with one of a hundred messages, as in `scripts.bench`
BEHIND_S = 0.1  # a message: a server that takes the audio no faster than this late falls behind
SPREAD = 0.25  # of a call's length: over which calls begin


@dataclass(frozen=True)
class Trial:
    """So many calls at once."""

    calls: int
    failed: int
    final: Spread | None  # after half-close
    behind: Spread | None  # of half-closes
    late: Spread | None  # of the callers' messages
    finals: int
    audio_s: float
    cpu_s: float
    peak_mib: float
    others_cores: float  # that something else on the machine had busy

    @classmethod
    def of(
        cls, played: Sequence[Played], audio_s: float, cpu_s: float, peak_mib: float, others_cores: float = 0.0
    ) -> Trial:
        return cls(
            calls=len(played),
            failed=sum(call.final_s is None for call in played),
            final=Spread.of([call.final_s for call in played if call.final_s is not None]),
            behind=Spread.of([call.behind_s for call in played]),
            late=Spread.of([late_s for call in played for late_s in call.late_s]),
            finals=sum(call.finals for call in played),
            audio_s=audio_s,
            cpu_s=cpu_s,
            peak_mib=peak_mib,
            others_cores=others_cores,
        )

    @property
    def delay_s(self) -> float:
        """p99 of the final after half-close; infinite where a call failed or ended late, or the callers were late."""
        if self.failed or self.final is None or self.late is None or self.behind is None:
            return math.inf
        kept_up = self.late.p99 <= LATE_CALLER_S and self.behind.p99 <= BEHIND_S
        return self.final.p99 if kept_up else math.inf

    @property
    def cpu_s_per_audio_h(self) -> float:
        return self.cpu_s / self.audio_s * 3600


def play(system: System, meter: Meter, calls: Sequence[NDArray[np.int16]], count: int) -> Trial:
    chosen = [calls[number % len(calls)] for number in range(count)]
    longest_s = max(map(len, chosen)) / TELEPHONE_RATE
    meter.forget_peak()
    others, before_s = Others(), meter.cpu_s()
    played = system.play(chosen, SPREAD * longest_s)
    audio_s = sum(map(len, chosen)) / TELEPHONE_RATE
    trial = Trial.of(played, audio_s, meter.cpu_s() - before_s, meter.peak_mib(), others.cores())
    meter.settle()
    return trial


@dataclass(frozen=True)
class Files:
    """A while of recordings, always so many at once."""

    audio_s: float
    wall_s: float
    cpu_s: float
    peak_mib: float
    others_cores: float

    @property
    def audio_s_per_s(self) -> float:
        return self.audio_s / self.wall_s

    @property
    def cpu_s_per_audio_h(self) -> float:
        return self.cpu_s / self.audio_s * 3600


def files(system: System, meter: Meter, recordings: Sequence[bytes], at_once: int, for_s: float) -> Files:
    """No recording is begun after `for_s`; the time is until the last one begun has its words."""

    async def run() -> Files:
        async with system.client(streamed=False) as recognize:
            await recognize(recordings[0])  # warms up
            meter.forget_peak()
            others, begun, before_s = Others(), time.perf_counter(), meter.cpu_s()
            turn = itertools.cycle(recordings)
            audio_s = 0.0

            async def sender() -> None:
                nonlocal audio_s
                while time.perf_counter() - begun < for_s:
                    recording = next(turn)
                    await recognize(recording)
                    audio_s += duration_s(recording)

            await asyncio.gather(*(sender() for _ in range(at_once)))
            wall_s, cpu_s = time.perf_counter() - begun, meter.cpu_s() - before_s
            return Files(audio_s, wall_s, cpu_s, meter.peak_mib(), others.cores())

    return asyncio.run(run())


def word_errors(system: System, utterances: Sequence[Utterance], at_once: int, streamed: bool) -> WordErrors:
    async def run() -> WordErrors:
        async with system.client(streamed) as recognize:
            _, errors, _ = await run_all(list(utterances), at_once, lambda utterance: recognize(utterance.audio))
            return errors

    return asyncio.run(run())
