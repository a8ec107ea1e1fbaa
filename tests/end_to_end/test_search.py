"""A real node whose first pass searches: hotwords a call, language model and hotwords read anew while calls run."""

from __future__ import annotations

import asyncio
import json
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from parley.asr.v1 import speech_pb2 as pb
from parley.asr.v1 import speech_pb2_grpc
from scripts.node_process import NodeProcess
from tests.end_to_end.calls import PCM, cut, end, open_request
from tests.end_to_end.metrics import read_metrics
from tests.server.small_lm import write_lm
from tests.server.wire import refusal
from tests.speech import RATE, RECORDINGS, pcm_of, words_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator

    from parley.asr.v1.speech_pb2_grpc import SpeechAsyncStub
    from tests.end_to_end.calls import Call

DECODERS = 16
LONG, *SHORT = RECORDINGS
LEISURE, HIMSELF = SHORT[0], SHORT[4]  # recordings in which these words are said
# In spellings that nothing but a hotword can give.
OF_CALLS = {LEISURE: "leesure", HIMSELF: "himselff"}
BOOST = 8


@pytest.fixture(scope="module")
def lm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Knows what is said in the recordings."""
    return write_lm(tmp_path_factory.mktemp("lm") / "all.lm", map(words_of, RECORDINGS))


@pytest.fixture(scope="module")
def node(lm: Path) -> Iterator[NodeProcess]:
    with started("--language-model", str(lm)) as running:
        yield running
        assert running.stop() == 0, "".join(running.log[-50:])
        assert [line for line in running.log if json.loads(line)["level"] in ("error", "critical")] == []


@pytest.fixture
async def stub(node: NodeProcess) -> AsyncIterator[SpeechAsyncStub]:
    async with grpc.aio.insecure_channel(node.address) as channel:
        yield speech_pb2_grpc.SpeechStub(channel)


def started(*flags: str) -> NodeProcess:
    own = ("--passes", "first", "--devices", "cpu", "--decoders", str(DECODERS), "--stream-wait-s", "100")
    return NodeProcess(*own, *flags)


def config(*phrases: str, **fields: Any) -> pb.RecognitionConfig:
    asked = pb.RecognitionConfig(**fields)
    asked.MergeFrom(PCM)
    if phrases:
        asked.speech_contexts.add(phrases=phrases, boost=BOOST)
    return asked


async def alternatives(
    stub: SpeechAsyncStub, name: str, *phrases: str, **fields: Any
) -> list[pb.SpeechRecognitionAlternative]:
    """The best of every final, of a recording that is streamed."""
    call = stub.StreamingRecognize()
    await call.write(open_request(config(*phrases, **fields)))
    return await finish(call, cut(pcm_of(name), RATE * 2 // 10))


async def finish(call: Call, pieces: Iterable[bytes]) -> list[pb.SpeechRecognitionAlternative]:
    for piece in pieces:
        await call.write(pb.StreamingRecognizeRequest(audio=piece))
    await call.done_writing()
    return [result.alternatives[0] async for response in call for result in response.results if result.is_final]


def text(finals: Iterable[pb.SpeechRecognitionAlternative]) -> str:
    return " ".join(final.transcript for final in finals)


async def words(stub: SpeechAsyncStub, name: str, *phrases: str, **fields: Any) -> str:
    return text(await alternatives(stub, name, *phrases, **fields))


async def test_hotwords_of_a_call_do_not_touch_the_words_of_others_at_the_same_time(stub: SpeechAsyncStub) -> None:
    alone = {name: await words(stub, name) for name in SHORT}
    asked = {name: await words(stub, name, phrase) for name, phrase in OF_CALLS.items()}
    for name, phrase in OF_CALLS.items():
        assert phrase in asked[name].split()
        assert phrase not in alone[name].split()
    calls = [(name, phrases) for name in SHORT for phrases in ((), tuple(OF_CALLS.values()))] * 2
    together = await asyncio.gather(*(words(stub, name, *phrases) for name, phrases in calls))
    for (name, phrases), heard in zip(calls, together, strict=True):
        if not phrases:
            assert heard == alone[name]
        elif name in OF_CALLS:
            assert heard == asked[name]
    assert [await words(stub, name) for name in SHORT] == list(alone.values())  # on the decoders that had hotwords


async def test_a_file_has_hotwords_too(stub: SpeechAsyncStub) -> None:
    for phrases in ((), (OF_CALLS[HIMSELF],)):
        response = await stub.Recognize(pb.RecognizeRequest(config=config(*phrases), audio=pcm_of(HIMSELF)))
        heard = text(result.alternatives[0] for result in response.results).split()
        assert (OF_CALLS[HIMSELF] in heard) is bool(phrases)


async def test_scores_say_what_the_words_were_chosen_by(stub: SpeechAsyncStub) -> None:
    plain, with_hotword = [await alternatives(stub, HIMSELF, *phrases) for phrases in ((), (OF_CALLS[HIMSELF],))]
    without_lm = await alternatives(stub, HIMSELF, search=pb.SearchConfig(language_weight=0, word_bonus=0))
    for finals in (plain, with_hotword, without_lm):
        for scores in (final.scores for final in finals):
            assert scores.acoustic < 0
            assert scores.total == pytest.approx(scores.acoustic + scores.language + scores.hotwords)
    assert sum(final.scores.hotwords for final in plain) == 0 < sum(final.scores.hotwords for final in with_hotword)
    assert all(final.scores.language != 0 for final in plain)
    assert all(final.scores.language == 0 for final in without_lm)


async def test_the_language_model_is_a_matter_of_the_call(stub: SpeechAsyncStub) -> None:
    weights = (None, 0.0, None)
    heard = [await words(stub, HIMSELF, search=pb.SearchConfig(language_weight=weight)) for weight in weights]
    assert heard[0] == heard[2] == words_of(HIMSELF)
    assert heard[1] != heard[0]


@pytest.mark.parametrize(
    ("field", "asked"),
    [
        ("search.beam", {"search": pb.SearchConfig(beam=65)}),
        ("search.language_weight", {"search": pb.SearchConfig(language_weight=-1)}),
        ("search.word_bonus", {"search": pb.SearchConfig(word_bonus=11)}),
        ("speech_contexts.boost", {"speech_contexts": [pb.SpeechContext(phrases=["one"], boost=21)]}),
        ("speech_contexts.phrases", {"speech_contexts": [pb.SpeechContext(phrases=["one", ""])]}),
        ("speech_contexts", {"speech_contexts": [pb.SpeechContext(phrases=["one"] * 1_001)]}),
    ],
)
async def test_an_option_that_cannot_be_is_refused_by_its_name(
    stub: SpeechAsyncStub, field: str, asked: dict[str, Any]
) -> None:
    call = stub.StreamingRecognize(iter([open_request(config(**asked))]))
    for refused in (end(call), stub.Recognize(pb.RecognizeRequest(config=config(**asked), audio=bytes(320)))):
        why = await refusal(refused)
        assert (why.code, why.fields) == (grpc.StatusCode.INVALID_ARGUMENT, [field])


async def test_without_a_language_model_there_is_no_weight_for_it() -> None:
    with started("--language-model", "") as node:
        assert "language_model" not in node.wait_for("serving")
        async with grpc.aio.insecure_channel(node.address) as channel:
            stub: SpeechAsyncStub = speech_pb2_grpc.SpeechStub(channel)
            assert await words(stub, HIMSELF)
            weighed = config(search=pb.SearchConfig(language_weight=1))
            why = await refusal(stub.Recognize(pb.RecognizeRequest(config=weighed, audio=bytes(320))))
            assert why.fields == ["search.language_weight"]
            assert "no language model is loaded" in why.text


class Reloaded:
    """A node and its files, which may be replaced."""

    def __init__(self, node: NodeProcess, language_model: Path, hotwords: Path) -> None:
        self._node, self.language_model, self.hotwords = node, language_model, hotwords
        self._signals = 0

    async def hang_up(self, event: str) -> dict[str, Any]:
        """The log's line of what came of it, and that the metrics have it too."""
        count = sum(json.loads(line)["event"] == event for line in self._node.log) + 1
        self._node.process.send_signal(signal.SIGHUP)
        self._signals += 1
        line = await asyncio.to_thread(self._node.wait_for, event, count)
        while (await read_metrics(self._node))["parley_reloads_total"] < self._signals:
            pass  # each look asks the node, which has told its log a moment before
        return line

    def mapped(self) -> list[bool]:
        """Of each language model that the node has in its memory: whether its file is still there."""
        maps = Path(f"/proc/{self._node.process.pid}/maps").read_text(encoding="utf-8").splitlines()
        return ["(deleted)" not in line for line in maps if str(self.language_model) in line]

    async def has_one(self) -> None:
        """Until the file of now is all that is mapped: when a call's words are out, its decoder is not yet back."""
        while self.mapped() != [True]:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def write_files(language_model: Path, hotwords: Path) -> None:
    """What the node begins with: what is said in the recordings, and no hotwords."""
    write_lm(language_model, map(words_of, RECORDINGS))
    hotwords.write_text("# none yet\n")


