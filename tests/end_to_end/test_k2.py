"""A real node that searches lattices: recordings over graphs and grammars by name, live finals, beside live calls.

Where k2 is missing, what is said of that.
"""

from __future__ import annotations

import asyncio
import importlib.util
import itertools
import json
import subprocess
import sys
from typing import TYPE_CHECKING

import grpc
import pytest

from parley.asr.v1 import speech_pb2 as pb
from parley.asr.v1 import speech_pb2_grpc
from parley.decoder.text.vocabulary import Vocabulary
from parley.server.node.settings import DEFAULT_FIRST_MODEL
from parley.training.graph.build import grammar_graph, language_model_graph
from parley.training.graph.files import write_graph
from scripts.node_process import NodeProcess
from scripts.scoring import count_errors
from tests.end_to_end.calls import PCM, cut, read_final, recognize, requests, stream
from tests.server.small_lm import write_lm
from tests.speech import RECORDINGS, pcm_of, words_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from parley.asr.v1.speech_pb2_grpc import SpeechAsyncStub
    from tests.end_to_end.calls import Call

LONG, *SHORT = RECORDINGS
HAS_K2 = importlib.util.find_spec("k2") is not None


@pytest.mark.skipif(HAS_K2, reason="k2 is here")
def test_without_k2_one_line_says_so() -> None:
    flags = ("--passes", "first", "--search", "k2", "--port", "0", "--metrics-port", "-1", "--log-format", "json")
    ran = subprocess.run([sys.executable, "-m", "parley.clients.cli", "serve", *flags], capture_output=True, text=True)
    assert ran.returncode == 2
    said = ran.stderr.strip().splitlines()[-1]
    assert 'search = "k2": k2 is not installed here' in said
    assert "make k2" in said
    assert "Traceback" not in ran.stderr


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    """With the graphs `speech`, of what is said in all recordings, and `menu`, of what is said in each short one."""
    folder: Path = tmp_path_factory.mktemp("graphs")
    vocabulary = Vocabulary.read_tokens(DEFAULT_FIRST_MODEL / "tokens.txt")
    arpa = write_lm(folder / "speech.arpa", map(words_of, RECORDINGS))
    write_graph(language_model_graph(arpa, vocabulary), folder / "speech.graph")
    choices = " | ".join(map(words_of, SHORT))
    menu = grammar_graph(f"#JSGF V1.0;\ngrammar menu;\npublic <said> = {choices};\n", vocabulary)
    write_graph(menu, folder / "menu.graph")
    flags = ("--passes", "first", "--search", "k2", "--graphs-dir", str(folder))
    shares = ("--devices", "cpu:0,cpu:1", "--decoders", "8")  # which have one process of lattices between them
    with NodeProcess(*flags, *shares, "--pool-wait-s", "100", "--stream-wait-s", "100") as running:
        yield running
        assert running.stop() == 0, "".join(running.log[-50:])
        assert [line for line in running.log if json.loads(line)["level"] in ("error", "critical")] == []


@pytest.fixture
async def stub(node: NodeProcess) -> AsyncIterator[SpeechAsyncStub]:
    async with grpc.aio.insecure_channel(node.address) as channel:
        yield speech_pb2_grpc.SpeechStub(channel)


def over(graph: str = "", *, alternatives: int = 1, lattice: bool = False) -> pb.RecognitionConfig:
    config = pb.RecognitionConfig(
        max_alternatives=alternatives,
        enable_word_time_offsets=True,
        search=pb.SearchConfig(grammar=graph, lattice=lattice),
    )
    config.MergeFrom(PCM)
    return config


def errors(name: str, words: dict[int, str]) -> float:
    return count_errors(words_of(name), " ".join(words.values())).rate


@pytest.mark.k2
async def test_a_graph_of_what_may_be_said_is_better_than_none(stub: SpeechAsyncStub) -> None:
    for name in (LONG, *SHORT[1:4]):
        plain = await recognize(stub, pcm_of(name), over())
        with_words = await recognize(stub, pcm_of(name), over("speech"))
        assert errors(name, with_words) < errors(name, plain)


