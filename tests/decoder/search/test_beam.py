"""Beam search against all alignments that there are; cut, beside others, in used slots and threads; what it leaves."""

from __future__ import annotations

import gc
import math
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from parley.decoder.device import CPU
from parley.decoder.model_folder import ModelFolder
from parley.decoder.models.streaming_ctc import StreamingCtc
from parley.decoder.search import beam as module
from parley.decoder.search.beam import Beam
from parley.decoder.search.beam_state import LISTED
from parley.decoder.search.calibration import Calibration
from parley.decoder.search.ctc import Path
from parley.decoder.search.forced import collapsed, forced_alignment
from parley.decoder.search.settings import BeamSettings, beam_settings
from parley.decoder.side_by_side import SideBySide
from parley.decoder.text.vocabulary import Vocabulary
from parley.decoder.values import Phrase, Scores
from tests.decoder.chunks import taken_whole
from tests.decoder.reference import EN_STREAMING, recording
from tests.decoder.searching import (
    BLANK,
    EVERYTHING,
    VOCABULARY,
    Listed,
    alignments,
    feed,
    random_rows,
    random_table,
    read_model,
    searched,
    table_of_speech,
    texts,
    wishes,
)
from tests.speech import RATE, RECORDINGS
from tests.training.lm.tables import log10_prob

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path as FilePath

    from parley.decoder.search.ctc import Wishes
    from parley.decoder.search.language_model import LanguageModel
    from tests.training.lm.tables import Table

WORDS = ("a", "b", "ab", "ba", "aab")
PENALTY = 0.7
BOOSTS = st.sampled_from([0.5, 2.0, 8.0])
PHRASES = st.lists(
    st.builds(Phrase, st.lists(st.sampled_from((*WORDS, "abb")), min_size=1, max_size=2).map(" ".join), BOOSTS),
    max_size=3,
)
SEEDS = st.integers(0, 2**32 - 1)
TYPICAL = BeamSettings(blank_penalty=0.5, unknown_word=-7.0)


@pytest.fixture(scope="module")
def table() -> Table:
    return random_table(np.random.default_rng(4), WORDS, 3)


@pytest.fixture(scope="module")
def model(table: Table, tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    return read_model(table, tmp_path_factory.mktemp("models") / "beam.lm")


@pytest.fixture
def roomy(monkeypatch: pytest.MonkeyPatch) -> int:
    """A beam that holds every prefix there is."""
    monkeypatch.setattr(module, "MOST_BEAM", 1_000)
    monkeypatch.setattr(module, "LINKS_A_SLOT", 20_000)
    return 1_000


def total(path: Path) -> float:
    return path.scores.total


# Against all alignments.


@settings(max_examples=60)
@given(
    seed=SEEDS,
    shape=st.sampled_from([(6, 1), (6, 2), (6, 3), (6, 4), (4, 5), (3, 6), (5, 0)]),
    with_model=st.booleans(),
    weight=st.sampled_from([0.3, 1.0]),
    bonus=st.sampled_from([0.0, -0.5, 1.5]),
    phrases=PHRASES,
    before=st.lists(st.sampled_from((*WORDS, "unheard")), max_size=3).map(tuple),
    cuts=st.lists(st.integers(0, 6), max_size=3),
)
def test_it_finds_all_and_scores_them_as_counted(
    table: Table,
    model: LanguageModel,
    seed: int,
    shape: tuple[int, int],
    with_model: bool,
    weight: float,
    bonus: float,
    phrases: list[Phrase],
    before: tuple[str, ...],
    cuts: list[int],
) -> None:
    """Words, scores, tokens, frames and peaks of every reading that there is, whatever the pieces it came in."""
    tokens, frames = shape
    rows = random_rows(np.random.default_rng(seed), frames, tokens, 2.0)
    lm = model if with_model else None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "MOST_BEAM", 1_000)
        patch.setattr(module, "LINKS_A_SLOT", 20_000)
        wanted = wishes(lm, phrases, beam=1_000, language_weight=weight, word_bonus=bonus, before=before)
        found = searched(
            rows,
            wanted,
            10_000,
            settings=replace(EVERYTHING, blank_penalty=PENALTY),
            cuts=[min(cut, frames) for cut in cuts],
        )
    listed = Listed(phrases)
    expected: dict[str, Path] = {}
    penalized = rows.clone()
    penalized[:, BLANK] -= PENALTY if with_model else 0.0
    for said, ways in alignments(penalized).items():
        words = [word for word, _ in VOCABULARY.words(said)]
        language = weight * language_score(table, listed, words, before) + bonus * len(words) if with_model else 0.0
        acoustic = np.logaddexp.reduce([log_prob for log_prob, _ in ways])
        _, labels = max(ways)
        path = Path(
            *collapsed(labels, BLANK),
            scores=Scores(float(acoustic), language, listed.earned(spoken(words))),
        )
        text = " ".join(words)
        if text not in expected or total(path) > total(expected[text]):
            expected[text] = path
    assert len(found) == len(expected)
    assert sorted(map(total, found), reverse=True) == list(map(total, found))
    for text, path in zip(texts(found), found, strict=True):
        counted = expected[text]
        assert path.tokens == counted.tokens
        ours, theirs = path.scores, counted.scores
        assert (ours.acoustic, ours.language, ours.hotwords) == pytest.approx(
            (theirs.acoustic, theirs.language, theirs.hotwords), abs=1e-4
        )
        assert path.spans == counted.spans
        peaks = [rows[start:end, token].max() for token, (start, end) in zip(path.tokens, path.spans, strict=True)]
        assert path.log_probs == pytest.approx([float(peak) for peak in peaks])


