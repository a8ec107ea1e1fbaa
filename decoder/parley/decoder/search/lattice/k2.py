"""Lattice search with k2: whole utterances over a graph of what may be said. Knows tokens and frames, not streams.

A batch goes through `k2.intersect_dense_pruned` as one. From each lattice come its best path and a set of sampled ones;
what these say is ranked by the probability of its tokens over all their alignments (the CTC probability) and by the
graph's score. A word's confidence is the share of the samples that have it too at that time.

Only what k2 documents is used. k2's objects belong to the thread that made them: one LatticeSearch, one thread.
"""

from __future__ import annotations

import importlib
import importlib.util
import math
import threading
from concurrent.futures import Future
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn import functional

from parley.decoder.device import CPU
from parley.decoder.errors import ModelError
from parley.decoder.search.ctc import Path
from parley.decoder.search.forced import collapsed, forced_alignment
from parley.decoder.search.lattice.ctc_graph import token_loop
from parley.decoder.search.lattice.lattice import (
    FrameArcs,
    Lattice,
    LatticeConfig,
    LatticeOptions,
    LatticeResult,
    word_lattice,
)
from parley.decoder.torch_device import memory_errors
from parley.decoder.values import TOKENS, Scores

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from parley.decoder.device import Device
    from parley.decoder.search.lattice.graph import Graph
    from parley.decoder.text.vocabulary import Vocabulary

BLANK = 0  # k2's topologies have no other
CANDIDATES = 32  # readings that are ranked by all their alignments
LONG_AGO = 3  # frames: as far apart a word of one reading may lie from the same word of another


def available() -> str | None:
    """None if k2 can be used here, else one line that says why not and what to do."""
    if importlib.util.find_spec("k2") is None:
        return 'search = "k2": k2 is not installed here; it needs Python 3.10 with torch 1.13.1: `make k2`'
    try:
        importlib.import_module("k2")
    except (ImportError, OSError) as error:
        why = "".join(str(error).strip().splitlines()[:1])
        return f'search = "k2": k2 does not load here ({why}); it needs Python 3.10 with torch 1.13.1: `make k2`'
    return None


