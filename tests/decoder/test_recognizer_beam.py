"""Recognizers with a beam search and a language model: real calls, one by one and at once; what requests may want."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import pytest

from parley.decoder.audio import open_file
from parley.decoder.config import RecognizerConfig
from parley.decoder.errors import InvalidOption
from parley.decoder.values import EndpointRules, Passes, Phrase, SearchOptions, StreamOptions
from tests.decoder.conftest import FIRST_MODEL, running
from tests.decoder.searching import read_model, table_of_speech
from tests.decoder.test_recognizer import MONO, PAUSE, stream, text_of, transcribe
from tests.speech import RATE, pcm_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from parley.decoder.recognizer import Recognizer
    from parley.decoder.values import Hypothesis


@pytest.fixture(scope="module")
def with_words(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recognizer]:
    """The first pass with a language model of what is said in the recordings."""
    path: Path = tmp_path_factory.mktemp("models") / "speech.lm"
    read_model(table_of_speech(), path)
    yield from running(
        RecognizerConfig(
            first_model_dir=FIRST_MODEL, passes=Passes.FIRST, devices=("cpu",), decoders=8, language_model=path
        )
    )


AUDIOS = (pcm_of("austen_2.flac"), pcm_of("austen_5.flac") + PAUSE + pcm_of("austen_4.flac"))
KINDS = (
    StreamOptions(max_alternatives=3),
    StreamOptions(search=SearchOptions(hotwords=(Phrase("amiable", 4.0),)), interim_results=True),
    StreamOptions(search=SearchOptions(beam=4, language_weight=0.0)),
    StreamOptions(search=SearchOptions(language_weight=1.0, word_bonus=0.0)),
)


def test_eight_calls_at_once_are_heard_as_one_by_one(with_words: Recognizer) -> None:
    """Whatever they want of their searches, in whatever pieces they come: words, times and alternatives; scores but for
    the order of the network's sums."""

    def heard(kind: int, cuts: int) -> list[Hypothesis]:
        audio = AUDIOS[kind % 2]
        edges = np.random.default_rng(cuts).integers(0, len(audio), cuts).tolist()
        finals = stream(with_words, audio, edges, options=KINDS[kind]).finals()
        return [hypothesis for final in finals for hypothesis in final.hypotheses]

    def words(hypotheses: list[Hypothesis]) -> list[tuple[str, list[tuple[str, int, int]]]]:
        return [(one.text, [(word.text, word.start_ms, word.end_ms) for word in one.words]) for one in hypotheses]

    alone = [heard(kind, 0) for kind in range(len(KINDS))]
    assert all(alone)
    assert words(alone[0][:1]) != words(alone[2][:1])
    assert words(alone[1]) != words(alone[3])
    with ThreadPoolExecutor(8) as clients:
        together = list(clients.map(lambda number: heard(number % 4, 3 + 10 * number), range(8)))
    for number, found in enumerate(together):
        expected = alone[number % 4]
        assert words(found) == words(expected)
        assert list(map(figures, found)) == [pytest.approx(figures(one), abs=1e-3) for one in expected]


def figures(hypothesis: Hypothesis) -> list[float]:
    scores = hypothesis.scores
    assert scores is not None
    return [scores.acoustic, scores.language, scores.hotwords, *(word.confidence for word in hypothesis.words)]


def test_a_language_model_makes_better_words(with_words: Recognizer) -> None:
    audio = AUDIOS[1]
    without = StreamOptions(search=SearchOptions(language_weight=0.0))
    expected = "he might even have been made amiable himself"
    assert expected in text_of(stream(with_words, audio).finals())
    assert expected not in text_of(stream(with_words, audio, options=without).finals())
    assert expected in text_of(transcribe(with_words, audio).finals)


def test_scores_and_alternatives_go_out(with_words: Recognizer) -> None:
    options = StreamOptions(max_alternatives=3)
    for finals in (
        stream(with_words, AUDIOS[0], options=options).finals(),
        transcribe(with_words, AUDIOS[0], options=options).finals,
    ):
        assert finals
        for final in finals:
            scores = [one.scores for one in final.hypotheses if one.scores is not None]
            assert len(scores) == 3
            assert [each.total for each in scores] == sorted((each.total for each in scores), reverse=True)
            assert all(each.acoustic < 0 and each.language != 0 for each in scores)
            assert all(0 < word.confidence <= 1 for word in final.hypotheses[0].words)


def test_words_behind_a_cut_are_scored_behind_the_words_before_it(with_words: Recognizer) -> None:
    """Not as a sentence's first, which they are to a stream that forgets them."""
    audio = pcm_of("two_cities.flac")[: 14 * 2 * RATE]
    options = StreamOptions(rules=EndpointRules(longest_utterance_ms=5_000))

    def heard() -> list[tuple[str, float]]:
        bests = [final.hypotheses[0] for final in stream(with_words, audio, options=options).finals()]
        return [(best.text, best.scores.language) for best in bests if best.scores is not None]

    going_on = heard()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("parley.decoder.engine.live.LivePass._go_on_from", lambda *_: None)
        forgetful = heard()
    assert len(going_on) == len(forgetful) > 2
    assert going_on[0] == forgetful[0]
    assert all(ours != theirs for ours, theirs in zip(going_on[1:], forgetful[1:], strict=True))


def test_a_search_is_refused_where_there_is_none(recognizer: Recognizer) -> None:
    with recognizer.pool.lend(timeout=20) as lease:
        for search in (SearchOptions(hotwords=(Phrase("anna"),)), SearchOptions(beam=3)):
            with pytest.raises(InvalidOption):
                recognizer.open_stream(lease, MONO, StreamOptions(search=search), print)


@pytest.mark.parametrize(
    ("field", "wanted"),
    [
        ("options.search.hotwords", SearchOptions(hotwords=(Phrase("anna"),))),
        ("options.search", SearchOptions(beam=3)),
    ],
)
def test_a_recording_of_both_passes_has_no_search_to_wish_for(
    both: Recognizer, field: str, wanted: SearchOptions
) -> None:
    with pytest.raises(InvalidOption) as refused, both.pool.lend(timeout=1.0) as lease:
        both.transcribe(lease, open_file(pcm_of("austen_2.flac"), MONO), StreamOptions(search=wanted))
    assert refused.value.field == field


def test_interim_results_of_both_passes_have_hotwords(both: Recognizer) -> None:
    options = StreamOptions(search=SearchOptions(hotwords=(Phrase("anna"),)))
    with both.pool.lend(timeout=1.0) as lease:
        both.open_stream(lease, MONO, options, lambda event: None).close()
