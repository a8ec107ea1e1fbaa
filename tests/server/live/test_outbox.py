from __future__ import annotations

import asyncio
import threading
from dataclasses import replace

from parley.decoder.values import Advanced, Event, Finished, SpeechBegin
from parley.server.live.outbox import MOST_WAITING, Outbox
from tests.server.fakes import final, partial


async def filled(*events: Event) -> Outbox:
    outbox = Outbox()
    for event in events:
        outbox.sink(event)
    await asyncio.sleep(0)
    return outbox


async def taken(outbox: Outbox, count: int) -> list[Event | None]:
    return [await outbox.take() for _ in range(count)]


async def test_events_come_in_order_and_across_threads() -> None:
    outbox = Outbox()
    events: list[Event] = [SpeechBegin(0, 1), final(0), final(1), Finished()]

    def say() -> None:
        for event in events:
            outbox.sink(event)

    thread = threading.Thread(target=say)
    thread.start()
    assert await taken(outbox, 4) == events
    thread.join()


async def test_only_the_newest_partial_of_a_channel_waits() -> None:
    newest, other = partial(text="one two three"), partial(channel=1)
    outbox = await filled(partial(text="one"), other, partial(text="one two"), newest, SpeechBegin(0, 1))
    assert await taken(outbox, 3) == [SpeechBegin(0, 1), newest, other]


async def test_a_final_takes_the_place_of_its_partial_only() -> None:
    outbox = await filled(partial(0), partial(0, channel=1), final(0))
    assert await taken(outbox, 2) == [final(0), partial(0, channel=1)]
    outbox = await filled(final(0), partial(1), final(0))
    assert await taken(outbox, 3) == [final(0), final(0), partial(1)]


async def test_room_ends_with_many_waiting_and_comes_back_by_reading() -> None:
    outbox = await filled(*(final(segment) for segment in range(MOST_WAITING)))
    assert not outbox.has_room
    outbox.moved.clear()
    await outbox.take()
    assert outbox.has_room
    assert outbox.moved.is_set()


async def test_a_moved_cursor_wakes_the_reader_and_is_told_last_and_once() -> None:
    outbox = await filled(Advanced(0, 500), Advanced(0, 700))
    assert outbox.moved.is_set()
    outbox.nudge()
    outbox.sink(SpeechBegin(0, 1))
    outbox.sink(partial(1))
    await asyncio.sleep(0)
    assert await taken(outbox, 3) == [SpeechBegin(0, 1), partial(1), None]
    outbox.sink(Finished())
    assert await outbox.take() == Finished()


async def test_a_partial_goes_when_its_utterance_ends_without_words() -> None:
    over, going_on, other = partial(0), replace(partial(1), start_ms=700), partial(0, channel=1)
    outbox = await filled(over, other, Advanced(0, 700))
    assert await taken(outbox, 2) == [other, None]
    outbox = await filled(going_on, Advanced(0, 700))
    assert await taken(outbox, 2) == [going_on, None]


async def test_a_final_waits_from_the_moment_the_decoder_made_it() -> None:
    outbox = Outbox()
    assert not outbox.finals_waiting
    outbox.sink(final())
    assert outbox.finals_waiting
    await outbox.take()
    assert not outbox.finals_waiting
