"""One request: all its channels through their decoders. Knows bytes, channels and cursors; no device and no call."""

from __future__ import annotations

from typing import TYPE_CHECKING

from parley.decoder.audio import open_reader
from parley.decoder.engine.outlet import State
from parley.decoder.errors import AudioTooLong
from parley.decoder.speech.vad import SAMPLE_RATE
from parley.decoder.values import Cursors, Encoding, Failed, Finished

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import numpy as np
    from numpy.typing import NDArray

    from parley.decoder.engine.plan import Plan
    from parley.decoder.engine.pool import Lease
    from parley.decoder.values import AudioFormat, Event, Sink


class Request:
    """Bytes in, one line of events out for all channels. Fed from one thread; `sink` gets the events from that, a
    device's or a stage's, under the device's lock.

    A few bytes may hold minutes of audio, so `accept` and `finish` do their work step by step, as they are drawn from.
    """

    def __init__(
        self, lease: Lease, plan: Plan, sink: Sink, max_audio_s: float, fmt: AudioFormat | None = None
    ) -> None:
        """fmt: of the bytes that `accept` gets; None if samples come ready made."""
        self._decoders = lease.decoders
        self._sink = sink
        self._open = len(self._decoders)
        self._over = False
        self._received = 0
        self._max_audio_s = max_audio_s
        self._reader = None if fmt is None else open_reader(fmt, SAMPLE_RATE)
        for channel, decoder in enumerate(self._decoders):
            decoder.open(channel, plan, self._on_event)

    def accept(self, data: bytes) -> Iterator[None]:
        """Takes the next bytes, some milliseconds of work at a time. Raises BadAudio, AudioTooLong.

        Yields wherever more is left: to look at `has_room`, and at others' work. Once no decoder listens any more,
        what comes is not even looked at.
        """
        assert self._reader is not None
        if self._listens():
            yield from self._accept_blocks(self._reader.accept(data))

    def _accept_blocks(self, blocks: Iterable[NDArray[np.int16]]) -> Iterator[None]:
        for number, block in enumerate(blocks):
            if number:
                yield
            self.accept_samples(block)

    def _listens(self) -> bool:
        return any(decoder.state in (State.SILENCE, State.UTTERANCE) for decoder in self._decoders)

    def accept_samples(self, samples: NDArray[np.int16]) -> None:
        """Takes the next samples (channels, n) at 16 kHz."""
        self._received += samples.shape[1]
        if self._received > self._max_audio_s * SAMPLE_RATE:
            raise AudioTooLong(self._max_audio_s)
        for decoder, row in zip(self._decoders, samples, strict=True):
            decoder.accept(row)

    def finalize(self) -> None:
        """Ends the open utterance of every channel now."""
        for decoder in self._decoders:
            decoder.finalize()

    def finish(self) -> Iterator[None]:
        """No more audio: what is left is decoded, then Finished comes. Yields as `accept` does.

        Raises BadAudio if the audio breaks off.
        """
        if self._reader is not None and self._listens():
            yield from self._accept_blocks(self._reader.finish())
        for decoder in self._decoders:
            decoder.finish()

    def close(self) -> None:
        """Frees what the audio's decoding holds. Not the decoders: they go back with their lease."""
        if self._reader is not None:
            self._reader.close()

    @property
    def has_room(self) -> bool:
        """False while enough utterances wait for the device; an Advanced event says when to look again."""
        return all(decoder.has_room for decoder in self._decoders)

    @property
    def encoding(self) -> Encoding:
        """Of the bytes: AUTO until they are recognized."""
        return Encoding.AUTO if self._reader is None else self._reader.encoding

    @property
    def received_ms(self) -> int:
        """Of audio, as recorded."""
        return self._received * 1000 // SAMPLE_RATE

    @property
    def cursors(self) -> Cursors:
        received_ms = self.received_ms
        return Cursors(
            received_ms=received_ms,
            # Not more than was received: the last frame is filled up with silence.
            processed_ms=min(received_ms, *(decoder.processed_ms for decoder in self._decoders)),
            final_ms=min(received_ms, *(decoder.final_ms for decoder in self._decoders)),
        )

    def _on_event(self, event: Event) -> None:
        """One Finished for all channels, or one Failed, and nothing after it."""
        if isinstance(event, Finished):
            self._open -= 1
            if self._open:
                return
        if not self._over:
            self._over = isinstance(event, (Finished, Failed))
            self._sink(event)
