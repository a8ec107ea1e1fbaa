"""How sure a search is of its words: each one's share of all readings, recomputed from the readings themselves."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from parley.decoder.text.vocabulary import Vocabulary
from tests.decoder.searching import BLANK, EVERYTHING, VOCABULARY, random_rows, searched, wishes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from parley.decoder.search.ctc import Path

# With a piece that is no text and a mark alone; and one in which every token is a word.
MIXED = Vocabulary([b"<blk>", "▁".encode(), "▁a".encode(), b"b", "é".encode(), b"<unk>"])
UNSPACED = Vocabulary([b"<blk>", "語".encode(), "文".encode(), b"ab", b"<unk>"])


def placed(path: Path, vocabulary: Vocabulary) -> list[tuple[str, int, int]]:
    """Words with their frames."""
    return [
        (text, path.spans[span.start][0], path.spans[span.stop - 1][1]) for text, span in vocabulary.words(path.tokens)
    ]


def shares(paths: Sequence[Path], vocabulary: Vocabulary) -> list[float]:
    """Of each word of the first, the share of those that have it too at about that time."""
    weights = [math.exp(path.scores.total - paths[0].scores.total) for path in paths]
    readings = [placed(path, vocabulary) for path in paths]
    return [
        sum(
            weight
            for weight, there in zip(weights, readings, strict=True)
            if any(other == text and s < end and start < e for other, s, e in there)
        )
        / sum(weights)
        for text, start, end in readings[0]
    ]


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    frames=st.integers(0, 25),
    vocabulary=st.sampled_from([VOCABULARY, MIXED, UNSPACED]),
    sharpness=st.sampled_from([1.0, 3.0]),
)
def test_a_words_share_is_that_of_the_readings_that_have_it(
    seed: int, frames: int, vocabulary: Vocabulary, sharpness: float
) -> None:
    rows = random_rows(np.random.default_rng(seed), frames, len(vocabulary.pieces), sharpness)
    paths = searched(rows, wishes(beam=32), 32, vocabulary=vocabulary)
    assert paths[0].confidences == pytest.approx(shares(paths, vocabulary))
    assert all(path.confidences == () for path in paths[1:])
    texts = [" ".join(word for word, _, _ in placed(path, vocabulary)) for path in paths]
    assert len(set(texts)) == len(texts)


@given(st.integers(0, 2**32 - 1))
def test_there_are_as_many_shares_as_words(seed: int) -> None:
    """Also where white space, which models with a piece for every byte have, makes a word of nothing."""
    vocabulary = Vocabulary([b"<blk>", "▁".encode(), b"\n", "▁a".encode(), b"b", "▁\n".encode()])
    paths = searched(random_rows(np.random.default_rng(seed), 8, 6), wishes(beam=8), 1, vocabulary=vocabulary)
    assert len(paths[0].confidences) == len(vocabulary.words(paths[0].tokens))


def test_at_another_time_it_is_another_word() -> None:
    """Readings "a b" and "b a", as likely as each other: in either both words stand at other times."""
    rows = torch.full((5, 6), 1e-6)
    rows[[0, 4], 2] = rows[[0, 4], 4] = 0.5
    rows[1:4, BLANK] = 1.0
    paths = searched((rows / rows.sum(-1, keepdim=True)).log(), wishes(beam=32), 32, settings=EVERYTHING)
    assert {path.tokens for path in paths[:4]} == {(2, 4), (4, 2), (2, 2), (4, 4)}
    assert paths[0].confidences == pytest.approx((0.5, 0.5), rel=1e-3)


def test_what_is_alone_is_certain() -> None:
    rows = torch.full((3, 6), -60.0)
    rows[[0, 1, 2], [2, BLANK, 4]] = 0.0
    (path, *_) = searched(rows, wishes(beam=32), 32)
    assert path.tokens == (2, 4)
    assert path.confidences == pytest.approx((1.0, 1.0))