def spoken(words: Sequence[str]) -> str:
    return f" {' '.join(words)} "


def language_score(table: Table, listed: Listed, words: Sequence[str], before: Sequence[str]) -> float:
    """Natural logarithm; an unknown word's from the settings, or as a hotword's."""
    history, score = ["<s>", *(word if (word,) in table else "<unk>" for word in before)], 0.0
    for at, word in enumerate(words):
        if (word,) in table:
            score += log10_prob(table, history, word) * math.log(10)
        else:
            so_far = spoken(words[: at + 1])
            ends_phrase = listed.earned(so_far) > listed.earned(so_far[:-1])
            is_listed = ends_phrase or listed.held(so_far) > 0
            score += max(LISTED, EVERYTHING.unknown_word) if is_listed else EVERYTHING.unknown_word
        history.append(word if (word,) in table else "<unk>")
    return score


@pytest.mark.parametrize("frames", [0, 1, 2])
def test_next_to_nothing(frames: int, model: LanguageModel) -> None:
    silence = torch.tensor([[0.9, 0.02, 0.02, 0.02, 0.02, 0.02]]).log().repeat(frames, 1)
    (path,) = searched(silence, wishes(model), settings=TYPICAL)
    assert (path.tokens, path.spans, path.log_probs, path.confidences) == ((), (), (), ())
    assert path.scores.language == path.scores.hotwords == 0.0


def test_of_a_slot_without_an_utterance_there_is_nothing() -> None:
    beam = Beam(1, VOCABULARY, BLANK, TYPICAL)
    assert beam.n_best(0, 3) == [Path()]
    assert beam.best(0) == Path()


# What the search makes of words.


def told(*labels: str, share: float = 0.8) -> torch.Tensor:
    """(frames, tokens), where these tokens have that share, one a frame; "": blank; "x|y": both alike."""
    pieces = [piece.decode() for piece in VOCABULARY.pieces]
    rows = torch.full((len(labels), len(pieces)), (1 - share) / len(pieces))
    for row, label in zip(rows, labels, strict=True):
        names = label.split("|") if label else ["<blk>"]
        for name in names:
            row[pieces.index(name)] += share / len(names)
    return rows.log()


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    """Behind "a" comes "b", behind "b" comes "ba"; else all are alike."""
    table: dict[tuple[str, ...], tuple[float, float]] = {(word,): (-1.0, 0.0) for word in ("<unk>", "<s>", "</s>")}
    table |= {(word,): (-1.0, 0.0) for word in ("a", "b", "ba", "ab")}
    table |= {("a", "b"): (-0.1, 0.0), ("b", "ba"): (-0.1, 0.0)}
    return read_model(table, tmp_path_factory.mktemp("models") / "chain.lm")


