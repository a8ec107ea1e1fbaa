"""The first pass: words, times and confidences of what a model says; streams that go wrong alone; cost and memory."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from parley.decoder.device import Device
from parley.decoder.errors import DeviceError, OutOfMemory
from parley.decoder.model_folder import ModelFolder
from parley.decoder.models import first_pass as module
from parley.decoder.models.first_pass import FirstPass
from parley.decoder.models.streaming_ctc import StreamingCtc
from parley.decoder.values import Transcript
from tests.decoder.chunks import chunk_of, noise
from tests.decoder.reference import DEVICES, EN_STREAMING, PUBLISHED, Plain, recording
from tests.decoder.repeater import (
    DAY,
    FRAME,
    INFINITE,
    NO,
    NOT_A_NUMBER,
    NOTHING,
    RATE,
    TER,
    UNKNOWN,
    YES,
    Repeater,
    advance,
    decode,
    texts,
    through,
    utterance,
)

if TYPE_CHECKING:
    from collections.abc import Sequence


@pytest.fixture
def first_pass() -> FirstPass:
    return FirstPass(Repeater())


def repeater(first_pass: FirstPass) -> Repeater:
    assert isinstance(first_pass.model, Repeater)
    return first_pass.model


# Words.


def test_words_with_times_and_confidences(first_pass: FirstPass) -> None:
    frames = [0, 190, 160, 0, 0, 250, 340, 450, 0]  # "no" in frames 1 and 2, "yes" "ter" "day" in 5, 6 and 7
    (said,) = decode(first_pass, [utterance(*frames)])
    assert isinstance(said, Transcript)
    (hypothesis,) = said.hypotheses
    assert hypothesis.text == "no yesterday"
    assert [(word.text, word.start_ms, word.end_ms) for word in hypothesis.words] == [
        ("no", 40, 120),
        ("yesterday", 200, 320),
    ]
    geometric = (0.5 * 0.4 * 0.5) ** (1 / 3)
    assert [word.confidence for word in hypothesis.words] == pytest.approx([0.9, geometric])
    assert hypothesis.confidence == pytest.approx((0.9 * 0.5 * 0.4 * 0.5) ** (1 / 4))


def test_chunk_by_chunk_the_words_grow(first_pass: FirstPass) -> None:
    """Chunks end after frames 3, 7 and 10: within a run of one token, and within a word."""
    samples = utterance(0, 0, NO, NO, NO, 0, 0, YES, TER, DAY, 0)
    said = through(first_pass, samples)
    assert texts(said) == ["no", "no yes", "no yesterday"]
    assert isinstance(said[0], Transcript)
    assert said[0].hypotheses[0].words[0].end_ms == 160
    assert said[2:] == decode(first_pass, [samples])
    assert isinstance(said[2], Transcript)
    assert [(word.start_ms, word.end_ms) for word in said[2].hypotheses[0].words] == [(80, 200), (280, 400)]


@settings(max_examples=50)
@given(utterances=st.lists(st.lists(st.integers(0, 5), max_size=20), min_size=1, max_size=4))
def test_streams_and_recordings_have_the_same_words(utterances: list[list[int]]) -> None:
    """Alone, and beside one another."""
    first_pass = FirstPass(Repeater())
    batch = [utterance(*frames) for frames in sorted(utterances, key=len)]
    expected = decode(first_pass, batch)
    assert [through(first_pass, samples)[-1] for samples in batch] == expected
    under_way, index = dict(enumerate(batch)), 0
    while under_way:
        chunks = [chunk_of(first_pass.model, slot, samples, index) for slot, samples in under_way.items()]
        (rows,) = first_pass.advance(chunks)
        index += 1
        for (row, said), slot in zip(rows, list(under_way), strict=True):
            assert chunks[row].slot == slot
            if first_pass.model.chunks(len(under_way[slot])) == index:
                assert said == expected[slot]
                del under_way[slot]


@pytest.mark.parametrize("frames", [[], [0, 0, 0], [UNKNOWN, 0, UNKNOWN]])
def test_no_words_at_all(first_pass: FirstPass, frames: list[int]) -> None:
    samples = utterance(*frames)
    assert through(first_pass, samples) == decode(first_pass, [samples]) == [NOTHING]


def test_a_new_utterance_begins_anew(first_pass: FirstPass) -> None:
    """Even if nobody wiped the slot: a stream has many utterances."""
    through(first_pass, utterance(NO, 0, YES, TER))
    assert through(first_pass, utterance(TER, DAY)) == decode(first_pass, [utterance(TER, DAY)])


# Numbers that are none.


@pytest.mark.parametrize("broken", [NOT_A_NUMBER, INFINITE])
def test_a_broken_stream_fails_alone(first_pass: FirstPass, broken: int) -> None:
    sound, other = utterance(NO, 0, YES, TER, TER, DAY), utterance(YES, YES, YES, 0, NO)
    bad = utterance(NO, 0, YES, 0, 0, broken)
    first = advance(first_pass, a=(0, sound), b=(0, bad), c=(0, other))
    assert texts(first) == ["no yester", "no yes", "yes"]
    left, fault, right = advance(first_pass, a=(1, sound), b=(1, bad), c=(1, other))
    assert [left, right] == [decode(first_pass, [sound])[0], decode(first_pass, [other])[0]]
    assert isinstance(fault, DeviceError)
    assert "not finite" in str(fault)
    first_pass.clear(1)
    assert texts(advance(first_pass, a=(0, sound), b=(0, sound))) == ["no yester"] * 2


@pytest.mark.parametrize("broken", [NOT_A_NUMBER, INFINITE])
def test_a_broken_utterance_fails_alone(first_pass: FirstPass, broken: int) -> None:
    left, fault, right = decode(first_pass, [utterance(NO, 0), utterance(0, broken, YES), utterance(0, YES, TER, DAY)])
    assert texts([left, right]) == ["no", "yesterday"]
    assert isinstance(fault, DeviceError)


# Calls of the model.


@pytest.mark.parametrize(
    ("seconds", "calls"),
    [
        ([3, 3, 3, 3], [4]),  # 12 s
        ([1, 1, 1, 5], [3, 1]),  # with the fourth 20 s, for padding counts
        ([5, 7, 13, 30], [1, 1, 1, 1]),
        ([13], [1]),
        ([4, 4, 4.04, 4.04], [2, 2]),
    ],
)
def test_a_call_has_so_much_audio_and_no_more(first_pass: FirstPass, seconds: list[float], calls: list[int]) -> None:
    batch = [utterance(*[NO] * round(25 * length)) for length in seconds]
    steps = first_pass.decode(batch, beam=1, word_times=True)
    model, rows = repeater(first_pass), []
    for number, step in enumerate(steps, 1):
        assert len(model.calls) == number  # control comes back after each
        rows += [row for row, _ in step]
    assert rows == list(range(len(batch)))
    assert [len(call) for call in model.calls] == calls
    assert all(len(call) == 1 or len(call) * max(call) <= module.CALL_S * RATE for call in model.calls)


def test_a_call_has_so_much_audio_a_thread(first_pass: FirstPass, monkeypatch: pytest.MonkeyPatch) -> None:
    model = repeater(first_pass)
    monkeypatch.setattr(model, "side_by_side", 2)
    decode(first_pass, [utterance(*[NO] * round(25 * length)) for length in (5, 5, 6, 6, 13, 13, 30)])
    assert [len(call) for call in model.calls] == [4, 2, 1]


def test_a_step_of_streams_is_one_call(first_pass: FirstPass) -> None:
    advance(first_pass, a=(0, utterance(NO)), b=(0, utterance(YES)), c=(0, utterance(0)))
    assert len(repeater(first_pass).calls) == 1


def test_without_memory_the_chunks_may_come_again(first_pass: FirstPass, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = utterance(NO, NO, 0, YES, YES, TER, DAY, 0, NO, NO)
    expected = decode(first_pass, [samples])
    said: list[Transcript | DeviceError] = []
    for index in range(first_pass.model.chunks(len(samples))):
        with monkeypatch.context() as patch:
            patch.setattr(first_pass.model, "forward", fails)
            with pytest.raises(OutOfMemory):
                advance(first_pass, a=(index, samples))
        said = advance(first_pass, a=(index, samples))
    assert said == expected


def fails(*_: object) -> None:
    raise OutOfMemory("CUDA out of memory. Tried to allocate 2.00 GiB")


@pytest.mark.parametrize(("place", "name"), [(torch, "isfinite"), (torch.Tensor, "max")])
def test_behind_the_model_want_of_memory_is_a_fault(
    first_pass: FirstPass, monkeypatch: pytest.MonkeyPatch, place: object, name: str
) -> None:
    """The model has gone on: the chunks may not come again."""

    def full(*_: object) -> None:
        raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(place, name, full)
    with pytest.raises(RuntimeError, match="out of memory"):
        advance(first_pass, a=(0, utterance(NO)))


# What is left behind.


def test_wiping_a_slot(first_pass: FirstPass) -> None:
    samples = utterance(NO, 0, YES, TER, TER, DAY)
    advance(first_pass, a=(0, samples), b=(0, samples))
    first_pass.clear(0)
    assert repeater(first_pass).cleared == [0]
    # Nothing of the first chunk's words is left in slot 0; slot 1 goes on as if nothing had been.
    assert texts(advance(first_pass, a=(1, samples), b=(1, samples))) == ["terday", "no yesterday"]


def test_words_are_made_only_when_they_change(first_pass: FirstPass, monkeypatch: pytest.MonkeyPatch) -> None:
    """A silent stream costs no words."""
    made: list[Sequence[int]] = []
    words = Repeater.vocabulary.words

    def counted(tokens: Sequence[int]) -> list[tuple[str, range]]:
        made.append(tokens)
        return words(tokens)

    monkeypatch.setattr(Repeater.vocabulary, "words", counted)
    said = through(first_pass, utterance(NO, *[0] * 99))
    assert len(said) == 25
    assert made == [(NO,)]
    assert all(one is said[0] for one in said)


def test_nothing_is_left_of_streams_that_are_gone(first_pass: FirstPass) -> None:
    def kept() -> tuple[object, ...]:
        greedy = first_pass._search
        return dict(first_pass._said), *(list(value) for value in vars(greedy).values() if not isinstance(value, int))

    before = kept()
    for turn in range(50):
        for slot in range(Repeater.slots):
            list(first_pass.advance([chunk_of(first_pass.model, slot, utterance(NO, turn % 4), 0)]))
            first_pass.clear(slot)
    assert kept() == before


# Real speech.


@pytest.fixture(scope="module", params=DEVICES)
def real(request: pytest.FixtureRequest) -> FirstPass:
    return FirstPass(StreamingCtc(ModelFolder.read(EN_STREAMING), Device.parse(request.param), 4, 320))


@pytest.mark.parametrize("name", PUBLISHED)
def test_real_words(real: FirstPass, name: str) -> None:
    """Those of the plain mathematics; in order, and inside the audio."""
    samples = recording(name)
    for chunk, said in ((16, through(real, samples)[-1]), (0, decode(real, [noise(8_000), samples])[1])):
        assert isinstance(said, Transcript)
        best = Plain(EN_STREAMING).log_probs(samples, chunk).argmax(-1).tolist()
        words = real.model.vocabulary.words([token for token, _ in itertools.groupby(best) if token])
        (hypothesis,) = said.hypotheses
        assert hypothesis.text == " ".join(text for text, _ in words)
        assert [word.text for word in hypothesis.words] == [text for text, _ in words]
        times = [time for word in hypothesis.words for time in (word.start_ms, word.end_ms)]
        assert times == sorted(times)
        assert all(time % 40 == 0 for time in times)
        assert times[-1] <= 40 * math.ceil(len(samples) / FRAME)
        assert all(word.start_ms < word.end_ms and 0 < word.confidence <= 1 for word in hypothesis.words)
        assert 0 < hypothesis.confidence <= 1


@pytest.mark.parametrize("samples", [0, 1, 159, 160, 641])
def test_next_to_no_audio(real: FirstPass, samples: int) -> None:
    """No error, and whoever is beside it has his words."""
    short, long = noise(samples), recording(PUBLISHED[0])
    said, beside = decode(real, [short, long])
    assert isinstance(said, Transcript)
    assert through(real, short) == decode(real, [short])
    assert texts([beside]) == texts(decode(real, [long]))
