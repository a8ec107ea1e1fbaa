"""Wires models, devices, pool and streams from one config: the decoder library's front door.

with Recognizer(RecognizerConfig(Path("models/moonshine-tiny-en"))) as recognizer:
    with recognizer.pool.lend(timeout=1.0) as lease:
        stream = recognizer.open_stream(lease, AudioFormat(), StreamOptions(), sink=print)
        for _ in stream.accept(wav_bytes):
            pass  # a live server would let others have their turn
        for _ in stream.finish():  # ... Final..., Finished
            pass
"""

from __future__ import annotations

import os
import queue
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from decoder.audio import open_reader
from decoder.device import BatchLimits, DeviceWorker
from decoder.errors import AudioTooLong, Cancelled, ModelError, UnknownModel
from decoder.model_folder import ModelFolder
from decoder.pool import DecoderPool
from decoder.second_pass import SecondPass, device_count
from decoder.stream import Decoder, State, StreamSettings
from decoder.types import Cursors, Encoding, EndpointRules, Failed, Final, Finished, StreamOptions
from decoder.vad import SAMPLE_RATE

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from decoder.audio import FileAudio
    from decoder.device import Observer
    from decoder.model_folder import ModelInfo
    from decoder.pool import Lease
    from decoder.types import AudioFormat, Event, Sink

# A recording is cut where it pauses long, so that the model hears whole sentences.
FILE_RULES = EndpointRules(silence_after_speech_ms=1_500, longest_utterance_ms=24_000)
CANCEL_POLL_S = 0.1


@dataclass(frozen=True, slots=True)
class RecognizerConfig:
    """What a recognizer is made of.

    model_dir: the model's folder. devices: "cpu", "cuda:N", or "auto" alone: every CUDA card, else the CPU.
    decoders: preallocated, a device. threads: cores a device's model may use, 0 for all. partial_interval_ms: the least
    time between partials of a stream, 0 for none. vad_aggressiveness: 0 to 3, how readily sound is called noise.
    max_batch: utterances decoded together. max_batch_s, max_live_batch_s: seconds of audio in them, padding counted, of
    files and of live calls; a live final may have to wait for another live batch.
    """

    model_dir: Path
    devices: tuple[str, ...] = ("auto",)
    decoders: int = 64
    threads: int = 0
    partial_interval_ms: int = 300
    vad_aggressiveness: int = 2
    max_batch: int = 8
    max_batch_s: float = 160.0
    max_live_batch_s: float = 20.0

    def __post_init__(self) -> None:
        """Raises ValueError that names every fault."""
        faults = []
        ranges = (
            ("decoders", self.decoders, 1, 100_000),
            ("threads", self.threads, 0, 1_024),
            ("vad_aggressiveness", self.vad_aggressiveness, 0, 3),
            ("max_batch", self.max_batch, 1, 1_024),
            ("max_batch_s", self.max_batch_s, 1, 36_000),
            ("max_live_batch_s", self.max_live_batch_s, 1, 36_000),
        )
        faults += [f"{name}: got {n}, need {low} to {high}" for name, n, low, high in ranges if not low <= n <= high]
        if self.partial_interval_ms and not 100 <= self.partial_interval_ms <= 10_000:
            faults.append(f"partial_interval_ms: got {self.partial_interval_ms}, need 0 (none) or 100 to 10000")
        if not self.devices or len(set(self.devices)) < len(self.devices):
            faults.append(f"devices: got {list(self.devices)}, need one or more, each once")
        if "auto" in self.devices and len(self.devices) > 1:
            faults.append('devices: "auto" stands alone')
        faults += [
            f'devices: got {device!r}, need "auto", "cpu" or "cuda:N"'
            for device in self.devices
            if device not in ("auto", "cpu") and not (device.startswith("cuda:") and device[5:].isdigit())
        ]
        if faults:
            raise ValueError("; ".join(faults))


