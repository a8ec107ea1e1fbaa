"""Live calls and recordings, each with decoders lent to it and given back. Knows the order; the parts know how.

A wire reads its client's request, has it placed, and hands itself over: what follows is the same for every protocol.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import structlog

from parley.decoder.audio import open_file
from parley.decoder.values import Encoding
from parley.server.live.errors import NotReady, TooLarge
from parley.server.live.lending import lend
from parley.server.live.outbox import Outbox
from parley.server.live.session import Limits, Session
from parley.server.live.threads import to_the_end

if TYPE_CHECKING:
    import threading

    from parley.decoder.engine.transcribe import FileResult
    from parley.decoder.model_folder import ModelInfo
    from parley.decoder.recognizer import Recognizer
    from parley.decoder.values import EndpointRules, Final
    from parley.server.live.metrics import LiveMetrics
    from parley.server.live.wire import Asked, Caller, Wire

log = structlog.stdlib.get_logger()

OPENERS = 2  # threads that read files' headers: milliseconds a file
FILE_ENCODINGS = {
    "pcm_s16le": Encoding.LINEAR16,
    "pcm_mulaw": Encoding.MULAW,
    "pcm_alaw": Encoding.ALAW,
    "flac": Encoding.FLAC,
    "mp3": Encoding.MP3,
}  # by FFmpeg's names


@dataclass(frozen=True, slots=True)
class Terms:
    """What a node allows, and how it ends utterances unless a request says otherwise. stream_wait_s, file_wait_s: for
    decoders."""

    stream: Limits
    rules: EndpointRules
    stream_wait_s: float
    file_wait_s: float
    stream_s: float
    file_s: float
    file_bytes: int


@dataclass(frozen=True, slots=True)
class Transcription:
    """A recording's finals, in order, and what they took. processing_s: from the call's arrival, waiting included."""

    finals: tuple[Final, ...]
    audio_ms: int
    processing_s: float


class Recognition:
    """Serves calls of all protocols. Raises NotReady until `open` gives it a recognizer."""

    def __init__(self, terms: Terms, metrics: LiveMetrics) -> None:
        self.terms = terms
        self._metrics = metrics
        self._recognizer: Recognizer | None = None
        # Each kind of work has threads of its own: a file that waits for a decoder holds up nobody's opening.
        self._openers = ThreadPoolExecutor(OPENERS, thread_name_prefix="open")
        self._transcribers: ThreadPoolExecutor | None = None

    def open(self, recognizer: Recognizer) -> None:
        """From now on calls are served, by this recognizer."""
        # As many threads as decoders: a file that holds a decoder finds a thread at once.
        self._transcribers = ThreadPoolExecutor(recognizer.pool.snapshot().total, thread_name_prefix="file")
        self._recognizer = recognizer

    def close(self) -> None:
        """Frees the threads; what runs in them has been cancelled before."""
        self._openers.shutdown(wait=False)
        if self._transcribers is not None:
            self._transcribers.shutdown(wait=False)

    def check_ready(self) -> None:
        """Raises NotReady: a call is better told so before its request is read."""
        self._loaded()

    @property
    def models(self) -> tuple[ModelInfo, ...]:
        """The recognizer's."""
        return self._loaded().models

    def place(self, request: Asked) -> Asked:
        """The request with the passes that decode it, and the language of its results. Raises UnknownModel."""
        asked = request.options
        model, passes = self._loaded().find_model(request.model, asked.language)
        return replace(request, options=replace(asked, passes=passes, language=asked.language or model.languages[0]))

    async def stream(self, request: Asked, wire: Wire, caller: Caller) -> None:
        """A live call, from behind its request to its summary. request: placed."""
        recognizer = self._loaded()
        patience_s = caller.patience_s(self.terms.stream_wait_s)
        async with lend(recognizer.pool, request.decoders, patience_s) as lease:
            outbox = Outbox()
            stream = recognizer.open_stream(lease, request.format, request.options, outbox.sink, self.terms.stream_s)
            session = Session(stream, outbox, wire, self.terms.stream, self._metrics)
            try:
                await session.run()
            finally:
                stream.close()
                self._account(caller, stream.encoding.value, stream.cursors.received_ms)
                caller.figures |= session.figures.as_log()
                if session.figures.half_close_to_last_final_s:
                    self._metrics.finals_after_half_close(session.figures.half_close_to_last_final_s)

    async def file(self, data: bytes, request: Asked, caller: Caller) -> Transcription:
        """A recording, whole. request: placed."""
        result, encoding = await self._transcribe(data, request, caller)
        seconds = time.monotonic() - caller.began_at
        self._account(caller, encoding, result.audio_ms)
        caller.figures["finals"] = len(result.finals)
        for final in result.finals:
            self._metrics.final(final.source)
        self._metrics.file(result.audio_ms / 1000, seconds)
        if self.terms.stream.log_words:
            log.info("transcript", words=" ".join(final.hypotheses[0].text for final in result.finals))
        return Transcription(result.finals, result.audio_ms, seconds)

    async def _transcribe(self, data: bytes, request: Asked, caller: Caller) -> tuple[FileResult, str]:
        """What was heard, and in which encoding."""
        if len(data) > self.terms.file_bytes:
            raise TooLarge(len(data), self.terms.file_bytes)
        recognizer = self._loaded()
        assert self._transcribers is not None
        # Opened before decoders are lent: only its header may say how many channels there are.
        audio = await to_the_end(self._openers, lambda _: open_file(data, request.format))
        async with lend(recognizer.pool, audio.channels, caller.patience_s(self.terms.file_wait_s)) as lease:

            def decode(cancelled: threading.Event) -> FileResult:
                return recognizer.transcribe(lease, audio, request.options, self.terms.file_s, cancelled)

            result = await to_the_end(self._transcribers, decode)
            return result, file_encoding(request.format.encoding, audio.encoding)

    def _loaded(self) -> Recognizer:
        if self._recognizer is None:
            raise NotReady
        return self._recognizer

    def _account(self, caller: Caller, encoding: str, audio_ms: int) -> None:
        caller.figures["audio_s"] = audio_ms / 1000
        caller.figures["encoding"] = encoding
        self._metrics.audio(caller.method, encoding, audio_ms / 1000)


def file_encoding(said: Encoding, codec: str) -> str:
    """The name of a file's encoding, said or found; where we have none, FFmpeg's name of the codec found."""
    found = FILE_ENCODINGS.get(codec) if said is Encoding.AUTO else said
    return found.value if found else codec
