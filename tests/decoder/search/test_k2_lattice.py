"""The lattice search with k2 itself, against counting every path. Runs in the lane that has k2 (make test-k2)."""

from __future__ import annotations

import itertools
import math
import threading
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from parley.decoder.errors import ModelError
from parley.decoder.search.lattice.ctc_graph import token_loop
from parley.decoder.search.lattice.k2 import LatticeSearch, available
from parley.decoder.search.lattice.lattice import SILENCE, LatticeConfig, LatticeOptions, LatticeResult
from parley.decoder.values import TOKENS
from parley.training.graph.accepted import score_of
from parley.training.graph.build import grammar_graph, language_model_graph
from parley.training.graph.spelling import Spelling
from tests.training.graph.language import PIECES, TINY, readings

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

pytestmark = pytest.mark.k2
k2 = pytest.importorskip("k2", reason="k2 is in another lane: make test-k2")

WIDE = LatticeConfig(
    search_beam=100, output_beam=100, min_active=10_000, max_active=100_000, samples=1_000, least_posterior=0.0
)
BLANK, UNKNOWN = 0, 1

ARPA = """
\\data\\
ngram 1=6
ngram 2=4

\\1-grams:
-99 <s> -0.4
-1.2 </s>
-0.6 a -0.3
-0.9 ab -0.2
-1.1 abb -0.1
-0.8 bb

\\2-grams:
-0.3 <s> a
-0.2 a abb
-0.4 ab bb
-0.1 bb </s>

\\end\\
"""
GRAMMAR = "#JSGF V1.0; public <x> = [a] (ab | bb) abb*;"


@pytest.fixture(scope="module")
def arpa(tmp_path_factory: pytest.TempPathFactory) -> LatticeSearch:
    path = tmp_path_factory.mktemp("lm") / "small.arpa"
    path.write_text(ARPA, encoding="utf8")
    graphs = {"lm": language_model_graph(path, TINY), "grammar": grammar_graph(GRAMMAR, TINY)}
    return LatticeSearch(TINY, graphs, WIDE)


@cache
def plain() -> LatticeSearch:
    return LatticeSearch(TINY, {}, WIDE)


def random_log_probs(seed: int, *frames: int, tokens: int = len(PIECES), sharp: float = 2.0) -> torch.Tensor:
    """(rows, frames, tokens), <unk> never."""
    rng = np.random.default_rng(seed)
    scores = sharp * rng.normal(size=(len(frames), max(frames), tokens)).astype(np.float32)
    scores[:, :, UNKNOWN] = -np.inf
    return torch.from_numpy(scores).log_softmax(-1)


def texts(tokens: Sequence[int]) -> tuple[str, ...]:
    return tuple(text for text, _ in TINY.words(tokens))


def brute(log_probs: NDArray[np.float32]) -> dict[tuple[int, ...], float]:
    """readings() without the token that is never said."""
    kept = [token for token in range(log_probs.shape[1]) if token != UNKNOWN]
    return {tuple(kept[at] for at in said): score for said, score in readings(log_probs[:, kept]).items()}


def assert_alike(left: LatticeResult, right: LatticeResult) -> None:
    assert len(left.paths) == len(right.paths)
    for one, other in zip(left.paths, right.paths, strict=True):
        assert (one.tokens, one.spans) == (other.tokens, other.spans)
        assert one.scores.total == pytest.approx(other.scores.total, abs=1e-3)
        assert one.confidences == pytest.approx(other.confidences, abs=0.02)


def test_it_is_available() -> None:
    assert available() is None


@settings(max_examples=25)
@given(seed=st.integers(0, 2**32 - 1), frames=st.integers(1, 3))
def test_without_a_language_model_it_is_ctc(seed: int, frames: int) -> None:
    """The modified topology says more than CTC does; what comes out is CTC's probabilities all the same."""
    log_probs = random_log_probs(seed, frames)
    expected = brute(log_probs[0].numpy())
    by_words: dict[tuple[str, ...], float] = {}
    for tokens, score in expected.items():
        by_words[texts(tokens)] = max(score, by_words.get(texts(tokens), -math.inf))
    (result,) = plain().decode(log_probs, [frames], TOKENS, LatticeOptions(n_best=5))
    for path in result.paths:
        assert path.scores.acoustic == pytest.approx(expected[path.tokens], abs=1e-3)
    totals = [path.scores.total for path in result.paths]
    best = sorted(by_words.values(), reverse=True)
    assert totals[0] == pytest.approx(best[0], abs=1e-3)
    assert totals == sorted(totals, reverse=True)
    assert len({texts(path.tokens) for path in result.paths}) == len(totals)