class Recognizer:
    def __init__(self, config: RecognizerConfig, observer: Observer | None = None) -> None:
        """Loads the model on every device, allocates all decoders, starts the workers. Raises ModelError."""
        folder = ModelFolder.read(config.model_dir)
        if folder.info.sample_rate != SAMPLE_RATE:
            raise ModelError(f"{folder.path}: got a model for {folder.info.sample_rate} Hz, expected {SAMPLE_RATE} Hz")
        self.models = (folder.info,)
        self.devices = resolve_devices(config.devices)
        threads = config.threads or (len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0)
        self._settings = StreamSettings(partial_interval_ms=config.partial_interval_ms)
        limits = BatchLimits(config.max_batch, config.max_batch_s, config.max_live_batch_s)
        self._workers: dict[str, DeviceWorker] = {}
        try:
            for device in self.devices:
                model = SecondPass(folder, device, threads)
                self._workers[device] = DeviceWorker(device, model, SAMPLE_RATE, limits, observer or _Unobserved())
        except BaseException:
            self.close()
            raise

        def build(device: str, slot: int) -> Decoder:
            return Decoder(self._workers[device], slot, config.vad_aggressiveness)

        self.pool = DecoderPool(
            [[build(device, slot) for slot in range(config.decoders)] for device in self.devices],
            rebuild=lambda broken: build(broken.device, broken.slot),
        )

    def find_model(self, name: str, language: str) -> ModelInfo:
        """The model of that name ("": the default) if it knows the language ("": any; "en-US" is "en")."""
        by_name = {info.name: info for info in self.models}
        info = self.models[0] if not name else by_name.get(name)
        if info is None:
            raise UnknownModel("model", name, tuple(by_name))
        if language and language.lower().split("-")[0] not in {known.lower() for known in info.languages}:
            raise UnknownModel("language_code", language, info.languages)
        return info

    def open_stream(
        self, lease: Lease, fmt: AudioFormat, options: StreamOptions, sink: Sink, max_audio_s: float = 4 * 3600.0
    ) -> Stream:
        """A live stream over the lease's decoders, one a channel with fmt.separate_channels, else one."""
        return Stream(lease, options, self._settings, sink, max_audio_s, fmt)

    def transcribe(
        self,
        lease: Lease,
        audio: FileAudio,
        options: StreamOptions,
        max_audio_s: float = 4 * 3600.0,
        cancelled: threading.Event | None = None,
    ) -> FileResult:
        """Decodes a whole recording, block by block, in this thread. The lease has `audio.channels` decoders.

        Raises BadAudio, AudioTooLong, DeviceError, or Cancelled soon after `cancelled` is set.
        """
        events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        finals: list[Final] = []

        def wait() -> bool:
            """Takes one event; False for the last."""
            while True:
                if cancelled is not None and cancelled.is_set():
                    raise Cancelled
                try:
                    event = events.get(timeout=CANCEL_POLL_S)
                except queue.Empty:
                    continue
                if isinstance(event, Final):
                    finals.append(event)
                elif isinstance(event, Failed):
                    raise event.error
                return not isinstance(event, Finished)

        options = replace(options, rules=FILE_RULES, interim_results=False)
        settings = StreamSettings(partial_interval_ms=0, recording=True)
        stream = Stream(lease, options, settings, events.put, max_audio_s)
        for block in audio.blocks():
            stream.accept_samples(block)
            while not stream.has_room or not events.empty():
                wait()
            if cancelled is not None and cancelled.is_set():
                raise Cancelled
        for _ in stream.finish():
            pass
        while wait():
            pass
        finals.sort(key=lambda final: (final.start_ms, final.channel))
        return FileResult(tuple(finals), stream.cursors.received_ms)

    def waiting(self) -> dict[str, dict[str, int]]:
        """By device, how many jobs of each kind wait for it."""
        return {device: worker.waiting() for device, worker in self._workers.items()}

    def close(self) -> None:
        """Stops the workers. Streams still open get Failed(DeviceError)."""
        for worker in self._workers.values():
            worker.close()

    def __enter__(self) -> Recognizer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@dataclass(frozen=True, slots=True)
class FileResult:
    """A recording's finals, sorted by start time, then channel."""

    finals: tuple[Final, ...]
    audio_ms: int


class Stream:
    """A request's audio through its decoders. Feed it from one thread; see Recognizer.open_stream for events.

    A few bytes may hold minutes of audio, so `accept` and `finish` do their work step by step, as they are drawn from.
    """

    def __init__(
        self,
        lease: Lease,
        options: StreamOptions,
        settings: StreamSettings,
        sink: Sink,
        max_audio_s: float,
        fmt: AudioFormat | None = None,
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
            decoder.open(channel, options, settings, self._on_event)

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
    def cursors(self) -> Cursors:
        received_ms = self._received * 1000 // SAMPLE_RATE
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


def resolve_devices(wanted: tuple[str, ...]) -> tuple[str, ...]:
    """The devices that a config's `devices` means on this machine."""
    if wanted == ("auto",):
        return tuple(f"cuda:{index}" for index in range(device_count())) or ("cpu",)
    return wanted


class _Unobserved:
    def batch(self, work: str, rows: int, audio_s: float, wall_s: float) -> None: ...
    def waited(self, work: str, wait_s: float) -> None: ...
    def dropped(self, work: str, reason: str) -> None: ...
