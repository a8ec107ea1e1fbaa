"""The floor: the bare model's work on what a node will cut out of calls, with no server and no clock round it.

Knows models and the decoder library's way to cut; no node and no client.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from parley.decoder.audio import open_file
from parley.decoder.config import RecognizerConfig
from parley.decoder.engine.decoder import Decoder
from parley.decoder.engine.transcribe import FILE_RULES
from parley.decoder.engine.work import Outcome, Whole
from parley.decoder.models.acoustic import Chunk
from parley.decoder.policy import plan_of
from parley.decoder.speech.vad import SAMPLE_RATE
from parley.decoder.values import AudioFormat, EndpointRules, Event, Passes, StreamOptions, Transcript
from scripts.speech import ROOT
from scripts.telephone import TELEPHONE_RATE, mulaw

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from parley.decoder.engine.plan import Plan
    from parley.decoder.engine.work import Job
    from parley.decoder.models.acoustic import AcousticModel
    from parley.decoder.models.passes import WholeModel

CONFIG = RecognizerConfig(
    first_model_dir=ROOT / "models" / "en-streaming", second_model_dir=ROOT / "models" / "moonshine-tiny-en"
)


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


def model_folder(by: Passes) -> Path:
    folder = CONFIG.first_model_dir if by is Passes.FIRST else CONFIG.second_model_dir
    assert folder is not None
    return folder


def captured(
    calls: Iterable[Iterable[NDArray[np.int16]]],
    plan: Plan,
    model: AcousticModel | None = None,
) -> list[list[Job]]:
    """What a node would have the device do, a list a call. calls: blocks (n,) of 16 kHz samples."""
    found = []
    for call in calls:
        captor = _Captor()
        decoder = Decoder(captor, 0, CONFIG.vad_aggressiveness, model)  # type: ignore[arg-type]
        decoder.bind()
        decoder.open(0, plan, _ignore)
        for block in call:
            decoder.accept(block)
        decoder.finish()
        found.append(captor.jobs)
    return found


def _as_sent(calls: Sequence[NDArray[np.int16]]) -> Iterator[Iterator[NDArray[np.int16]]]:
    """Telephone calls as a node gets them."""
    for call in calls:
        yield (block[0] for block in open_file(mulaw(call, "WAV"), AudioFormat()).blocks())


def chunk_floor(model: AcousticModel, calls: Sequence[NDArray[np.int16]]) -> Floor:
    """The chunks of all calls, as many calls at once as a batch may have, with nothing in the way."""
    jobs_of_calls = captured(
        _as_sent(calls), plan_of(Passes.FIRST, StreamOptions(), partial_interval_ms=0, final_budget_ms=0), model
    )
    chunks = [[job.task for job in jobs if isinstance(job.task, Chunk)] for jobs in jobs_of_calls]
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


def one_after_the_other(first: Floor, second: Floor) -> Floor:
    """Both on the same calls."""
    together = 1 / (1 / first.audio_s_per_s + 1 / second.audio_s_per_s)
    return replace(first, pieces=first.pieces + second.pieces, audio_s_per_s=together)


def file_floor(model: WholeModel, calls: Sequence[NDArray[np.int16]], by: Passes) -> Floor:
    return whole_floor(model, calls, FILE_RULES, by, True)


def whole_floor(
    model: WholeModel, calls: Sequence[NDArray[np.int16]], rules: EndpointRules, by: Passes, recording: bool
) -> Floor:
    """Cuts the calls as a node does and decodes the pieces with nothing in the way."""
    plan = plan_of(by, StreamOptions(rules=rules), recording=recording, partial_interval_ms=0, final_budget_ms=0)
    jobs_of_calls = captured(_as_sent(calls), plan)
    samples = [job.task.samples for jobs in jobs_of_calls for job in jobs if isinstance(job.task, Whole)]
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


def _ignore(_: Event) -> None: ...