@settings(max_examples=25)
@given(seed=st.integers(0, 2**32 - 1), frames=st.integers(1, 3), graph=st.sampled_from([TOKENS, "lm"]))
def test_confidences_are_posteriors(arpa: LatticeSearch, seed: int, frames: int, graph: str) -> None:
    """Of a word, the share of all readings with it; here the utterance is too short for it to be said elsewhere."""
    log_probs = random_log_probs(seed, frames)
    options = LatticeOptions(language_weight=1.0)
    (result,) = arpa.decode(log_probs, [frames], graph, options)
    if not result.paths:
        assert graph == "lm"
        return
    shares: dict[tuple[int, ...], float] = {}
    for tokens, score in brute(log_probs[0].numpy()).items():
        language = language_score(arpa_model(), tokens, ways=True) if graph == "lm" else 0.0
        if language is not None:
            shares[tokens] = math.exp(score + language)
    whole = sum(shares.values())
    for text, confidence in zip(texts(result.paths[0].tokens), result.paths[0].confidences, strict=True):
        expected = sum(share for tokens, share in shares.items() if text in texts(tokens)) / whole
        assert confidence == pytest.approx(expected, abs=0.08)


def arpa_model() -> dict[tuple[str, ...], tuple[float, float]]:
    grams = {}
    for line in ARPA.splitlines():
        if line.startswith("-"):
            order = 1 if len(line.split()) == 2 or line.split()[-1][-1].isdigit() else 2
            fields = line.split()
            backoff = float(fields[-1]) if len(fields) == order + 2 else 0.0
            grams[tuple(fields[1 : order + 1])] = (float(fields[0]), backoff)
    return grams


def language_score(
    model: dict[tuple[str, ...], tuple[float, float]], tokens: tuple[int, ...], *, ways: bool = False
) -> float | None:
    """A bigram's, by hand; None if these are not the tokens of known words. ways: with all ways to back off added up,
    which is what a sum over a graph's paths has."""
    words = texts(tokens)
    spelling = Spelling(TINY)
    spelled = [token for word in words for token in spelling.spell(word) or ()]
    if tuple(spelled) != tokens or any((word,) not in model for word in words):
        return None
    total, history = 0.0, "<s>"
    for word in (*words, "</s>"):
        backed = 10 ** (model[history,][1] + model[word,][0])
        known = 10 ** model[history, word][0] if (history, word) in model else 0.0
        total += math.log(known + backed if ways else known or backed)
        history = word
    return total


def language_ways(model: dict[tuple[str, ...], tuple[float, float]], tokens: tuple[int, ...]) -> Iterator[float]:
    """Of known words, each of which may be the bigram's or backed off to."""
    history, choices = "<s>", []
    for word in (*texts(tokens), "</s>"):
        backed = math.log(10) * (model[history,][1] + model[word,][0])
        known = [math.log(10) * model[history, word][0]] if (history, word) in model else []
        choices.append([*known, backed])
        history = word
    return map(sum, itertools.product(*choices))


@settings(max_examples=25)
@example(seed=1408117, frames=1, weight=0.3, bonus=0.0)  # a reading whose one sample is backed off to
@given(
    seed=st.integers(0, 2**32 - 1),
    frames=st.integers(1, 4),
    weight=st.sampled_from([0.3, 1.0, 3.0]),
    bonus=st.sampled_from([0.0, 2.0]),
)
def test_with_a_language_model_it_is_the_best_of_all(
    arpa: LatticeSearch, seed: int, frames: int, weight: float, bonus: float
) -> None:
    log_probs = random_log_probs(seed, frames)
    model = arpa_model()
    expected: dict[tuple[int, ...], float] = {}
    for tokens, score in brute(log_probs[0].numpy()).items():
        language = language_score(model, tokens)
        if language is not None:
            expected[tokens] = score + weight * language + bonus * len(texts(tokens))
    options = LatticeOptions(n_best=3, language_weight=weight, word_bonus=bonus)
    (result,) = arpa.decode(log_probs, [frames], "lm", options)
    best, *others = result.paths
    assert best.scores.total == pytest.approx(max(expected.values()), abs=1e-2)
    assert best.scores.total == pytest.approx(expected[best.tokens], abs=1e-2)
    for path in (best, *others):
        acoustic = brute(log_probs[0].numpy())[path.tokens]
        words = bonus * len(texts(path.tokens))
        # Of an unlikely reading the sample may hold another of its ways through the graph than the best.
        ways = [weight * way + words for way in language_ways(model, path.tokens)]
        assert any(path.scores.language == pytest.approx(way, abs=1e-2) for way in ways)
        assert path.scores.total == pytest.approx(acoustic + path.scores.language, abs=1e-2)


