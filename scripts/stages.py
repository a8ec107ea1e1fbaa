"""What each stage of the first pass costs a call, by the processor's clock. Knows the stages; nothing of delays.

Every stage is run by itself on one thread, on the calls that `scripts.bench` plays, so what waiting, locks and caches
that others have filled cost in a busy node is not in it. The bare network is the row "forward", in batches of --rows.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from dataclasses import asdict, dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import grpc
import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from parley.asr.v1 import speech_pb2 as pb
from parley.asr.v1 import speech_pb2_grpc
from parley.decoder.audio import open_reader
from parley.decoder.config import RecognizerConfig
from parley.decoder.device import CPU
from parley.decoder.model_folder import ModelFolder
from parley.decoder.models.acoustic import Chunk
from parley.decoder.models.first_pass import FirstPass
from parley.decoder.models.registry import load_acoustic_model
from parley.decoder.policy import plan_of
from parley.decoder.search.beam import Beam
from parley.decoder.search.registry import open_searches
from parley.decoder.search.settings import beam_settings
from parley.decoder.speech.vad import FRAME_BYTES, Vad
from parley.decoder.values import (
    AudioFormat,
    Encoding,
    EndpointRules,
    Hypothesis,
    Partial,
    Passes,
    Precision,
    SearchOptions,
    StreamOptions,
)
from parley.server.node.settings import DEFAULT_LANGUAGE_MODEL
from parley.server.wires.parley import convert
from scripts.floor import CONFIG, captured, model_folder
from scripts.telephone import TELEPHONE_RATE, make_calls, mulaw

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from numpy.typing import NDArray

    from parley.decoder.models.acoustic import AcousticModel

MESSAGE_MS = 100
PLAN = plan_of(Passes.FIRST, StreamOptions(), partial_interval_ms=0, final_budget_ms=0)
FORMAT = AudioFormat(Encoding.MULAW, TELEPHONE_RATE, 1)
ROUNDS = 3  # of which the quickest counts: others use the machine too


@dataclass(frozen=True)
class Stage:
    """us: of processor time for a second of a call, silence included. inside: part of the row above it."""

    name: str
    us: float
    inside: bool = False


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    torch.set_num_threads(1)
    calls = [call[: int(arguments.seconds * TELEPHONE_RATE)] for call in make_calls(8)]
    folder = ModelFolder.read(model_folder(Passes.FIRST))
    precision = Precision(arguments.precision)
    model = load_acoustic_model(folder, CPU, arguments.rows, CONFIG.chunk_ms, 1, precision)
    settings = beam_settings(folder)
    pass_ = FirstPass(model, lambda slots: Beam(slots, model.vocabulary, model.blank, settings))
    stages = [*wire(calls[0]), *samples(calls, model), *network(pass_, folder, calls, arguments.rows)]
    whole_us = sum(stage.us for stage in stages if not stage.inside)
    table = Table(title=f"a call's second: {whole_us / 10_000:.2f} % of a core", title_justify="left")
    table.add_column("stage")
    for column in ("us", "share"):
        table.add_column(column, justify="right")
    for stage in stages:
        table.add_row(("  " if stage.inside else "") + stage.name, f"{stage.us:.0f}", f"{stage.us / whole_us:.1%}")
    Console().print(table)
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(stage) for stage in stages], indent=1), encoding="utf-8")
    return 0


def cpu_s(run: Callable[[], object]) -> float:
    times = []
    for _ in range(ROUNDS):
        begun = time.process_time()
        run()
        times.append(time.process_time() - begun)
    return min(times)


# Bytes.


class _Echo(speech_pb2_grpc.SpeechServicer):  # of its methods one is called
    """Reads all, then writes as many interim results as were asked for."""

    def __init__(self, results: int) -> None:
        self._results = results
        self.receive_s = self.send_s = 0.0

    async def StreamingRecognize(  # type: ignore[override]  # noqa: N802
        self, requests: object, context: grpc.aio.ServicerContext[Any, Any]
    ) -> None:
        first = await context.read()
        begun = time.process_time()
        while await context.read() is not grpc.aio.EOF:
            pass
        self.receive_s = time.process_time() - begun
        request = convert.stream_request(first.config, EndpointRules())
        partial = Partial(0, 0, 0, 2_000, Hypothesis("the words of an utterance so far", 0.9), 0.5)
        begun = time.process_time()
        for _ in range(self._results):
            result = convert.interim_result(partial, request)
            await context.write(pb.StreamingRecognizeResponse(results=[result]))
        self.send_s = time.process_time() - begun


def wire(call: NDArray[np.int16]) -> list[Stage]:
    """gRPC's part: a message is received, an interim result converted and sent. The client is another process."""
    messages = pieces(mulaw(call, "RAW"))
    call_s = len(call) / TELEPHONE_RATE
    results = round(2 * call_s)  # about as many as a call has
    echo = _Echo(results)  # type: ignore[abstract]

    async def run() -> None:
        server = grpc.aio.server()
        speech_pb2_grpc.add_SpeechServicer_to_server(echo, server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        client = get_context("spawn").Process(target=_talk, args=(port, messages))
        client.start()
        await asyncio.to_thread(client.join)
        await server.stop(None)

    asyncio.run(run())
    return [
        Stage(f"receive, messages of {MESSAGE_MS} ms", echo.receive_s / call_s * 1e6),
        Stage("convert and send, two results a second", echo.send_s / call_s * 1e6),
    ]


def _talk(port: int, messages: Sequence[bytes]) -> None:
    async def run() -> None:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:

            async def requests() -> AsyncIterator[pb.StreamingRecognizeRequest]:
                yield pb.StreamingRecognizeRequest(config=pb.StreamingRecognitionConfig(interim_results=True))
                for message in messages:
                    yield pb.StreamingRecognizeRequest(audio=message)

            async for _ in speech_pb2_grpc.SpeechStub(channel).StreamingRecognize(requests()):
                pass

    asyncio.run(run())


def pieces(audio: bytes) -> list[bytes]:
    size = TELEPHONE_RATE * MESSAGE_MS // 1000
    return [audio[at : at + size] for at in range(0, len(audio), size)]


# Samples.


def read(messages: Sequence[bytes]) -> list[NDArray[np.int16]]:
    """A call's samples (n,), a block for each of its messages."""
    reader = open_reader(FORMAT)
    return [block[0] for message in messages for block in reader.accept(message)]


def samples(calls: Sequence[NDArray[np.int16]], model: AcousticModel) -> list[Stage]:
    """From bytes to utterances and chunks that are due."""
    sent = [pieces(mulaw(call, "RAW")) for call in calls]
    calls_s = sum(map(len, calls)) / TELEPHONE_RATE
    blocks = [read(messages) for messages in sent]

    def hear() -> None:
        for call in blocks:
            detector, audio = Vad(), np.concatenate(call).tobytes()
            detector.accept(audio[: len(audio) // FRAME_BYTES * FRAME_BYTES])

    read_s, vad_s = cpu_s(lambda: [read(messages) for messages in sent]), cpu_s(hear)
    decoder_s = cpu_s(lambda: captured(blocks, PLAN, model))
    return [
        Stage("mu-law and resampling", read_s / calls_s * 1e6),
        Stage("voice activity, utterances, chunks", decoder_s / calls_s * 1e6),
        Stage("voice activity alone", vad_s / calls_s * 1e6, inside=True),
    ]


# The network and the search.


def network(pass_: FirstPass, folder: ModelFolder, calls: Sequence[NDArray[np.int16]], rows: int) -> list[Stage]:
    """The chunks of as many calls at once as a batch has rows."""
    model = pass_.model
    heard = [read(pieces(mulaw(call, "RAW"))) for call in calls]
    jobs = captured(heard, PLAN, model)
    config = RecognizerConfig(
        first_model_dir=CONFIG.first_model_dir, passes=Passes.FIRST, language_model=DEFAULT_LANGUAGE_MODEL
    )
    maker = open_searches(folder, config).wishes
    assert maker is not None
    wishes = maker.wishes(SearchOptions())
    streams = [
        [
            replace(job.task, slot=slot, wishes=wishes if job.task.index == 0 else None)
            for job in jobs[slot % len(calls)]
            if isinstance(job.task, Chunk)
        ]
        for slot in range(rows)
    ]
    shortest = min(map(len, streams))
    batches = [[stream[at] for stream in streams] for at in range(shortest)]
    calls_s = rows * shortest * _call_s_a_chunk(jobs, calls)

    def forward() -> None:
        for batch in batches:
            model.forward(batch)

    answers = [model.forward(batch) for batch in batches]

    def search() -> None:
        replay = iter(answers)
        answering = SimpleNamespace(
            forward=lambda _: next(replay), vocabulary=model.vocabulary, frame_ms=model.frame_ms, blank=model.blank
        )
        pass_.model = cast("AcousticModel", answering)  # so that only the rest takes time
        for batch in batches:
            for _ in pass_.advance(batch):
                pass

    forward_s, search_s = cpu_s(forward), cpu_s(search)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        forward()
    inside = {event.key.removeprefix("aten::"): event.self_cpu_time_total / 1e6 for event in profile.key_averages()}
    profiled_s = sum(inside.values())

    def part(name: str, *operations: str) -> Stage:
        """Of the forward, by the profiler's shares: it costs time itself."""
        found_s = sum(seconds for operation, seconds in inside.items() if operation.startswith(operations))
        return Stage(name, found_s / profiled_s * forward_s / calls_s * 1e6, inside=True)

    return [
        Stage(f"forward, {rows} calls a batch", forward_s / calls_s * 1e6),
        part("features (spectra)", "_fft", "log10", "square", "pow"),
        part("matrix products", "addmm", "_int_mm", "mm", "mkldnn_convolution"),
        part("to 8 bits and back", "abs", "amax", "round", "div", "clamp", "copy_", "mul_", "add_"),
        part("attention", "_scaled_dot_product", "bmm", "_softmax"),  # one operation, or with older torch three
        part("scatter into the rings", "_index_put", "index_put"),
        part("activations and norms", "gelu", "native_layer_norm", "_log_softmax"),
        Stage("search, words so far", search_s / calls_s * 1e6),
    ]


def _call_s_a_chunk(jobs: Sequence[Sequence[Any]], calls: Sequence[NDArray[np.int16]]) -> float:
    """Seconds of a call for each of its chunks: silence is not fed."""
    return sum(map(len, calls)) / TELEPHONE_RATE / sum(isinstance(job.task, Chunk) for each in jobs for job in each)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m scripts.stages", description=__doc__.split("\n\n", maxsplit=1)[0])
    parser.add_argument("--rows", metavar="N", type=int, default=16, help="calls in a batch (default: %(default)s)")
    parser.add_argument("--precision", choices=[one.value for one in Precision], default=Precision.AUTO.value)
    parser.add_argument(
        "--seconds", metavar="S", type=float, default=60.0, help="of each call, at most (default: %(default)g)"
    )
    parser.add_argument("--json", metavar="FILE", type=Path, help="all figures")
    return parser


if __name__ == "__main__":
    sys.exit(main())
