"""Makes what a config names: the models on every device, their workers, the pool of decoders. Knows no request."""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from parley.decoder.device import CPU, Device
from parley.decoder.device_errors import lost_by
from parley.decoder.engine.buffer import AUDIO_BYTES
from parley.decoder.engine.decoder import Decoder
from parley.decoder.engine.pool import DecoderPool
from parley.decoder.engine.staging import StageWorker
from parley.decoder.engine.work import BatchLimits
from parley.decoder.engine.worker import DeviceWorker
from parley.decoder.errors import ModelError, OutOfMemory
from parley.decoder.model_folder import ModelFolder
from parley.decoder.models.cards import usable_cards
from parley.decoder.models.registry import load_acoustic_model, load_whole_model
from parley.decoder.search.registry import Searches, open_searches
from parley.decoder.speech.vad import SAMPLE_RATE
from parley.decoder.text.inverse_text import InverseText
from parley.decoder.values import LONGEST_UTTERANCE_MS, Passes

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from parley.decoder.config import RecognizerConfig
    from parley.decoder.engine.work import Observer
    from parley.decoder.models.first_pass import FirstPass
    from parley.decoder.models.passes import WholeModel
    from parley.decoder.search.wishes import WishMaker


@dataclass(frozen=True, slots=True)
class Memory:
    """What a decoder holds from start to end, in bytes: its audio and its search in the process, its caches on the
    device."""

    audio_bytes: int
    search_bytes: int
    cache_bytes: int


class Build:
    """What runs, from its making to `close`."""

    def __init__(self, config: RecognizerConfig, observer: Observer, on_lost: Callable[[str], None]) -> None:
        """Loads the models, allocates all decoders, starts the workers. on_lost: told of a device, by its name, that
        works no more. Raises ModelError, and then leaves nothing behind."""
        self._config = config
        self.folders = read_folders(config)  # by the pass that they are for
        self.devices = resolve_devices(config.devices, config.passes)
        self.workers: dict[Device, DeviceWorker] = {}
        self.first_passes: dict[Device, FirstPass] = {}
        self.searches: Searches | None = None  # of the first pass
        with ExitStack() as made:
            try:
                self._start(made, observer, on_lost)
            except (OutOfMemory, MemoryError) as error:
                raise ModelError(f"no memory for {config.decoders} decoders a device: {error}") from error
            except RuntimeError as error:
                if (reason := lost_by(error)) is None:
                    raise
                raise ModelError(f"a card failed at start: {reason}") from error
            self._made = made.pop_all()

    def close(self) -> None:
        """Stops the workers. Streams still open get Failed(DeviceError)."""
        self._made.close()

    @property
    def wish_maker(self) -> WishMaker | None:
        """Of what requests may wish for; None if there is nothing."""
        return None if self.searches is None else self.searches.wishes

    @property
    def memory(self) -> Memory:
        """Of one decoder."""
        first = next(iter(self.first_passes.values()), None)
        if first is None:
            return Memory(AUDIO_BYTES, 0, 0)
        return Memory(AUDIO_BYTES, first.search_bytes, first.model.slot_bytes)

    def _start(self, made: ExitStack, observer: Observer, on_lost: Callable[[str], None]) -> None:
        config, shares = self._config, sum(device.on_cpu for device in self.devices)
        if Passes.FIRST in self.folders:
            self.searches = open_searches(self.folders[Passes.FIRST], config, shares)
            made.callback(self.searches.close)
        self.stages = tuple(StageWorker(stage, observer) for stage in (InverseText(),))  # in the order of results
        for stage in reversed(self.stages):  # each is closed behind the workers and the stages that give to it
            made.callback(stage.close)
        limits = BatchLimits(
            chunks=config.max_chunk_batch,
            jobs=config.max_batch,
            file_s=config.max_batch_s,
            live_s=config.max_live_batch_s,
        )
        for device in self.devices:
            models = self._models(device, config.threads or _cores(shares if device.on_cpu else 1))
            chunks = self.first_passes.get(device)
            worker = DeviceWorker(str(device), models, SAMPLE_RATE, limits, observer, chunks, on_lost)
            made.callback(worker.close)
            self.workers[device] = worker
        named = {str(device): device for device in self.devices}
        self.pool = DecoderPool(
            [[self._decoder(device, slot) for slot in range(config.decoders)] for device in self.devices],
            rebuild=lambda broken: self._decoder(named[broken.device], broken.slot),
        )

    def _models(self, device: Device, threads: int) -> dict[Passes, WholeModel]:
        models: dict[Passes, WholeModel] = {}
        if Passes.SECOND in self.folders:
            models[Passes.SECOND] = load_whole_model(self.folders[Passes.SECOND], device.place, threads)
        if self.searches is not None:
            first = first_pass(self.folders[Passes.FIRST], device.place, threads, self._config, self.searches)
            self.first_passes[device] = models[Passes.FIRST] = first
        return models

    def _decoder(self, device: Device, slot: int) -> Decoder:
        first = self.first_passes.get(device)
        model = None if first is None else first.model
        return Decoder(self.workers[device], slot, self._config.vad_aggressiveness, model)


def resolve_devices(wanted: tuple[str, ...], passes: Passes) -> tuple[Device, ...]:
    """The devices that a config's `devices` means on this machine."""
    if wanted == ("auto",):
        return tuple(Device.parse(f"cuda:{index}") for index in range(usable_cards(passes))) or (CPU,)
    return tuple(map(Device.parse, wanted))


def read_folders(config: RecognizerConfig) -> dict[Passes, ModelFolder]:
    """The folders of the models that the config's passes need. Raises ModelError."""
    folders = {by: _read(path) for by, path in config.model_dirs().items()}
    names = [folder.info.name for folder in folders.values()]
    if len(set(names)) < len(names):
        raise ModelError(f"both passes' models are called {names[0]!r}: requests could not tell them apart")
    return folders


def _read(path: Path) -> ModelFolder:
    folder = ModelFolder.read(path)
    if folder.info.sample_rate != SAMPLE_RATE:
        raise ModelError(f"{folder.path}: got a model for {folder.info.sample_rate} Hz, expected {SAMPLE_RATE} Hz")
    return folder


def first_pass(
    folder: ModelFolder, place: Device, threads: int, config: RecognizerConfig, searches: Searches
) -> FirstPass:
    # Imported here: torch takes seconds and 200 MB, and a node without a first pass does without.
    from parley.decoder.models.first_pass import FirstPass

    model = load_acoustic_model(folder, place, config.decoders, config.chunk_ms, threads, config.precision)
    longest_ms = model.longest_samples * 1000 // SAMPLE_RATE
    if longest_ms < LONGEST_UTTERANCE_MS:
        raise ModelError(
            f"{folder.path}: got a model for utterances of {longest_ms} ms, expected {LONGEST_UTTERANCE_MS} ms or more"
        )
    here = searches.on(place, threads, model.vocabulary, model.blank)
    return FirstPass(model, here.searches, here.lattices, here.blank_penalty)


def _cores(shares: int) -> int:
    """That each of so many shares of the CPU may use."""
    ours = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, ours // shares)
