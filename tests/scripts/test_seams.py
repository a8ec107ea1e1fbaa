from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import numpy as np
import pytest
import torch

from parley.decoder import recognizer
from parley.decoder.engine.stream import Decoder
from parley.decoder.speech.vad import SAMPLE_RATE
from parley.decoder.values import EndpointRules, Final, Hypothesis, Scores, Source, Word, WordTiming
from scripts.scoring import WordErrors
from scripts.seams import (
    GAP_MS,
    Carry,
    GoesOn,
    Place,
    Seam,
    SearchAlone,
    Timed,
    decoders_that,
    errors_by_place,
    joined,
    places,
    scored_words,
    seams_of,
    with_ends,
)
from tests.decoder.searching import BLANK, EVERYTHING, VOCABULARY, read_model, wishes

if TYPE_CHECKING:
    from pathlib import Path

    from parley.decoder.models.acoustic import AcousticModel
    from parley.decoder.search.language_model import LanguageModel

CUT, PAUSE, ELSEWHERE = Place.CUT, Place.PAUSE, Place.ELSEWHERE


def words(text: str) -> list[Timed]:
    """One a second, half a second long."""
    return [Timed(word, 1000.0 * at, 1000.0 * at + 500) for at, word in enumerate(text.split())]


def final(start_ms: int, end_ms: int, *readings: str) -> Final:
    """Of two readings the first is better by one."""
    hypotheses = tuple(
        Hypothesis(
            text, 0.5, tuple(Word(word, start_ms, end_ms, 0.5) for word in text.split()), Scores(-10.0, -float(rank))
        )
        for rank, text in enumerate(readings)
    )
    return Final(0, 0, start_ms, end_ms, hypotheses, WordTiming.CTC, Source.FIRST, 0.0, 0.0, 1)


def test_two_words_on_either_side_are_near() -> None:
    by_word, by_gap = places(words("a b c d e f g h"), [Seam(3_600, cut=True)])
    assert by_word == [ELSEWHERE] * 2 + [CUT] * 4 + [ELSEWHERE] * 2
    assert by_gap == [ELSEWHERE] * 2 + [CUT] * 5 + [ELSEWHERE] * 2


def test_at_the_ends_there_are_fewer() -> None:
    by_word, by_gap = places(words("a b c d e"), [Seam(-100, cut=True), Seam(9_000, cut=False)])
    assert by_word == [CUT, CUT, ELSEWHERE, PAUSE, PAUSE]
    assert by_gap == [CUT, CUT, CUT, PAUSE, PAUSE, PAUSE]
    assert places([], [Seam(0, cut=True)]) == ([], [CUT])


def test_a_word_near_a_cut_and_a_pause_is_the_cuts() -> None:
    seams = [Seam(2_600, cut=False), Seam(3_600, cut=True)]
    for order in (seams, seams[::-1]):
        assert places(words("a b c d e f g"), order)[0] == [ELSEWHERE, PAUSE, CUT, CUT, CUT, CUT, ELSEWHERE]


def test_errors_lie_where_the_words_of_the_reference_do() -> None:
    reference = words("a b c d e f g h i")
    found = words("x a b y c d f g h z")  # x, y, z put in, e and i left out or replaced
    counted = errors_by_place(reference, found, [Seam(4_600, cut=True)])
    assert counted[CUT] == WordErrors(4, 0, 0, 1)  # d e f g
    assert counted[PAUSE] == WordErrors()
    assert counted[ELSEWHERE] == WordErrors(5, 1, 2, 0)
    assert sum(counted.values(), WordErrors()) == WordErrors(9, 1, 2, 1)


def test_words_put_in_beside_a_seam_are_its() -> None:
    counted = errors_by_place(words("a b c d e f"), words("a b c x d e f"), [Seam(2_600, cut=False)])
    assert counted[PAUSE] == WordErrors(4, 0, 1, 0)
    assert counted[ELSEWHERE] == WordErrors(2)


