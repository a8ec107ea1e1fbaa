"""Words spelled, graphs over frames and their files."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from parley.decoder.errors import ModelError
from parley.decoder.search.lattice.ctc_graph import ctc_graph, loop, token_loop
from parley.decoder.search.lattice.graph import Graph, fingerprint, read_graph
from parley.decoder.text.vocabulary import Vocabulary
from parley.training.graph.accepted import score_of
from parley.training.graph.build import grammar_graph, grammar_key, language_model_graph, language_model_key
from parley.training.graph.files import cached, write_graph
from parley.training.graph.spelling import Spelling
from parley.training.graph.tokens import spelled
from parley.training.graph.words import GrammarError, WordFsa
from tests.decoder.conftest import FIRST_MODEL
from tests.training.graph.language import PIECES, TINY, collapse, sentences, ways
from tests.training.graph.test_ngram import SMALL

if TYPE_CHECKING:
    from pathlib import Path

WORDS = ("a", "ab", "abb", "b", "ba", "bb")
GRAMMAR = "#JSGF V1.0; public <x> = [ab] (a | abb)+;"


@pytest.fixture(scope="module")
def english() -> Vocabulary:
    return Vocabulary.read_tokens(FIRST_MODEL / "tokens.txt")


@pytest.mark.parametrize(
    ("word", "pieces"),
    # As SentencePiece cuts them with the model's bpe.model.
    [
        ("the", "▁the"),
        ("quick", "▁ qu ic k"),
        ("brown", "▁b ro w n"),
        ("fox", "▁f o x"),
        ("don't", "▁d on ' t"),
        ("having", "▁having"),
        ("i", "▁ i"),
    ],
)
def test_words_are_cut_as_in_training(english: Vocabulary, word: str, pieces: str) -> None:
    spelling = Spelling(english).spell(word)
    assert spelling is not None
    assert [english.pieces[token].decode() for token in spelling] == pieces.split()


def test_case_is_the_vocabularys(english: Vocabulary) -> None:
    assert Spelling(english).spell("THE") == Spelling(english).spell("the")
    upper = Spelling(Vocabulary([piece.decode().upper().encode() for piece in english.pieces]))
    assert upper.folded("the") == "THE"
    both = Spelling(Vocabulary([b"<blank>", "▁A".encode(), "▁a".encode()]))
    assert (both.spell("a"), both.spell("A")) == ((2,), (1,))


def test_words_that_cannot_be_written(english: Vocabulary) -> None:
    assert Spelling(english).spell("naïve") is None
    assert Spelling(english).spell("7") is None


@st.composite
def acceptors(draw: st.DrawFn) -> WordFsa:
    states = draw(st.integers(1, 3))
    state, word = st.integers(0, states - 1), st.integers(0, len(WORDS) - 1)
    arcs = draw(st.lists(st.tuples(state, state, word, st.integers(-9, 0)), max_size=8))
    source, target, said, score = np.array(arcs, np.int64).reshape(-1, 4).T
    scores = st.integers(-9, 0).map(float)
    starts, finals = draw(st.dictionaries(state, scores, min_size=1)), draw(st.dictionaries(state, scores))
    return WordFsa(WORDS, states, source, target, said, score.astype(np.float64), starts, finals)


@given(acceptors())
def test_spelled_and_in_frames_it_says_the_same(fsa: WordFsa) -> None:
    """Every sentence of three words or fewer, and its score; nothing else of as many tokens."""
    spelling = Spelling(TINY)
    graph = ctc_graph(spelled(fsa, [spelling.spell(word) for word in WORDS]))
    expected = sentences(fsa, 3)
    for count in range(4):
        for said in itertools.product(WORDS, repeat=count):
            tokens = [token for word in said for token in spelling.spell(word) or ()]
            assert score_of(graph, tokens) == (pytest.approx(expected[said], abs=1e-3) if said in expected else None)


@given(acceptors(), st.integers(0, 4))
def test_frames_say_what_ctc_says_they_do(fsa: WordFsa, frames: int) -> None:
    """Every path's tokens are those of its labels, and every way to lay accepted tokens into frames is there."""
    graph = ctc_graph(spelled(fsa, [Spelling(TINY).spell(word) for word in WORDS]))
    if frames:
        assert graph.fault(len(PIECES)) is None or not fsa.finals
    found: dict[tuple[int, ...], float] = {}
    for labels, tokens, score in ways(graph, frames):
        assert tokens == collapse(labels)
        found[labels] = max(score, found.get(labels, -np.inf))
    used = sorted({token for labels in found for token in labels} | {0, 2, 3})
    for labels in itertools.product(used, repeat=frames):
        assert found.get(labels) == pytest.approx(score_of(graph, collapse(labels)))


def test_the_loop_takes_every_frame_once() -> None:
    graph = ctc_graph(loop([1, 2]))
    paths = list(ways(graph, 4))
    assert sorted(labels for labels, _, _ in paths) == sorted(itertools.product(range(3), repeat=4))
    assert all(tokens == collapse(labels) and score == 0 for labels, tokens, score in paths)
    assert set(token_loop(TINY).arcs[:, 3]) == {0, *range(2, len(PIECES))}  # not <unk>


