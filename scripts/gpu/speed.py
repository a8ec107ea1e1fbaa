"""How fast the bare models are on a device, as they are, and as CUDA graphs or compiled. Knows no node and no calls."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from unittest import mock

import numpy as np
import onnxruntime as ort
import torch

from parley.decoder.config import RecognizerConfig
from parley.decoder.device import Device
from parley.decoder.model_folder import ModelFolder
from parley.decoder.models.first_pass import FirstPass
from parley.decoder.models.moonshine import SecondPass
from parley.decoder.search.beam import Beam
from parley.decoder.search.registry import open_searches
from parley.decoder.search.settings import beam_settings
from parley.decoder.speech.vad import SAMPLE_RATE
from parley.decoder.torch_device import running
from parley.decoder.values import Passes, SearchOptions
from scripts.chunks import chunk_of
from scripts.gpu.setup import CHUNK_MS, FIRST, SECOND, Figure, Row, Setup, speech
from scripts.speech import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from parley.decoder.models.acoustic import AcousticModel, Chunk


LANGUAGE_MODEL = ROOT / "models" / "lm-en" / "en.lm"
COMPILE_S = 120.0  # that torch.compile may take


def some_chunks(model: AcousticModel, rows: int, index: int = 9) -> list[Chunk]:
    """One chunk of speech in each of so many slots, in the middle of an utterance."""
    samples = speech(1, 6.0)[0]
    return [chunk_of(model, slot, samples, index) for slot in range(rows)]


def milliseconds(setup: Setup, call: Callable[[], object], rounds: int) -> float:
    """That a call takes, on the mean, the wait for the card included."""

    def wait() -> None:
        if setup.on_card:
            torch.cuda.synchronize(setup.device)

    for _ in range(min(3, rounds)):
        call()
    wait()
    begun = time.perf_counter()
    for _ in range(rounds):
        call()
    wait()
    return (time.perf_counter() - begun) / rounds * 1000


def forward(setup: Setup) -> Iterator[Row]:
    """The bare model, then with the searches that follow it, by the size of the batch; and what a decoder holds."""
    before = torch.cuda.memory_allocated(setup.device) if setup.on_card else 0
    model = setup.model(setup.device, max(setup.size.rows))
    held: dict[str, Figure] = {"bytes": model.slot_bytes}
    if setup.on_card:
        taken = torch.cuda.memory_allocated(setup.device) - before
        held |= {"measured": taken // model.slots, "with": f"{model.slots} slots and the weights"}
    yield Row("memory", "a decoder, on the device", held)
    folder = ModelFolder.read(FIRST)
    config = RecognizerConfig(
        first_model_dir=FIRST, passes=Passes.FIRST, language_model=LANGUAGE_MODEL if LANGUAGE_MODEL.exists() else None
    )
    maker = open_searches(folder, config).wishes
    assert maker is not None
    wishes = maker.wishes(SearchOptions())
    settings = beam_settings(folder)
    passes = {
        "with best path": FirstPass(model),
        "with the beam search": FirstPass(model, lambda n: Beam(n, model.vocabulary, model.blank, settings)),
    }
    for rows in setup.size.rows:
        chunks = some_chunks(model, rows)
        ways: dict[str, Callable[[], object]] = {"bare": lambda chunks=chunks: model.forward(chunks)[0].cpu()}  # type: ignore[misc]
        for name, whole_pass in passes.items():
            begun = [replace(chunk, index=0, wishes=wishes) for chunk in chunks]
            list(whole_pass.advance(begun))
            ways[name] = lambda whole_pass=whole_pass, chunks=chunks: list(whole_pass.advance(chunks))  # type: ignore[misc]
        for name, call in ways.items():
            if name != "bare" and rows not in (1, 64, 256, max(setup.size.rows)):
                continue
            ms = milliseconds(setup, call, setup.size.rounds)
            figures: dict[str, Figure] = {"ms": round(ms, 2), "times_real_time": round(rows * CHUNK_MS / ms)}
            yield Row("a chunk of each", f"{rows} rows, {name}", figures)


def second_pass(setup: Setup) -> Iterator[Row]:
    """Words and speed of the second pass, where onnxruntime can use the card."""
    if setup.on_card and "CUDAExecutionProvider" not in ort.get_available_providers():
        yield Row(
            "second pass", "left out", {"": "onnxruntime has no CUDA provider here: put onnxruntime-gpu in its place"}
        )
        return
    utterances = sorted(speech(min(8, setup.size.utterances)), key=len)
    folder = ModelFolder.read(SECOND)

    def texts(model: SecondPass) -> list[str]:
        found: dict[int, str] = {}
        for finished in model.decode(utterances):
            found |= {row: said.hypotheses[0].text if said.hypotheses else "" for row, said in finished}
        return [found[row] for row in range(len(utterances))]

    expected, card = texts(SecondPass(folder)), SecondPass(folder, Device.parse(setup.device))
    different = sum(a != b for a, b in zip(texts(card), expected, strict=True))
    ms = milliseconds(setup, lambda: texts(card), max(1, setup.size.rounds // 10))
    audio_s = sum(map(len, utterances)) / SAMPLE_RATE
    figures: dict[str, Figure] = {
        "different": different,
        "ms": round(ms),
        "times_real_time": round(audio_s * 1000 / ms),
    }
    yield Row("second pass", f"a batch of {len(utterances)}", figures, ok=different == 0)


def graphs(setup: Setup) -> Iterator[Row]:
    """The bare network's call replayed as a CUDA graph."""
    if not setup.on_card:
        yield Row("CUDA graph", "left out", {"": "only on a card"})
        return
    model: Any = setup.model(setup.device, max(setup.size.graph_rows))
    for rows in setup.size.graph_rows:
        arguments = network_arguments(model, rows)
        with running():
            plain_ms = milliseconds(setup, lambda arguments=arguments: model._network(*arguments), setup.size.rounds)  # type: ignore[misc]
            expected = model._network(*arguments)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                out = model._network(*arguments)
            ms = milliseconds(setup, graph.replay, setup.size.rounds)
        difference = float((out - expected).abs().max())
        figures: dict[str, Figure] = {"ms": round(ms, 3), "as_it_is_ms": round(plain_ms, 3)}
        yield Row("CUDA graph", f"{rows} rows", figures | {"largest_difference": f"{difference:.1e}"})