@settings(max_examples=25)
@given(seed=st.integers(0, 2**32 - 1), frames=st.integers(1, 12))
def test_a_grammar_says_only_what_is_in_it(arpa: LatticeSearch, seed: int, frames: int) -> None:
    (result,) = arpa.decode(random_log_probs(seed, frames), [frames], "grammar", LatticeOptions(n_best=10))
    graph = grammar_graph(GRAMMAR, TINY)
    assert result.paths  # "ab" fits into one frame
    for path in result.paths:
        assert score_of(graph, path.tokens) is not None
        assert set(texts(path.tokens)) <= {"a", "ab", "bb", "abb"}


@settings(max_examples=25)
@given(seed=st.integers(0, 2**32 - 1), frames=st.integers(1, 3), graph=st.sampled_from([TOKENS, "lm"]))
def test_the_lattices_posteriors(arpa: LatticeSearch, seed: int, frames: int, graph: str) -> None:
    """All that begins adds up to 1; the words' shares are those of all readings."""
    log_probs = random_log_probs(seed, frames)
    options = LatticeOptions(language_weight=1.0, lattice=True)
    (result,) = arpa.decode(log_probs, [frames], graph, options)
    assert result.lattice is not None
    lattice = result.lattice
    assert lattice.posterior[lattice.source == 0].sum() == pytest.approx(1, abs=0.02)
    shares: dict[str, float] = {}
    whole = 0.0
    for tokens, score in brute(log_probs[0].numpy()).items():
        language = language_score(arpa_model(), tokens, ways=True) if graph == "lm" else 0.0
        if language is None:
            continue
        share = math.exp(score + language)
        whole += share
        for text in texts(tokens):
            shares[text] = shares.get(text, 0.0) + share
    found: dict[str, float] = {}
    for word, posterior in zip(lattice.word.tolist(), lattice.posterior.tolist(), strict=True):
        if lattice.words[word] != SILENCE:
            for text in texts(lattice.words[word]):
                found[text] = found.get(text, 0.0) + posterior
    for text, share in shares.items():
        assert found.get(text, 0.0) == pytest.approx(share / whole, abs=0.03)


@settings(max_examples=15)
@given(
    seed=st.integers(0, 2**32 - 1),
    frames=st.lists(st.integers(0, 30), min_size=1, max_size=6),
    graph=st.sampled_from([TOKENS, "lm", "grammar"]),
)
def test_in_a_batch_as_alone(arpa: LatticeSearch, seed: int, frames: list[int], graph: str) -> None:
    log_probs = random_log_probs(seed, *(max(count, 1) for count in frames), sharp=4.0)
    options = LatticeOptions(n_best=3)
    together = arpa.decode(log_probs, frames, graph, options)
    for row, count in enumerate(frames):
        (alone,) = arpa.decode(log_probs[row : row + 1, : max(count, 1)], [count], graph, options)
        assert_alike(together[row], alone)


def test_rows_that_have_nothing_do_not_disturb_their_neighbours(arpa: LatticeSearch) -> None:
    log_probs = random_log_probs(1, *[6] * 6)
    alone = arpa.decode(log_probs, [6] * 6, "grammar", LatticeOptions())
    log_probs[1, 2, 3] = math.nan
    log_probs[3, 0, 0] = math.inf
    log_probs[4, :, 2:] = -math.inf  # silence: the grammar has words
    results = arpa.decode(log_probs, [6, 6, 0, 6, 6, 6], "grammar", LatticeOptions(lattice=True))
    assert [len(result.paths) for result in results] == [1, 0, 0, 0, 0, 1]
    assert [result.lattice is None for result in results] == [False, True, True, True, True, False]
    assert_alike(results[0], alone[0])
    assert_alike(results[5], alone[5])