def test_utterances_are_joined_by_speaker_up_to_a_length() -> None:
    def said(
        speaker: str, seconds: float, text: str
    ) -> tuple[str, np.ndarray[tuple[int], np.dtype[np.int16]], list[Timed]]:
        return speaker, np.full(int(seconds * SAMPLE_RATE), len(text), np.int16), [Timed(text, 100.0, 200.0)]

    spoken = [said("one", 2, "a"), said("one", 3, "b"), said("one", 9, "c"), said("two", 1, "d")]
    pieces = list(joined(spoken, 6_000))
    assert [[word.text for word in piece.words] for piece in pieces] == [["a", "b"], ["c"], ["d"]]
    assert pieces[0].words[1] == Timed("b", 2_000 + GAP_MS + 100, 2_000 + GAP_MS + 200)
    assert len(pieces[0].samples) == (5_000 + 2 * GAP_MS) * SAMPLE_RATE // 1_000
    for piece in pieces:  # the words lie where their audio does
        for word in piece.words:
            assert piece.samples[int(word.start_ms) * SAMPLE_RATE // 1_000] == len(word.text)
    assert [len(piece.words) for piece in joined(spoken, float("inf"))] == [3, 1]


def test_a_seam_is_a_cut_where_no_silence_lies_between() -> None:
    finals = [final(0, 1_000, "a"), final(1_000, 2_000, "b"), final(2_500, 3_000, "c")]
    assert seams_of(finals) == [Seam(1_000, cut=True), Seam(2_250, cut=False)]
    assert seams_of(finals[:1]) == []


def test_words_are_scored_as_the_reference_is() -> None:
    heard = scored_words([final(0, 1_000, "Well-known -- It's")])
    assert [word.text for word in heard] == ["well", "known", "it's"]


@pytest.fixture
def model(tmp_path: Path) -> LanguageModel:
    """A sentence may end with b, hardly with a; behind a b it hardly ends with a b."""
    table = {
        ("<unk>",): (-5.0, 0.0),
        ("<s>",): (-9.0, 0.0),
        ("</s>",): (-3.0, 0.0),
        ("a",): (-1.0, 0.0),
        ("b",): (-1.0, 0.0),
        ("b", "</s>"): (-0.1, 0.0),
        ("b", "b", "</s>"): (-4.0, 0.0),
    }
    return read_model(table, tmp_path / "small.lm")


def chosen(finals: list[Final], model: LanguageModel, weight: float) -> list[str]:
    return [each.hypotheses[0].text for each in with_ends(finals, model, weight)]


def test_a_pause_chooses_the_reading_that_a_sentence_ends_with(model: LanguageModel) -> None:
    paused = [final(0, 1_000, "a a", "a b"), final(2_000, 3_000, "a a", "a b")]
    assert chosen(paused, model, 1.0) == ["a b", "a b"]
    assert chosen(paused, model, 0.1) == ["a a", "a a"]
    cut = [final(0, 1_000, "a a", "a b"), final(1_000, 3_000, "a a", "a b")]
    assert chosen(cut, model, 1.0) == ["a a", "a b"]


def test_behind_a_cut_the_words_before_count(model: LanguageModel) -> None:
    assert chosen([final(0, 1_000, "b"), final(1_000, 2_000, "a", "b")], model, 1.0) == ["b", "a"]
    assert chosen([final(0, 1_000, "b"), final(1_500, 2_000, "a", "b")], model, 1.0) == ["b", "b"]


@pytest.mark.parametrize("carry", Carry)
def test_decoders_are_as_they_were_behind_a_measurement(carry: Carry) -> None:
    def ways() -> tuple[object, ...]:
        return recognizer.FILE_RULES, Decoder._goes_on_from, Decoder._close_heard, Decoder._final

    before, rules = ways(), EndpointRules(longest_utterance_ms=4_000)
    with decoders_that(carry, rules):
        during = ways()
    assert during[0] is rules
    assert (during[1:] == before[1:]) == (carry is Carry.ALL)
    assert ways() == before


def alone(model: LanguageModel) -> SearchAlone:
    """A frame is 40 ms. Every reading wins by the language model alone."""
    acoustic = SimpleNamespace(vocabulary=VOCABULARY, blank=BLANK, frame_ms=40.0)
    return SearchAlone(cast("AcousticModel", acoustic), wishes(model, language_weight=1.0, word_bonus=0.0), EVERYTHING)


def frames(*tokens: str) -> torch.Tensor:
    """Log-probabilities of a frame each: "ab" is either letter as likely."""
    chances = np.full((len(tokens), 6), 1e-6, np.float32)
    for row, token in zip(chances, tokens, strict=True):
        for letter in token:
            row[VOCABULARY.pieces.index("▁".encode() + letter.encode()) if letter != "-" else BLANK] = 1
    return torch.from_numpy(np.log(chances / chances.sum(1, keepdims=True)))


@pytest.fixture
def alternating(tmp_path: Path) -> LanguageModel:
    """A sentence begins with a, and a letter is followed by the other."""
    pairs = {
        ("<s>", "a"): -0.1,
        ("<s>", "b"): -2.0,
        ("a", "b"): -0.1,
        ("b", "a"): -0.1,
        ("a", "a"): -2.0,
        ("b", "b"): -2.0,
    }
    table: dict[tuple[str, ...], tuple[float, float]] = {}
    table |= {(word,): (-1.0, 0.0) for word in ("<unk>", "<s>", "</s>", "a", "b")}
    table |= {pair: (log10_prob, 0.0) for pair, log10_prob in pairs.items()}
    return read_model(table, tmp_path / "alternating.lm")


@pytest.mark.parametrize("how", GoesOn)
def test_without_seams_all_searches_are_one(alternating: LanguageModel, how: GoesOn) -> None:
    found = alone(alternating).hear(frames("ab", "-", "ab", "-", "ab", "-", "ab"), (), how)
    assert " ".join(word.text for word in found) == "a b a b"
    assert [word.start_ms for word in found] == [0, 80, 160, 240]


@pytest.mark.parametrize(
    ("how", "said"), [(GoesOn.NOT, "a a"), (GoesOn.BEGUN_BEHIND, "a b"), (GoesOn.CHOSEN_BEHIND, "a b")]
)
def test_behind_a_seam_the_words_before_are_known_or_not(alternating: LanguageModel, how: GoesOn, said: str) -> None:
    found = alone(alternating).hear(frames("ab", "-", "-", "ab", "-"), [Seam(80.0, cut=True)], how)
    assert " ".join(word.text for word in found) == said
    assert [(word.start_ms, word.end_ms) for word in found] == [(0, 40), (120, 160)]
