"""The words at seams: what it costs them that long audio is cut into utterances, against all other words.

A manifest's utterances are joined by speaker, and the first pass decodes that as streams and as recordings: cut, and
uncut, for which it must be short. A beam search begins an utterance behind the words that its channel has had; the
script also takes those away, for which recognizers have no option. Knows the recognizer, no node.
"""

from __future__ import annotations

import argparse
import enum
import json
import math
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from itertools import groupby, pairwise
from pathlib import Path
from typing import TYPE_CHECKING
from unittest.mock import patch

import numpy as np
import soundfile
from rich.console import Console
from rich.progress import track
from rich.table import Table

from parley.decoder import recognizer as recognizers
from parley.decoder.audio import open_file
from parley.decoder.config import RecognizerConfig
from parley.decoder.engine.stream import SEAM_BEST, Decoder
from parley.decoder.model_folder import ModelFolder
from parley.decoder.models.registry import load_acoustic_model
from parley.decoder.recognizer import FILE_RULES, Recognizer
from parley.decoder.search.beam import Beam
from parley.decoder.search.ctc import Wishes
from parley.decoder.search.forced import collapsed, forced_alignment
from parley.decoder.search.hotwords import automaton
from parley.decoder.search.language_model import LanguageModel, word_score
from parley.decoder.search.seams import behind
from parley.decoder.search.settings import beam_settings
from parley.decoder.speech.vad import SAMPLE_RATE
from parley.decoder.text.vocabulary import timed_words
from parley.decoder.values import (
    LONGEST_UTTERANCE_MS,
    MOST_ALTERNATIVES,
    MOST_CONTEXT,
    AudioFormat,
    Encoding,
    EndpointRules,
    Failed,
    Final,
    Finished,
    Hypothesis,
    Passes,
    SearchKind,
    StreamOptions,
)
from parley.training.graph.spelling import Spelling
from scripts.alignment import alignment, errors
from scripts.scoring import WordErrors, normalize
from scripts.search_cost import in_chunks, whole

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    import torch
    from numpy.typing import NDArray

    from parley.decoder.engine.stream import _Pending
    from parley.decoder.models.acoustic import AcousticModel
    from parley.decoder.search.ctc import Path as TokenPath
    from parley.decoder.search.settings import BeamSettings
    from parley.decoder.values import Event, Word

NEAR = 2  # words on either side of a seam
GAP_MS = 300  # between joined utterances, beside the silence that they have
JOINED_MS = LONGEST_UTTERANCE_MS - 1_000  # that is still one utterance
UNCUT = EndpointRules(silence_after_speech_ms=10_000, longest_utterance_ms=LONGEST_UTTERANCE_MS)
FORMAT = AudioFormat(Encoding.LINEAR16, SAMPLE_RATE, 1)
AT_ONCE = 16
CHUNK_MS = 320
WAIT_S = 600.0


class Place(enum.Enum):
    CUT = "at cuts"  # speech went on
    PAUSE = "at pauses"
    ELSEWHERE = "elsewhere"


class Carry(enum.Enum):
    """Behind what an utterance goes on from the words before it."""

    ALL = enum.auto()
    CUTS = enum.auto()
    NOTHING = enum.auto()


class GoesOn(enum.Enum):
    """How a part's search knows the words before: begun behind them, as a stream's is; its readings chosen by them, as
    a recording's are; not at all."""

    BEGUN_BEHIND = "LM, begun behind the words before"
    CHOSEN_BEHIND = "LM, chosen by the words before"
    NOT = "LM, nothing carried over"


@dataclass(frozen=True, slots=True)
class Timed:
    """A word as it is scored."""

    text: str
    start_ms: float
    end_ms: float


@dataclass(frozen=True, slots=True)
class Seam:
    time_ms: float
    cut: bool


@dataclass(frozen=True, slots=True)
class Piece:
    """Audio of one speaker, and what is said in it."""

    samples: NDArray[np.int16]
    words: tuple[Timed, ...]


@dataclass(frozen=True, slots=True)
class Way:
    """How a piece is decoded. ends: an utterance's reading is chosen with the chance that a sentence ends with it."""

    name: str
    rules: EndpointRules
    search: SearchKind = SearchKind.BEAM
    carry: Carry = Carry.ALL
    ends: bool = False


@dataclass(frozen=True, slots=True)
class Line:
    """A way's errors by place, and its differences from the uncut decoding."""

    name: str
    errors: Mapping[Place, WordErrors]
    differences: Mapping[Place, WordErrors] | None


