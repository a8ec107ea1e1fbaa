"""Best path search, in batches and pieces, against the definition."""

from __future__ import annotations

import itertools
from collections import deque
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from parley.decoder.search.ctc import Path
from parley.decoder.search.greedy import Greedy
from tests.decoder.reference import DEVICES

if TYPE_CHECKING:
    from collections.abc import Sequence

SLOTS = 3

over_devices = pytest.mark.parametrize("device", DEVICES)


def best_path(log_probs: torch.Tensor, blank: int) -> Path:
    """By the definition. log_probs: (frames, tokens)."""
    best = list(zip(log_probs.argmax(-1).tolist(), log_probs.amax(-1).tolist(), strict=True))
    tokens, spans, scores = [], [], []
    for token, run in itertools.groupby(enumerate(best), key=lambda one: one[1][0]):
        frames = list(run)
        if token != blank:
            tokens.append(token)
            spans.append((frames[0][0], frames[-1][0] + 1))
            scores.append(max(score for _, (_, score) in frames))
    return Path(tuple(tokens), tuple(spans), tuple(scores))


def random_log_probs(rng: np.random.Generator, frames: int, tokens: int) -> torch.Tensor:
    return torch.from_numpy(rng.normal(size=(frames, tokens)).astype(np.float32)).log_softmax(-1)


def likely(*tokens: int, most: Sequence[float] = ()) -> torch.Tensor:
    """(1, frames, 4), where in every frame this token has this share, 0.7 if not said, the others the rest."""
    rows = torch.full((len(tokens), 4), 0.0)
    for row, token, share in zip(rows, tokens, most or [0.7] * len(tokens), strict=True):
        row[:] = (1 - share) / 3
        row[token] = share
    return rows.log()[None]


@over_devices
@settings(max_examples=30)
@given(
    seed=st.integers(0, 2**32 - 1),
    tokens=st.integers(2, 4),
    blank=st.integers(0, 1),
    lengths=st.lists(st.integers(0, 20), min_size=1, max_size=2 * SLOTS),
)
def test_it_is_the_best_path(device: str, seed: int, tokens: int, blank: int, lengths: list[int]) -> None:
    """Of every utterance, after every piece, whatever goes on beside it; slots come free and are taken again."""
    rng = np.random.default_rng(seed)
    greedy = Greedy(SLOTS, blank)
    waiting = deque(random_log_probs(rng, length, tokens) for length in lengths)
    under_way: dict[int, tuple[torch.Tensor, int]] = {}  # by slot: an utterance, its frames so far
    while waiting or under_way:
        for slot in range(SLOTS):
            if waiting and slot not in under_way and rng.random() < 0.5:
                greedy.clear(slot)
                under_way[slot] = waiting.popleft(), 0
        slots = [slot for slot in rng.permutation(list(under_way)).tolist() if rng.random() < 0.7]
        if not slots:
            continue
        frames = [min(int(rng.integers(6)), len(under_way[slot][0]) - under_way[slot][1]) for slot in slots]
        batch = random_log_probs(rng, max(frames) + int(rng.integers(3)), tokens).repeat(len(slots), 1, 1)
        for row, slot, count in zip(batch, slots, frames, strict=True):
            utterance, at = under_way[slot]
            row[:count] = utterance[at : at + count]
            under_way[slot] = utterance, at + count
        greedy.advance(slots, batch.to(device), frames)
        for slot in slots:
            utterance, at = under_way[slot]
            assert greedy.n_best(slot, 1) == [best_path(utterance[:at], blank)]
        under_way = {slot: (utterance, at) for slot, (utterance, at) in under_way.items() if at < len(utterance)}


@pytest.mark.parametrize("cut", range(8))
def test_times_and_scores_over_a_cut(cut: int) -> None:
    """Token 1 in frames 1 to 3, again in 5, token 2 in 6."""
    log_probs = likely(0, 1, 1, 1, 0, 1, 2, most=[0.7, 0.6, 0.9, 0.8, 0.7, 0.5, 0.4])
    greedy = Greedy(1, 0)
    greedy.advance([0], log_probs[:, :cut], [cut])
    greedy.advance([0], log_probs[:, cut:], [7 - cut])
    (path,) = greedy.n_best(0, 1)
    assert path.tokens == (1, 1, 2)
    assert path.spans == ((1, 4), (5, 6), (6, 7))
    assert path.log_probs == pytest.approx(np.log([0.9, 0.5, 0.4]))


def test_frames_that_do_not_count_are_not_heard() -> None:
    greedy = Greedy(2, 0)
    greedy.advance([1, 0], torch.cat((likely(1, 2), likely(3, 3))), [1, 0])
    assert [path.tokens for slot in (0, 1) for path in greedy.n_best(slot, 1)] == [(), (1,)]
    greedy.advance([0, 1], torch.cat((likely(3, 1), likely(1, 1))), [1, 2])  # of slot 1 the run goes on
    assert greedy.n_best(0, 1) == [best_path(likely(3)[0], 0)]
    assert greedy.n_best(1, 1) == [best_path(likely(1, 1, 1)[0], 0)]


def test_no_frames_at_all() -> None:
    greedy = Greedy(1, 0)
    greedy.advance([0], torch.zeros(1, 0, 4), [0])
    assert greedy.n_best(0, 1) == [Path()]


def test_what_was_said_before_is_forgotten() -> None:
    greedy = Greedy(2, 0)
    greedy.advance([0, 1], likely(0, 1).repeat(2, 1, 1), [2, 2])
    greedy.clear(0)
    assert greedy.n_best(0, 1) == [Path()]
    greedy.advance([0, 1], likely(1).repeat(2, 1, 1), [1, 1])  # a new run here, the same run there
    assert greedy.n_best(0, 1)[0].spans == ((0, 1),)
    assert greedy.n_best(1, 1)[0].spans == ((1, 3),)


def test_while_nothing_changes_the_path_is_the_same_object() -> None:
    greedy = Greedy(2, 0)
    greedy.advance([0], likely(1, 0), [2])
    (path,) = greedy.n_best(0, 1)
    for log_probs, frames in ((likely(0, 0), 2), (likely(2), 0)):  # silence; nothing
        greedy.advance([0], log_probs, [frames])
        assert greedy.n_best(0, 1)[0] is path
    greedy.advance([1], likely(2), [1])  # somebody else
    assert greedy.n_best(0, 5)[0] is path
    greedy.advance([0], likely(2), [1])
    assert greedy.n_best(0, 1)[0] is not path
    assert path == Path((1,), ((0, 1),), path.log_probs)  # what was handed out stays as it was