@pytest.mark.parametrize("graph", [TOKENS, "lm", "grammar"])
def test_a_batch_that_has_nothing_at_all(arpa: LatticeSearch, graph: str) -> None:
    log_probs = torch.full((2, 3, len(PIECES)), -math.inf)
    results = arpa.decode(log_probs, [3, 3], graph, LatticeOptions(lattice=True))
    assert [result.paths for result in results] == [(), ()]
    assert arpa.decode(log_probs, [0, 0], graph, LatticeOptions()) == [LatticeResult(), LatticeResult()]


def test_silence_is_a_reading(arpa: LatticeSearch) -> None:
    log_probs = torch.full((1, 4, len(PIECES)), -20.0)
    log_probs[:, :, BLANK] = -1e-3
    for graph in (TOKENS, "lm"):
        (result,) = arpa.decode(log_probs, [4], graph, LatticeOptions())
        assert [path.tokens for path in result.paths] == [()]


def test_times_and_scores_of_tokens() -> None:
    """▁ab in frames 1 and 2, b in 4, blank, ▁a in 6."""
    log_probs = torch.full((1, 8, len(PIECES)), -20.0)
    for frame, token in enumerate((0, 3, 3, 0, 7, 0, 2, 0)):
        log_probs[0, frame, token] = -0.01 * (frame + 1)
    (result,) = plain().decode(log_probs, [8], TOKENS, LatticeOptions())
    (path,) = result.paths
    assert path.tokens == (3, 7, 2)
    assert path.spans == ((1, 3), (4, 5), (6, 7))
    assert path.log_probs == pytest.approx([-0.02, -0.05, -0.07], abs=1e-4)
    assert path.confidences == pytest.approx([1, 1])


def test_the_same_token_twice_needs_a_blank_between() -> None:
    """k2's modified topology does not; CTC does."""
    likely = torch.full((1, 3, len(PIECES)), -20.0)
    likely[:, :, 7] = -1e-3
    (result,) = plain().decode(likely, [3], TOKENS, LatticeOptions())
    assert result.paths[0].tokens == (7,)
    likely[:, 1, 7], likely[:, 1, BLANK] = -20.0, -1e-3
    (result,) = plain().decode(likely, [3], TOKENS, LatticeOptions())
    assert result.paths[0].tokens == (7, 7)


def test_a_blank_penalty_makes_room_for_words(arpa: LatticeSearch) -> None:
    log_probs = torch.full((1, 1, len(PIECES)), -20.0)
    log_probs[0, 0, BLANK], log_probs[0, 0, 3] = -0.1, -2.4
    for penalty, tokens in ((0.0, ()), (5.0, (3,))):
        (result,) = arpa.decode(log_probs, [1], TOKENS, LatticeOptions(blank_penalty=penalty))
        assert result.paths[0].tokens == tokens
    assert float(log_probs[0, 0, BLANK]) == pytest.approx(-0.1)  # the caller's own


def test_our_topology_is_k2s() -> None:
    """The exact one, over all tokens, says at what score what k2's own does, in every frame."""
    graph = token_loop(TINY)
    scores = torch.from_numpy(graph.scores)
    ours = k2.Fsa(torch.cat((torch.from_numpy(graph.arcs[:, :3]), scores.view(torch.int32)[:, None]), 1))
    ours.aux_labels = torch.from_numpy(graph.arcs[:, 3].copy())
    assert ours.properties & k2.fsa_properties.ARC_SORTED
    theirs = k2.ctc_topo(len(PIECES) - 1)
    log_probs = random_log_probs(5, 6)
    dense = k2.DenseFsaVec(log_probs, torch.tensor([[0, 0, 6]], dtype=torch.int32))
    totals = [
        k2.intersect_dense(k2.create_fsa_vec([k2.arc_sort(fsa)]), dense, 100.0).get_tot_scores(True, True)
        for fsa in (ours, theirs)
    ]
    assert float(totals[0]) == pytest.approx(0, abs=1e-4)
    assert float(totals[0]) == pytest.approx(float(totals[1]), abs=1e-4)