def test_the_words_before_tell_which_word_it_is(chain: LanguageModel) -> None:
    """Also those of the utterance before."""
    heard = told("▁a|▁b", share=0.9)
    assert texts(searched(heard, wishes(chain, before=("a",)))) == ["b"]
    assert texts(searched(told("▁a", "", "▁a|▁b"), wishes(chain))) == ["a b"]
    assert texts(searched(told("▁b", "", "▁b", "a|b"), wishes(chain))) == ["b ba"]


def test_what_the_language_model_is_worth(chain: LanguageModel) -> None:
    """Weight 0 is the network alone, and then neither bonus nor penalty counts."""
    rows = told("▁a", "", "▁a", share=0.5)
    settings = replace(EVERYTHING, blank_penalty=3.0)
    alone = searched(rows, wishes(), 50, settings=settings)
    assert texts(alone)[0] == "a a"
    for wanted in (wishes(chain, language_weight=0.0, word_bonus=9.0), wishes(word_bonus=9.0)):
        assert searched(rows, wanted, 50, settings=settings) == alone
    assert texts(searched(rows, wishes(chain, word_bonus=1.4), settings=EVERYTHING)) == ["a a"]
    assert texts(searched(rows, wishes(chain, language_weight=2.0, word_bonus=3.0), settings=EVERYTHING)) == ["a b"]


def test_a_mark_alone_is_no_word(chain: LanguageModel) -> None:
    """However it is spelled, a word costs and brings what it should."""
    for said in (["▁", "", "a"], ["▁", "", "▁a"], ["▁", "", "▁", "a"], ["▁a", "", "▁"], ["a"]):
        (path,) = searched(told(*said, share=0.99), wishes(chain, [Phrase("a", 4.0)], beam=64))
        assert texts([path]) == ["a"]
        assert path.scores.language == pytest.approx(0.6 * -math.log(10) + 0.5)
        assert path.scores.hotwords == 1.0


def test_hotwords_are_heard_more_readily_and_others_are_not() -> None:
    rows = told("▁a", "", "▁b|b", "", "▁b", share=0.9)
    plain = searched(rows, wishes(), 20, settings=TYPICAL)
    assert {"ab b", "a b b"} <= set(texts(plain))
    for boosted, other in (("ab", "a b b"), ("a b b", "ab")):
        found = searched(rows, wishes(phrases=[Phrase(boosted)]), 20, settings=TYPICAL)
        assert boosted in texts(found)[0]
        assert other not in texts(found)[0]
    assert searched(rows, wishes(phrases=[Phrase("zebra", 20.0)]), 20, settings=TYPICAL) == plain
    begun_only = searched(rows, wishes(phrases=[Phrase("abba", 1.0), Phrase("aa ab")]), settings=TYPICAL)
    assert (texts(begun_only), begun_only[0].scores.hotwords) == (texts(plain[:1]), 0.0)


def test_a_phrase_that_is_not_finished_earns_nothing() -> None:
    """At the end of the utterance either."""
    (path,) = searched(told("▁a", "", "▁b"), wishes(phrases=[Phrase("a b a", 1.0)]))
    assert (texts([path]), path.scores.hotwords) == (["a b"], 0.0)
    (path,) = searched(told("▁a", "", "▁b"), wishes(phrases=[Phrase("a b", 1.0)]))
    assert (texts([path]), path.scores.hotwords) == (["a b"], 0.75)