def test_a_score_is_given_out_as_early_as_it_is_certain() -> None:
    fsa = WordFsa(
        WORDS, 2, np.array([0, 0]), np.array([1, 1]), np.array([1, 2]), np.array([-5.0, -3.0]), {0: 0.0}, {1: 0.0}
    )
    spellings = [Spelling(TINY).spell(word) for word in WORDS]
    assert spellings[1:3] == [(3,), (3, 7)]  # ab, abb
    graph = spelled(fsa, spellings)
    assert sorted(zip(graph.token.tolist(), graph.score.tolist(), strict=True)) == [(3, -5.0), (3, -3.0), (7, 0.0)]


def test_language_models_and_what_is_left_out_of_them(tmp_path: Path, english: Vocabulary) -> None:
    path = tmp_path / "small.arpa"
    path.write_text(SMALL.replace("no", "n0"), encoding="utf8")
    graph = language_model_graph(path, english)
    about = dict(graph.about)
    assert (about["words"], about["words_left_out"], about["grams"]) == ("1", "1", "4 2")
    yes = Spelling(english).spell("yes") or ()
    assert score_of(graph, yes) == pytest.approx(np.log(10) * (-0.1 - 0.25 - 0.5), rel=1e-4)
    path.write_text(SMALL.replace("no", "n0").replace("yes", "y3s"), encoding="utf8")
    with pytest.raises(GrammarError, match="without a word that may be said"):
        language_model_graph(path, english)


def test_a_file_holds_all_of_it(tmp_path: Path) -> None:
    graph = grammar_graph(GRAMMAR, TINY)
    path = tmp_path / "deep" / "x.graph"
    write_graph(graph, path)
    again = read_graph(path, TINY)
    assert (again.arcs == graph.arcs).all()
    assert (again.scores == graph.scores).all()
    assert again.about == graph.about
    assert dict(again.about)["kind"] == "jsgf"
    assert [file.name for file in path.parent.iterdir()] == ["x.graph"]


def test_graphs_over_other_tokens_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.graph"
    write_graph(grammar_graph(GRAMMAR, TINY), path)
    with pytest.raises(ModelError, match="over other tokens"):
        read_graph(path, Vocabulary([*TINY.pieces, b"c"]))


def test_files_that_are_no_graphs(tmp_path: Path) -> None:
    path = tmp_path / "x.graph"
    with pytest.raises(ModelError, match="not a readable graph"):
        read_graph(path, TINY)
    path.write_bytes(b"\x00" * 100)
    with pytest.raises(ModelError, match="not a readable graph"):
        read_graph(path, TINY)
    graph = grammar_graph(GRAMMAR, TINY)
    save_file({"arcs": graph.arcs, "scores": graph.scores}, path, {"format": "parley-graph-0"})
    with pytest.raises(ModelError, match="got format 'parley-graph-0', expected parley-graph-1"):
        read_graph(path, TINY)
    save_file({"arcs": graph.arcs}, path, {"format": "parley-graph-1"})
    with pytest.raises(ModelError, match="got arcs, expected arcs and scores"):
        read_graph(path, TINY)


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        ((0, 0), -1, "got states -1"),
        ((0, 1), -5, "got states -5"),
        ((0, 2), len(PIECES), "got labels"),
        ((0, 2), -2, "got labels -2"),
        ((0, 3), len(PIECES), "got labels"),
        ((0, 2), -1, "not final, or a final one elsewhere"),
        ((0, 0), 3, "not sorted"),
    ],
)
def test_what_k2_would_believe_is_checked(tmp_path: Path, place: tuple[int, int], value: int, message: str) -> None:
    graph = grammar_graph(GRAMMAR, TINY)
    arcs = graph.arcs.copy()
    arcs[place] = value
    path = tmp_path / "x.graph"
    write_graph(Graph(arcs, graph.scores, fingerprint(TINY)), path)
    with pytest.raises(ModelError, match=message):
        read_graph(path, TINY)


def test_shapes_and_numbers_are_checked() -> None:
    graph = grammar_graph(GRAMMAR, TINY)
    assert graph.fault(len(PIECES)) is None
    nan = np.full_like(graph.scores, np.nan)
    for wrong, message in (
        (Graph(graph.arcs[:, :3], graph.scores), "expected (1 or more, 4)"),
        (Graph(graph.arcs[:0], graph.scores[:0]), "expected (1 or more, 4)"),
        (Graph(graph.arcs, graph.scores[1:]), "got scores"),
        (Graph(graph.arcs, nan), "not finite"),
    ):
        assert message in (wrong.fault(len(PIECES)) or "")


def test_the_cache_builds_once(tmp_path: Path) -> None:
    built = []

    def build() -> Graph:
        built.append(1)
        return grammar_graph(GRAMMAR, TINY)

    first = cached(tmp_path, grammar_key(GRAMMAR, TINY), TINY, build)
    second = cached(tmp_path, grammar_key(GRAMMAR, TINY), TINY, build)
    assert len(built) == 1
    assert (first.arcs == second.arcs).all()


def test_a_key_is_of_all_that_the_graph_depends_on(tmp_path: Path) -> None:
    other = Vocabulary([*TINY.pieces, b"c"])
    path = tmp_path / "a.arpa"
    keys = [grammar_key(GRAMMAR, TINY), grammar_key(GRAMMAR + " ", TINY), grammar_key(GRAMMAR, other)]
    keys.append(grammar_key(GRAMMAR, TINY, blank=1))
    for text in (SMALL, SMALL + "\n", GRAMMAR):
        path.write_text(text, encoding="utf8")
        keys.append(language_model_key(path, TINY))
    assert len(set(keys)) == len(keys)
    assert grammar_key(GRAMMAR, TINY) == keys[0]
