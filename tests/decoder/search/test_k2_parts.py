"""What the lattice search needs beside k2: lattices of words, alignments, messages. And where k2 is not."""

from __future__ import annotations

import importlib.util
import io
import itertools
import json
import math
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from parley.decoder.errors import DeviceError, ModelError
from parley.decoder.search.ctc import Path
from parley.decoder.search.forced import collapsed, forced_alignment
from parley.decoder.search.lattice.k2 import LatticeSearch, available
from parley.decoder.search.lattice.lattice import (
    SILENCE,
    FrameArcs,
    Lattice,
    LatticeConfig,
    LatticeOptions,
    LatticeResult,
    word_lattice,
)
from parley.decoder.search.lattice.process import LatticeProcess
from parley.decoder.search.lattice.wire import packed, receive, send, unpacked
from parley.decoder.values import Scores
from tests.training.graph.language import TINY, collapse

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Callable

    from numpy.typing import NDArray

no_k2 = importlib.util.find_spec("k2") is None

# Tokens: 1 and 2 begin words, 3 goes on with one.
BEGINS = (False, True, True, False)


def all_frames(log_probs: NDArray[np.float32]) -> FrameArcs:
    """The lattice of everything: states are (frame, label before), with CTC's topology."""
    frames, labels = log_probs.shape
    arcs = []
    for frame in range(frames):
        for before in range(labels if frame else 1):
            source = 1 + (frame - 1) * labels + before if frame else 0
            for label in range(labels):
                token = label if label and label != (before if frame else 0) else 0
                score = float(log_probs[frame, label])
                arcs.append((source, 1 + frame * labels + label, label, token, frame, score))
    last = 1 + frames * labels
    arcs += [(last - labels + before, last, -1, 0, frames, 0.0) for before in range(labels)]
    columns = np.array(arcs).T
    source, target, label, token, frame = columns[:5].astype(np.int32)
    scores = columns[5]
    acoustic, language = scores.astype(np.float32), np.zeros(len(scores), np.float32)
    return FrameArcs(last + 1, source, target, label, token, frame, acoustic, language, scores)


def random_log_probs(seed: int, frames: int, tokens: int = 4) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    return torch.from_numpy(2 * rng.normal(size=(frames, tokens)).astype(np.float32)).log_softmax(-1).numpy()


