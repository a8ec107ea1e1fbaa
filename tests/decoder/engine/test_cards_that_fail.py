"""Real speech on cards that fail in each way that CUDA does: who is told what, and what goes on.

The cards are fake (fake_card.py), what is on top of them is not.
"""

from __future__ import annotations

import logging
import threading
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from parley.decoder.audio import open_file
from parley.decoder.config import RecognizerConfig
from parley.decoder.device import Device
from parley.decoder.device_errors import lost_by
from parley.decoder.engine import watchdog
from parley.decoder.errors import DeviceError, DeviceLost, ModelError, OutOfMemory
from parley.decoder.recognizer import Recognizer
from parley.decoder.values import (
    AudioFormat,
    Encoding,
    Event,
    Failed,
    Final,
    Finished,
    Passes,
    SearchKind,
    StreamOptions,
)
from tests.decoder.conftest import FIRST_MODEL
from tests.decoder.fake_card import put_in
from tests.decoder.fakes import WAIT_S
from tests.speech import RATE, pcm_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from parley.decoder.engine.pool import Lease
    from parley.decoder.engine.request import Request
    from tests.decoder.fake_card import FakeCard

STICKY = (
    "device-side assert triggered",
    "an illegal memory access was encountered",
    "unspecified launch failure",
    "uncorrectable ECC error encountered",
    "driver shutting down",
    "unknown error",
)
CARD = Device.parse("cuda:0")
MONO = AudioFormat(Encoding.LINEAR16, RATE, 1)
UTTERANCES = [pcm_of(name) for name in ("austen_2.flac", "austen_4.flac", "austen_5.flac", "austen_2.flac")]


@dataclass
class Call:
    """A stream and what it has heard."""

    lease: Lease
    stream: Request
    events: list[Event] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    def say(self, audio: bytes) -> None:
        """All of its audio."""
        for _ in (*self.stream.accept(audio), *self.stream.finish()):
            pass

    def end(self) -> Event:
        assert self.over.wait(2 * WAIT_S)
        self.lease.release()
        return self.events[-1]

    def words(self) -> list[str]:
        assert isinstance(self.end(), Finished)
        return [event.hypotheses[0].text for event in self.events if isinstance(event, Final)]

    def error(self) -> Exception:
        end = self.end()
        assert isinstance(end, Failed)
        return end.error


class Cards:
    """A recognizer on fake cards."""

    def __init__(self, recognizer: Recognizer, cards: dict[str, FakeCard]) -> None:
        self.recognizer = recognizer
        self.cards = cards
        self.card = cards["cuda:0"]

    def call(self, audio: bytes) -> Call:
        """Sent all of it."""
        call = self.quiet()
        call.say(audio)
        return call

    def quiet(self) -> Call:
        lease = self.recognizer.pool.request().result(timeout=0)

        def sink(event: Event) -> None:
            call.events.append(event)
            if isinstance(event, Finished | Failed):
                call.over.set()

        call = Call(lease, self.recognizer.open_stream(lease, MONO, StreamOptions(), sink))
        return call

    def calls(self) -> list[Call]:
        """Of all utterances, whose chunks wait for the card together."""
        self.card.open.clear()
        self.card.entered.clear()
        first = self.call(UTTERANCES[0])
        assert self.card.entered.wait(WAIT_S)  # it is at the first chunk, and all others wait
        others = [self.call(audio) for audio in UTTERANCES[1:]]
        return [first, *others]


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Cards]]:
    with ExitStack() as stack:

        def started(*devices: str, at_start: Exception | None = None) -> Cards:
            cards = put_in(monkeypatch, at_start)
            config = RecognizerConfig(
                first_model_dir=FIRST_MODEL,
                passes=Passes.FIRST,
                devices=devices or ("cuda:0",),
                decoders=5,
                threads=1,
                search=SearchKind.BEST_PATH,
            )
            made = Cards(stack.enter_context(Recognizer(config)), cards)
            for card in cards.values():
                stack.callback(card.open.set)
            return made

        yield started


