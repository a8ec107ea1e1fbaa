"""Beam search against every sequence that a tiny random model can say."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parley.decoder.search.autoregressive import COPIES, LONGEST_LOOP, SHORTEST_REPEAT, Beam, Decoded, repeated

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    Model = Callable[[tuple[int, ...]], NDArray[np.float32]]

END = 0


def random_model(seed: int, vocabulary: int) -> Model:
    """Log-probabilities (vocabulary,) of the next token; any prefix has its own."""

    def model(prefix: tuple[int, ...]) -> NDArray[np.float32]:
        logits = np.random.default_rng([seed, *prefix]).normal(0, 2, vocabulary)
        return np.asarray(logits - np.log(np.exp(logits).sum()), np.float32)

    return model


def scripted(*best: int, vocabulary: int = 40) -> Model:
    """A model that is quite sure of the given tokens, one after another, whatever was said."""

    def model(prefix: tuple[int, ...]) -> NDArray[np.float32]:
        log_probs = np.full(vocabulary, math.log(0.1 / (vocabulary - 1)), np.float32)
        log_probs[END] = -30
        log_probs[best[min(len(prefix), len(best) - 1)]] = math.log(0.9)
        return log_probs

    return model


def frame_of(prefix: tuple[int, ...]) -> NDArray[np.float32]:
    """Attention (frames,) that tells which prefix it belongs to."""
    return np.array([len(prefix), sum(prefix), hash(prefix) % 1000], np.float32)


def decode(model: Model, width: int, most: int, top: int = 0) -> list[Decoded]:
    """As the second pass drives a beam. top: candidates a hypothesis, 0 for 2 * width."""
    beam = Beam(width, END, most)
    prefixes: list[tuple[int, ...]] = [()]
    while not beam.finished:
        log_probs = np.stack([model(prefix) for prefix in prefixes])
        tokens = np.argsort(-log_probs, axis=1, kind="stable")[:, : top or 2 * width]
        parents, last = beam.advance(
            np.take_along_axis(log_probs, tokens, axis=1), tokens, np.stack([frame_of(prefix) for prefix in prefixes])
        )
        prefixes = [(*prefixes[parent], token) for parent, token in zip(parents, last, strict=True)]
    return beam.n_best()


def scores(model: Model, tokens: Sequence[int], ended: bool) -> list[float]:
    """Log-probabilities of a sequence's tokens, and of its end if it has one."""
    every = [*tokens, END] if ended else list(tokens)
    return [float(model(tuple(every[:at]))[token]) for at, token in enumerate(every)]


def check(decoded: Decoded, model: Model, ended: bool) -> None:
    """Its numbers are its tokens' own."""
    expected = scores(model, decoded.tokens, ended)
    np.testing.assert_allclose([*decoded.log_probs, *([decoded.end_log_prob] if ended else [])], expected, rtol=1e-5)
    assert decoded.mean_log_prob == pytest.approx(sum(expected) / (len(decoded.tokens) + 1), rel=1e-4)
    for at, row in enumerate(decoded.attention):
        np.testing.assert_array_equal(row, frame_of(decoded.tokens[:at]))
    assert len(decoded.attention) == len(decoded.tokens)


@given(st.integers(0, 10**6), st.integers(3, 4), st.integers(1, 3))
def test_a_beam_as_wide_as_the_language_finds_the_best_of_all(seed: int, vocabulary: int, most: int) -> None:
    model = random_model(seed, vocabulary)
    words = range(1, vocabulary)
    ended = {tokens: True for n in range(most) for tokens in itertools.product(words, repeat=n)}
    every = ended | dict.fromkeys(itertools.product(words, repeat=most), False)
    found = decode(model, width=len(every), most=most)
    assert {decoded.tokens for decoded in found} == set(every)
    means = [sum(scores(model, tokens, end)) / (len(tokens) + 1) for tokens, end in every.items()]
    np.testing.assert_allclose([decoded.mean_log_prob for decoded in found], sorted(means, reverse=True), rtol=1e-4)
    for decoded in found:
        check(decoded, model, every[decoded.tokens])


def by_hand(model: Model, width: int, most: int) -> list[tuple[float, tuple[int, ...]]]:
    """Beam search again, in its plainest form: (mean log-probability, tokens), best first."""
    live: list[tuple[float, tuple[int, ...]]] = [(0.0, ())]
    done: list[tuple[float, tuple[int, ...]]] = []
    while len(done) < width:
        steps = [
            (total + float(log_prob), (*tokens, token))
            for total, tokens in live
            for token, log_prob in enumerate(model(tokens))
        ]
        steps.sort(reverse=True)
        done += [(total / len(tokens), tokens[:-1]) for total, tokens in steps[:width] if tokens[-1] == END]
        live = [step for step in steps if step[1][-1] != END][:width]
        done += [
            (total / (len(tokens) + 1), tokens)
            for total, tokens in live
            if len(tokens) >= most and (total, tokens) in steps[:width]
        ]
    return sorted(done, reverse=True)[:width]