class LatticeSearch:
    """decode() is called by one thread only, always the same."""

    def __init__(
        self,
        vocabulary: Vocabulary,
        graphs: Mapping[str, Graph],
        config: LatticeConfig | None = None,
        *,
        blank: int = BLANK,
        device: Device = CPU,
    ) -> None:
        """Raises ModelError if k2 is missing or the model's tokens do not suit it."""
        if (missing := available()) is not None:
            raise ModelError(missing)
        if blank != BLANK:
            raise ModelError(f'search = "k2": got a model with blank {blank}, expected one with blank {BLANK}')
        self._k2: Any = importlib.import_module("k2")
        self._vocabulary, self._config = vocabulary, config or LatticeConfig()
        self._begins = tuple(vocabulary.begins_word(piece) for piece in vocabulary.pieces)
        self._textless = [
            at for at, piece in enumerate(vocabulary.pieces) if at != blank and vocabulary.is_special(piece)
        ]
        self._device = torch.device(str(device))
        self.names = (TOKENS, *graphs)
        self._waiting = dict(graphs)  # for their first batch, on the thread that decodes
        self._graphs: dict[str, _Loaded] = {}
        self._thread: int | None = None

    def decode(
        self, log_probs: torch.Tensor, frames: Sequence[int], graph: str, options: LatticeOptions
    ) -> list[LatticeResult]:
        """log_probs: (rows, frames, tokens) natural logarithms, of row r the first `frames[r]`.

        A row for which the graph has nothing that fits, or whose log-probabilities are no numbers, has no paths.
        Raises ModelError if there is no such graph, OutOfMemory.
        """
        self._thread = self._thread or threading.get_ident()
        assert self._thread == threading.get_ident(), "k2's objects are another thread's"
        if graph not in self.names:
            raise ModelError(f"graph: got {graph!r}, expected one of {', '.join(self.names)}")
        results = [LatticeResult() for _ in frames]
        with torch.no_grad(), memory_errors():
            log_probs = log_probs.to(self._device, torch.float32)
            rows = [row for row, count in enumerate(frames) if count and _is_sound(log_probs[row, :count])]
            rows.sort(key=lambda row: (-frames[row], row))
            if not rows:
                return results
            counts = [frames[row] for row in rows]
            batch = log_probs[rows, : counts[0]].contiguous()
            batch[:, :, self._textless] = -math.inf
            batch[:, :, BLANK] -= options.blank_penalty
            lattice = self._lattice(self._loaded(graph, exact=False), batch, counts, options)
            exact = lattice
            if options.lattice and graph == TOKENS:
                exact = self._lattice(self._loaded(graph, exact=True), batch, counts, options)
            scores = batch.cpu()
            for at, (row, readings) in enumerate(zip(rows, self._readings(lattice, len(rows)), strict=True)):
                paths = self._ranked(readings, scores[at, : counts[at]], options)
                found = self._words(exact, at, scores[at]) if options.lattice and paths else None
                results[row] = LatticeResult(tuple(paths), found)
        return results

    def submit(
        self, log_probs: NDArray[np.float32], frames: Sequence[int], graph: str, options: LatticeOptions
    ) -> Future[list[LatticeResult]]:
        """decode(), here and now, in the form that a lattice search elsewhere has."""
        future: Future[list[LatticeResult]] = Future()
        future.set_result(self.decode(torch.from_numpy(log_probs), frames, graph, options))
        return future

    def _loaded(self, name: str, *, exact: bool) -> _Loaded:
        """The graph as k2 has it. exact: with CTC's own topology, where there is a choice."""
        key = f"{name}, exact" if exact else name
        if key not in self._graphs:
            self._graphs[key] = self._load(name, exact=exact)
        return self._graphs[key]

    def _load(self, name: str, *, exact: bool) -> _Loaded:
        k2 = self._k2
        if name != TOKENS:
            loaded = self._fsa(self._waiting[name])
            del self._waiting[name]  # k2 has a copy now
            return loaded
        if exact:
            return self._fsa(token_loop(self._vocabulary))
        # It has no arc from token to token, so it is ten times as fast; but where a token lies in several frames it
        # says it once and also more often. What counts is therefore taken from the frames' labels.
        fsa = k2.arc_sort(k2.ctc_topo(len(self._vocabulary.pieces) - 1, modified=True))
        tokens = fsa.aux_labels.clamp(min=0)
        del fsa.aux_labels
        return self._with(fsa, tokens, torch.zeros(fsa.num_arcs), splits=True)

    def _fsa(self, graph: Graph) -> _Loaded:
        scores = torch.from_numpy(graph.scores)
        arcs = torch.cat((torch.from_numpy(graph.arcs[:, :3]), scores.view(torch.int32)[:, None]), 1)
        return self._with(self._k2.Fsa(arcs), torch.from_numpy(graph.arcs[:, 3].copy()), scores.clone(), splits=False)

    def _with(self, fsa: Any, tokens: torch.Tensor, language: torch.Tensor, *, splits: bool) -> _Loaded:
        fsa.tokens, fsa.language = tokens.to(torch.int32), language.float()
        fsa = self._k2.create_fsa_vec([fsa]).to(self._device)
        begins = torch.tensor(self._begins, device=self._device)[fsa.tokens.long()] & (fsa.tokens > 0)
        return _Loaded(fsa, begins, splits)

    def _lattice(self, graph: _Loaded, batch: torch.Tensor, counts: Sequence[int], options: LatticeOptions) -> _Batch:
        weights = (options.language_weight, options.word_bonus)
        if graph.weights != weights:
            graph.fsa.scores = graph.fsa.language * weights[0] + graph.begins * weights[1]
            graph.weights = weights
        segments = torch.tensor([(row, 0, count) for row, count in enumerate(counts)], dtype=torch.int32)
        config = self._config
        fsa = self._k2.intersect_dense_pruned(
            graph.fsa,
            self._k2.DenseFsaVec(batch, segments),
            search_beam=config.search_beam,
            output_beam=config.output_beam,
            min_active_states=config.min_active,
            max_active_states=config.max_active,
            frame_idx_name="frame",
        )
        return _Batch(fsa, graph.splits)

    def _readings(self, batch: _Batch, rows: int) -> Iterator[list[_Reading]]:
        """By row, the different things that its paths say; none for a row without a path."""
        k2, fsa = self._k2, batch.fsa
        if not fsa.num_arcs:
            yield from ([] for _ in range(rows))
            return
        fsa.arc = torch.arange(fsa.num_arcs, dtype=torch.int32, device=fsa.device)
        best = k2.shortest_path(fsa, use_double_scores=True)
        bests = best.arc.cpu().numpy()
        borders = _borders(best, rows)
        sampled = k2.random_paths(fsa, use_double_scores=True, num_paths=self._config.samples)
        of_row = sampled.shape.row_splits(1).cpu().numpy()
        of_path = sampled.shape.row_splits(2).cpu().numpy()
        samples = sampled.values.cpu().numpy()
        labels, language, scores = batch.labels, fsa.language.cpu().numpy(), fsa.scores.detach().cpu().numpy()
        for row in range(rows):
            paths = [bests[borders[row] : borders[row + 1]]]
            paths += [samples[of_path[at] : of_path[at + 1]] for at in range(of_row[row], of_row[row + 1])]
            readings: dict[tuple[int, ...], _Reading] = {}
            for at, arcs in enumerate(paths):
                if not len(arcs):
                    continue
                said = labels[arcs[:-1]]  # the last leads into the end, and takes no frame
                key = _tokens(said)
                if key not in readings:
                    readings[key] = _Reading(key)
                # Of the paths that say the same in other numbers of tokens, all of one score, one counts.
                repeats = int(((said[1:] == said[:-1]) & (said[1:] != BLANK)).sum()) if batch.splits else 0
                reading, share = readings[key], math.ldexp(1.0, -repeats) if at else 0.0
                reading.add(float(scores[arcs].sum()), float(language[arcs].sum()), said, share)
            yield list(readings.values())

    def _ranked(self, readings: list[_Reading], log_probs: torch.Tensor, options: LatticeOptions) -> list[Path]:
        """The best readings as paths, no two of the same words."""
        chosen = sorted(readings, key=lambda one: -one.score)[: max(CANDIDATES, 2 * options.n_best)]
        chosen = [one for one in chosen if len(one.tokens) + _doubles(one.tokens) <= len(log_probs)]
        if not chosen:
            return []
        acoustic = _ctc_scores(log_probs, [one.tokens for one in chosen])
        for one, score in zip(chosen, acoustic, strict=True):
            words = sum(self._begins[token] for token in one.tokens)
            one.scores = Scores(score, one.language * options.language_weight + words * options.word_bonus)
        chosen.sort(key=lambda one: -one.scores.total)
        texts = {one.tokens: self._texts(one) for one in readings}
        best: dict[tuple[str, ...], _Reading] = {}
        for one in chosen:
            best.setdefault(tuple(text for text, _, _ in texts[one.tokens]), one)
        every = [(one.share, texts[one.tokens]) for one in readings]
        numbers = log_probs.numpy()
        return [self._path(one, texts[one.tokens], every, numbers) for one in list(best.values())[: options.n_best]]

    def _texts(self, reading: _Reading) -> list[tuple[str, int, int]]:
        """The reading's words with their frames."""
        _, spans = collapsed(reading.labels.tolist(), BLANK)
        words = self._vocabulary.words(reading.tokens)
        return [(text, spans[span.start][0], spans[span.stop - 1][1]) for text, span in words]

    def _path(
        self,
        reading: _Reading,
        words: list[tuple[str, int, int]],
        every: Sequence[tuple[float, list[tuple[str, int, int]]]],
        log_probs: NDArray[np.float32],
    ) -> Path:
        labels = forced_alignment(log_probs, reading.tokens, BLANK) or tuple(reading.labels.tolist())
        tokens, spans = collapsed(labels, BLANK)
        whole = sum(share for share, _ in every) or 1.0
        confidences = tuple(
            sum(share for share, others in every if _has(others, text, start, end)) / whole
            for text, start, end in words
        )
        peaks = tuple(
            float(log_probs[start:end, token].max()) for token, (start, end) in zip(tokens, spans, strict=True)
        )
        return Path(tokens, spans, peaks, reading.scores, tuple(min(1.0, c) for c in confidences))

    def _words(self, batch: _Batch, row: int, log_probs: torch.Tensor) -> Lattice:
        arcs = batch.row(row, log_probs.numpy())
        return word_lattice(arcs, self._begins, self._config.least_posterior)