@pytest.mark.parametrize("beam", [1, 4, 64])
def test_no_more_tokens_are_tried_than_should_be(beam: int) -> None:
    """However many are as likely as one another; the likelier ones are among them."""
    pieces = ("<blk>", *(f"▁w{number}" for number in range(1, 300)))
    vocabulary = Vocabulary([piece.encode() for piece in pieces])
    rows = torch.zeros(8, len(pieces))
    rows[:, 290] = rows[:, 295] = 2.0
    rows[:, BLANK] = 1.0
    narrow = replace(EVERYTHING, tokens=3)
    for dense in (rows.log_softmax(-1), torch.zeros(8, len(pieces)).log_softmax(-1)):
        paths = searched(dense, wishes(beam=beam), 64, settings=narrow, vocabulary=vocabulary)
        assert 1 <= len(paths) <= beam
        seen = {token for path in paths for token in path.tokens}
        assert len(seen) <= 4
        if dense[0, 290] > dense[0, 1]:
            assert texts(paths[:1], vocabulary)[0].split()[0] in ("w290", "w295")
            assert beam == 1 or seen >= {290, 295}


def test_alternatives_are_other_words_and_as_many_as_asked_for(model: LanguageModel) -> None:
    rows = random_rows(np.random.default_rng(3), 12, 6)
    most = searched(rows, wishes(model, beam=16), 100, settings=TYPICAL)
    assert len(set(texts(most))) == len(most) > 3
    assert len({path.tokens for path in most}) == len(most) <= 16
    for count in (1, 2, 3):
        assert searched(rows, wishes(model, beam=16), count, settings=TYPICAL) == most[:count]
    for path in most[1:]:
        assert path.confidences == ()
    words = texts(most)[0].split()
    assert len(most[0].confidences) == len(words)
    assert all(0 < confidence <= 1 for confidence in most[0].confidences)


def test_confidence_and_stability_are_what_calibration_makes_of_them(chain: LanguageModel) -> None:
    """Of the shares of all readings in which a word stands, and of the best one's share of all."""

    class Told(Calibration):
        def confidence_of(self, posterior: float, mean_log_prob: float, tokens: int, known: bool) -> float:
            figures.append((posterior, mean_log_prob, tokens, known))
            return 0.25

        def stability_of(self, posterior: float, quiet: int, words: int, known: bool) -> float:
            figures.append((posterior, quiet, words, known))
            return 0.75

    figures: list[tuple[float, float, int, bool]] = []
    rows = told("▁a", "", "▁b", "", "b", "", share=0.9)
    beam = Beam(1, VOCABULARY, BLANK, EVERYTHING, Told())
    beam.begin(0, wishes(chain, beam=64, language_weight=0.1))
    beam.advance([0], rows[None, :1], [1])
    beam.best(0)
    assert figures[0][1:] == (0, 1, True)
    beam.advance([0], rows[None, 1:], [5])
    best = beam.best(0)
    assert (texts([best]), best.stability) == (["a bb"], 0.75)
    assert figures[1][1:] == (1, 2, False)
    assert 0 < figures[1][0] < 1
    del figures[:]
    paths = beam.n_best(0, 64)
    assert paths[0].confidences == (0.25, 0.25)
    (sure, _, length, known), (unsure, _, two, unknown) = figures
    assert (length, known, two, unknown) == (1, True, 2, False)
    shares = {text: math.exp(total(path)) for text, path in zip(texts(paths), paths, strict=True)}
    having = [share for text, share in shares.items() if "bb" in text.split()]
    assert unsure == pytest.approx(sum(having) / sum(shares.values()), rel=0.05)
    assert sure > unsure


# Cut, beside others, in used slots, on any thread.


@pytest.fixture(scope="module")
def kinds(model: LanguageModel, chain: LanguageModel) -> list[Wishes]:
    """What requests on one node may want."""
    return [
        wishes(),
        wishes(model, before=("ab",)),
        wishes(chain, [Phrase("ab ba", 4.0)], beam=5),
        wishes(phrases=[Phrase("bb")], beam=64),
    ]


THREADS = {1: None, 2: SideBySide(2, "test")}


@settings(max_examples=80)
@given(
    seed=SEEDS,
    frames=st.integers(1, 40),
    beam=st.sampled_from([1, 3, 8]),
    weight=st.sampled_from([0.3, 1.0, 2.0]),
    bonus=st.sampled_from([-2.0, 0.0, 2.0]),
)
def test_what_cannot_be_among_the_best_may_be_left_out(
    model: LanguageModel, seed: int, frames: int, beam: int, weight: float, bonus: float
) -> None:
    """With a hotword nothing is; one that cannot be spelled here changes nothing else."""
    rows = random_rows(np.random.default_rng(seed), frames, 6, 2.0)
    some, every = (
        wishes(model, phrases, beam=beam, language_weight=weight, word_bonus=bonus)
        for phrases in ((), [Phrase("zebra", 20.0)])
    )
    assert searched(rows, some, 10, settings=TYPICAL) == searched(rows, every, 10, settings=TYPICAL)


