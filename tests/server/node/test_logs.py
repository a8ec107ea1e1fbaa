from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from parley.asr.v1 import speech_pb2 as pb
from parley.decoder.errors import DeviceError
from parley.decoder.search.wishes import Weights, WishMaker
from parley.decoder.values import Failed, Finished, Source
from tests.server.fakes import FakeRecognizer, final
from tests.server.small_lm import write_lm
from tests.server.wire import PCM, audio, configured, read_all, refusal

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from tests.server.conftest import Lines, Running

    Serve = Callable[..., Awaitable[Running]]

ACTIVE = ("parley_calls_active", {"method": "StreamingRecognize"})
NAMED = pb.RecognitionConfig(request_id="call-9")
NAMED.MergeFrom(PCM)

WEIGHTS = Weights(beam=4, language_weight=0.5, word_bonus=1.0)


@pytest.mark.parametrize("log_words", [False, True])
async def test_a_stream_is_one_line_of_figures_and_no_words_unless_asked(
    serve: Serve, start_log: Callable[[], Lines], log_words: bool
) -> None:
    running = await serve(log_words=log_words)
    lines = start_log()
    call = running.stub.StreamingRecognize(iter([configured(NAMED), audio(bytes(32_000))]))
    stream = await running.recognizer.streams.get()
    stream.finishes = False
    await stream.finished.wait()
    stream.say(final())
    stream.say(Finished())
    await read_all(call)
    await running.stub.Recognize(pb.RecognizeRequest(config=NAMED, audio=bytes(320)))
    logged = lines()
    assert {line["request_id"] for line in logged} == {"call-9"}
    ended = [line for line in logged if line["event"] == "call ended"]
    assert [(line["method"], line["code"], line["level"]) for line in ended] == [
        ("StreamingRecognize", "OK", "info"),
        ("Recognize", "OK", "info"),
    ]
    assert [(line["audio_s"], line["finals"], line["encoding"]) for line in ended] == [
        (1.0, 1, "LINEAR16"),
        (2.0, 2, "LINEAR16"),
    ]
    assert ended[0]["worst_final_s"] == 0.25
    assert ended[0]["half_close_to_last_final_s"] >= 0
    words = [line["words"] for line in logged if "words" in line]
    assert words == (["one two", "one two one two"] if log_words else [])
    assert log_words or "one two" not in json.dumps(logged)


async def test_finals_that_the_first_pass_gave_in_time_are_in_the_calls_line(
    running: Running, start_log: Callable[[], Lines]
) -> None:
    lines = start_log()
    call = running.stub.StreamingRecognize(iter([configured(NAMED)]))
    stream = await running.recognizer.streams.get()
    stream.finishes = False
    stream.say(final())
    stream.say(final(1, source=Source.FIRST_IN_TIME))
    stream.say(Finished())
    await read_all(call)
    (line,) = lines()
    assert (line["finals"], line["finals_in_time"]) == (2, 1)


async def test_a_node_says_what_it_serves_with(serve: Serve, start_log: Callable[[], Lines], tmp_path: Path) -> None:
    lines = start_log()
    language_model = write_lm(tmp_path / "own.lm", ["one two"])
    maker = WishMaker(WEIGHTS, language_model, None)
    await serve(FakeRecognizer(3, maker), passes="both", language_model=language_model)
    (line,) = [line for line in lines() if line["event"] == "serving"]
    assert (line["passes"], line["models"], line["devices"], line["decoders"]) == ("both", ["fake"], ["fake"], 3)
    assert line["language_model"] == "own.lm"
    sizes = [line[f"decoder_{part}_bytes"] for part in ("audio", "search", "cache")]
    assert sizes == [1_000, 500, 2_000]


@pytest.mark.parametrize("given", [{"passes": "second"}, {"search": "best_path", "passes": "first"}])
async def test_a_node_that_does_not_search_has_no_language_model(
    serve: Serve, start_log: Callable[[], Lines], tmp_path: Path, given: dict[str, str]
) -> None:
    lines = start_log()
    await serve(language_model=tmp_path / "own.lm", **given)
    (line,) = [line for line in lines() if line["event"] == "serving"]
    assert "language_model" not in line