@pytest.fixture(scope="module")
def its_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reloaded]:
    folder: Path = tmp_path_factory.mktemp("files")
    files = folder / "own.lm", folder / "names"
    write_files(*files)
    with started("--language-model", str(files[0]), "--hotwords-file", str(files[1])) as node:
        yield Reloaded(node, *files)
        assert node.stop() == 0, "".join(node.log[-50:])


@pytest.fixture
async def reloaded(its_node: Reloaded) -> Reloaded:
    """With the files that it began with."""
    write_files(its_node.language_model, its_node.hotwords)
    await its_node.hang_up("reloaded")
    await its_node.has_one()
    return its_node


@pytest.fixture
async def its_stub(reloaded: Reloaded) -> AsyncIterator[SpeechAsyncStub]:
    async with grpc.aio.insecure_channel(reloaded._node.address) as channel:
        yield speech_pb2_grpc.SpeechStub(channel)


async def half_way(stub: SpeechAsyncStub, name: str) -> tuple[Call, list[bytes]]:
    """A call that is open, in the middle of its words, and the audio that is left of it."""
    call = stub.StreamingRecognize()
    pieces = cut(pcm_of(name), RATE * 2 // 10)
    await call.write(open_request(config(), interim_results=True))
    for piece in pieces[: len(pieces) // 2]:
        await call.write(pb.StreamingRecognizeRequest(audio=piece))
    async for response in call:
        if response.results:
            break
    return call, pieces[len(pieces) // 2 :]


async def test_new_calls_get_a_new_language_model_and_open_ones_keep_theirs(
    reloaded: Reloaded, its_stub: SpeechAsyncStub
) -> None:
    old = {name: await words(its_stub, name) for name in SHORT}
    calls = {name: await half_way(its_stub, name) for name in SHORT}
    assert reloaded.mapped() == [True]

    write_lm(reloaded.language_model, [words_of(LONG)])
    line = await reloaded.hang_up("reloaded")
    assert line["language_model_bytes"] == reloaded.language_model.stat().st_size
    assert sorted(reloaded.mapped()) == [False, True]
    new = {name: await words(its_stub, name) for name in SHORT}
    assert all(new[name] != old[name] for name in SHORT)

    kept = {name: text(await finish(call, rest)) for name, (call, rest) in calls.items()}
    assert kept == old
    await reloaded.has_one()
    assert {name: await words(its_stub, name) for name in SHORT} == new


async def test_new_calls_get_new_hotwords_of_the_node(reloaded: Reloaded, its_stub: SpeechAsyncStub) -> None:
    old = await words(its_stub, HIMSELF)
    call, rest = await half_way(its_stub, HIMSELF)
    reloaded.hotwords.write_text(f"{OF_CALLS[HIMSELF]}\t{BOOST}\n")
    assert (await reloaded.hang_up("reloaded"))["hotwords"] == 1
    assert OF_CALLS[HIMSELF] in (await words(its_stub, HIMSELF)).split()
    assert text(await finish(call, rest)) == old


async def test_what_cannot_be_read_leaves_the_old_in_use(reloaded: Reloaded, its_stub: SpeechAsyncStub) -> None:
    old = await words(its_stub, HIMSELF)
    broken = reloaded.language_model.with_name("broken")
    broken.write_bytes(reloaded.language_model.read_bytes()[:-100])
    broken.replace(reloaded.language_model)
    assert str(reloaded.language_model) in (await reloaded.hang_up("not reloaded"))["reason"]
    assert await words(its_stub, HIMSELF) == old
    # Both or none: a good language model does not come with hotwords that are bad.
    write_lm(reloaded.language_model, [words_of(LONG)])
    reloaded.hotwords.write_text("one\tvery\n")
    assert "line 1" in (await reloaded.hang_up("not reloaded"))["reason"]
    assert await words(its_stub, HIMSELF) == old
    reloaded.hotwords.write_text("")
    await reloaded.hang_up("reloaded")
    assert await words(its_stub, HIMSELF) != old
