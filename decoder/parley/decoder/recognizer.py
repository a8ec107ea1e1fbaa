"""Wires models, devices, pool and streams from one config: the decoder library's front door.

with Recognizer(RecognizerConfig(second_model_dir=Path("models/moonshine-tiny-en"))) as recognizer:
    with recognizer.pool.lend(timeout=1.0) as lease:
        stream = recognizer.open_stream(lease, AudioFormat(), StreamOptions(), sink=print)
        for _ in stream.accept(wav_bytes):  # a live server would let others have their turn
            while not stream.has_room:
                time.sleep(0.01)
        for _ in stream.finish():  # ... Final..., Finished
            pass
"""

from __future__ import annotations

import os
import queue
import threading
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from parley.decoder.device_errors import lost_by
from parley.decoder.engine.pool import DecoderPool
from parley.decoder.engine.request import Stream
from parley.decoder.engine.stream import AUDIO_BYTES, Decoder, StreamSettings
from parley.decoder.engine.work import BatchLimits
from parley.decoder.engine.worker import DeviceWorker
from parley.decoder.errors import (
    Cancelled,
    InvalidOption,
    ModelError,
    OutOfMemory,
    UnknownModel,
)
from parley.decoder.model_folder import ModelFolder
from parley.decoder.models.cards import usable_cards
from parley.decoder.models.registry import load_acoustic_model, load_whole_model
from parley.decoder.search.registry import open_searches
from parley.decoder.speech.vad import SAMPLE_RATE
from parley.decoder.values import (
    LONGEST_UTTERANCE_MS,
    EndpointRules,
    Failed,
    Final,
    Finished,
    Passes,
    SearchOptions,
    StreamOptions,
)

if TYPE_CHECKING:
    from pathlib import Path

    from parley.decoder.audio import FileAudio
    from parley.decoder.config import RecognizerConfig
    from parley.decoder.engine.pool import Lease
    from parley.decoder.engine.work import Observer
    from parley.decoder.model_folder import ModelInfo
    from parley.decoder.models.acoustic import AcousticModel
    from parley.decoder.models.first_pass import FirstPass
    from parley.decoder.models.passes import WholeModel
    from parley.decoder.search.registry import Searches
    from parley.decoder.search.wishes import Weights, WishMaker
    from parley.decoder.values import AudioFormat, Event, Sink

# A recording is cut where it pauses long, so that the model hears whole sentences.
FILE_RULES = EndpointRules(silence_after_speech_ms=1_500, longest_utterance_ms=24_000)
CANCEL_POLL_S = 0.1
NO_SEARCH = "none: nothing here searches; a first pass by beams or lattices does, with its model named"


@dataclass(frozen=True, slots=True)
class Memory:
    """What a decoder holds from start to end, in bytes: its audio and its search in the process, its caches on the
    device."""

    audio_bytes: int
    search_bytes: int
    cache_bytes: int


@dataclass(frozen=True, slots=True)
class SearchFigures:
    """ngrams: of the language model, how many of each order; () without one. hotwords: phrases of the recognizer's
    own."""

    ngrams: tuple[int, ...]
    language_model_bytes: int
    hotwords: int
    weights: Weights

    @classmethod
    def of(cls, maker: WishMaker) -> SearchFigures:
        model = maker.sources.language_model
        return cls(model.counts, model.file_bytes, len(maker.sources.phrases), maker.weights)