@given(st.integers(0, 10**6), st.integers(3, 9), st.integers(1, 4), st.integers(1, 8))
@settings(deadline=None)
def test_a_narrow_beam_keeps_the_likeliest_at_every_step(seed: int, vocabulary: int, width: int, most: int) -> None:
    model = random_model(seed, vocabulary)
    expected = by_hand(model, width, most)
    found = decode(model, width, most)
    assert [decoded.tokens for decoded in found] == [tokens for _, tokens in expected]
    np.testing.assert_allclose([decoded.mean_log_prob for decoded in found], [mean for mean, _ in expected], rtol=1e-4)


@given(st.integers(0, 10**6))
def test_a_beam_of_one_is_greedy(seed: int) -> None:
    model = random_model(seed, 5)
    tokens: tuple[int, ...] = ()
    while len(tokens) < 11 and (token := int(model(tokens).argmax())) != END:
        tokens = (*tokens, token)
    (found,) = decode(model, width=1, most=11)
    assert found.tokens == tokens


def test_always_as_many_open_as_the_beam_is_wide() -> None:
    """The caches have a row each, whatever ends."""
    beam = Beam(3, END, 10)
    tokens = np.array([[END, 1, 2, 3, 4, 5]])
    log_probs = np.log(np.array([[0.4, 0.3, 0.1, 0.1, 0.05, 0.05]], np.float32))
    assert beam.advance(log_probs, tokens, np.zeros((1, 2), np.float32)) == ([0, 0, 0], [1, 2, 3])
    log_probs = np.repeat(log_probs, 3, axis=0)
    log_probs[1] = np.log([0.1, 0.8, 0.04, 0.03, 0.02, 0.01])
    parents, last = beam.advance(log_probs, tokens.repeat(3, 0), np.zeros((3, 2), np.float32))
    assert (parents, last) == ([0, 1, 0], [1, 1, 2])
    assert beam.n_best()[0].tokens == ()


def test_an_end_that_others_outrank_is_no_end() -> None:
    beam = Beam(2, END, 10)
    log_probs = np.log(np.array([[0.4, 0.3, 0.2, 0.1]], np.float32))
    beam.advance(log_probs, np.array([[1, 2, END, 3]]), np.zeros((1, 2), np.float32))
    assert beam.n_best() == []
    assert not beam.finished


# Endless repetition.


@pytest.mark.parametrize(
    ("tokens", "surplus"),
    [
        ([], 0),
        ([7] * 11, 0),
        ([7] * 12, 11),
        ([5, 6] + [7] * 12, 11),
        ([7] * 12 + [5], 0),
        ([1, 2] * 5, 0),
        ([9] + [1, 2] * 6, 10),
        ([9] + [1, 2] * 6 + [1], 10),  # one on: the phrase is now 2 1
        ([1, 2, 3, 4, 5] * 2, 0),
        ([1, 2, 3, 4, 5] * 3, 10),
        (list(range(24)) * 3, 48),
        (list(range(25)) * 3, 0),
        ([*range(23), 5] * 2 + [*range(23), 6], 0),
    ],
)
def test_repeated(tokens: list[int], surplus: int) -> None:
    assert repeated(tokens) == surplus


@given(st.lists(st.integers(0, 2), max_size=40))
def test_repeated_against_its_definition(tokens: list[int]) -> None:
    def loops(length: int) -> int:
        copies = max(COPIES, math.ceil(SHORTEST_REPEAT / length))
        phrase = tokens[-length:]
        return length * (copies - 1) if len(phrase) == length and tokens[-length * copies :] == phrase * copies else 0

    assert repeated(tokens) == next((found for n in range(1, LONGEST_LOOP + 1) if (found := loops(n))), 0)


@pytest.mark.parametrize("width", [1, 3])
def test_a_loop_is_cut_to_its_first_copy(width: int) -> None:
    phrase = (5, 6, 7, 8, 9)
    found = decode(scripted(3, 4, *phrase * 30), width=width, most=100)
    assert found[0].tokens == (3, 4, *phrase)
    assert len(found[0].log_probs) == len(found[0].attention) == 7
    assert found[0].end_log_prob == 0.0
    assert all(repeated(decoded.tokens) == 0 for decoded in found)
    assert (3, 4, *phrase, 5) not in [decoded.tokens for decoded in found]  # the same loop, cut one token later


def test_most_tokens() -> None:
    model = scripted(*range(1, 30))
    (found,) = decode(model, width=1, most=9)
    assert found.tokens == tuple(range(1, 10))
    check(found, model, ended=False)


def test_what_is_said_often_but_not_endlessly_stays() -> None:
    (found,) = decode(scripted(*[7] * 6, END), width=1, most=100)
    assert found.tokens == (7,) * 6