def test_our_composition_is_k2s(tmp_path_factory: pytest.TempPathFactory) -> None:
    """H, L and G by k2's compose give every utterance the score that the graph built here gives it."""
    path = tmp_path_factory.mktemp("lm") / "small.arpa"
    path.write_text(ARPA, encoding="utf8")
    graph = language_model_graph(path, TINY)
    scores = torch.from_numpy(graph.scores)
    ours = k2.Fsa(torch.cat((torch.from_numpy(graph.arcs[:, :3]), scores.view(torch.int32)[:, None]), 1))
    topology = k2.arc_sort(k2.ctc_topo(len(PIECES) - 1))
    hlg = k2.connect(k2.compose(topology, k2.arc_sort(composed_by_k2())))
    for seed, frames in itertools.product(range(5), (1, 4, 9)):
        dense = k2.DenseFsaVec(random_log_probs(seed, frames), torch.tensor([[0, 0, frames]], dtype=torch.int32))
        best = [
            k2.intersect_dense(k2.create_fsa_vec([k2.arc_sort(fsa)]), dense, 100.0).get_tot_scores(True, False)
            for fsa in (ours, hlg)
        ]
        assert float(best[0]) == pytest.approx(float(best[1]), abs=1e-3)


def composed_by_k2() -> Any:
    """Lexicon and bigram of ARPA as one acceptor of tokens, as icefall makes it: k2 composes and removes epsilons."""
    model, spelling = arpa_model(), Spelling(TINY)
    words = [gram[0] for gram in model if len(gram) == 1 and gram[0] not in ("<s>", "</s>")]
    ids = {word: 1 + at for at, word in enumerate(words)}
    # G: state 0 is <s>, then a state a word, then the empty history; 1 + len(words) backs off by epsilon.
    states = {"<s>": 0, **{word: 1 + at for at, word in enumerate(words)}}
    empty, final, lines = 1 + len(words), 2 + len(words), []
    for gram, (score, _) in model.items():
        source = states[gram[0]] if len(gram) == 2 else empty
        if gram[-1] == "</s>":
            lines.append((source, final, -1, score))
        elif gram[-1] != "<s>":
            lines.append((source, states[gram[-1]], ids[gram[-1]], score))
    lines += [(state, empty, 0, model[word,][1]) for word, state in states.items()]
    text = "\n".join(f"{s} {t} {word} {score * math.log(10)}" for s, t, word, score in sorted(lines))
    grammar = k2.arc_sort(k2.Fsa.from_str(f"{text}\n{final}", acceptor=True))
    # L: every word a way of its own from state 0 round to it.
    rows, state = [(0, 1, -1, -1)], 2
    for word in words:
        tokens = spelling.spell(word) or ()
        at = 0
        for place, token in enumerate(tokens):
            target = 0 if place == len(tokens) - 1 else state
            state += target != 0
            rows.append((at, target, token, ids[word] if place == 0 else 0))
            at = target
    renumber = {0: 0, 1: state - 1, **{old: old - 1 for old in range(2, state)}}
    arcs = sorted((renumber[s], renumber[t], token, word) for s, t, token, word in rows)
    text = "\n".join(f"{s} {t} {token} {word} 0" for s, t, token, word in arcs)
    lexicon = k2.arc_sort(k2.Fsa.from_str(f"{text}\n{state - 1}", num_aux_labels=1))
    both = k2.connect(k2.compose(lexicon, grammar))
    del both.aux_labels
    return k2.connect(k2.remove_epsilon(both))


def test_another_thread_may_not_use_it() -> None:
    search = LatticeSearch(TINY, {}, WIDE)
    search.decode(random_log_probs(1, 2), [2], TOKENS, LatticeOptions())
    caught = []

    def elsewhere() -> None:
        with pytest.raises(AssertionError, match="another thread's"):
            search.decode(random_log_probs(1, 2), [2], TOKENS, LatticeOptions())
        caught.append(True)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert caught


def test_what_does_not_fit_is_refused(arpa: LatticeSearch) -> None:
    with pytest.raises(ModelError, match="graph: got 'menu', expected one of tokens, lm, grammar"):
        arpa.decode(random_log_probs(1, 2), [2], "menu", LatticeOptions())
    with pytest.raises(ModelError, match="got a model with blank 3, expected one with blank 0"):
        LatticeSearch(TINY, {}, blank=3)