@dataclass(slots=True)
class _Loaded:
    """A graph of k2's. begins: by arc, whether a word begins. splits: it says a token of several frames more often,
    too. weights: that its scores are made with."""

    fsa: Any
    begins: torch.Tensor
    splits: bool
    weights: tuple[float, float] | None = None


@dataclass(slots=True)
class _Reading:
    """Tokens that some paths say. share: of the samples; the rest is of the best path among them."""

    tokens: tuple[int, ...]
    share: float = 0.0
    score: float = -math.inf
    language: float = 0.0
    labels: NDArray[np.int32] = field(default_factory=lambda: np.zeros(0, np.int32))
    scores: Scores = field(default_factory=lambda: Scores(0.0))

    def add(self, score: float, language: float, labels: NDArray[np.int32], share: float) -> None:
        self.share += share
        if score > self.score:
            self.score, self.language, self.labels = score, language, labels


class _Batch:
    """The lattices of a batch, in k2's form and, once asked for, as arrays."""

    def __init__(self, fsa: Any, splits: bool) -> None:
        self.fsa, self.splits = fsa, splits
        self.labels: NDArray[np.int32] = fsa.labels.cpu().numpy()

    def row(self, row: int, log_probs: NDArray[np.float32]) -> FrameArcs:
        fsa, shape = self.fsa, self.fsa.arcs.shape()
        states = shape.row_splits(1).cpu().numpy()
        arcs = shape.row_splits(2).cpu().numpy()
        rows = slice(int(arcs[states[row]]), int(arcs[states[row + 1]]))
        values = fsa.arcs.values()[rows].cpu().numpy()
        labels, frames = values[:, 2], fsa.frame[rows].cpu().numpy()
        final = labels < 0
        acoustic = np.where(final, 0.0, log_probs[np.where(final, 0, frames), np.maximum(labels, 0)])
        return FrameArcs(
            states=int(states[row + 1] - states[row]),
            source=values[:, 0],
            target=values[:, 1],
            label=labels,
            token=fsa.tokens[rows].cpu().numpy(),
            frame=frames,
            acoustic=acoustic.astype(np.float32),
            language=fsa.language[rows].cpu().numpy(),
            score=fsa.scores[rows].detach().cpu().numpy().astype(np.float64),
        )