def test_threads_share_frames_not_rows() -> None:
    """Few rows of recordings are work for all, as many of calls are."""
    shares: list[list[int]] = []

    class Noting(SideBySide):
        def shares(self, rows: Any, least: int = 1) -> Any:
            found = super().shares(rows, least)
            shares.append([len(share) for share in found])
            return found

    beam = Beam(9, VOCABULARY, BLANK, TYPICAL, side_by_side=Noting(2, "test"))
    for slot in range(9):
        beam.begin(slot, wishes())
    shares.clear()
    for rows, frames in ((2, 300), (2, 8), (7, 8), (9, 8), (3, 20)):
        beam.advance(range(rows), random_rows(np.random.default_rng(1), frames, 6).repeat(rows, 1, 1), [frames] * rows)
    assert shares == [[1, 1], [2], [7], [4, 5], [3]]


@settings(max_examples=25)
@given(
    seed=SEEDS, lengths=st.lists(st.integers(0, 40), min_size=1, max_size=10), threads=st.sampled_from(sorted(THREADS))
)
def test_whatever_the_pieces_and_whoever_is_beside_it(
    kinds: list[Wishes], seed: int, lengths: list[int], threads: int
) -> None:
    """Equal to the last bit, in slots that others have just left, wiped or not."""
    rng, slots = np.random.default_rng(seed), 3
    utterances = [random_rows(rng, length, 6, 3.0) for length in lengths]
    wanted = [kinds[rng.integers(len(kinds))] for _ in utterances]
    alone = [searched(rows, one, 10, settings=TYPICAL) for rows, one in zip(utterances, wanted, strict=True)]
    beam = Beam(slots, VOCABULARY, BLANK, TYPICAL, side_by_side=THREADS[threads])
    waiting, under_way = list(range(len(utterances))), dict[int, tuple[int, int]]()  # by slot: utterance, its frames
    while waiting or under_way:
        for slot in range(slots):
            if waiting and slot not in under_way and rng.random() < 0.5:
                number = waiting.pop()
                beam.begin(slot, wanted[number])
                under_way[slot] = number, 0
        chosen = [slot for slot in rng.permutation(list(under_way)).tolist() if rng.random() < 0.7]
        if not chosen:
            continue
        frames = [min(int(rng.integers(9)), lengths[number] - at) for number, at in map(under_way.get, chosen)]  # type: ignore[misc]
        batch = random_rows(rng, max(frames) + int(rng.integers(3)), 6).repeat(len(chosen), 1, 1)
        for row, slot, count in zip(batch, chosen, frames, strict=True):
            number, at = under_way[slot]
            row[:count] = utterances[number][at : at + count]
            under_way[slot] = number, at + count
        with mock.patch.object(module, "FRAMES_A_THREAD", 1):  # so that two rows are enough for two threads
            beam.advance(chosen, batch, frames)
        for slot in chosen:
            number, at = under_way[slot]
            beam.best(slot)  # asking changes nothing
            if at == lengths[number]:
                assert beam.n_best(slot, 10) == alone[number]
                del under_way[slot]
                if rng.random() < 0.5:
                    beam.clear(slot)


def test_half_precision_is_read_as_what_it_holds(model: LanguageModel) -> None:
    rows = random_rows(np.random.default_rng(2), 30, 6, 3.0).half()
    assert searched(rows, wishes(model), 5) == searched(rows.float(), wishes(model), 5)
    sliced = rows.float().repeat(1, 2).T.contiguous().T[:, :6]  # in another order in memory
    assert not sliced.is_contiguous()
    assert searched(sliced, wishes(model), 5) == searched(rows.float(), wishes(model), 5)