class Recognizer:
    def __init__(self, config: RecognizerConfig, observer: Observer | None = None) -> None:
        """Loads the models on every device, allocates all decoders, starts the workers. Raises ModelError."""
        self._passes, self._vad_aggressiveness = config.passes, config.vad_aggressiveness
        self._settings = StreamSettings(config.passes, config.partial_interval_ms, config.final_budget_ms)
        folders = {Passes.FIRST: config.first_model_dir, Passes.SECOND: config.second_model_dir}
        read = {
            by: _read(path) for by, path in folders.items() if path is not None and config.passes in (by, Passes.BOTH)
        }
        self.devices = resolve_devices(config.devices, config.passes)
        self.lost: list[str] = []  # those of the devices that do not work any more
        self._searches: Searches | None = None
        self._lattice_finals = config.lattice_finals
        # Recordings are heard one after the other: if all their threads wanted Python's lock at once, whoever takes the
        # audio of live calls would wait for each of them in turn.
        self._hearing = threading.Lock()
        self._workers: dict[str, DeviceWorker] = {}
        self._first: dict[str, FirstPass] = {}
        self._shares = sum(place(device) == "cpu" for device in self.devices)
        limits = BatchLimits(
            chunks=config.max_chunk_batch,
            jobs=config.max_batch,
            file_s=config.max_batch_s,
            live_s=config.max_live_batch_s,
        )
        try:
            names = [folder.info.name for folder in read.values()]
            if len(set(names)) < len(names):
                raise ModelError(f"both passes' models are called {names[0]!r}: requests could not tell them apart")
            if Passes.FIRST in read:
                self._searches = open_searches(read[Passes.FIRST], config, self._shares)
            for device in self.devices:
                threads = config.threads or self._cores_of(device)
                models: dict[Passes, WholeModel] = {}
                if Passes.SECOND in read:
                    models[Passes.SECOND] = load_whole_model(read[Passes.SECOND], place(device), threads)
                if Passes.FIRST in read:
                    self._first[device] = models[Passes.FIRST] = self._first_pass(
                        read[Passes.FIRST], place(device), threads, config
                    )
                self._workers[device] = DeviceWorker(
                    device,
                    models,
                    SAMPLE_RATE,
                    limits,
                    observer or _Unobserved(),
                    self._first.get(device),
                    self._on_lost,
                )
            self.pool = DecoderPool(
                [[self._decoder(device, slot) for slot in range(config.decoders)] for device in self.devices],
                rebuild=lambda broken: self._decoder(broken.device, broken.slot),
            )
        except BaseException as error:
            self.close()
            if isinstance(error, (OutOfMemory, MemoryError)):
                raise ModelError(f"no memory for {config.decoders} decoders a device: {error}") from error
            if isinstance(error, RuntimeError) and (reason := lost_by(error)) is not None:
                raise ModelError(f"a card failed at start: {reason}") from error
            raise
        # The first is the default: finals are its words.
        self.models = tuple(read[by].info for by in (Passes.SECOND, Passes.FIRST) if by in read)
        self._by_pass = {by: folder.info for by, folder in read.items()}

    def _first_pass(self, folder: ModelFolder, device: str, threads: int, config: RecognizerConfig) -> FirstPass:
        # Imported here: torch takes seconds and 200 MB, and a node without a first pass does without.
        from parley.decoder.models.first_pass import FirstPass

        assert self._searches is not None
        model = _acoustic_model(folder, device, threads, config)
        here = self._searches.on(device, threads, model.vocabulary, model.blank)
        return FirstPass(model, here.searches, here.lattices, here.blank_penalty)

    @property
    def _wish_maker(self) -> WishMaker | None:
        return None if self._searches is None else self._searches.wishes

    def _cores_of(self, device: str) -> int:
        return max(1, _cores() // self._shares) if place(device) == "cpu" else _cores()

    def _decoder(self, device: str, slot: int) -> Decoder:
        first = self._first.get(device)
        return Decoder(self._workers[device], slot, self._vad_aggressiveness, None if first is None else first.model)

    @property
    def memory(self) -> Memory:
        """Of one decoder."""
        first = next(iter(self._first.values()), None)
        if first is None:
            return Memory(AUDIO_BYTES, 0, 0)
        return Memory(AUDIO_BYTES, first.search_bytes, first.model.slot_bytes)

    def reload(self) -> None:
        """Reads the language model's and the hotwords' files anew: for requests from now on, while those that are open
        go on with what they have. Raises ModelError, and then all is as it was."""
        if self._wish_maker is not None:
            self._wish_maker.reload()

    @property
    def search(self) -> SearchFigures | None:
        """What new requests' searches go by; None if there are none but best path."""
        return None if self._wish_maker is None else SearchFigures.of(self._wish_maker)

    def _settings_for(self, options: StreamOptions, recording: bool) -> StreamSettings:
        """Raises InvalidOption."""
        settings = replace(self._settings, recording=recording)
        passes = options.passes or self._passes
        # With both passes the first gives a live call its interim results, and a recording nothing.
        if self._wish_maker is None or passes is Passes.SECOND or (passes is Passes.BOTH and recording):
            if options.search.hotwords:
                raise InvalidOption("speech_contexts", f"{len(options.search.hotwords)} phrases", NO_SEARCH)
            if options.search != SearchOptions():
                raise InvalidOption("search", "options", NO_SEARCH)
            return settings
        if passes is Passes.BOTH and (options.search.grammar or options.search.lattice):
            name = "search.grammar" if options.search.grammar else "search.lattice"
            raise InvalidOption(name, "one", "none where finals are the second pass's: name the first pass's model")
        wishes = self._wish_maker.wishes(options.search)
        wanted = self._lattice_finals or options.search.grammar or options.search.lattice
        if passes is Passes.BOTH or not (recording or wanted):
            wishes = replace(wishes, graph=None)
        return replace(settings, wishes=wishes)

    def find_model(self, name: str, language: str) -> tuple[ModelInfo, Passes]:
        """The model of that name if it knows the language ("": any; "en-US" is "en"), and the passes it means.

        "": what the config says; its name is then that of the model that finals are from. A model asked for by name
        decodes alone. Raises UnknownModel.
        """
        passes = {model.name: by for by, model in self._by_pass.items()}
        if name not in ("", *passes):
            raise UnknownModel("model", name, tuple(passes))
        wanted = [model for model in self.models if name in ("", model.name)]
        for info in wanted:
            if language and language.lower().split("-")[0] not in {known.lower() for known in info.languages}:
                raise UnknownModel("language_code", language, info.languages)
        info = wanted[0]
        return info, passes[name] if name else self._passes

    def open_stream(
        self, lease: Lease, fmt: AudioFormat, options: StreamOptions, sink: Sink, max_audio_s: float = 4 * 3600.0
    ) -> Stream:
        """A live stream over the lease's decoders, one a channel with fmt.separate_channels, else one.

        Raises InvalidOption for a search that the model does not have.
        """
        return Stream(lease, options, self._settings_for(options, recording=False), sink, max_audio_s, fmt)

    def transcribe(
        self,
        lease: Lease,
        audio: FileAudio,
        options: StreamOptions,
        max_audio_s: float = 4 * 3600.0,
        cancelled: threading.Event | None = None,
    ) -> FileResult:
        """Decodes a whole recording, block by block, in this thread. The lease has `audio.channels` decoders.

        Raises InvalidOption for a search that the model does not have, BadAudio, AudioTooLong, DeviceError, or
        Cancelled soon after `cancelled` is set.
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
        settings = self._settings_for(options, recording=True)
        stream = Stream(lease, options, settings, events.put, max_audio_s)
        blocks = audio.blocks()
        while True:
            with self._hearing:
                if (block := next(blocks, None)) is None:
                    break
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

    def look(self) -> None:
        """To be called about once a second: cards that hang are given up. What a CPU is at ends, however late."""
        for device, worker in self._workers.items():
            if place(device) != "cpu":
                worker.look()

    def _on_lost(self, device: str) -> None:
        self.lost.append(device)
        self.pool.withdraw(device)

    def waiting(self) -> dict[str, dict[str, int]]:
        """By device, how many jobs of each kind wait for it."""
        return {device: worker.waiting() for device, worker in self._workers.items()}

    def close(self) -> None:
        """Stops the workers. Streams still open get Failed(DeviceError)."""
        for worker in self._workers.values():
            worker.close()
        if self._searches is not None:
            self._searches.close()

    def __enter__(self) -> Recognizer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@dataclass(frozen=True, slots=True)
class FileResult:
    """A recording's finals, sorted by start time, then channel."""

    finals: tuple[Final, ...]
    audio_ms: int


def _read(path: Path) -> ModelFolder:
    folder = ModelFolder.read(path)
    if folder.info.sample_rate != SAMPLE_RATE:
        raise ModelError(f"{folder.path}: got a model for {folder.info.sample_rate} Hz, expected {SAMPLE_RATE} Hz")
    return folder


def place(device: str) -> str:
    """Where a device's models are: the CPU's shares are all on it."""
    return "cpu" if device.startswith("cpu:") else device


def _cores() -> int:
    """That this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _acoustic_model(folder: ModelFolder, device: str, threads: int, config: RecognizerConfig) -> AcousticModel:
    model = load_acoustic_model(folder, device, config.decoders, config.chunk_ms, threads, config.precision)
    if model.longest_samples < LONGEST_UTTERANCE_MS * SAMPLE_RATE // 1000:
        longest_ms = model.longest_samples * 1000 // SAMPLE_RATE
        raise ModelError(
            f"{folder.path}: got a model for utterances of {longest_ms} ms, expected {LONGEST_UTTERANCE_MS} ms or more"
        )
    return model


def resolve_devices(wanted: tuple[str, ...], passes: Passes) -> tuple[str, ...]:
    """The devices that a config's `devices` means on this machine."""
    if wanted == ("auto",):
        return tuple(f"cuda:{index}" for index in range(usable_cards(passes))) or ("cpu",)
    return wanted


class _Unobserved:
    def batch(self, work: str, rows: int, audio_s: float, wall_s: float) -> None: ...
    def waited(self, work: str, wait_s: float) -> None: ...
    def dropped(self, work: str, reason: str) -> None: ...
