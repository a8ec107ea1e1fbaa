"""A stream whose first pass searches with wishes: the words that it goes on from, and what it asks the device for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from parley.decoder.engine.work import Work
from parley.decoder.policy import SEAM_BEST
from parley.decoder.values import MOST_CONTEXT, Final, Hypothesis, Passes, Scores, StreamOptions, Transcript, Word
from tests.decoder.fakes import chunk, said, whole
from tests.decoder.searching import read_model, wishes
from tests.decoder.streams import RULES, Call, talk

if TYPE_CHECKING:
    from parley.decoder.models.acoustic import Chunk
    from parley.decoder.search.ctc import Wishes
    from parley.decoder.search.language_model import LanguageModel

pytestmark = pytest.mark.usefixtures("loud_is_speech")

FIRST, BOTH = Passes.FIRST, Passes.BOTH


@pytest.fixture(scope="module")
def seam_model(tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    """Behind "good" comes "night", else "knight" is as likely."""
    table: dict[tuple[str, ...], tuple[float, float]] = {("good", "night"): (-0.1, 0.0)}
    table |= {(word,): (-1.0, -0.3) for word in ("<unk>", "<s>", "</s>", "good", "night", "knight")}
    return read_model(table, tmp_path_factory.mktemp("models") / "seam.lm")


# The words that it goes on from, on a device that the test plays.


def wished(chunk: Chunk) -> Wishes:
    assert chunk.wishes is not None
    return chunk.wishes


def chunks_heard(call: Call, *answers: Transcript) -> list[Chunk]:
    """Answers utterances' chunks, utterance by utterance; the chunks."""
    heard = []
    for answer in answers:
        while True:
            job = call.hear(answer)
            heard.append(chunk(job))
            if heard[-1].length is not None:
                break
    return heard


@pytest.mark.parametrize("passes", [FIRST, BOTH])
def test_an_utterance_goes_on_from_the_words_before_it(passes: Passes) -> None:
    call = Call(passes=passes, wishes=wishes(beam=7))
    call.feed(talk(20, 40, 40, 40, 40, 40, 40))
    call.decoder.finish()
    heard = chunks_heard(call, said("one two three"), said(""), said("four five"))
    firsts = [one for one in heard if one.index == 0]
    assert [wished(one).before for one in firsts] == [(), ("one", "two", "three"), ("one", "two", "three")]
    assert [wished(one).beam for one in firsts] == [7] * 3
    assert all(one.wishes is None for one in heard if one.index)


def test_it_goes_on_from_the_last_words_only() -> None:
    call = Call(passes=FIRST, wishes=wishes())
    call.feed(talk(20, 40, 40, 40, 40, 40, 40))
    call.decoder.finish()
    heard = chunks_heard(call, said("a b c"), said("d e f"), said("g"))
    last = [one for one in heard if one.index == 0][-1]
    assert wished(last).before == ("c", "d", "e", "f")
    assert len(wished(last).before) == MOST_CONTEXT


def test_at_a_cut_it_goes_on_from_the_words_before_the_cut() -> None:
    call = Call(passes=FIRST, wishes=wishes())
    call.feed(talk(20, 170))  # longer than an utterance may be
    call.decoder.finish()
    words = said("first later beyond", ("first", 400, 500), ("later", 1_000, 1_100), ("beyond", 2_900, 3_000))
    befores = []
    while call.chunks():
        one = chunk(call.hear(words))
        if one.index == 0:
            befores.append(wished(one).before)
    assert befores[:2] == [(), ("first", "later")]
    finals = [final.hypotheses[0].text for final in call.of(Final)]
    assert finals[0] == "first later"


def test_another_stream_of_the_decoder_begins_anew() -> None:
    call = Call(passes=FIRST, wishes=wishes())
    call.feed(talk(20, 40, 40))
    chunks_heard(call, said("one two"))
    call.decoder.reset()
    again = Call(passes=FIRST, wishes=wishes(), decoder=call.decoder, device=call.device)
    again.feed(talk(20, 40, 40))
    assert wished(chunks_heard(again, said("three"))[0]).before == ()


def test_segments_of_a_recording_are_put_in_order_by_the_words_before(seam_model: LanguageModel) -> None:
    """Which may come later: segments are decoded side by side."""
    wanted = wishes(seam_model, language_weight=2.0)
    call = Call(passes=FIRST, wishes=wanted, recording=True)
    call.feed(talk(20, 40, 40, 40, 40, 40, 40))
    call.decoder.finish()
    jobs = call.finals()
    assert [(whole(job).beam, whole(job).wishes) for job in jobs] == [(SEAM_BEST, wanted)] * 3
    alike = reading("knight", -1.0), reading("night", -1.5)
    for job, transcript in zip(
        jobs[::-1], [Transcript(alike), Transcript(alike), Transcript((reading("good", -1.0),))], strict=True
    ):
        call.device.answer(job, transcript)
    assert [final.hypotheses[0].text for final in call.of(Final)] == ["good", "night", "knight"]
    assert [len(final.hypotheses) for final in call.of(Final)] == [1, 1, 1]  # as many as were asked for


def test_alternatives_of_a_recording_are_as_many_as_asked_for() -> None:
    options = StreamOptions(max_alternatives=2, rules=RULES)
    call = Call(options, passes=FIRST, wishes=wishes(), recording=True)
    call.feed(talk(20, 40, 40))
    (job,) = call.finals()
    call.device.answer(job, Transcript(tuple(reading(text, -1.0) for text in "abcd")))
    (final,) = call.of(Final)
    assert [one.text for one in final.hypotheses] == ["a", "b"]


def test_the_second_pass_is_asked_for_no_more_readings_than_are_wanted() -> None:
    """It has no seams to put right, and each reading costs."""
    for recording, works in ((False, Work.FINAL), (True, Work.FILE)):
        call = Call(passes=BOTH, wishes=wishes(), recording=recording)
        call.feed(talk(20, 40, 40))
        (job,) = call.finals()
        assert (job.work, whole(job).by, whole(job).beam) == (works, Passes.SECOND, 1)


def reading(text: str, acoustic: float) -> Hypothesis:
    return Hypothesis(text, 0.5, (Word(text, 300, 500, 0.5),), Scores(acoustic, -2.0))