def test_threads_do_not_matter(kinds: list[Wishes]) -> None:
    """Begun, fed and asked on threads of their own, and slots at the same time."""
    utterances = [random_rows(np.random.default_rng(number), 400, 6, 3.0) for number in range(4)]
    alone = [searched(rows, one, 5, settings=TYPICAL) for rows, one in zip(utterances, kinds, strict=True)]
    beam = Beam(4, VOCABULARY, BLANK, TYPICAL)
    together = threading.Barrier(4, timeout=20)

    def client(slot: int) -> list[Path]:
        for _ in range(5):
            beam.begin(slot, kinds[slot])
            together.wait()
            for start in range(0, 400, 8):
                beam.advance([slot], utterances[slot][None, start : start + 8], [8])
        return beam.n_best(slot, 5)

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(client, range(4))) == alone
    with ThreadPoolExecutor(1) as one:
        for step in range(0, 400, 100):
            if step == 0:
                one.submit(beam.begin, 0, kinds[0]).result()
            beam.advance([0], utterances[0][None, step : step + 50], [50])
            one.submit(beam.advance, [0], utterances[0][None, step + 50 : step + 100], [50]).result()
    assert beam.n_best(0, 5) == alone[0]


# What stays, and what goes.


def test_while_nothing_changes_the_path_is_the_same_object() -> None:
    beam = Beam(2, VOCABULARY, BLANK, TYPICAL)
    beam.begin(0, wishes())
    beam.begin(1, wishes())
    empty = beam.best(0)
    assert empty == beam.best(1) == Path()
    beam.advance([0], told("▁a", "")[None], [2])
    path = beam.best(0)
    assert path.tokens == (2,)
    for rows, frames in ((told("", ""), 2), (told("▁b"), 0)):  # silence; nothing
        beam.advance([0], rows[None], [frames])
        assert beam.best(0) is path
    beam.advance([1], told("▁b")[None], [1])  # somebody else
    beam.n_best(0, 5)
    assert beam.best(0) is path
    beam.advance([0], told("▁b")[None], [1])
    assert beam.best(0).tokens == (2, 4)
    assert path == Path((2,), ((0, 1),), path.log_probs)  # what was handed out stays as it was


def test_what_was_said_before_is_forgotten() -> None:
    beam = Beam(2, VOCABULARY, BLANK, TYPICAL)
    for slot in (0, 1):
        beam.begin(slot, wishes())
    beam.advance([0, 1], told("▁a", "").repeat(2, 1, 1), [2, 2])
    assert beam.best(0).tokens == (2,)
    beam.clear(0)
    assert (beam.n_best(0, 1), beam.best(0)) == ([Path()], Path())
    beam.begin(0, wishes())
    assert beam.best(0).tokens == ()
    beam.advance([0, 1], told("▁a", "b").repeat(2, 1, 1), [2, 2])
    assert texts([beam.best(0), beam.best(1)]) == ["ab", "a ab"]
    assert beam.best(0).spans == ((0, 1), (1, 2))
    beam.begin(0, wishes())  # without being wiped: a stream has many utterances
    assert beam.best(0).tokens == ()


def test_a_language_model_is_free_with_its_last_utterance(tmp_path: FilePath) -> None:
    beam, table = Beam(2, VOCABULARY, BLANK, TYPICAL), random_table(np.random.default_rng(1), WORDS, 2)
    wanted = wishes(read_model(table, tmp_path / "old.lm"))
    old = weakref.ref(wanted.language_model)
    for slot in (0, 1):
        beam.begin(slot, wanted)
        beam.advance([slot], told("▁a", "▁b")[None], [2])
        beam.best(slot)
    kept = beam.n_best(0, 2)
    del wanted
    beam.clear(0)
    gc.collect()
    assert old() is not None  # slot 1 goes on with it
    beam.begin(1, wishes())  # the next utterance of a request that wants none
    gc.collect()
    assert old() is None
    assert kept[0].tokens