def test_without_memory_for_a_batch_its_halves_give_the_same_words(
    start: Callable[..., Cards], caplog: pytest.LogCaptureFixture
) -> None:
    cards = start()
    alone = [cards.call(audio).words() for audio in UTTERANCES]
    assert all(alone)
    calls = cards.calls()
    cards.card.most_rows = 1
    cards.card.batches.clear()
    cards.card.open.set()
    assert [call.words() for call in calls] == alone
    assert set(cards.card.batches) == {1}
    assert "trying halves" in caplog.text
    assert cards.recognizer.lost == []


def test_an_utterance_that_there_is_no_memory_for_fails_alone(start: Callable[..., Cards]) -> None:
    cards = start()
    alone = [cards.call(audio).words() for audio in UTTERANCES]
    calls = cards.calls()
    cards.card.hungry = calls[2].lease.decoders[0].slot
    cards.card.open.set()
    error = calls[2].error()
    assert type(error) is DeviceError
    assert "cuda:0 has no memory for this utterance: CUDA out of memory" in str(error)
    assert [call.words() for call in calls[:2] + calls[3:]] == alone[:2] + alone[3:]
    cards.card.hungry = None
    assert cards.call(UTTERANCES[2]).words() == alone[2]


@pytest.mark.parametrize("text", STICKY)
def test_a_dead_card_fails_all_its_calls_and_takes_no_more(
    start: Callable[..., Cards], caplog: pytest.LogCaptureFixture, text: str
) -> None:
    cards = start()
    quiet, calls = cards.quiet(), cards.calls()
    cards.card.sticky = text
    cards.card.open.set()
    assert {type(call.error()) for call in calls} == {DeviceLost}
    assert {str(call.error()) for call in calls} == {"cuda:0 is lost, with all that it was at: call again"}
    assert cards.recognizer.lost == ["cuda:0"]
    quiet.say(UTTERANCES[0])
    assert type(quiet.error()) is DeviceLost
    with pytest.raises(DeviceLost, match="every device here is lost"), cards.recognizer.pool.lend(timeout=WAIT_S):
        pass
    load = cards.recognizer.pool.snapshot()
    assert (load.total, load.busy, load.waiting) == (0, 0, 0)
    assert not any(cards.recognizer.waiting()["cuda:0"].values())
    (told,) = [record for record in caplog.records if record.levelno == logging.CRITICAL]
    assert told.getMessage() == f"cuda:0: lost: CUDA error: {text}"
    cards.recognizer.look()  # once is enough
    assert cards.recognizer.lost == ["cuda:0"]


def test_a_recording_on_a_dead_card_fails(start: Callable[..., Cards]) -> None:
    cards = start()
    cards.card.sticky = STICKY[0]
    audio = open_file(UTTERANCES[0], MONO)
    with cards.recognizer.pool.lend(timeout=WAIT_S) as lease, pytest.raises(DeviceLost):
        cards.recognizer.transcribe(lease, audio, StreamOptions())


def test_a_card_that_dies_while_it_idles(start: Callable[..., Cards]) -> None:
    cards = start()
    lease = cards.recognizer.pool.request().result(timeout=0)
    cards.card.sticky = STICKY[1]
    lease.release()  # its slot cannot be wiped
    cards.recognizer._build.workers[CARD]._thread.join(WAIT_S)
    assert cards.recognizer.lost == ["cuda:0"]


def test_the_other_card_goes_on(start: Callable[..., Cards]) -> None:
    cards = start("cuda:0", "cuda:1")
    alone = cards.call(UTTERANCES[0]).words()
    cards.card.sticky = STICKY[0]
    calls = [cards.call(UTTERANCES[0]) for _ in range(4)]  # shared out among both
    ends = [call.end() for call in calls]
    assert {type(end) for end in ends} == {Failed, Finished}
    assert cards.recognizer.lost == ["cuda:0"]
    again = [cards.call(UTTERANCES[0]) for _ in range(4)]
    assert [call.words() for call in again] == [alone] * 4
    assert cards.recognizer.pool.snapshot().total == 5
    assert {call.lease.decoders[0].device for call in again} == {"cuda:1"}


