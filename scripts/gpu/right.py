"""Whether it is right: log-probabilities and words as on a CPU, alone, at once, with little memory. Knows no times."""

from __future__ import annotations

import logging
import queue
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import torch

from parley.decoder.device import Device
from parley.decoder.errors import DeviceError, OutOfMemory
from parley.decoder.speech.vad import SAMPLE_RATE
from parley.decoder.values import AudioFormat, Encoding, Failed, Final, Finished, StreamOptions
from scripts.chunks import chunk_of, taken_whole
from scripts.gpu.setup import MB, Figure, Row, Setup, speech

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from parley.decoder.models.acoustic import AcousticModel, Chunk
    from parley.decoder.recognizer import Recognizer
    from parley.decoder.values import Event


TOLERANCE = 2e-3  # of log-probabilities


def chunked(model: AcousticModel, utterances: Sequence[NDArray[np.int16]], slots: int) -> list[torch.Tensor]:
    """log_probs (frames, tokens) of utterances, `slots` of them at a time, in batches and slots that chance gives."""
    rng, free, waiting = np.random.default_rng(slots), list(range(slots)), deque(range(len(utterances)))
    parts: list[list[torch.Tensor]] = [[] for _ in utterances]
    under_way: dict[int, tuple[int, int]] = {}  # by slot: the utterance and its next chunk
    while waiting or under_way:
        while waiting and free:
            under_way[free.pop(rng.integers(len(free)))] = waiting.popleft(), 0
        chosen = [slot for slot in rng.permutation(list(under_way)).tolist() if rng.random() < 0.7] or [*under_way][:1]
        chunks = [chunk_of(model, slot, utterances[under_way[slot][0]], under_way[slot][1]) for slot in chosen]
        log_probs, frames = model.forward(chunks)
        for slot, row, count in zip(chosen, log_probs.cpu(), frames, strict=True):
            number, index = under_way[slot]
            parts[number].append(row[:count].clone())
            under_way[slot] = number, index + 1
            if index + 1 == model.chunks(len(utterances[number])):
                free.append(slot)
                del under_way[slot]
    return [torch.cat(rows) for rows in parts]


def whole(model: AcousticModel, utterances: Sequence[NDArray[np.int16]], batch: int) -> list[torch.Tensor]:
    parts = []
    for at in range(0, len(utterances), batch):
        log_probs, frames = taken_whole(model, utterances[at : at + batch])
        parts += [row[:count] for row, count in zip(log_probs.cpu(), frames, strict=True)]
    return parts


def equality(setup: Setup) -> Iterator[Row]:
    """Log-probabilities against those of the CPU."""
    utterances, slots = speech(min(16, setup.size.utterances)), min(8, setup.size.utterances)
    cpu, card = setup.model("cpu", slots), setup.model(setup.device, slots)
    expected_whole, expected_chunked = whole(cpu, utterances, 1), chunked(cpu, utterances, 1)
    ways: tuple[tuple[str, Callable[[], list[torch.Tensor]], list[torch.Tensor]], ...] = (
        ("whole, one by one", lambda: whole(card, utterances, 1), expected_whole),
        ("whole, in batches", lambda: whole(card, utterances, slots), expected_whole),
        ("in chunks, one by one", lambda: chunked(card, utterances, 1), expected_chunked),
        ("in chunks, among strangers, in used slots", lambda: chunked(card, utterances, slots), expected_chunked),
    )
    for what, run, expected in ways:
        difference = max(float((a - b).abs().max()) for a, b in zip(run(), expected, strict=True))
        figures: dict[str, Figure] = {"largest_difference": f"{difference:.1e}", "allowed": TOLERANCE}
        yield Row("equality with the CPU", what, figures, ok=difference <= TOLERANCE)


def words_of(recognizer: Recognizer, samples: NDArray[np.int16]) -> str:
    """Of one live stream, sent at once."""
    heard: queue.SimpleQueue[Event] = queue.SimpleQueue()
    words = []
    with recognizer.pool.lend(timeout=60.0) as lease:
        fmt = AudioFormat(Encoding.LINEAR16, SAMPLE_RATE, 1)
        stream = recognizer.open_stream(lease, fmt, StreamOptions(), heard.put)
        for _ in (*stream.accept(samples.astype("<i2").tobytes()), *stream.finish()):
            pass
        while not isinstance(event := heard.get(timeout=60.0), Finished):
            if isinstance(event, Failed):
                raise event.error
            if isinstance(event, Final):
                words.append(event.hypotheses[0].text)
        stream.close()
    return " ".join(words)


