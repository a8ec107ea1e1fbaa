from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
import structlog

from parley.decoder.values import Encoding
from parley.server.live.recognition import file_encoding
from parley.server.live.threads import to_the_end

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def executor() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as executor:
        yield executor


async def test_what_the_work_returns_or_raises_comes_out(executor: ThreadPoolExecutor) -> None:
    assert await to_the_end(executor, lambda cancelled: cancelled.is_set()) is False
    with pytest.raises(ZeroDivisionError):
        await to_the_end(executor, lambda _: 1 // 0)


async def test_the_thread_knows_the_calls_id(executor: ThreadPoolExecutor) -> None:
    with structlog.contextvars.bound_contextvars(request_id="id-7"):
        bound = await to_the_end(executor, lambda _: structlog.contextvars.get_contextvars())
    assert bound["request_id"] == "id-7"


@pytest.mark.parametrize("fails", [False, True])
async def test_a_cancel_waits_for_the_thread_however_often_it_comes(executor: ThreadPoolExecutor, fails: bool) -> None:
    begun, go = threading.Event(), threading.Event()

    def work(cancelled: threading.Event) -> None:
        begun.set()
        assert cancelled.wait(60)
        assert go.wait(60)
        if fails:
            raise ZeroDivisionError

    running = asyncio.ensure_future(to_the_end(executor, work))
    await asyncio.to_thread(begun.wait)
    for _ in range(3):
        running.cancel()
        for _ in range(5):
            await asyncio.sleep(0)
        assert not running.done()
    go.set()
    with pytest.raises(asyncio.CancelledError):
        await running


@pytest.mark.parametrize(
    ("said", "codec", "name"),
    [
        (Encoding.AUTO, "flac", "FLAC"),
        (Encoding.AUTO, "pcm_mulaw", "MULAW"),
        (Encoding.AUTO, "LINEAR16", "LINEAR16"),
        (Encoding.AUTO, "aac", "aac"),
        (Encoding.OGG_OPUS, "opus", "OGG_OPUS"),
    ],
)
def test_a_files_encoding_has_one_name(said: Encoding, codec: str, name: str) -> None:
    assert file_encoding(said, codec) == name