@pytest.mark.parametrize("then", ["it stays", "it returns", "it fails"])
def test_a_call_that_does_not_return_loses_the_card(
    start: Callable[..., Cards], caplog: pytest.LogCaptureFixture, then: str
) -> None:
    cards = start()
    quiet, calls = cards.quiet(), cards.calls()
    for _ in range(watchdog.STUCK_LOOKS):
        assert cards.recognizer.lost == []
        cards.recognizer.look()
    cards.recognizer.look()
    assert {type(call.error()) for call in calls} == {DeviceLost}
    assert cards.recognizer.lost == ["cuda:0"]
    assert "cuda:0: lost: the model has not returned from a call" in caplog.text
    quiet.say(UTTERANCES[0])
    assert type(quiet.error()) is DeviceLost
    told = [len(call.events) for call in calls]
    if then != "it stays":
        cards.card.sticky = "the launch timed out and was terminated" if then == "it fails" else None
        cards.card.open.set()
        cards.recognizer._build.workers[CARD]._thread.join(WAIT_S)
        assert not cards.recognizer._build.workers[CARD]._thread.is_alive()
    cards.recognizer.close()  # does not wait for it
    assert [len(call.events) for call in calls] == told
    assert cards.recognizer.lost == ["cuda:0"]  # once: a node counts them


def test_who_closes_waits_for_a_call_no_longer_than_until_it_is_given_up(
    start: Callable[..., Cards], monkeypatch: pytest.MonkeyPatch
) -> None:
    cards = start()
    calls = cards.calls()
    worker = cards.recognizer._build.workers[CARD]
    wait = worker._over.wait

    def wait_while_others_look() -> bool:
        assert not wait(0)
        for _ in range(watchdog.STUCK_LOOKS + 1):
            cards.recognizer.look()
        return wait(WAIT_S)

    with monkeypatch.context() as patch:
        patch.setattr(worker._over, "wait", wait_while_others_look)
        cards.recognizer.close()
    assert {type(call.error()) for call in calls} == {DeviceLost}
    assert cards.recognizer.lost == ["cuda:0"]


def test_a_card_at_work_does_not_hang(start: Callable[..., Cards]) -> None:
    cards = start()
    for _ in range(2 * watchdog.STUCK_LOOKS):
        cards.recognizer.look()  # it idles
    calls = cards.calls()
    for _ in range(watchdog.STUCK_LOOKS - 1):
        cards.recognizer.look()
    cards.card.open.set()
    assert all(call.words() for call in calls)
    assert cards.recognizer.lost == []


@pytest.mark.parametrize("text", ["all CUDA-capable devices are busy or unavailable", STICKY[0]])
def test_a_card_that_fails_at_start_is_refused(start: Callable[..., Cards], text: str) -> None:
    before = threading.enumerate()
    with pytest.raises(ModelError, match=f"^a card failed at start: CUDA error: {text}$"):
        start(at_start=RuntimeError(f"CUDA error: {text}\nCompile with TORCH_USE_CUDA_DSA."))
    with pytest.raises(RuntimeError, match="another fault"):
        start(at_start=RuntimeError("another fault"))
    with pytest.raises(ModelError, match="no memory for 5 decoders a device: "):
        start(at_start=OutOfMemory("CUDA out of memory"))
    assert set(threading.enumerate()) <= set(before)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            f"The following operation failed in the TorchScript interpreter.\nRuntimeError: CUDA error: {STICKY[0]}\n",
            f"RuntimeError: CUDA error: {STICKY[0]}",
        ),
        (
            "CUDA failure 719: unspecified launch failure ; GPU=0 ; expr=cudaStreamSynchronize(stream)",
            "CUDA failure 719: unspecified launch failure ; GPU=0 ; expr=cudaStreamSynchronize(stream)",
        ),
        ("CUDA error: out of memory", None),
        ("CUDA error: invalid configuration argument", None),  # of one batch
        ("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED", None),  # what was behind it, the next call says
        ("unknown error", None),  # anybody's
        ("index 7 is out of bounds", None),
        ("", None),
    ],
)
def test_what_a_card_dies_of(text: str, line: str | None) -> None:
    error: Any = RuntimeError(text)
    assert lost_by(error) == line