@pytest.mark.k2
async def test_a_grammar_is_all_that_is_heard(stub: SpeechAsyncStub) -> None:
    said = {words_of(name) for name in SHORT}
    for name in SHORT:
        assert await recognize(stub, pcm_of(name), over("menu")) == {0: words_of(name)}
    response = await stub.Recognize(pb.RecognizeRequest(config=over("menu"), audio=pcm_of(LONG)))
    for result in response.results:
        assert result.alternatives[0].transcript in said


@pytest.mark.k2
async def test_a_live_final_is_over_a_grammar_if_its_call_asks(stub: SpeechAsyncStub) -> None:
    pieces = cut(pcm_of(SHORT[0]), 6_400)
    assert await stream(stub, pieces, over("menu")) == {0: words_of(SHORT[0])}
    assert (await stream(stub, pieces, PCM))[0] != words_of(SHORT[0])  # by beams, over anything


@pytest.mark.k2
async def test_the_lattice_holds_what_was_said(stub: SpeechAsyncStub) -> None:
    request = pb.RecognizeRequest(config=over("speech", alternatives=5, lattice=True), audio=pcm_of(SHORT[0]))
    (result,) = (await stub.Recognize(request)).results
    best, *others = result.alternatives
    assert all(best.scores.total >= other.scores.total for other in others)
    assert len({best.transcript, *(other.transcript for other in others)}) == 1 + len(others)
    arcs = result.lattice.arcs
    ends: list[float] = []
    point: dict[int, set[tuple[str, ...]]] = {0: {()}}
    for source, leaving in itertools.groupby(arcs, key=lambda arc: arc.source):
        for arc in leaving:
            assert 0 <= arc.source < arc.target < result.lattice.points
            assert 0 < arc.posterior <= 1
            assert arc.start_time.ToMilliseconds() <= arc.end_time.ToMilliseconds()
            new = {(*words, arc.word) if arc.word else words for words in point.get(source, ())}
            point.setdefault(arc.target, set()).update(itertools.islice(new, 2_000))
            ends += [arc.posterior] if arc.target == result.lattice.points - 1 else []
    assert sum(ends) == pytest.approx(1, abs=0.05)
    assert tuple(best.transcript.split()) in point[result.lattice.points - 1]


@pytest.mark.k2
async def test_what_there_is_no_graph_for_is_refused(stub: SpeechAsyncStub) -> None:
    for config, expected in ((over("dinner"), "one of tokens, menu, speech"), (over("../menu"), "one of tokens")):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await recognize(stub, pcm_of(SHORT[0]), config)
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert expected in (refused.value.details() or "")


@pytest.mark.k2
async def test_batches_and_neighbours_change_no_words(stub: SpeechAsyncStub) -> None:
    kinds = (over(), over("speech"), over("menu"))
    alone = {(name, at): await recognize(stub, pcm_of(name), kind) for name in SHORT for at, kind in enumerate(kinds)}
    asked = [*alone] * 2
    together = await asyncio.gather(*(recognize(stub, pcm_of(name), kinds[at]) for name, at in asked))
    assert together == [alone[each] for each in asked]


@pytest.mark.k2
async def test_live_calls_go_on_beside_lattices(stub: SpeechAsyncStub) -> None:
    """While recordings are being searched, interim results still come before the call has ended."""
    files = [asyncio.ensure_future(recognize(stub, pcm_of(LONG), over("speech", lattice=True))) for _ in range(6)]
    call: Call = stub.StreamingRecognize()
    first, *pieces = requests(PCM, cut(pcm_of(SHORT[0]), 6_400))
    first.config.interim_results = True
    for message in (first, *pieces):
        await call.write(message)
    shown = None
    async for response in call:
        if response.results:
            shown = response.results[0]
            break
    assert shown is not None
    assert not shown.is_final
    assert not all(file.done() for file in files)
    await call.done_writing()
    assert await read_final(call)
    heard = await asyncio.gather(*files)
    assert all(each == heard[0] for each in heard)
