"""A stream's Decoder on a device that the test plays, and audio for it.

A frame is voiced if it is loud, so speech can be noise, of which no two samples need be alike.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar, cast

import numpy as np

from parley.decoder.engine.decoder import Decoder
from parley.decoder.engine.work import Work
from parley.decoder.models.acoustic import ChunkShape
from parley.decoder.policy import plan_of
from parley.decoder.speech.vad import FRAME, FRAME_MS
from parley.decoder.values import EndpointRules, Passes, StreamOptions
from tests.decoder.fakes import CHUNKS, FakeWorker, chunk, said

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from parley.decoder.engine.outlet import Outlet, State
    from parley.decoder.engine.staging import StageWorker
    from parley.decoder.engine.work import Job
    from parley.decoder.models.acoustic import AcousticModel
    from parley.decoder.search.ctc import Wishes
    from parley.decoder.values import Event, Transcript

    E = TypeVar("E", bound=Event)

SECOND = 1000 // FRAME_MS  # frames
HANGOVER = 3  # frames that the smoothing adds to speech
RULES = EndpointRules(silence_after_speech_ms=300, longest_utterance_ms=2_000)
SHAPE = ChunkShape(step=16 * FRAME, before=520, after=200)  # our own network's at 320 ms
STEP = SHAPE.step // FRAME  # frames


class Loudness:
    """webrtcvad.Vad that goes by loudness."""

    def __init__(self, aggressiveness: int) -> None:
        pass

    def is_speech(self, frame: bytes, rate: int) -> bool:
        return bool(np.frombuffer(frame, np.int16).max() > 5_000)


@dataclass
class Clock:
    now: float = 1_000.0

    def monotonic(self) -> float:
        return self.now


def talk(*lengths: int, seed: int = 0) -> NDArray[np.int16]:
    """Noise, no two frames alike: frames of silence, speech, silence, ..."""
    random = np.random.default_rng(seed)
    parts = [
        random.integers(-20_000, 20_001, n * FRAME) if at % 2 else random.integers(-200, 201, n * FRAME)
        for at, n in enumerate(lengths)
    ]
    return np.concatenate(parts).astype(np.int16)


class FirstPassShape:
    """What a Decoder knows of the first pass's model."""

    shape = SHAPE

    def chunks(self, samples: int) -> int:
        return max(1, -(-samples // SHAPE.step))

    @property
    def model(self) -> AcousticModel:
        return cast("AcousticModel", self)


class Call:
    """A decoder lent and opened on a device that the test plays."""

    def __init__(
        self,
        options: StreamOptions | None = None,
        *,
        passes: Passes = Passes.SECOND,
        recording: bool = False,
        partial_interval_ms: int = 300,
        budget_ms: int = 0,
        wishes: Wishes | None = None,
        stages: tuple[StageWorker, ...] = (),
        channel: int = 0,
        decoder: Decoder | None = None,
        device: FakeWorker | None = None,
    ) -> None:
        self.device = device or FakeWorker()
        first_pass = None if passes is Passes.SECOND else FirstPassShape().model
        self.decoder = decoder or Decoder(self.device.worker, 0, 2, first_pass)
        self.events: list[Event] = []
        self.decoder.bind()
        self.plan = plan_of(
            passes,
            options or StreamOptions(rules=RULES),
            recording=recording,
            wishes=wishes,
            partial_interval_ms=partial_interval_ms,
            final_budget_ms=budget_ms,
            stages=stages,
        )
        self.decoder.open(channel, self.plan, self.events.append)

    def feed(self, samples: NDArray[np.int16], cuts: Sequence[int] = ()) -> None:
        edges = [0, *sorted(cut % (len(samples) + 1) for cut in cuts), len(samples)]
        for start, end in itertools.pairwise(edges):
            self.decoder.accept(samples[start:end])

    def answer(self, *texts: str) -> None:
        """Answers the finals that wait, first first."""
        jobs = self.finals()
        for job, text in zip(jobs, texts, strict=True):
            self.device.answer(job, said(text))
            self.device.jobs.remove(job)

    def finals(self) -> list[Job]:
        return self.device.of(Work.FINAL, Work.FILE)

    def partials(self) -> list[Job]:
        return self.device.of(Work.PARTIAL)

    def chunks(self) -> list[Job]:
        return self.device.of(*CHUNKS)

    def hear(self, transcript: Transcript) -> Job:
        """Answers the one chunk that the device has."""
        (job,) = self.chunks()
        self.device.jobs.remove(job)
        self.device.answer(job, transcript)
        return job

    def hear_all(self, transcript: Transcript) -> list[int]:
        """Answers chunks until none comes; their places in their utterances."""
        heard = []
        while self.chunks():
            heard.append(chunk(self.hear(transcript)).index)
        return heard

    def of(self, kind: type[E]) -> list[E]:
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def outlet(self) -> Outlet:
        """What its events leave through."""
        assert self.decoder._stream is not None
        return self.decoder._stream.outlet

    @property
    def state(self) -> State:
        return self.decoder.state


INTERIM = StreamOptions(interim_results=True, rules=RULES)


def frames_of(samples: NDArray[np.int16], start: int, end: int) -> NDArray[np.int16]:
    padded = np.concatenate([samples, np.zeros(-len(samples) % FRAME, np.int16)])
    return padded[start * FRAME : end * FRAME]


def speak(call: Call, clock: Clock, *lengths: int, seed: int = 0) -> None:
    """At the pace of speech: frames of silence, speech, silence, ..."""
    for frame in talk(*lengths, seed=seed).reshape(-1, FRAME):
        clock.now += FRAME_MS / 1000
        call.feed(frame)