async def test_a_reload_says_what_is_there_now_or_why_it_is_not(
    serve: Serve, start_log: Callable[[], Lines], tmp_path: Path
) -> None:
    lines, hotwords = start_log(), tmp_path / "names"
    language_model = write_lm(tmp_path / "own.lm", ["one two", "one three"])
    hotwords.write_text("marianne\n")
    recognizer = FakeRecognizer(maker=WishMaker(WEIGHTS, language_model, hotwords))
    running = await serve(recognizer, passes="first", language_model=language_model, hotwords_file=hotwords)
    hotwords.write_text("marianne\nwilloughby\t3\n")
    await running.node.reload()
    (tmp_path / "new").write_text("not a model")
    (tmp_path / "new").rename(language_model)
    await running.node.reload()
    said = [line for line in lines() if "reloaded" in line["event"]]
    assert [line["event"] for line in said] == ["reloaded", "not reloaded"]
    assert (said[0]["language_model"], said[0]["hotwords"]) == ("own.lm", 2)
    assert said[0]["ngrams"] == [6, 5, 4]  # one, two, three, <s>, </s>, <unk>; and what follows what
    assert f"{language_model}: got a file that begins with" in said[1]["reason"]


async def test_a_bug_leaves_its_traceback_in_the_log_and_nowhere_else(
    running: Running, start_log: Callable[[], Lines]
) -> None:
    lines = start_log()
    call = running.stub.StreamingRecognize(iter([configured(NAMED)]))
    stream = await running.recognizer.streams.get()
    stream.finishes = False
    cause = DeviceError("the card fell off")
    stream.say(Failed(cause))
    await refusal(read_all(call))
    (line,) = lines()
    assert (line["event"], line["level"], line["request_id"], line["code"]) == (
        "call failed",
        "error",
        "call-9",
        "INTERNAL",
    )
    assert "Traceback" in line["exception"]
    assert "the card fell off" in line["exception"]


async def test_a_clients_fault_is_no_error_of_ours(running: Running, start_log: Callable[[], Lines]) -> None:
    lines = start_log()
    await refusal(read_all(running.stub.StreamingRecognize(iter([audio(b"1")]))))
    (line,) = lines()
    assert (line["event"], line["level"], line["code"]) == ("call refused", "info", "INVALID_ARGUMENT")
    assert "got audio first" in line["problem"]
    assert "exception" not in line


async def test_a_given_up_call_is_told_apart(running: Running, start_log: Callable[[], Lines]) -> None:
    lines = start_log()
    call = running.stub.StreamingRecognize()
    await call.write(configured())
    await running.recognizer.streams.get()
    call.cancel()
    (await _all_decoders(running)).release()
    late = running.stub.StreamingRecognize(timeout=0.2)
    await late.write(configured())
    await running.recognizer.streams.get()
    await refusal(read_all(late))
    (await _all_decoders(running)).release()
    assert [line["code"] for line in lines()] == ["CANCELLED", "DEADLINE_EXCEEDED"]


async def test_who_gives_up_before_the_config_is_not_at_fault(running: Running, start_log: Callable[[], Lines]) -> None:
    lines = start_log()
    calls = [running.stub.StreamingRecognize() for _ in range(50)]
    await _live(running, 50)
    for call in calls:
        call.cancel()
    await _live(running, 0)
    assert [line["code"] for line in lines()] == 50 * ["CANCELLED"]


async def _live(running: Running, count: int) -> None:
    """Waits until so many calls are open."""
    while running.node.metrics.registry.get_sample_value(*ACTIVE) != count:  # noqa: ASYNC110  # a metric tells nobody that it changes
        await asyncio.sleep(0)


async def _all_decoders(running: Running) -> Any:
    return await asyncio.wrap_future(running.recognizer.pool.request(4))