def words(setup: Setup) -> Iterator[Row]:
    """Of many utterances at once, against the CPU's and against one by one."""
    utterances = speech(setup.size.utterances)
    with setup.recognizer("cpu") as cpu:
        expected = [words_of(cpu, samples) for samples in utterances]
    with setup.recognizer(setup.device, max_chunk_batch=256) as card:
        alone = [words_of(card, samples) for samples in utterances]
        begun = time.monotonic()
        together = at_once(card, utterances)
        wall_s = time.monotonic() - begun
    for what, found, wanted in (("the CPU's", alone, expected), ("all at once, as one by one", together, alone)):
        different = sum(a != b for a, b in zip(found, wanted, strict=True))
        figures: dict[str, Figure] = {"utterances": len(found), "different": different}
        if found is together:
            figures["seconds"] = round(wall_s, 2)
        yield Row("words", what, figures, ok=different == 0 and any(wanted))


class Halvings(logging.Handler):
    """Counts batches that were halved for want of memory."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def emit(self, record: logging.LogRecord) -> None:
        self.count += "trying halves" in record.getMessage()


def out_of_memory(setup: Setup) -> Iterator[Row]:
    """With less and less memory allowed, batches are halved and words stay as they are."""
    utterances = speech(setup.size.utterances)
    log, halvings = logging.getLogger("parley.decoder.engine.runner"), Halvings()
    log.addHandler(halvings)
    try:
        with setup.recognizer(setup.device, max_chunk_batch=256) as recognizer:
            expected = at_once(recognizer, utterances)
            for allowed_mb in (256, 64, 32) if setup.on_card else (0,):
                halvings.count = 0
                with LittleMemory(setup, recognizer, allowed_mb):
                    found = at_once(recognizer, utterances)
                different = sum(a != b for a, b in zip(found, expected, strict=True))
                figures: dict[str, Figure] = {"halved": halvings.count, "different": different}
                what = f"{allowed_mb} MB more allowed" if setup.on_card else "two rows at most"
                yield Row("out of memory", what, figures, ok=different == 0)
    finally:
        log.removeHandler(halvings)


def at_once(recognizer: Recognizer, utterances: Sequence[NDArray[np.int16]]) -> list[str]:
    """The words of as many streams as there are utterances, or what went wrong."""

    def heard(samples: NDArray[np.int16]) -> str:
        try:
            return words_of(recognizer, samples)
        except DeviceError as error:
            return f"{type(error).__name__}: {error}"

    with ThreadPoolExecutor(len(utterances)) as callers:
        return list(callers.map(heard, utterances))


class LittleMemory:
    """So many MB beyond what is in use, for this process; on a CPU no memory for more than two rows."""

    def __init__(self, setup: Setup, recognizer: Recognizer, allowed_mb: int) -> None:
        self._setup, self._allowed = setup, allowed_mb * MB
        self._model = recognizer._build.first_passes[Device.parse(setup.device)].model
        self._forward = self._model.forward

    def __enter__(self) -> None:
        if self._setup.on_card:
            torch.cuda.empty_cache()
            total = torch.cuda.get_device_properties(self._setup.device).total_memory
            share = (torch.cuda.memory_reserved(self._setup.device) + self._allowed) / total
            torch.cuda.set_per_process_memory_fraction(share, self._setup.device)
        else:
            self._model.forward = self._short  # type: ignore[method-assign]

    def __exit__(self, *_: object) -> None:
        if self._setup.on_card:
            torch.cuda.set_per_process_memory_fraction(1.0, self._setup.device)
        else:
            self._model.forward = self._forward  # type: ignore[method-assign]

    def _short(self, chunks: Sequence[Chunk]) -> tuple[torch.Tensor, list[int]]:
        if len(chunks) > 2:
            raise OutOfMemory(f"{len(chunks)} rows")
        return self._forward(chunks)