def words_of(tokens: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    words: list[tuple[int, ...]] = []
    for token in tokens:
        if BEGINS[token] or not words:
            words.append((token,))
        else:
            words[-1] = (*words[-1], token)
    return tuple(words)


@given(seed=st.integers(0, 2**32 - 1), frames=st.integers(1, 4))
def test_a_lattice_of_words_has_every_reading_at_its_probability(seed: int, frames: int) -> None:
    """A word's posteriors add up to how often it is said in all readings; what goes into a point comes out."""
    log_probs = random_log_probs(seed, frames)
    lattice = word_lattice(all_frames(log_probs), BEGINS, least=0.0)
    expected: dict[tuple[int, ...], float] = {}
    for labels in itertools.product(range(4), repeat=frames):
        share = math.exp(sum(float(log_probs[frame, label]) for frame, label in enumerate(labels)))
        for word in words_of(collapse(labels)):
            expected[word] = expected.get(word, 0.0) + share
    found: dict[tuple[int, ...], float] = {}
    for word, posterior in zip(lattice.word.tolist(), lattice.posterior.tolist(), strict=True):
        said = lattice.words[word]
        if said != SILENCE:
            found[said] = found.get(said, 0.0) + posterior
    assert found == pytest.approx(expected, abs=1e-4)
    assert sum(lattice.posterior[lattice.source == 0]) == pytest.approx(1, abs=1e-4)
    assert sum(lattice.posterior[lattice.target == lattice.states - 1]) == pytest.approx(1, abs=1e-4)
    for point in range(1, lattice.states - 1):
        into, out = lattice.target == point, lattice.source == point
        assert lattice.posterior[into].sum() == pytest.approx(lattice.posterior[out].sum(), abs=1e-4)
    assert (lattice.source < lattice.target).all()


def test_times_and_scores_of_a_word() -> None:
    """Blank, word 1 in frames 1 and 2 and its 3 in 4, blank, word 2 in frame 6."""
    log_probs = np.full((7, 4), -20.0, np.float32)
    for frame, label in enumerate((0, 1, 1, 0, 3, 0, 2)):
        log_probs[frame, label] = -0.1 * (frame + 1)
    lattice = word_lattice(all_frames(log_probs), BEGINS)
    assert lattice.words == (SILENCE, (1, 3), (2,))
    assert lattice.word.tolist() == [0, 1, 2]
    assert list(zip(lattice.source, lattice.target, strict=True)) == [(0, 1), (1, 2), (2, 3)]
    assert lattice.start_frame.tolist()[1:] == [1, 6]
    assert lattice.end_frame.tolist()[1:] == [5, 7]
    assert lattice.acoustic == pytest.approx([-0.1, -2.0, -0.7], abs=1e-4)
    assert lattice.posterior == pytest.approx([1, 1, 1], abs=1e-3)


def test_unlikely_words_are_left_out() -> None:
    arcs = all_frames(random_log_probs(3, 5))
    every, likely = word_lattice(arcs, BEGINS, least=0.0), word_lattice(arcs, BEGINS, least=0.05)
    assert 0 < len(likely.word) < len(every.word)
    assert likely.posterior.min() >= 0.05 - 1e-6


@given(seed=st.integers(0, 2**32 - 1), frames=st.integers(0, 5), tokens=st.lists(st.integers(1, 3), max_size=3))
def test_forced_alignment_is_the_likeliest(seed: int, frames: int, tokens: list[int]) -> None:
    log_probs = random_log_probs(seed, frames)
    ways = [labels for labels in itertools.product(range(4), repeat=frames) if collapse(labels) == tuple(tokens)]
    found = forced_alignment(log_probs, tokens, 0)
    if not ways:
        assert found is None
        return
    assert found is not None
    assert found in ways

    def score(labels: tuple[int, ...]) -> float:
        return sum(float(log_probs[frame, label]) for frame, label in enumerate(labels))

    assert score(found) == pytest.approx(max(map(score, ways)), abs=1e-4)


def test_collapsed_frames() -> None:
    assert collapsed((0, 1, 1, 0, 1, 2, 2, 3), 0) == ((1, 1, 2, 3), ((1, 3), (4, 5), (5, 7), (7, 8)))
    assert collapsed((), 0) == ((), ())


def example() -> Lattice:
    return word_lattice(all_frames(random_log_probs(1, 3)), BEGINS)


def test_results_and_batches_as_bytes() -> None:
    path = Path((1, 3), ((0, 1), (2, 4)), (-0.5, -0.25), Scores(-1.5, -0.5), (0.75,))
    results = [LatticeResult((path, Path()), example()), LatticeResult()]
    again = unpacked(json.loads(json.dumps(packed(results))))
    assert [result.paths for result in again] == [result.paths for result in results]
    assert again[1].lattice is None
    assert again[0].lattice is not None
    assert again[0].lattice.as_dict() == example().as_dict()
    assert again[0].lattice.posterior.dtype == np.float32
    assert again[0].lattice.word.dtype == np.int32

    pipe = io.BytesIO()
    log_probs = random_log_probs(2, 6).reshape(2, 3, 4)
    send(pipe, {"frames": [3, 2]}, log_probs)
    send(pipe, {"ready": True})
    data = pipe.getvalue()
    pipe.seek(0)
    message, array = receive(pipe)
    assert message["frames"] == [3, 2]
    assert array is not None
    assert (array == log_probs).all()
    assert receive(pipe) == ({"ready": True}, None)
    with pytest.raises(EOFError):
        receive(pipe)
    with pytest.raises(EOFError):
        receive(io.BytesIO(data[:50]))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LatticeConfig(search_beam=0), "search_beam=0: need 0.1 or more"),
        (lambda: LatticeConfig(output_beam=math.nan), "output_beam=nan: need 0.1 or more"),
        (lambda: LatticeConfig(max_active=0), "max_active=0: need 1 or more"),
        (lambda: LatticeConfig(samples=0), "samples=0: need 1 to 1000"),
        (lambda: LatticeOptions(n_best=0), "n_best=0: need 1 to 100"),
        (lambda: LatticeOptions(language_weight=-1), "language_weight=-1: need 0 or more"),
        (lambda: LatticeOptions(word_bonus=math.inf), "word_bonus=inf: need a number"),
    ],
)
def test_configs_check_themselves(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.skipif(not no_k2, reason="k2 is here")
def test_where_k2_is_not_one_line_says_so() -> None:
    line = available()
    assert line is not None
    assert "\n" not in line
    assert "k2 is not installed here" in line
    assert "make k2" in line
    with pytest.raises(ModelError, match="k2 is not installed here"):
        LatticeSearch(TINY, {})
    with LatticeProcess(TINY, {}) as process, pytest.raises(DeviceError, match="k2 is not installed here"):
        process.start().result()


def test_a_k2_that_does_not_load_says_why(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = "raise ImportError('k2 was built using PyTorch 1.13.1\\nBut ...')"
    (tmp_path / "k2.py").write_text(broken, encoding="utf8")
    monkeypatch.delitem(sys.modules, "k2", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    line = available()
    monkeypatch.delitem(sys.modules, "k2", raising=False)
    assert line is not None
    assert "k2 does not load here (k2 was built using PyTorch 1.13.1)" in line
