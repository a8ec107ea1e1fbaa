"""Prefix beam search with a word language model and hotwords, behind Search. Knows tokens, frames and words' bytes.

The searching itself is compiled (beam_kernel.py, over beam_state.py; beam_readings.py reads what was found), a call for
all utterances that want the same, with Python's lock free: they may be searched side by side. What a slot may hold is
allocated at start; beside it grows nothing with the utterance.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch

from parley.decoder.search import beam_kernel, beam_readings, beam_state
from parley.decoder.search.calibration import Calibration
from parley.decoder.search.ctc import Path, Wishes
from parley.decoder.search.hotwords import automaton
from parley.decoder.search.language_model import no_language_model
from parley.decoder.side_by_side import SideBySide
from parley.decoder.text.vocabulary import SPACE
from parley.decoder.values import MOST_BEAM, MOST_CONTEXT, Scores

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from parley.decoder.search.language_model import LanguageModel
    from parley.decoder.search.settings import BeamSettings
    from parley.decoder.text.vocabulary import Vocabulary

FRAMES_A_THREAD = 32  # at least: some 0.5 ms of search; waking another thread for less does not pay
LINKS_A_SLOT = 4_096  # of 24 bytes; an utterance of 30 s has at most 750 tokens, and hypotheses share most of theirs


class Beam:
    """See parley.decoder.search.ctc.Search."""

    def __init__(
        self,
        slots: int,
        vocabulary: Vocabulary,
        blank: int,
        settings: BeamSettings,
        calibration: Calibration | None = None,
        side_by_side: SideBySide | None = None,
    ) -> None:
        """side_by_side: what utterances are advanced by; one after the other without it."""
        self._side_by_side = side_by_side or SideBySide(1, "search")
        self._vocabulary, self._blank, self._settings = vocabulary, blank, settings
        self._calibration = calibration or Calibration()
        self._pieces = {lower: _pieces(vocabulary, lower) for lower in (False, True)}
        self._beams = _beams(slots)
        self._slots = [beam_state.Beams(*(part[slot] for part in self._beams)) for slot in range(slots)]
        self._wishes: list[Wishes | None] = [None] * slots
        self._weights: list[beam_state.Weights] = [self._weigh(None)] * slots
        self._best: list[tuple[int, Path]] = [(0, Path())] * slots  # by slot: the best prefix's hash, and the best path
        self.slot_bytes = sum(part.nbytes for part in _beams(1))
        if slots:
            self._warm_up()

    def _warm_up(self) -> None:
        """Everything once, so that no caller waits for the compiler."""
        self.begin(0, Wishes(no_language_model(), automaton((), lower=True), 1, 0.0, 0.0))
        silence = np.zeros((1, 1, len(self._vocabulary.pieces)), np.float32)
        self.advance([0], torch.from_numpy(silence), [1])
        self.best(0)
        self.n_best(0, 1)
        self.clear(0)

    def begin(self, slot: int, wishes: Wishes | None) -> None:
        assert wishes is not None
        self._wishes[slot], self._weights[slot] = wishes, self._weigh(wishes)
        self._best[slot] = (0, Path())
        beam_state.begin(self._slots[slot], wishes.language_model.context(wishes.before), wishes.hotwords)

    def clear(self, slot: int) -> None:
        self._wishes[slot] = None  # a language model that was taken away is free with its last utterance
        self._best[slot] = (0, Path())

    def _weigh(self, wishes: Wishes | None) -> beam_state.Weights:
        ours = self._settings
        with_words = wishes is not None and wishes.language_model.order > 0 and wishes.language_weight > 0
        return beam_state.Weights(
            blank=self._blank,
            beam=wishes.beam if wishes is not None else 1,
            # Alone the network's own idea of how much is said holds.
            blank_penalty=ours.blank_penalty if with_words else 0.0,
            language=wishes.language_weight if wishes is not None and with_words else 0.0,
            word=wishes.word_bonus if wishes is not None and with_words else 0.0,
            unknown=ours.unknown_word,
            token_beam=ours.token_beam,
            score_beam=ours.score_beam,
            tokens=ours.tokens,
        )

    def advance(self, slots: Sequence[int], log_probs: torch.Tensor, frames: Sequence[int]) -> None:
        arrays = np.array(slots, np.int64), log_probs.float().contiguous().cpu().numpy(), np.array(frames, np.int64)
        least = -(-FRAMES_A_THREAD // max(1, *frames)) if frames else 1
        shares = self._side_by_side.shares(range(len(slots)), least)
        self._side_by_side.run(partial(self._advance, *arrays), shares)

    def _advance(
        self,
        slots: NDArray[np.int64],
        log_probs: NDArray[np.float32],
        frames: NDArray[np.int64],
        share: Sequence[int],
    ) -> None:
        alike: dict[tuple[int, int, beam_state.Weights], tuple[Wishes, list[int]]] = {}
        for row in share:
            slot = slots[row]
            wishes = self._wishes[slot]
            assert wishes is not None, "begin first"
            kind = id(wishes.language_model), id(wishes.hotwords), self._weights[slot]
            alike.setdefault(kind, (wishes, []))[1].append(row)
        for (_, _, weights), (wishes, rows) in alike.items():
            model = wishes.language_model
            guide = beam_state.Guide(self._pieces[model.lower], model.tables, wishes.hotwords, weights)
            beam_kernel.advance_rows(self._beams, np.array(rows, np.int64), slots, log_probs, frames, guide)

    def best(self, slot: int) -> Path:
        beams, wishes, (known, path) = self._slots[slot], self._wishes[slot], self._best[slot]
        if wishes is None:
            return Path()
        prefix = int(beams.hypotheses[0]["prefix"])
        if prefix != known:
            path = self._path(beams, 0)
            path = replace(path, stability=self._stability(beams, path, wishes.language_model))
            self._best[slot] = prefix, path
        return path

    def _stability(self, beams: beam_state.Beams, path: Path, model: LanguageModel) -> float:
        words = self._vocabulary.words(path.tokens)
        if not words:
            return 0.0
        totals = beams.hypotheses["total"][: beams.counts[0]]
        posterior = 1 / float(np.exp(totals - totals[0]).sum())
        quiet = int(beams.counts[2]) - path.spans[-1][1]
        return self._calibration.stability_of(posterior, quiet, len(words), _knows(model, words[-1][0]))

    def n_best(self, slot: int, count: int) -> list[Path]:
        beams, wishes = self._slots[slot], self._wishes[slot]
        if wishes is None:
            return [Path()]
        found = int(beams.counts[0])
        scores, order = np.zeros((found, 3)), np.zeros(found, np.int64)
        shares = np.zeros(int(beams.counts[2]) + 1)  # room for a word a frame
        beam_readings.finished(beams, wishes.language_model.tables, wishes.hotwords, self._weights[slot], scores)
        kept, words = beam_readings.readings(beams, self._pieces[False], scores, order, shares)
        best, *others = [
            replace(self._path(beams, at), scores=Scores(*scores[at].tolist()))
            for at in order[: min(kept, count)].tolist()
        ]
        confidences = self._confidences(best, shares[:words].tolist(), wishes.language_model)
        return [replace(best, confidences=confidences), *others]

    def _confidences(self, path: Path, shares: Sequence[float], model: LanguageModel) -> tuple[float, ...]:
        confidences = []
        for (text, span), share in zip(self._vocabulary.words(path.tokens), shares, strict=True):
            mean_log_prob = sum(path.log_probs[span.start : span.stop]) / len(span)
            known = _knows(model, text)
            confidences.append(self._calibration.confidence_of(share, mean_log_prob, len(span), known))
        return tuple(confidences)

    def _path(self, beams: beam_state.Beams, at: int) -> Path:
        links = np.empty(int(beams.counts[2]) + 1, beam_state.LINK)
        links = links[: beam_state.trace(beams, at, links)][::-1]
        return Path(
            tuple(links["token"].tolist()),
            tuple(zip(links["start"].tolist(), links["end"].tolist(), strict=True)),
            tuple(links["peak"].tolist()),
        )


def _knows(model: LanguageModel, word: str) -> bool:
    """Whether the word is one; all are where there is no language model."""
    return not model.order or model.ids([word]) != [0]


def _beams(slots: int) -> beam_state.Beams:
    return beam_state.Beams(
        np.zeros((slots, MOST_BEAM), beam_state.HYPOTHESIS),
        np.zeros((slots, MOST_BEAM, MOST_CONTEXT), np.int32),
        np.zeros((slots, LINKS_A_SLOT), beam_state.LINK),
        np.zeros((slots, 3), np.int64),
    )


def _pieces(vocabulary: Vocabulary, lower: bool) -> beam_state.Pieces:
    """The tokens' bytes as the language model writes them. A token that is no text, such as <unk>, has none."""
    texts = [piece.replace(SPACE, b"") for piece in vocabulary.pieces]
    texts = [
        b"" if vocabulary.is_special(piece) or not text.decode(errors="replace").strip() else text
        for piece, text in zip(vocabulary.pieces, texts, strict=True)
    ]
    if lower:
        texts = [text.decode(errors="surrogateescape").lower().encode(errors="surrogateescape") for text in texts]
    starts = np.cumsum([0, *map(len, texts)], dtype=np.int64)
    begins = np.array([vocabulary.begins_word(piece) for piece in vocabulary.pieces])
    return beam_state.Pieces(np.frombuffer(b"".join(texts), np.uint8), starts, begins)