def ways(rules: EndpointRules) -> tuple[Way, ...]:
    """The first says where the seams are, the second what the words are without any."""
    return (
        Way("LM, words before carried over", rules),
        Way("LM, uncut", UNCUT),
        Way("LM, nothing carried over", rules, carry=Carry.NOTHING),
        Way("LM, carried over cuts, <s> behind pauses", rules, carry=Carry.CUTS),
        Way("LM, the same with </s> before pauses", rules, carry=Carry.CUTS, ends=True),
        Way("best path", rules, SearchKind.BEST_PATH),
        Way("best path, uncut", UNCUT, SearchKind.BEST_PATH),
    )


def places(words: Sequence[Timed], seams: Iterable[Seam]) -> tuple[list[Place], list[Place]]:
    """Of each word, and of the gaps before each and behind the last."""
    by_word, by_gap = [Place.ELSEWHERE] * len(words), [Place.ELSEWHERE] * (len(words) + 1)
    for seam in sorted(seams, key=lambda seam: seam.cut):  # cuts last: they count where both are near
        place = Place.CUT if seam.cut else Place.PAUSE
        at = sum((word.start_ms + word.end_ms) / 2 < seam.time_ms for word in words)
        first, behind = max(0, at - NEAR), min(len(words), at + NEAR)
        by_word[first:behind] = [place] * (behind - first)
        by_gap[first : behind + 1] = [place] * (behind + 1 - first)
    return by_word, by_gap


def errors_by_place(
    reference: Sequence[Timed], found: Sequence[Timed], seams: Iterable[Seam]
) -> dict[Place, WordErrors]:
    said, heard = [word.text for word in reference], [word.text for word in found]
    by_word, by_gap = places(reference, seams)
    pairs: dict[Place, list[tuple[int | None, int | None]]] = {place: [] for place in Place}
    gap = 0
    for pair in alignment(said, heard):
        if pair[0] is None:
            pairs[by_gap[gap]].append(pair)
        else:
            pairs[by_word[pair[0]]].append(pair)
            gap = pair[0] + 1
    return {place: errors(said, heard, some) for place, some in pairs.items()}


