"""The decoder library's front door: models, devices, the pool and requests of one config.

with Recognizer(RecognizerConfig(second_model_dir=Path("models/moonshine-tiny-en"))) as recognizer:
    with recognizer.pool.lend(timeout=1.0) as lease:
        request = recognizer.open_stream(lease, AudioFormat(), StreamOptions(), sink=print)
        for _ in request.accept(wav_bytes):  # a live server would let others have their turn
            while not request.has_room:
                time.sleep(0.01)
        for _ in request.finish():  # ... Final..., Finished
            pass

Holds them together and knows nothing itself: build.py makes what runs, policy.py says what a request gets.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from parley.decoder.build import Build
from parley.decoder.engine.request import Request
from parley.decoder.engine.transcribe import FileResult, Transcriber
from parley.decoder.policy import Policy, SearchFigures

if TYPE_CHECKING:
    import threading

    from parley.decoder.audio import FileAudio
    from parley.decoder.build import Memory
    from parley.decoder.config import RecognizerConfig
    from parley.decoder.engine.pool import DecoderPool, Lease
    from parley.decoder.engine.work import Observer
    from parley.decoder.model_folder import ModelInfo
    from parley.decoder.values import AudioFormat, Passes, Sink, StreamOptions

LONGEST_AUDIO_S = 4 * 3600.0


class Recognizer:
    def __init__(self, config: RecognizerConfig, observer: Observer | None = None) -> None:
        """Loads the models on every device, allocates all decoders, starts the workers. Raises ModelError."""
        self.lost: list[str] = []  # those of the devices that do not work any more
        self._build = Build(config, observer or _Unobserved(), self._on_lost)
        models = {by: folder.info for by, folder in self._build.folders.items()}
        self._policy = Policy(config, models, self._build.wish_maker, self._build.stages)
        self._transcriber = Transcriber()
        self.pool: DecoderPool = self._build.pool
        self.devices = tuple(map(str, self._build.devices))  # their names
        self.models: tuple[ModelInfo, ...] = self._policy.models  # the first is the default

    @property
    def memory(self) -> Memory:
        """Of one decoder."""
        return self._build.memory

    @property
    def search(self) -> SearchFigures | None:
        """What new requests' searches go by; None if there are none but best path."""
        return self._policy.search

    def reload(self) -> None:
        """Reads the language model's and the hotwords' files anew: for requests from now on, while those that are open
        go on with what they have. Raises ModelError, and then all is as it was."""
        self._policy.reload()

    def find_model(self, name: str, language: str) -> tuple[ModelInfo, Passes]:
        """See Policy.find_model. Raises UnknownModel."""
        return self._policy.find_model(name, language)

    def open_stream(
        self,
        lease: Lease,
        fmt: AudioFormat,
        options: StreamOptions,
        sink: Sink,
        max_audio_s: float = LONGEST_AUDIO_S,
    ) -> Request:
        """A live stream over the lease's decoders, one a channel with fmt.separate_channels, else one.

        Raises InvalidOption for a search that the model does not have.
        """
        return Request(lease, self._policy.plan(options), sink, max_audio_s, fmt)

    def transcribe(
        self,
        lease: Lease,
        audio: FileAudio,
        options: StreamOptions,
        max_audio_s: float = LONGEST_AUDIO_S,
        cancelled: threading.Event | None = None,
    ) -> FileResult:
        """Decodes a whole recording, block by block, in this thread. The lease has `audio.channels` decoders.

        Raises InvalidOption for a search that the model does not have, BadAudio, AudioTooLong, DeviceError, or
        Cancelled soon after `cancelled` is set.
        """
        plan = self._policy.plan(options, recording=True)
        return self._transcriber.transcribe(lease, audio, plan, max_audio_s, cancelled)

    def look(self) -> None:
        """To be called about once a second: cards that hang are given up. What a CPU is at ends, however late."""
        for device, worker in self._build.workers.items():
            if not device.on_cpu:
                worker.look()

    def waiting(self) -> dict[str, dict[str, int]]:
        """By device, how many jobs of each kind wait for it."""
        return {str(device): worker.waiting() for device, worker in self._build.workers.items()}

    def close(self) -> None:
        """Stops the workers. Streams still open get Failed(DeviceError)."""
        self._build.close()

    def _on_lost(self, device: str) -> None:
        self.lost.append(device)
        self._build.pool.withdraw(device)

    def __enter__(self) -> Recognizer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Unobserved:
    def batch(self, work: str, rows: int, audio_s: float, wall_s: float) -> None: ...
    def waited(self, work: str, wait_s: float) -> None: ...
    def dropped(self, work: str, reason: str) -> None: ...
    def staged(self, stage: str, outcome: str, took_s: float) -> None: ...
