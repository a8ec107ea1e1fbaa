"""A node whose card dies or hangs under its calls: what they are told, and that the node ends."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from parley.asr.v1 import speech_pb2_grpc
from parley.decoder.engine import watchdog
from parley.decoder.errors import DeviceLost
from parley.decoder.recognizer import Recognizer
from parley.server.kit import logs
from parley.server.node import app
from parley.server.node import main as entry
from parley.server.node.app import Node
from parley.server.node.settings import Settings
from tests.decoder.fake_card import put_in
from tests.decoder.fakes import WAIT_S
from tests.server.node.test_node import metrics_of
from tests.server.wire import audio, configured, read_all, refusal, refusal_of
from tests.speech import pcm_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from parley.decoder.config import RecognizerConfig
    from parley.decoder.engine.work import Observer
    from tests.decoder.fake_card import FakeCard

Status = health_pb2.HealthCheckResponse
SPEECH = pcm_of("austen_2.flac")


class OnCards:
    """A node on fake cards, and a client of it."""

    def __init__(self, node: Node, cards: dict[str, FakeCard], channel: aio.Channel) -> None:
        self.node = node
        self.cards = cards
        self.stub: Any = speech_pb2_grpc.SpeechStub(channel)
        self.stopped = asyncio.ensure_future(node.stopped())
        stub: Any = health_pb2_grpc.HealthStub(channel)
        self.health = stub.Watch(health_pb2.HealthCheckRequest())

    async def call(self) -> Any:
        """One that is still open, with words on their way."""
        call = self.stub.StreamingRecognize()
        await call.write(configured())
        await call.write(audio(SPEECH))
        return call


@pytest.fixture
async def on_cards(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[OnCards]:
    devices: Sequence[str] = getattr(request, "param", ("cuda:0",))
    cards = put_in(monkeypatch)
    monkeypatch.setattr(app, "LOOK_S", 0.01)
    monkeypatch.setattr(watchdog, "STUCK_LOOKS", 1_000_000)  # on a busy machine a call may take many

    def build(config: RecognizerConfig, observer: Observer) -> Recognizer:
        return Recognizer(replace(config, devices=tuple(devices)), observer)

    # Whatever the machine, the settings' own check of its devices must not see cards that are not there.
    given = {"passes": "first", "search": "best_path", "devices": ("cpu",), "decoders": 4, "threads": 1}
    node = Node(Settings.of({"port": 0, "metrics_port": 0, "grace_s": 60, **given}), build=build)
    port = await node.start()
    await node.ready()
    async with aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        running = OnCards(node, cards, channel)
        yield running
        for card in cards.values():
            card.open.set()
        running.stopped.cancel()
        await node.drain()


async def test_a_dead_card_fails_the_calls_and_ends_the_node(on_cards: OnCards) -> None:
    assert (await on_cards.health.read()).status == Status.SERVING
    assert (await metrics_of(on_cards.node))["parley_device_up", "cuda:0"] == 1
    card = on_cards.cards["cuda:0"]
    card.open.clear()
    calls = [await on_cards.call() for _ in range(3)]
    assert await asyncio.to_thread(card.entered.wait, WAIT_S)
    card.sticky = "an illegal memory access was encountered"
    card.open.set()
    for call in calls:
        refused = await refusal(read_all(call))
        assert (refused.code, refused.info.reason) == (grpc.StatusCode.UNAVAILABLE, "DEVICE_LOST")
        # The last may have got no decoder before.
        assert refused.text in [str(DeviceLost(what)) for what in ("cuda:0", "every device here")]
        assert refused.retry.retry_delay.seconds > 0
    assert (await on_cards.health.read()).status == Status.NOT_SERVING
    with pytest.raises(DeviceLost, match="cuda:0 is lost"):
        await on_cards.stopped
    late = await refusal_of(on_cards.stub, [configured()])
    assert (late.code, late.info.reason) == (grpc.StatusCode.UNAVAILABLE, "DEVICE_LOST")
    assert (await metrics_of(on_cards.node))["parley_device_up", "cuda:0"] == 0


async def test_a_card_that_hangs_fails_the_calls_and_ends_the_node(
    on_cards: OnCards, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = on_cards.cards["cuda:0"]
    card.open.clear()
    calls = [await on_cards.call() for _ in range(2)]
    assert await asyncio.to_thread(card.entered.wait, WAIT_S)
    monkeypatch.setattr(watchdog, "STUCK_LOOKS", 3)
    for call in calls:
        assert (await refusal(read_all(call))).info.reason == "DEVICE_LOST"
    with pytest.raises(DeviceLost):
        await on_cards.stopped
    await on_cards.node.drain()  # with the card still at it


@pytest.mark.parametrize("on_cards", [("cuda:0", "cuda:1")], indirect=True)
async def test_a_node_that_was_told_to_end_still_gives_up_a_card_that_hangs(
    on_cards: OnCards, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (await on_cards.health.read()).status == Status.SERVING
    on_cards.cards["cuda:0"].open.clear()
    calls = [await on_cards.call() for _ in range(2)]  # one on each
    for card in on_cards.cards.values():
        assert await asyncio.to_thread(card.entered.wait, WAIT_S)
    on_cards.stopped.cancel()
    draining = asyncio.ensure_future(on_cards.node.drain())
    assert (await on_cards.health.read()).status == Status.NOT_SERVING
    ends = [asyncio.ensure_future(end_of(call)) for call in calls]
    (fine,), (hung,) = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
    assert await fine == "OK"
    monkeypatch.setattr(watchdog, "STUCK_LOOKS", 3)  # the other card has nothing to do any more
    assert await hung == "UNAVAILABLE"
    await draining
    assert on_cards.node.lost == ["cuda:0"]


@pytest.mark.parametrize("on_cards", [("cuda:0", "cuda:1")], indirect=True)
async def test_with_another_card_the_node_serves_on(on_cards: OnCards) -> None:
    on_cards.cards["cuda:1"].sticky = "device-side assert triggered"
    calls = [await on_cards.call() for _ in range(2)]  # one on each
    assert sorted([await end_of(call) for call in calls]) == ["OK", "UNAVAILABLE"]
    again = [await on_cards.call() for _ in range(4)]
    assert [await end_of(call) for call in again] == ["OK"] * 4
    assert not on_cards.stopped.done()
    assert (await on_cards.health.read()).status == Status.SERVING
    up = await metrics_of(on_cards.node)
    assert (up["parley_device_up", "cuda:0"], up["parley_device_up", "cuda:1"]) == (1, 0)


async def end_of(call: Any) -> str:
    try:
        await call.done_writing()
        await read_all(call)
    except (aio.AioRpcError, asyncio.InvalidStateError):
        pass
    return str((await call.code()).name)


class Losing:
    """In a node's place, with a device lost."""

    lost = ("cuda:0",)

    def __init__(self, settings: object, build: object) -> None: ...


@pytest.mark.parametrize(("last", "status"), [(True, 2), (False, 0)], ids=["the last", "one of two"])
def test_with_a_device_lost_the_process_ends_without_its_libraries_farewell(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], last: bool, status: int
) -> None:
    async def run_without_signals(service: Losing) -> None:
        if last:
            raise DeviceLost(*service.lost)

    ended: list[int] = []
    monkeypatch.setattr(entry, "Node", Losing)
    monkeypatch.setattr(entry, "run_until_shutdown", run_without_signals)
    monkeypatch.setattr(logs, "set_up", lambda form, level: None)
    monkeypatch.setattr("os._exit", ended.append)
    entry.main(["--port", "0", "--metrics-port", "-1"])
    assert ended == [status]
    told = "parley serve: cuda:0 is lost, with all that it was at: call again\n"
    assert capsys.readouterr().err == (told if last else "")