def joined(spoken: Sequence[tuple[str, NDArray[np.int16], Sequence[Timed]]], most_ms: float) -> Iterator[Piece]:
    """Utterances (speaker, samples, words), those of a speaker that follow each other joined up to a length."""
    gap = np.zeros(GAP_MS * SAMPLE_RATE // 1000, np.int16)
    for _, group in groupby(spoken, key=lambda one: one[0]):
        parts: list[NDArray[np.int16]] = []
        words: list[Timed] = []
        for _, samples, timed in group:
            length = sum(map(len, parts))
            if parts and (length + len(samples)) / SAMPLE_RATE * 1000 > most_ms:
                yield Piece(np.concatenate(parts), tuple(words))
                parts, words, length = [], [], 0
            start_ms = length / SAMPLE_RATE * 1000
            words += [Timed(word.text, word.start_ms + start_ms, word.end_ms + start_ms) for word in timed]
            parts += [samples, gap]
        yield Piece(np.concatenate(parts), tuple(words))


def timed_text(model: AcousticModel, spelling: Spelling, samples: NDArray[np.int16], text: str) -> list[Timed]:
    """The words of an utterance where its forced alignment has them."""
    words = normalize(text)
    spelled = [spelling.spell(word) or () for word in words]
    log_probs, frames = model.whole([samples])
    labels = forced_alignment(log_probs[0, : frames[0]].numpy(), [t for each in spelled for t in each], model.blank)
    if labels is None:
        raise ValueError(f"got {frames[0]} frames, expected room for: {text}")
    _, spans = collapsed(labels, model.blank)
    timed, at, end_ms = list[Timed](), 0, 0.0
    for word, tokens in zip(words, spelled, strict=True):
        inside = spans[at : at + len(tokens)]
        at += len(tokens)
        start_ms = inside[0][0] * model.frame_ms if inside else end_ms  # a word that has no tokens has no time either
        end_ms = inside[-1][1] * model.frame_ms if inside else end_ms
        timed.append(Timed(word, start_ms, end_ms))
    return timed


def scored_words(finals: Iterable[Final]) -> list[Timed]:
    return [word for final in finals for word in _scored(final.hypotheses[0].words)]


def _scored(words: Iterable[Word]) -> list[Timed]:
    return [Timed(text, word.start_ms, word.end_ms) for word in words for text in normalize(word.text)]


def seams_of(finals: Sequence[Final]) -> list[Seam]:
    return [
        Seam((before.end_ms + behind.start_ms) / 2, before.end_ms == behind.start_ms)
        for before, behind in pairwise(finals)
    ]


@contextmanager
def decoders_that(carry: Carry, rules: EndpointRules) -> Iterator[None]:
    """Carry so much, and cut recordings by these rules."""
    close_heard, final = Decoder._close_heard, Decoder._final

    def closed(self: Decoder, pending: _Pending) -> None:
        close_heard(self, pending)
        if not pending.utterance.cut:
            self._before = ()

    def finished(self: Decoder, segment: int, pending: _Pending) -> Final:
        result = final(self, segment, pending)
        if self._first_pass is None and not pending.utterance.cut:
            self._before = ()
        return result

    with ExitStack() as patches:
        patches.enter_context(patch.object(recognizers, "FILE_RULES", rules))
        if carry is Carry.NOTHING:
            patches.enter_context(patch.object(Decoder, "_goes_on_from", lambda self, hypotheses: None))
        elif carry is Carry.CUTS:
            patches.enter_context(patch.object(Decoder, "_close_heard", closed))
            patches.enter_context(patch.object(Decoder, "_final", finished))
        yield


def hear_recording(recognizer: Recognizer, samples: NDArray[np.int16], options: StreamOptions) -> list[Final]:
    with recognizer.pool.lend(WAIT_S) as lease:
        return list(recognizer.transcribe(lease, open_file(samples.tobytes(), FORMAT), options).finals)


def hear_stream(recognizer: Recognizer, samples: NDArray[np.int16], options: StreamOptions) -> list[Final]:
    finals, faults, over = list[Final](), list[Exception](), threading.Event()

    def sink(event: Event) -> None:
        if isinstance(event, Final):
            finals.append(event)
        elif isinstance(event, Failed):
            faults.append(event.error)
        if isinstance(event, (Finished, Failed)):
            over.set()

    with recognizer.pool.lend(WAIT_S) as lease:
        stream = recognizer.open_stream(lease, FORMAT, options, sink)
        for _ in stream.accept(samples.tobytes()):
            while not stream.has_room and not over.is_set():
                time.sleep(0.002)
        for _ in stream.finish():
            pass
        if not over.wait(WAIT_S):
            raise TimeoutError(f"a stream did not end within {WAIT_S:g} s")
    if faults:
        raise faults[0]
    return finals


def hear(recognizer: Recognizer, pieces: Sequence[Piece], way: Way, recordings: bool) -> list[list[Final]]:
    options = StreamOptions(rules=way.rules, max_alternatives=MOST_ALTERNATIVES if way.ends else 1)
    hear_one = hear_recording if recordings else hear_stream
    with decoders_that(way.carry, way.rules), ThreadPoolExecutor(AT_ONCE) as threads:
        return list(threads.map(lambda piece: hear_one(recognizer, piece.samples, options), pieces))


def with_ends(finals: Sequence[Final], model: LanguageModel, weight: float) -> Iterator[Final]:
    """Where speech pauses, the reading that is best with the end of a sentence behind it."""
    cuts, before = [seam.cut for seam in seams_of(finals)] + [False], tuple[str, ...]()
    for final, cut in zip(finals, cuts, strict=True):
        readings = final.hypotheses
        if not cut:
            totals = [_total(one) + weight * _end_score(model, (*before, *one.text.split())) for one in readings]
            readings = (readings[int(np.argmax(totals))],)
        before = (*before, *readings[0].text.split()) if cut else ()
        yield replace(final, hypotheses=readings)


def _total(hypothesis: Hypothesis) -> float:
    return hypothesis.scores.total if hypothesis.scores else 0.0


def _end_score(model: LanguageModel, words: Sequence[str]) -> float:
    history, context = np.full(MOST_CONTEXT, -1, np.int32), model.context(words)
    history[: len(context)] = context
    return float(word_score(model.tables, history, model.end))


@dataclass(frozen=True, slots=True)
class Bench:
    """What a measurement runs on."""

    recognizers: Mapping[SearchKind, Recognizer]
    language_model: LanguageModel
    language_weight: float

    def measure(
        self, pieces: Sequence[Piece], some: Sequence[Way], recordings: bool
    ) -> tuple[list[Line], list[list[Seam]]]:
        """A line a way, and each piece's seams as the first way has them."""
        finals, name = dict[Way, list[list[Final]]](), "recordings" if recordings else "streams"
        for way in track(some, f"{name}, {len(pieces)} pieces"):
            finals[way] = hear(self.recognizers[way.search], pieces, way, recordings)
            if way.ends:
                finals[way] = [list(with_ends(each, self.language_model, self.language_weight)) for each in finals[way]]
        seams = [seams_of(each) for each in finals[some[0]]]
        found = {way: [scored_words(each) for each in finals[way]] for way in some}
        uncut = next((found[way] for way in some if way.rules == UNCUT), None)
        lines = []
        for way in some:
            wrong = _summed([piece.words for piece in pieces], found[way], seams)
            other = None if uncut is None else _summed(uncut, found[way], seams)
            lines.append(Line(way.name, wrong, other))
        return lines, seams


class SearchAlone:
    """The search of a piece in parts, over the log-probabilities of all of it: what is left of a seam when nothing of
    the sound is lost."""

    def __init__(self, model: AcousticModel, wishes: Wishes, settings: BeamSettings) -> None:
        self._vocabulary, self._frame_ms, self._wishes = model.vocabulary, model.frame_ms, wishes
        self._search = Beam(1, model.vocabulary, model.blank, settings)

    def hear(self, log_probs: torch.Tensor, seams: Sequence[Seam], goes_on: GoesOn) -> list[Timed]:
        """log_probs: (frames, tokens)."""
        frames = sorted({round(seam.time_ms / self._frame_ms) for seam in seams} | {0, len(log_probs)})
        words, found = tuple[str, ...](), list[Timed]()
        for start, end in pairwise(frames):
            self._search.begin(0, replace(self._wishes, before=words if goes_on is GoesOn.BEGUN_BEHIND else ()))
            self._search.advance([0], log_probs[None, start:end], [end - start])
            paths = self._search.n_best(0, SEAM_BEST if goes_on is GoesOn.CHOSEN_BEHIND else 1)
            readings = [reading for path in paths if (reading := self._reading(path, start)) is not None]
            if goes_on is GoesOn.CHOSEN_BEHIND:
                readings = list(behind(words, readings, self._wishes))
            if readings:
                found += _scored(readings[0].words)
                words = (*words, *readings[0].text.split())[-MOST_CONTEXT:]
        return found

    def _reading(self, path: TokenPath, first: int) -> Hypothesis | None:
        words = self._vocabulary.words(path.tokens)
        if not words:
            return None
        spans = [(start + first, end + first) for start, end in path.spans]
        timed = timed_words(words, path.log_probs, spans, self._frame_ms)
        return Hypothesis(" ".join(text for text, _ in words), 0.0, timed, path.scores)

    def measure(
        self, pieces: Sequence[Piece], log_probs: Sequence[torch.Tensor], seams: Sequence[Sequence[Seam]]
    ) -> list[Line]:
        uncut = [self.hear(each, (), GoesOn.NOT) for each in log_probs]
        found = {
            how.value: [self.hear(each, some, how) for each, some in zip(log_probs, seams, strict=True)]
            for how in GoesOn
        }
        references = [piece.words for piece in pieces]
        return [
            Line(name, _summed(references, each, seams), _summed(uncut, each, seams))
            for name, each in {"LM, uncut": uncut, **found}.items()
        ]


def _summed(
    references: Sequence[Sequence[Timed]], found: Sequence[Sequence[Timed]], seams: Sequence[Sequence[Seam]]
) -> dict[Place, WordErrors]:
    parts = [errors_by_place(*each) for each in zip(references, found, seams, strict=True)]
    return {place: sum((part[place] for part in parts), WordErrors()) for place in Place}


def show(console: Console, title: str, lines: Sequence[Line], by_piece: Sequence[Sequence[Seam]]) -> None:
    seams = [seam for each in by_piece for seam in each]
    cuts = sum(seam.cut for seam in seams)
    words = lines[0].errors
    table = Table(
        title=f"{title}: {cuts} cuts with {words[Place.CUT].words} words near them, {len(seams) - cuts} pauses with "
        f"{words[Place.PAUSE].words}, {words[Place.ELSEWHERE].words} words elsewhere"
    )
    table.add_column("")
    with_uncut = any(line.differences for line in lines)
    for heading in (*(f"WER {place.value}" for place in Place), "all"):
        table.add_column(heading, justify="right")
    for place in Place if with_uncut else ():
        table.add_column(f"not as uncut {place.value}", justify="right")
    for line in lines:
        total = sum(line.errors.values(), WordErrors())
        rates = [line.errors[place].rate for place in Place] + [total.rate]
        rates += [line.differences[place].rate for place in Place] if line.differences else []
        table.add_row(line.name, *(f"{rate:.1%}" for rate in rates))
    console.print(table)


def report_of(title: str, lines: Sequence[Line], by_piece: Sequence[Sequence[Seam]]) -> dict[str, object]:
    seams = [seam for each in by_piece for seam in each]

    def figures(by_place: Mapping[Place, WordErrors] | None) -> dict[str, object] | None:
        return None if by_place is None else {place.value: asdict(one) for place, one in by_place.items()}

    return {
        "title": title,
        "cuts": sum(seam.cut for seam in seams),
        "pauses": sum(not seam.cut for seam in seams),
        "lines": [
            {"name": line.name, "errors": figures(line.errors), "differences": figures(line.differences)}
            for line in lines
        ],
    }


def read_spoken(manifest: Path, model: AcousticModel) -> Iterator[tuple[str, NDArray[np.int16], list[Timed]]]:
    spelling = Spelling(model.vocabulary)
    for line in manifest.read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        samples, _ = soundfile.read(manifest.parent / entry["audio"], dtype="int16")
        yield entry["speaker"], samples, timed_text(model, spelling, samples, entry["text"])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m scripts.seams", description=__doc__)
    parser.add_argument("manifest", type=Path, help="as scripts.wer takes it, with speakers")
    parser.add_argument("--model", type=Path, default=Path("models/en-streaming"), help="default: %(default)s")
    parser.add_argument("--language-model", type=Path, default=Path("models/lm-en/en.lm"), help="default: %(default)s")
    parser.add_argument("--beam", type=int, default=16, help="default: %(default)s")
    parser.add_argument("--longest-ms", type=int, default=5_000, help="of a cut utterance (default: %(default)s)")
    parser.add_argument("--silence-ms", type=int, default=800, help="that ends one (default: %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    folder, language_model = ModelFolder.read(arguments.model), LanguageModel.read(arguments.language_model)
    model, settings = load_acoustic_model(folder, "cpu", 1, CHUNK_MS), beam_settings(folder)
    spoken = list(read_spoken(arguments.manifest, model))
    rules = EndpointRules(silence_after_speech_ms=arguments.silence_ms, longest_utterance_ms=arguments.longest_ms)
    short, long = list(joined(spoken, JOINED_MS)), list(joined(spoken, math.inf))
    none = automaton((), language_model.lower)
    wishes = Wishes(language_model, none, arguments.beam, settings.language_weight, settings.word_bonus)
    alone = SearchAlone(model, wishes, settings)
    console, reports = Console(), list[dict[str, object]]()
    with ExitStack() as stack:
        config = RecognizerConfig(
            arguments.model,
            passes=Passes.FIRST,
            devices=("cpu",),
            decoders=AT_ONCE,
            chunk_ms=CHUNK_MS,
            beam=arguments.beam,
        )
        configs = {
            SearchKind.BEAM: replace(config, language_model=arguments.language_model),
            SearchKind.BEST_PATH: replace(config, search=SearchKind.BEST_PATH),
        }
        bench = Bench(
            {kind: stack.enter_context(Recognizer(one)) for kind, one in configs.items()},
            language_model,
            settings.language_weight,
        )
        cut = f"cut at {arguments.longest_ms / 1000:g} s"
        as_files_are = [way for way in ways(FILE_RULES) if way.rules != UNCUT]
        for title, pieces, some, recordings in (
            (f"streams, {cut}", short, ways(rules), False),
            (f"recordings, {cut}", short, ways(rules), True),
            ("recordings of all that a speaker says, cut as recordings are", long, as_files_are, True),
        ):
            lines, seams = bench.measure(pieces, some, recordings)
            tables = [(title, lines)]
            if pieces is short:
                log_probs = [(whole if recordings else in_chunks)(model, piece.samples) for piece in pieces]
                tables.append((f"{title}, the search alone", alone.measure(pieces, log_probs, seams)))
            for name, rows in tables:
                show(console, name, rows, seams)
                reports.append(report_of(name, rows, seams))
    if arguments.json:
        arguments.json.write_text(json.dumps(reports, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
