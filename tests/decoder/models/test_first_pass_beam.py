"""The first pass with a beam search: words, scores and confidences; streams that go wrong alone; what it lets go."""

from __future__ import annotations

import gc
import math
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parley.decoder.errors import DeviceError, OutOfMemory
from parley.decoder.models.first_pass import FirstPass
from parley.decoder.search.beam import Beam
from parley.decoder.search.calibration import Calibration
from parley.decoder.search.settings import BeamSettings
from parley.decoder.values import Phrase, Transcript
from tests.decoder.chunks import chunk_of
from tests.decoder.repeater import (
    DAY,
    INFINITE,
    NO,
    NOT_A_NUMBER,
    NOTHING,
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
from tests.decoder.searching import read_model, wishes

if TYPE_CHECKING:
    from pathlib import Path

    from parley.decoder.search.language_model import LanguageModel
    from parley.decoder.values import Hypothesis

STABLE = Calibration(stability=(3.0, 0.0, 0.0, 0.0, 0.0))  # always the same


@pytest.fixture
def first_pass() -> FirstPass:
    return beams()


def beams() -> FirstPass:
    model = Repeater()
    settings = BeamSettings(unknown_word=-9.0)
    return FirstPass(model, lambda slots: Beam(slots, model.vocabulary, model.blank, settings, STABLE))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    """Behind "no" comes "no", and "day" is a word."""
    table: dict[tuple[str, ...], tuple[float, float]] = {("<unk>",): (-3.0, 0.0), ("<s>",): (-99.0, 0.0)}
    table |= {(word,): (-1.0, 0.0) for word in ("</s>", "no", "yes", "yesterday")}
    return read_model({**table, ("no", "no"): (-0.01, 0.0)}, tmp_path_factory.mktemp("models") / "beam.lm")


def only(said: Transcript | DeviceError) -> Hypothesis:
    assert isinstance(said, Transcript)
    (hypothesis,) = said.hypotheses
    return hypothesis


def test_words_with_times_confidences_and_scores(first_pass: FirstPass, model: LanguageModel) -> None:
    frames = [0, 190, 160, 0, 0, 250, 340, 450, 0]  # "no" in frames 1 and 2, "yes" "ter" "day" in 5, 6 and 7
    (said,) = decode(first_pass, [utterance(*frames)], wishes(model, [Phrase("no", 1.0)], word_bonus=1.0), beam=5)
    assert isinstance(said, Transcript)
    best, *others = said.hypotheses
    assert best.text == "no yesterday"
    assert [(word.text, word.start_ms, word.end_ms) for word in best.words] == [
        ("no", 40, 120),
        ("yesterday", 200, 320),
    ]
    assert best.scores is not None
    assert best.scores.language == pytest.approx(2.0 - 0.6 * 2 * math.log(10))
    assert best.scores.hotwords == pytest.approx(0.5)
    sure, unsure = (word.confidence for word in best.words)
    assert 0.9 < sure <= 1
    assert unsure < sure
    assert best.confidence == pytest.approx((sure + unsure) / 2)
    assert 1 <= len(others) <= 4
    assert len({one.text for one in said.hypotheses}) == len(said.hypotheses)
    totals = [one.scores.total for one in said.hypotheses if one.scores is not None]
    assert totals == sorted(totals, reverse=True)
    assert len(totals) == len(said.hypotheses)


def test_chunk_by_chunk_the_words_grow(first_pass: FirstPass) -> None:
    samples = utterance(0, 0, NO, NO, NO, 0, 0, YES, TER, DAY, 0)
    said = through(first_pass, samples, wishes())
    assert texts(said) == ["no", "no yes", "no yesterday"]
    assert [round(only(one).stability, 3) for one in said] == [0.953] * 3
    final = first_pass.finish(0, 1)
    assert [final] == decode(first_pass, [samples], wishes())
    assert only(final).stability == 0.0  # what is final stays
    assert len(first_pass.finish(0, 3).hypotheses) == 3
    assert first_pass.finish(0, 3).hypotheses[:1] == final.hypotheses


@settings(max_examples=30)
@given(
    utterances=st.lists(st.lists(st.integers(0, 5), max_size=20), min_size=1, max_size=4),
    percent=st.sampled_from([40, 80]),
    with_model=st.booleans(),
)
def test_streams_and_recordings_have_the_same_words(
    model: LanguageModel, utterances: list[list[int]], percent: int, with_model: bool
) -> None:
    """Alone, and beside one another, to the last bit."""
    first_pass, wanted = beams(), wishes(model if with_model else None, [Phrase("no yesterday")])
    batch = [utterance(*frames, percent=percent) for frames in sorted(utterances, key=len)]
    alone = [decode(first_pass, [samples], wanted, beam=5)[0] for samples in batch]
    assert decode(first_pass, batch, wanted, beam=5) == alone
    under_way, index = dict(enumerate(batch)), 0
    while under_way:
        chunks = [chunk_of(first_pass.model, slot, samples, index) for slot, samples in under_way.items()]
        list(first_pass.advance([replace(chunk, wishes=None if index else wanted) for chunk in chunks]))
        index += 1
        for slot in list(under_way):
            if first_pass.model.chunks(len(under_way[slot])) == index:
                assert first_pass.finish(slot, 5) == alone[slot]
                del under_way[slot]


@pytest.mark.parametrize("frames", [[], [0, 0, 0], [UNKNOWN, 0, UNKNOWN]])
def test_no_words_at_all(first_pass: FirstPass, frames: list[int]) -> None:
    samples = utterance(*frames, percent=99)
    assert through(first_pass, samples, wishes(beam=1)) == decode(first_pass, [samples], wishes(beam=1)) == [NOTHING]
    assert first_pass.finish(0, 1) == NOTHING


def test_a_new_utterance_begins_anew(first_pass: FirstPass) -> None:
    through(first_pass, utterance(NO, 0, YES, TER), wishes())
    through(first_pass, utterance(TER, DAY), wishes())
    assert [first_pass.finish(0, 1)] == decode(first_pass, [utterance(TER, DAY)], wishes())


def test_each_utterance_has_its_own_wishes(first_pass: FirstPass, model: LanguageModel) -> None:
    """Beside one another, and one after the other in the same slot."""
    doubtful = utterance(NO, 0, 245, percent=80)  # "yes" or anything
    kinds = [wishes(), wishes(model, before=("no",)), wishes(model, language_weight=3.0, word_bonus=6.0)]
    alone = [decode(first_pass, [doubtful], one, beam=3)[0] for one in kinds]
    assert [text.split("; ")[0] for text in texts(alone)] == ["no yes", "no yes", "no no"]
    for turn in range(3):
        chunks = [chunk_of(first_pass.model, slot, doubtful, 0) for slot in range(3)]
        list(first_pass.advance([replace(one, wishes=kinds[(one.slot + turn) % 3]) for one in chunks]))
        assert [first_pass.finish(slot, 3) for slot in range(3)] == [alone[(slot + turn) % 3] for slot in range(3)]


# Numbers that are none.


@pytest.mark.parametrize("broken", [NOT_A_NUMBER, INFINITE])
def test_a_broken_stream_fails_alone(first_pass: FirstPass, broken: int) -> None:
    sound, other = utterance(NO, 0, YES, TER, TER, DAY), utterance(YES, YES, YES, 0, NO)
    bad = utterance(NO, 0, YES, 0, 0, broken)
    first = advance(first_pass, wishes(), a=(0, sound), b=(0, bad), c=(0, other))
    assert texts(first) == ["no yester", "no yes", "yes"]
    left, fault, right = advance(first_pass, a=(1, sound), b=(1, bad), c=(1, other))
    assert texts([left, right]) == ["no yesterday", "yes no"]
    assert isinstance(fault, DeviceError)
    assert "not finite" in str(fault)
    for slot, samples in ((0, sound), (2, other)):
        assert [first_pass.finish(slot, 1)] == decode(first_pass, [samples], wishes())
    for cleared in (True, False):
        if cleared:
            first_pass.clear(1)
        both = advance(first_pass, wishes(), a=(0, sound), b=(0, sound))
        assert texts(both) == ["no yester"] * 2
        assert first_pass.finish(0, 3) == first_pass.finish(1, 3)


@pytest.mark.parametrize("broken", [NOT_A_NUMBER, INFINITE])
def test_a_broken_utterance_fails_alone(first_pass: FirstPass, broken: int) -> None:
    batch = [utterance(NO, 0), utterance(0, broken, YES), utterance(0, YES, TER, DAY)]
    left, fault, right = decode(first_pass, batch, wishes())
    assert texts([left, right]) == ["no", "yesterday"]
    assert isinstance(fault, DeviceError)
    assert decode(first_pass, batch[::2], wishes()) == [left, right]
    (alone,) = decode(first_pass, batch[1:2], wishes())
    assert isinstance(alone, DeviceError)


def test_without_memory_the_chunks_may_come_again(first_pass: FirstPass, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise OutOfMemory("CUDA out of memory. Tried to allocate 2.00 GiB")

    samples = utterance(NO, NO, 0, YES, YES, TER, DAY, 0, NO, NO)
    for index in range(first_pass.model.chunks(len(samples))):
        with monkeypatch.context() as patch:
            patch.setattr(first_pass.model, "forward", fails)
            with pytest.raises(OutOfMemory):
                advance(first_pass, wishes(), a=(index, samples))
        advance(first_pass, wishes(), a=(index, samples))
    assert [first_pass.finish(0, 1)] == decode(first_pass, [samples], wishes())


# What is left behind.


def test_words_are_made_only_when_they_change(first_pass: FirstPass) -> None:
    said = through(first_pass, utterance(NO, *[0] * 99, percent=99), wishes())
    assert len(said) == 25
    assert all(one is said[0] for one in said)


def test_wiping_a_slot(first_pass: FirstPass) -> None:
    samples = utterance(NO, 0, YES, TER, TER, DAY)
    advance(first_pass, wishes(), a=(0, samples), b=(0, samples))
    first_pass.clear(0)
    assert first_pass.finish(0, 3) == NOTHING
    list(first_pass.advance([chunk_of(first_pass.model, 1, samples, 1)]))  # the other goes on
    assert [first_pass.finish(1, 3)] == decode(first_pass, [samples], wishes(), beam=3)


@pytest.mark.parametrize("whole", [False, True])
def test_a_language_model_is_free_with_its_last_utterance(first_pass: FirstPass, tmp_path: Path, whole: bool) -> None:
    table: dict[tuple[str, ...], tuple[float, float]] = {("no", "yes"): (-0.5, 0.0)}
    table |= {(word,): (-1.0, 0.0) for word in ("<unk>", "<s>", "</s>", "no", "yes")}
    wanted = wishes(read_model(table, tmp_path / "old.lm"))
    old = weakref.ref(wanted.language_model)
    samples = utterance(NO, 0, YES, 0, NO)
    if whole:
        steps = first_pass.decode([samples, samples], beam=3, word_times=True, wishes=[wanted] * 2)
        assert len(next(steps)) == 2  # a device asks no further when it has all
        del steps
        assert first_pass._whole.best(0).tokens == ()
    else:
        through(first_pass, samples, wanted)
        first_pass.finish(0, 3)
        first_pass.clear(0)
    del wanted
    gc.collect()
    assert old() is None


def test_memory_of_a_slot_is_there_from_the_start(first_pass: FirstPass) -> None:
    search = first_pass._search
    assert isinstance(search, Beam)
    assert first_pass.search_bytes * Repeater.slots == sum(part.nbytes for slot in search._slots for part in slot)
    assert FirstPass(Repeater()).search_bytes == 0


def test_finals_are_asked_for_on_other_threads(first_pass: FirstPass) -> None:
    """While the device goes on with other slots."""
    done, other = utterance(NO, 0, YES, TER, DAY), utterance(*[YES, 0, NO, 0] * 200)
    (expected,) = decode(first_pass, [done], wishes(), beam=3)
    (expected_other,) = decode(first_pass, [other], wishes(), beam=3)
    chunks = first_pass.model.chunks(len(done))
    for index in range(chunks):
        chunk = replace(chunk_of(first_pass.model, 1, done, index), wishes=wishes() if not index else None)
        list(first_pass.advance([chunk]))
    going = threading.Event()

    def ask() -> list[Transcript]:
        going.wait(20)
        return [first_pass.finish(1, 3) for _ in range(200)]

    with ThreadPoolExecutor(2) as pool:
        asked = [pool.submit(ask) for _ in range(2)]
        going.set()
        through(first_pass, other, wishes())
        assert all(one == expected for future in asked for one in future.result())
    assert first_pass.finish(0, 3) == expected_other
