"""The first pass: a streaming CTC network and the search over what it says. Knows samples and words, not streams.

One `FirstPass` a device, used by that device's thread only. Live calls go through it chunk by chunk (`advance`), whole
utterances of recordings with all their context (`decode`).
"""

from __future__ import annotations

import math
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import torch

from parley.decoder.errors import DeviceError
from parley.decoder.search.ctc import NO_SCORES
from parley.decoder.search.greedy import Greedy
from parley.decoder.search.lattice.lattice import LatticeOptions
from parley.decoder.text.vocabulary import timed_words
from parley.decoder.torch_device import memory_errors
from parley.decoder.values import TOKENS, Hypothesis, LatticeArc, Transcript, WordLattice

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from parley.decoder.models.acoustic import AcousticModel, Chunk
    from parley.decoder.models.passes import RowResult
    from parley.decoder.search.ctc import Path, Search, Wishes
    from parley.decoder.search.lattice.lattice import Lattice, LatticeResult, Lattices


CALL_S = 12.0  # of audio a thread, taken through the model together: a live call may have to wait for a step of it


class FirstPass:
    def __init__(
        self,
        model: AcousticModel,
        searches: Callable[[int], Search] | None = None,
        lattices: Lattices | None = None,
        blank_penalty: float = 0.0,
    ) -> None:
        """searches: makes the searches of so many utterances; best path if None. lattices: of utterances that wish for
        one, with this taken off every blank where the graph has a language model."""
        self.model = model
        self.step = model.shape.step
        self._searches = searches or (lambda slots: Greedy(slots, model.blank))
        self._search = self._searches(model.slots)
        self._whole = self._searches(0)  # of recordings, a call at a time
        self._wholes = 0
        self._lattices, self._blank_penalty = lattices, blank_penalty
        self._said: dict[int, tuple[Path, Transcript]] = {}  # by slot: its best path, in words

    @property
    def search_bytes(self) -> int:
        """Of memory that a slot's search has from the start."""
        return self._search.slot_bytes

    def clear(self, slot: int) -> None:
        """Wipes what the slot's last stream has left."""
        self.model.clear(slot)
        self._search.clear(slot)
        self._said.pop(slot, None)

    def advance(self, chunks: Sequence[Chunk]) -> Iterator[list[tuple[int, RowResult]]]:
        """Takes the streams in these chunks' slots one chunk further; yields once, with each row's words so far.

        Word times are in milliseconds from the utterance's start. A row whose log-probabilities are not finite has an
        error in the place of its words. Raises OutOfMemory: then the same chunks may come again.
        """
        log_probs, frames = self.model.forward(chunks)
        # From here on the chunks may not come again, so want of memory is a fault like any other.
        log_probs = log_probs.cpu()  # the one wait for a card; what went wrong there is known before the search begins
        for chunk in chunks:
            if chunk.index == 0:
                self._search.begin(chunk.slot, chunk.wishes)
        sound = _sound(log_probs)
        rows = [row for row, is_sound in enumerate(sound) if is_sound]
        slots = [chunks[row].slot for row in rows]
        self._search.advance(slots, log_probs if all(sound) else log_probs[rows], [frames[row] for row in rows])
        yield [(row, self._so_far(chunk.slot) if sound[row] else _unsound()) for row, chunk in enumerate(chunks)]

    def finish(self, slot: int, count: int) -> Transcript:
        """The n-best of an utterance whose chunks have all been taken. Of all here the only one that another thread may
        call: nothing of the slot is on the device then."""
        return self._transcript(self._search.n_best(slot, count))

    def decode(
        self,
        batch: Sequence[NDArray[np.int16]],
        *,
        beam: int,
        word_times: bool,  # they cost nothing here
        wishes: Sequence[Wishes | None] = (),
    ) -> Iterator[list[tuple[int, RowResult]]]:
        """Decodes whole utterances; yields after each step of the model, as SecondPass.decode does."""
        for rows in self._calls(batch):
            for found in self.model.whole_steps([batch[row] for row in rows]):
                if found is None:
                    yield []
            assert found is not None
            log_probs, frames = found
            wanted = [wishes[row] if wishes else None for row in rows]
            with memory_errors():
                log_probs = log_probs.cpu()
                sound = _sound(log_probs)
                yield [
                    *((row, _unsound()) for at, row in enumerate(rows) if not sound[at]),
                    *((rows[at], said) for at, said in self._search_whole(log_probs, frames, wanted, sound, beam)),
                ]

    def _search_whole(
        self,
        log_probs: torch.Tensor,
        frames: Sequence[int],
        wishes: Sequence[Wishes | None],
        sound: Sequence[bool],
        count: int,
    ) -> Iterator[tuple[int, RowResult]]:
        """The n-best of the sound rows, by beams or by lattices, each as it wishes."""
        by_graph: dict[tuple[str, LatticeOptions], list[int]] = {}
        by_beams = []
        for at, wish in enumerate(wishes):
            if sound[at] and wish is not None and wish.graph is not None:
                by_graph.setdefault((wish.graph, self._lattice_options(wish, count)), []).append(at)
            elif sound[at]:
                by_beams.append(at)
        for (graph, options), rows in by_graph.items():
            assert self._lattices is not None
            counts = [frames[at] for at in rows]
            searched = self._lattices.submit(log_probs[rows, : max(counts)].numpy(), counts, graph, options)
            for place, at in enumerate(rows):
                yield at, _one_of(searched, partial(self._of_lattice, place=place))
        if self._wholes < len(by_beams):
            self._whole, self._wholes = self._searches(len(by_beams)), len(by_beams)
        try:
            for slot, at in enumerate(by_beams):
                self._whole.begin(slot, wishes[at])
            self._whole.advance(range(len(by_beams)), log_probs[by_beams], [frames[at] for at in by_beams])
            for slot, at in enumerate(by_beams):
                yield at, self._transcript(self._whole.n_best(slot, count))
        finally:
            for slot in range(len(by_beams)):
                self._whole.clear(slot)  # a language model that is replaced is not to be kept here

    def _lattice_options(self, wishes: Wishes, count: int) -> LatticeOptions:
        return LatticeOptions(
            n_best=count,
            language_weight=wishes.language_weight,
            # The model's tokens alone are no language model, which these are to balance.
            word_bonus=0.0 if wishes.graph == TOKENS else wishes.word_bonus,
            blank_penalty=0.0 if wishes.graph == TOKENS else self._blank_penalty,
            lattice=wishes.lattice,
        )

    def _of_lattice(self, results: list[LatticeResult], place: int) -> Transcript:
        found = results[place]
        transcript = self._transcript(found.paths)
        return transcript if found.lattice is None else replace(transcript, lattice=self._worded(found.lattice))

    def _worded(self, lattice: Lattice) -> WordLattice:
        texts = ["".join(text for text, _ in self.model.vocabulary.words(tokens)) for tokens in lattice.words]
        frame_ms = self.model.frame_ms
        columns = (lattice.source, lattice.target, lattice.word, lattice.start_frame, lattice.end_frame)
        scores = (lattice.acoustic, lattice.language, lattice.posterior)
        arcs = zip(*(column.tolist() for column in (*columns, *scores)), strict=True)
        return WordLattice(
            lattice.states,
            tuple(
                LatticeArc(source, target, texts[word], round(start * frame_ms), round(end * frame_ms), *figures)
                for source, target, word, start, end, *figures in arcs
            ),
        )

    def _calls(self, batch: Sequence[NDArray[np.int16]]) -> Iterator[list[int]]:
        """The rows of each call of the model; they come sorted by length."""
        most, rows = CALL_S * self.model.info.sample_rate, list[int]()
        for row, samples in enumerate(batch):
            deep = -(-(len(rows) + 1) // self.model.side_by_side)
            if deep > 1 and len(samples) * deep > most:
                yield rows
                rows = []
            rows.append(row)
        yield rows

    def _so_far(self, slot: int) -> Transcript:
        path = self._search.best(slot)
        known, transcript = self._said.get(slot, (None, None))
        if path is not known or transcript is None:
            transcript = self._transcript([path])
            self._said[slot] = path, transcript
        return transcript

    def _transcript(self, paths: Sequence[Path]) -> Transcript:
        hypotheses = (self._hypothesis(path) for path in paths)
        return Transcript(tuple(hypothesis for hypothesis in hypotheses if hypothesis is not None))

    def _hypothesis(self, path: Path) -> Hypothesis | None:
        words = self.model.vocabulary.words(path.tokens)
        if not words:
            return None
        text = self.model.vocabulary.separator.join(text for text, _ in words)
        timed = timed_words(words, path.log_probs, path.spans, self.model.frame_ms)
        confidence = math.exp(sum(path.log_probs) / len(path.log_probs))
        if path.confidences:
            timed = tuple(replace(word, confidence=own) for word, own in zip(timed, path.confidences, strict=True))
            confidence = sum(path.confidences) / len(timed)
        scores = None if path.scores is NO_SCORES else path.scores
        return Hypothesis(text, confidence, timed, scores, path.stability)


def _sound(log_probs: torch.Tensor) -> list[bool]:
    """By row, whether all of it is finite."""
    rows: list[bool] = torch.isfinite(log_probs).all(-1).all(-1).tolist()
    return rows


def _one_of(searched: Future[list[LatticeResult]], take: Callable[[list[LatticeResult]], Transcript]) -> RowResult:
    """A row's part of what a batch's future gives."""
    part: Future[Transcript] = Future()

    def pass_on(whole: Future[list[LatticeResult]]) -> None:
        try:
            part.set_result(take(whole.result()))
        except Exception as error:
            part.set_exception(error)

    searched.add_done_callback(pass_on)
    return part


def _unsound() -> DeviceError:
    return DeviceError("the model's log-probabilities for this stream are not finite")