def test_nothing_grows_with_an_utterance_or_with_many(model: LanguageModel) -> None:
    beam = Beam(2, VOCABULARY, BLANK, TYPICAL)
    arrays = [array for slot in beam._slots for array in slot]
    places = [(array.ctypes.data, array.nbytes) for array in arrays]
    assert sum(array.nbytes for array in arrays) == 2 * beam.slot_bytes
    rows = random_rows(np.random.default_rng(1), 2_000, 6, 2.0)
    for turn in range(5):
        beam.begin(turn % 2, wishes(model, beam=64))
        feed(beam, turn % 2, rows, range(100, 2_000, 100))
        beam.n_best(turn % 2, 5)
    after = [array for slot in beam._slots for array in slot]
    assert [(array.ctypes.data, array.nbytes) for array in after] == places
    assert all(a is b for a, b in zip(arrays, after, strict=True))


# Little room for links between tokens.


def dense(frames: int) -> torch.Tensor:
    """A token every third frame, now and then an uncertain one."""
    rng = np.random.default_rng(8)
    rows = torch.from_numpy(rng.normal(size=(frames, 6)).astype(np.float32))
    rows[:, BLANK] += 6.0
    for at in range(1, frames, 3):
        rows[at, int(rng.integers(1, 6))] += 9.0
    return rows.log_softmax(-1)


@pytest.mark.parametrize("links", [1_100, 1_500])
def test_a_long_utterance_in_little_room(links: int, model: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some 750 tokens, and many times as many that were tried and given up on the way."""
    rows = dense(3_000)

    def decoded(room: int) -> tuple[list[Path], int]:
        monkeypatch.setattr(module, "LINKS_A_SLOT", room)
        beam = Beam(1, VOCABULARY, BLANK, TYPICAL)
        beam.begin(0, wishes(model))
        feed(beam, 0, rows, range(8, 3_000, 8))
        return beam.n_best(0, 5), int(beam._slots[0].counts[1])

    with_room, used = decoded(200_000)
    assert used > 2 * links
    assert len(with_room[0].tokens) > 700
    with_little, kept = decoded(links)
    assert with_little == with_room
    assert kept <= links


def test_where_there_is_no_room_the_worse_are_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = dense(600)
    monkeypatch.setattr(module, "LINKS_A_SLOT", 100_000)
    (expected,) = searched(rows, wishes(beam=8), settings=TYPICAL)
    monkeypatch.setattr(module, "LINKS_A_SLOT", len(expected.tokens) + 17)
    (found,) = searched(rows, wishes(beam=8), settings=TYPICAL)
    assert abs(len(found.tokens) - len(expected.tokens)) <= 2
    assert 0 < abs(total(expected) - total(found)) < 5


# On real speech.


@pytest.fixture(scope="module")
def real() -> StreamingCtc:
    return StreamingCtc(ModelFolder.read(EN_STREAMING), CPU, 1, 320)


@pytest.fixture(scope="module")
def suited() -> BeamSettings:
    return beam_settings(ModelFolder.read(EN_STREAMING))


@pytest.mark.parametrize("with_model", [False, True])
def test_words_lie_where_a_forced_alignment_has_them(
    real: StreamingCtc, suited: BeamSettings, tmp_path: FilePath, with_model: bool
) -> None:
    """Starts and ends of 95 % of the words to a frame, though silence is penalized where there is a language model."""
    model = read_model(table_of_speech(), tmp_path / "speech.lm") if with_model else None
    pairs = []
    for name in RECORDINGS:
        (log_probs,), (frames,) = taken_whole(real, [recording(name.removesuffix(".flac"))[: 28 * RATE]])
        rows = log_probs[:frames]
        (path,) = searched(rows, wishes(model, word_bonus=2.0), settings=suited, vocabulary=real.vocabulary)
        labels = forced_alignment(rows.numpy(), path.tokens, real.blank)
        assert labels is not None
        tokens, spans = collapsed(labels, real.blank)
        assert tokens == path.tokens
        for _, word in real.vocabulary.words(tokens):
            for edge, place in ((0, word.start), (1, word.stop - 1)):
                pairs.append((path.spans[place][edge], spans[place][edge]))
    near = [abs(ours - theirs) <= 1 for ours, theirs in pairs]
    assert len(near) > 250
    assert sum(near) >= 0.95 * len(near) if with_model else all(near)
