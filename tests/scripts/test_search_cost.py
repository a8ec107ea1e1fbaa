from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from parley.decoder.search.beam import Beam
from parley.decoder.values import MOST_PHRASES
from scripts.search_cost import (
    ALTERNATIVES,
    POINTS,
    Cost,
    cycle,
    line_of,
    made_up,
    remember,
    resident_bytes,
    rows_of,
    whole_numbers,
)
from tests.decoder.searching import BLANK, EVERYTHING, VOCABULARY, random_rows, random_table, read_model, wishes

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import torch

    from parley.decoder.search import ctc


class Noted(Beam):
    """A search that notes what it is asked."""

    def __init__(self, slots: int) -> None:
        self.begun: list[tuple[int, tuple[str, ...]]] = []
        self.taken: list[tuple[int, ...]] = []
        self.ended: list[tuple[int, int]] = []
        super().__init__(slots, VOCABULARY, BLANK, EVERYTHING)
        self.begun.clear()  # it has warmed up
        self.taken.clear()
        self.ended.clear()

    def begin(self, slot: int, wishes: ctc.Wishes | None) -> None:
        assert wishes is not None
        self.begun.append((slot, wishes.before))
        super().begin(slot, wishes)

    def advance(self, slots: Sequence[int], log_probs: torch.Tensor, frames: Sequence[int]) -> None:
        self.taken.append(tuple(frames))
        super().advance(slots, log_probs, frames)

    def n_best(self, slot: int, count: int) -> list[ctc.Path]:
        self.ended.append((slot, count))
        return super().n_best(slot, count)


def speech(*lengths: int) -> list[tuple[str, torch.Tensor]]:
    rng = np.random.default_rng(0)
    return [(f"a{at} b c d e", random_rows(rng, length, 6)) for at, length in enumerate(lengths)]


def test_rows_are_the_utterances_in_order_and_again() -> None:
    utterances = [np.arange(1_000, dtype=np.int16), np.arange(1_000, 3_000, dtype=np.int16)]
    rows = rows_of(utterances, 3, 0.1)
    assert [len(row) for row in rows] == [1_600] * 3
    assert np.concatenate(rows).tolist() == [*range(3_000), *range(1_800)]


def test_phrases_are_as_many_as_are_wanted_and_all_different() -> None:
    phrases = made_up(MOST_PHRASES)
    assert len({phrase.text for phrase in phrases}) == MOST_PHRASES
    assert made_up(3) == phrases[:3]


def test_a_line_is_of_medians() -> None:
    cost = Cost("beam", [1.0, 3.0, 100.0], [0.5, 0.1, 0.2], [2.0, 9.0, 4.0])
    line = line_of(cost, [50.0, 10.0, 30.0])
    assert (line.batch_ms, line.share, line.final_ms, line.finals_ms) == (3.0, 0.1, 0.2, 4.0)
    assert line.late_batch_ms >= 100.0


def test_utterances_go_through_all_slots_piece_by_piece() -> None:
    search = Noted(2)
    assert list(cycle(search, 2, wishes, speech(5, 2, 3), 2, 4)) == [1, 2, 3, 4]
    # 5 and 2 frames side by side; behind the 2 come 3, and all over again.
    assert search.taken == [(2, 2), (2, 2), (1, 1), (2, 2)]
    assert search.ended == [(slot, ALTERNATIVES) for slot in (1, 0, 1, 1)]
    assert search.begun == [
        (0, ()),
        (1, ()),
        (1, ("b", "c", "d", "e")),
        (0, ("b", "c", "d", "e")),
        (1, ("b", "c", "d", "e")),
    ]


def test_memory_is_looked_at_again_and_again(tmp_path: Path) -> None:
    model = read_model(random_table(np.random.default_rng(1), ["a", "b"], 2), tmp_path / "small.lm")
    search = Beam(3, VOCABULARY, BLANK, EVERYTHING)
    memory = remember(search, 3, wishes(model), made_up(5), speech(4, 7), 2, 25)
    assert len(memory.resident) == POINTS
    assert memory.utterances == 25
    assert memory.slots == 3 * search.slot_bytes
    assert memory.mapped == (tmp_path / "small.lm").stat().st_size
    assert memory.hotwords > 0
    assert memory.tree > 0
    assert memory.growth == memory.resident[-1] - memory.resident[0]


def test_resident_memory_sees_what_is_taken_and_given_back() -> None:
    size = 64 << 20
    before = resident_bytes()
    taken = np.ones(size, np.uint8)
    during = resident_bytes()
    del taken
    assert during - before == pytest.approx(size, rel=0.25)
    assert resident_bytes() - before < size / 2


def test_beams_are_whole_numbers() -> None:
    assert whole_numbers("4,16") == [4, 16]