def _borders(fsa: Any, rows: int) -> NDArray[np.int32]:
    """Where each row's arcs begin and end."""
    shape = fsa.arcs.shape()
    states = shape.row_splits(1).cpu().numpy()
    arcs: NDArray[np.int32] = shape.row_splits(2).cpu().numpy()[states]
    assert len(arcs) == rows + 1
    return arcs


def _is_sound(log_probs: torch.Tensor) -> bool:
    """Minus infinity is a probability of 0; everything else must be a number."""
    return not bool((log_probs.isnan() | (log_probs == math.inf)).any())


def _tokens(labels: NDArray[np.int32]) -> tuple[int, ...]:
    """What frames of these labels say."""
    fresh = np.ones(len(labels), bool)
    fresh[1:] = labels[1:] != labels[:-1]
    return tuple(labels[fresh & (labels != BLANK)].tolist())


def _doubles(tokens: Sequence[int]) -> int:
    return sum(left == right for left, right in pairwise(tokens))


def _ctc_scores(log_probs: torch.Tensor, readings: Sequence[tuple[int, ...]]) -> list[float]:
    """The natural logarithm of each reading's probability over all its alignments. log_probs: (frames, tokens)."""
    longest = max(1, *(len(tokens) for tokens in readings))
    targets = torch.zeros(len(readings), longest, dtype=torch.long)
    for row, tokens in zip(targets, readings, strict=True):
        row[: len(tokens)] = torch.tensor(tokens, dtype=torch.long)
    lost = functional.ctc_loss(
        log_probs[:, None].expand(-1, len(readings), -1),
        targets,
        torch.full((len(readings),), len(log_probs)),
        torch.tensor([len(tokens) for tokens in readings]),
        blank=BLANK,
        reduction="none",
    )
    scores: list[float] = (-lost).tolist()
    return scores


def _has(words: Sequence[tuple[str, int, int]], text: str, start: int, end: int) -> bool:
    return any(text == other and first < end + LONG_AGO and start < last + LONG_AGO for other, first, last in words)
