"""How a node with a fake recognizer hands a request's search on, and how it reads its sources anew."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any, cast

import pytest

from parley.asr.v1 import speech_pb2 as pb
from parley.decoder.errors import ModelError
from parley.decoder.search.wishes import Weights, WishMaker
from parley.decoder.values import Phrase, SearchOptions
from parley.server.node.app import Node
from parley.server.node.settings import Settings
from tests.server.fakes import FakeRecognizer
from tests.server.small_lm import write_lm
from tests.server.wire import PCM, configured, read_all

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from tests.server.conftest import Running

    Serve = Callable[..., Awaitable[Running]]

SETTINGS = Settings.of({"port": 0, "metrics_port": -1, "passes": "first", "language_model": None})


def asking(**fields: Any) -> pb.RecognitionConfig:
    config = pb.RecognitionConfig(**fields)
    config.MergeFrom(PCM)
    return config


async def test_a_requests_search_reaches_its_stream_and_its_file(running: Running) -> None:
    config = asking(
        speech_contexts=[pb.SpeechContext(phrases=["marianne"], boost=5)],
        search=pb.SearchConfig(beam=3, grammar="menu"),
    )
    call = running.stub.StreamingRecognize(iter([configured(config)]))
    stream = await running.recognizer.streams.get()
    await read_all(call)
    await running.stub.Recognize(pb.RecognizeRequest(config=config, audio=bytes(320)))
    wanted = SearchOptions(beam=3, hotwords=(Phrase("marianne", 5),), grammar="menu")
    assert stream.options.search == running.recognizer.files.options[0].search == wanted


@pytest.mark.parametrize(("asked", "language", "found"), [(False, "de", "de"), (True, "de", "de"), (True, "", "en")])
async def test_written_form_is_asked_for_in_the_requests_language_or_else_the_models(
    running: Running, asked: bool, language: str, found: str
) -> None:
    config = asking(enable_inverse_text_normalization=asked, language_code=language)
    await running.stub.Recognize(pb.RecognizeRequest(config=config, audio=bytes(320)))
    (options,) = running.recognizer.files.options
    assert (options.language, options.written) == (found, asked)


class Reloading(FakeRecognizer):
    """Counts how often it is told to read its files anew."""

    def __init__(self, fault: Exception | None = None) -> None:
        super().__init__()
        self.reloads = 0
        self.threads: set[threading.Thread] = set()
        self.fault = fault

    def reload(self) -> None:
        self.reloads += 1
        self.threads.add(threading.current_thread())
        if self.fault is not None:
            raise self.fault


def counted(running: Running) -> dict[str, float | None]:
    registry = running.node.metrics.registry
    return {
        result: registry.get_sample_value("parley_reloads_total", {"result": result})
        for result in ("reloaded", "not_reloaded")
    }


async def test_a_reload_is_the_recognizers_in_a_thread_and_is_counted(serve: Serve) -> None:
    recognizer = Reloading()
    running = await serve(recognizer, passes="first", language_model=None)
    assert counted(running) == {"reloaded": 0, "not_reloaded": 0}
    await running.node.reload()
    assert recognizer.reloads == 1
    assert threading.current_thread() not in recognizer.threads
    assert counted(running) == {"reloaded": 1, "not_reloaded": 0}


@pytest.mark.parametrize("fault", [ModelError("en.lm: got 7 bytes"), MemoryError(), ValueError("a bug")])
async def test_a_reload_that_fails_leaves_the_node_serving(serve: Serve, fault: Exception) -> None:
    recognizer = Reloading(fault)
    running = await serve(recognizer, passes="both", language_model=None)
    await running.node.reload()
    await running.node.reload()
    assert counted(running) == {"reloaded": 0, "not_reloaded": 2}
    assert (await running.stub.Recognize(pb.RecognizeRequest(config=PCM, audio=bytes(320)))).results


@pytest.mark.parametrize("given", [{"passes": "second"}, {"passes": "first", "search": "best_path"}])
async def test_a_node_that_does_not_search_reloads_nothing(serve: Serve, given: dict[str, str]) -> None:
    recognizer = Reloading()
    running = await serve(recognizer, **given)
    await running.node.reload()
    assert recognizer.reloads == 0
    assert counted(running) == {"reloaded": 0, "not_reloaded": 1}


async def test_a_file_that_is_broken_by_now_leaves_all_as_it_was(serve: Serve, tmp_path: Path) -> None:
    hotwords, language_model = tmp_path / "names", write_lm(tmp_path / "small.lm", ["one two three"])
    hotwords.write_text("one\n")
    maker = WishMaker(Weights(beam=4, language_weight=0.5, word_bonus=1.0), language_model, hotwords)
    running = await serve(
        FakeRecognizer(maker=maker), passes="first", language_model=language_model, hotwords_file=hotwords
    )
    before = maker.sources
    hotwords.write_text("one\tloud\n")
    await running.node.reload()
    assert (maker.sources, counted(running)["not_reloaded"]) == (before, 1)
    hotwords.write_text("one\ntwo\t3\n")
    await running.node.reload()
    assert ([phrase.text for phrase in maker.sources.phrases], counted(running)["reloaded"]) == (["one", "two"], 1)


async def test_a_reload_waits_for_the_models() -> None:
    recognizer, loading = Reloading(), threading.Event()

    def build(*_: object) -> Reloading:
        loading.wait()
        return recognizer

    node = Node(SETTINGS, build=cast("Any", build))
    await node.reload()  # too early: there is nothing yet that could be old
    await node.start()
    reloading = asyncio.ensure_future(node.reload())
    await asyncio.sleep(0)
    assert not reloading.done()
    loading.set()
    await reloading
    assert recognizer.reloads == 1
    await node.drain()


async def test_a_reload_of_a_node_that_could_not_load_is_none() -> None:
    def build(*_: object) -> FakeRecognizer:
        raise ModelError("no weights")

    node = Node(SETTINGS, build=cast("Any", build))
    await node.start()
    await node.reload()
    with pytest.raises(ModelError, match="no weights"):
        await node.ready()
    await node.drain()
