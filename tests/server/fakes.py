"""A recognizer whose streams say what a test tells them to. Its pool is the real one."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

from parley.decoder.build import Memory
from parley.decoder.engine.pool import DecoderPool
from parley.decoder.engine.transcribe import FileResult
from parley.decoder.errors import UnknownModel
from parley.decoder.model_folder import ModelInfo
from parley.decoder.policy import SearchFigures
from parley.decoder.values import (
    Advanced,
    Cursors,
    Final,
    Finished,
    Hypothesis,
    Partial,
    Passes,
    Source,
    Word,
    WordTiming,
)

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator

    from parley.decoder.audio import FileAudio
    from parley.decoder.engine.pool import Lease
    from parley.decoder.search.wishes import WishMaker
    from parley.decoder.values import AudioFormat, Sink, StreamOptions

MODEL = ModelInfo(
    name="fake", languages=("en", "de"), sample_rate=16_000, description="says what it is told", license="0BSD"
)
WORDS = Hypothesis("one two", 0.5, (Word("one", 0, 400, 0.25), Word("two", 500, 900, 0.75)))


def final(
    segment: int = 0,
    channel: int = 0,
    end_ms: int = 1_000,
    *,
    hypotheses: tuple[Hypothesis, ...] = (WORDS,),
    word_timing: WordTiming = WordTiming.ATTENTION,
    source: Source = Source.SECOND,
) -> Final:
    return Final(
        channel=channel,
        segment=segment,
        start_ms=0,
        end_ms=end_ms,
        hypotheses=hypotheses,
        word_timing=word_timing,
        source=source,
        total_s=0.25,
        queue_s=0.125,
        batch_size=3,
    )


def partial(
    segment: int = 0, channel: int = 0, end_ms: int = 500, text: str = "one", words: tuple[Word, ...] = ()
) -> Partial:
    return Partial(channel, segment, 0, end_ms, Hypothesis(text, 0.5, words), 0.5)


class FakeDecoder:
    device = "fake"

    def __init__(self, slot: int) -> None:
        self.slot = slot

    def bind(self) -> None: ...
    def reset(self) -> None: ...


class FakeStream:
    """16 kHz LINEAR16 in; `say` sends an event, as a device's thread would."""

    def __init__(self, fmt: AudioFormat, options: StreamOptions, sink: Sink) -> None:
        self.format, self.options = fmt, options
        self.taken = bytearray()
        self.final_ms = 0
        self.has_room = True
        self.finalized = 0
        self.finishes = True  # on finish(), at once
        self.finished = asyncio.Event()
        self.closed = False
        self.accepted = asyncio.Event()  # set with every accept
        self.fault: Exception | None = None  # raised by the next accept
        self.say = sink
        self.encoding = fmt.encoding

    def accept(self, data: bytes) -> Iterator[None]:
        if self.fault is not None:
            raise self.fault
        self.taken += data
        self.accepted.set()
        yield from ()

    def finalize(self) -> None:
        self.finalized += 1
        self.accepted.set()

    def finish(self) -> Iterator[None]:
        self.finished.set()
        if self.finishes:
            self.say(Finished())
        yield from ()

    def close(self) -> None:
        self.closed = True

    def advance(self, final_ms: int = 0) -> None:
        self.has_room = True
        self.final_ms = final_ms
        self.say(Advanced(0, final_ms))

    @property
    def received_ms(self) -> int:
        return len(self.taken) // 32

    @property
    def cursors(self) -> Cursors:
        return Cursors(self.received_ms, self.received_ms, self.final_ms)

    async def has_taken(self, size: int) -> None:
        while len(self.taken) < size:
            self.accepted.clear()
            await self.accepted.wait()


class FakeRecognizer:
    """Of both passes; its model decodes alone if it is named. maker: of wishes that nobody grants, for its files."""

    def __init__(self, decoders: int = 4, maker: WishMaker | None = None) -> None:
        self._maker = maker
        self.models = (MODEL,)
        self.devices: tuple[str, ...] = ("fake",)
        self.lost: list[str] = []
        self.looks = 0
        self.memory = Memory(audio_bytes=1_000, search_bytes=500, cache_bytes=2_000)
        self.pool = DecoderPool(
            [cast("Any", [FakeDecoder(slot) for slot in range(decoders)])], rebuild=lambda broken: broken
        )
        self.streams: asyncio.Queue[FakeStream] = asyncio.Queue()
        self.files = FakeFiles()
        self.closed = False

    def find_model(self, name: str, language: str) -> tuple[ModelInfo, Passes]:
        if name not in ("", "fake"):
            raise UnknownModel("model", name, ("fake",))
        if language not in ("", *MODEL.languages):
            raise UnknownModel("language_code", language, MODEL.languages)
        return MODEL, Passes.SECOND if name else Passes.BOTH

    def open_stream(
        self, lease: Lease, fmt: AudioFormat, options: StreamOptions, sink: Sink, max_audio_s: float
    ) -> FakeStream:
        stream = FakeStream(fmt, options, sink)
        self.streams.put_nowait(stream)
        return stream

    def transcribe(
        self, lease: Lease, audio: FileAudio, options: StreamOptions, max_audio_s: float, cancelled: threading.Event
    ) -> FileResult:
        return self.files.transcribe(options, cancelled)

    def look(self) -> None:
        self.looks += 1

    def waiting(self) -> dict[str, dict[str, int]]:
        return {"fake": {"final": 7}}

    @property
    def search(self) -> SearchFigures | None:
        return None if self._maker is None else SearchFigures.of(self._maker)

    def reload(self) -> None:
        if self._maker is not None:
            self._maker.reload()

    def close(self) -> None:
        self.closed = True


class FakeFiles:
    """What `transcribe` does: returns `result`, or runs `work` with the cancel event first."""

    def __init__(self) -> None:
        self.options: list[StreamOptions] = []  # of each file
        self.result = FileResult((final(), final(channel=1)), 2_000)
        self.work: Callable[[threading.Event], object] = lambda cancelled: None

    def transcribe(self, options: StreamOptions, cancelled: threading.Event) -> FileResult:
        self.options.append(options)
        self.work(cancelled)
        return self.result
