"""Utterances to chunks: the same ones whatever the pieces, and nothing of the neighbours in them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley.decoder.engine.chunker import Chunker
from parley.decoder.models.acoustic import Chunk, ChunkShape
from parley.decoder.speech.vad import FRAME

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

Move: TypeAlias = tuple[str, int]

HOP = FRAME // 2
AUDIO = np.random.default_rng(0).integers(-20_000, 20_000, 2_000 * FRAME).astype(np.int16)  # no two frames are alike
SLOT = 7


@dataclass(frozen=True)
class Told:
    """An utterance as the chunker was told of it."""

    start: int
    settled: int
    limit: int | None = None
    dropped: bool = False


@dataclass
class Play:
    """A stream that plays its part, and a device that answers when it is told to: as Decoder, it gives the device one
    chunk at a time."""

    shape: ChunkShape
    frames: int = 0
    outstanding: bool = False
    open: int | None = None  # segment
    told: list[Told] = field(default_factory=list)  # by segment
    given: dict[int, list[Chunk]] = field(default_factory=dict)  # by segment
    _thrown: int = 0  # frames before it may be overwritten by now

    def __post_init__(self) -> None:
        self.chunker = Chunker(SLOT, self.shape, self.count)

    def count(self, samples: int) -> int:
        return max(1, -(-(samples // HOP) * HOP // self.shape.step))

    def move(self, kind: str, n: int) -> None:
        """speech: n frames of the open utterance, which begins if there is none. silence, end, drop, cut: only then."""
        if kind == "answer":
            self.answer()
        elif kind == "speech":
            self._speech(n)
        elif self.open is None:
            self.frames += n
        elif kind == "end":
            self._settle(n)
            self.end()
        elif kind == "drop":
            self._drop()
        elif kind in ("cut", "cut none"):
            self._cut(n, spoken=kind == "cut")
        self.feed()

    def _speech(self, n: int) -> None:
        if self.open is None:
            self._begin(self.frames)
        self._settle(n)

    def _begin(self, start: int) -> None:
        self.open = len(self.told)
        self.told.append(Told(start, start))
        self.given[self.open] = []
        self.chunker.begin(self.open, start)

    def _settle(self, n: int) -> None:
        assert self.open is not None
        self.frames += n
        self.told[self.open] = replace(self.told[self.open], settled=self.frames)
        self.chunker.settle(self.frames)

    def _close(self, limit: int) -> None:
        assert self.open is not None
        self.told[self.open] = replace(self.told[self.open], limit=min(limit, self.frames))
        self.chunker.close(limit)
        self.open = None

    def end(self) -> None:
        self._close(self.frames)

    def _drop(self) -> None:
        assert self.open is not None
        self.told[self.open] = replace(self.told[self.open], dropped=True)
        self.chunker.drop()
        self.open = None

    def _cut(self, n: int, *, spoken: bool) -> None:
        """n frames back; the pause goes on for a third of them, or beyond all that is known."""
        assert self.open is not None
        at = max(self.told[self.open].start, self.frames - n)
        if spoken:
            self._close(at + n // 3 if n % 5 else self.frames + 2)
        else:
            self._drop()
        self._begin(at)
        self._settle(0)

    def answer(self) -> None:
        self.outstanding = False
        self.feed()

    def feed(self) -> None:
        while (current := self.chunker.current) is not None and not self.outstanding:
            chunk = self.chunker.take(self._read)
            if chunk is not None:
                self.given[current.segment].append(chunk)
                self.outstanding = True
            elif self.chunker.through:
                self.chunker.pop()
            else:
                break
        begins = self.frames if self.open is None else self.told[self.open].start
        self._thrown = max(self._thrown, begins if self.chunker.needed is None else min(begins, self.chunker.needed))

    def _read(self, start: int, end: int) -> NDArray[np.int16]:
        current = self.chunker.current
        assert current is not None
        one = self.told[current.segment]
        assert one.start * FRAME <= start < end <= one.settled * FRAME
        assert start >= self._thrown * FRAME
        return AUDIO[start:end]

    def drain(self) -> None:
        while self.outstanding:
            self.answer()


def window(shape: ChunkShape, samples: NDArray[np.int16], index: int) -> NDArray[np.int16]:
    padded = np.concatenate([np.zeros(shape.before, np.int16), samples, np.zeros(shape.window, np.int16)])
    return padded[index * shape.step :][: shape.window]


def expected(play: Play, one: Told) -> list[tuple[int, bytes, int | None]]:
    """(index, samples, length) of the chunks of an utterance: while whole windows of what is known of it fit, those;
    then up to its end, if it has one."""
    shape, known = play.shape, AUDIO[one.start * FRAME : one.settled * FRAME]
    chunks: list[tuple[int, bytes, int | None]] = []
    while shape.end(len(chunks)) <= len(known):
        chunks.append((len(chunks), window(shape, known, len(chunks)).tobytes(), None))
    if one.limit is not None:
        length = (one.limit - one.start) * FRAME
        while len(chunks) < play.count(length):
            chunks.append((len(chunks), window(shape, known[:length], len(chunks)).tobytes(), length))
    return chunks


def found(chunks: Sequence[Chunk]) -> list[tuple[int, bytes, int | None]]:
    return [(chunk.index, chunk.samples.tobytes(), chunk.length) for chunk in chunks]


shapes = st.builds(
    ChunkShape,
    step=st.integers(1, 8).map(lambda frames: frames * FRAME),
    before=st.sampled_from([0, 200, 520, 1_500]),
    after=st.sampled_from([0, 200, 900]),
)
moves = st.lists(
    st.tuples(
        st.sampled_from(["speech", "speech", "silence", "end", "drop", "cut", "cut none", "answer", "answer"]),
        st.integers(0, 30),
    ),
    max_size=40,
)


@given(shapes, moves)
def test_an_utterance_gives_the_same_chunks_whatever_comes_when(shape: ChunkShape, script: list[Move]) -> None:
    play = Play(shape)
    for kind, n in script:
        play.move(kind, n)
    if play.open is not None:
        play.move("end", 0)
    play.drain()
    for segment, one in enumerate(play.told):
        chunks, wanted = found(play.given[segment]), expected(play, one)
        assert chunks == (wanted[: len(chunks)] if one.dropped else wanted)
        if one.limit == one.settled:  # not cut: as if it were decoded alone
            samples = AUDIO[one.start * FRAME : one.settled * FRAME]
            count = play.count(len(samples))
            assert [(index, data) for index, data, _ in chunks] == [
                (index, window(shape, samples, index).tobytes()) for index in range(count)
            ]
            assert (count - 1) * shape.step <= len(samples) < count * shape.step + HOP  # all of it, once
    assert all(chunk.slot == SLOT for chunks in play.given.values() for chunk in chunks)
    assert (play.chunker.current, play.chunker.needed, play.chunker.waiting) == (None, None, 0)


@given(shapes, moves)
def test_waiting_is_what_may_be_fed_and_is_not(shape: ChunkShape, script: list[Move]) -> None:
    play = Play(shape)
    for kind, n in script:
        play.move(kind, n)
        current = play.chunker.current
        if current is None:
            assert play.chunker.waiting == 0
            continue
        waiting = 0
        for segment, one in enumerate(play.told):
            if segment >= current.segment and not one.dropped:
                fed = len(play.given[segment]) * shape.step // FRAME
                waiting += max(0, one.settled - one.start - fed)
        assert play.chunker.waiting == waiting


SHAPE = ChunkShape(step=4 * FRAME, before=100, after=300)


def test_a_chunk_is_due_with_the_last_sample_of_its_window() -> None:
    play = Play(SHAPE)
    play.move("speech", 4)
    assert play.given == {0: []}
    play.move("speech", 1)
    (chunk,) = play.given[0]
    assert (chunk.slot, chunk.index, chunk.length) == (SLOT, 0, None)
    np.testing.assert_array_equal(chunk.samples[:100], 0)
    np.testing.assert_array_equal(chunk.samples[100:], AUDIO[: 4 * FRAME + 300])


def test_the_last_chunk_says_where_the_utterance_ends() -> None:
    play = Play(SHAPE)
    play.move("speech", 6)
    play.move("end", 0)
    assert not play.chunker.through  # the first one is on the device
    play.answer()
    first, last = play.given[0]
    assert (first.length, last.index, last.length) == (None, 1, 6 * FRAME)
    np.testing.assert_array_equal(last.samples[: 2 * FRAME + 100], AUDIO[4 * FRAME - 100 : 6 * FRAME])
    np.testing.assert_array_equal(last.samples[2 * FRAME + 100 :], 0)
    assert play.chunker.through
    play.answer()
    assert play.chunker.current is None


@pytest.mark.parametrize(("frames", "chunks"), [(0, 1), (1, 1), (3, 1), (4, 1), (5, 2), (8, 2), (9, 3)])
def test_how_many_chunks_an_utterance_has(frames: int, chunks: int) -> None:
    play = Play(SHAPE)
    play.move("speech", frames)
    play.move("end", 0)
    play.drain()
    assert len(play.given[0]) == chunks


def test_with_a_cut_what_was_due_goes_beyond_its_end_and_the_next_begins_there_again() -> None:
    play = Play(SHAPE)
    play.move("speech", 14)  # three are due, the last one up to frame 12 and a bit
    play.move("cut", 8)  # at 6, the pause till 8: two would do
    play.drain()
    assert [(chunk.index, chunk.length) for chunk in play.given[0]] == [(0, None), (1, None), (2, None)]
    assert play.told[1].start == 6
    np.testing.assert_array_equal(play.given[1][0].samples[100:], AUDIO[6 * FRAME : 10 * FRAME + 300])
    np.testing.assert_array_equal(play.given[1][0].samples[:100], 0)


def test_a_cut_behind_the_last_chunk_is_flushed_to_the_pause_s_end() -> None:
    play = Play(SHAPE)
    play.move("speech", 20)  # four are due
    play.move("cut", 3)  # at 17, the pause till 18
    play.drain()
    assert [(chunk.index, chunk.length) for chunk in play.given[0]] == [
        *((index, None) for index in range(4)),
        (4, 18 * FRAME),
    ]


def test_the_next_utterance_waits_for_its_turn() -> None:
    play = Play(SHAPE)
    play.move("speech", 5)
    play.move("end", 0)
    play.move("silence", 3)
    play.move("speech", 20)
    assert [len(chunks) for chunks in play.given.values()] == [1, 0]
    assert play.chunker.needed is not None
    assert play.chunker.needed <= 3
    assert play.chunker.waiting == 1 + 20
    play.drain()
    assert [len(chunks) for chunks in play.given.values()] == [2, 4]
    np.testing.assert_array_equal(play.given[1][0].samples[100:], AUDIO[8 * FRAME : 12 * FRAME + 300])


def test_a_dropped_utterance_gives_no_more() -> None:
    play = Play(SHAPE)
    play.move("speech", 14)
    play.move("drop", 0)
    play.drain()
    assert [len(chunks) for chunks in play.given.values()] == [1]
    assert play.chunker.current is None