def compiled(setup: Setup) -> Iterator[Row]:
    """The bare network compiled by torch.compile."""
    why = "only on a card" if not setup.on_card else "no time was left" if setup.left_s < COMPILE_S else ""
    if why or not hasattr(torch, "compile"):
        yield Row("torch.compile", "left out", {"": why or "this torch has none"})
        return
    with mock.patch.object(torch.jit, "script", lambda network: network):  # it compiles Python, not TorchScript
        plain: Any = setup.model(setup.device, max(setup.size.graph_rows))
    network: Any = torch.compile(plain._network)
    for rows in setup.size.graph_rows:
        arguments = network_arguments(plain, rows)
        with torch.no_grad():
            begun = time.monotonic()
            difference = float((network(*arguments) - plain._network(*arguments)).abs().max())
            compile_s = time.monotonic() - begun
            ms = milliseconds(setup, lambda arguments=arguments: network(*arguments), setup.size.rounds)  # type: ignore[misc]
        figures: dict[str, Figure] = {"ms": round(ms, 3), "compiling_s": round(compile_s, 1)}
        yield Row("torch.compile", f"{rows} rows", figures | {"largest_difference": f"{difference:.1e}"})


def network_arguments(model: Any, rows: int) -> tuple[Any, ...]:
    """What the network takes for so many rows, where it is."""
    chunks = some_chunks(model, rows)
    samples, slots = np.stack([chunk.samples for chunk in chunks]), list(range(rows))
    on_device = (model._put(values) for values in (samples, [chunk.index for chunk in chunks], [33] * rows, slots))
    return (*on_device, [(chunk.slot, chunk.index) for chunk in chunks])
