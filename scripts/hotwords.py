"""What hotwords do: how many of the rare words of a manifest's texts are found, and what that costs all others.

The lists are those rare words, as many unrelated words of the language model as a request may have, and both; each
with one boost after another. Utterances go through the first pass chunk by chunk, as a call's do, and whole, as a
recording's. Knows models and searches, no node.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from parley.decoder.model_folder import ModelFolder
from parley.decoder.models.registry import load_acoustic_model
from parley.decoder.search.beam import Beam
from parley.decoder.search.ctc import Wishes
from parley.decoder.search.hotwords import automaton
from parley.decoder.search.language_model import LanguageModel
from parley.decoder.search.settings import beam_settings
from parley.decoder.values import MOST_PHRASES, Phrase
from scripts.alignment import alignment, errors
from scripts.scoring import WordErrors, normalize
from scripts.search_cost import in_chunks, read_speech, whole

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

    import torch
    from numpy.typing import NDArray

    from parley.decoder.models.acoustic import AcousticModel

CHUNK_MS = 320
SHORTEST = 5  # letters of a word that is worth listing
BOOSTS = [0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0]
SEED = 1


@dataclass(frozen=True, slots=True)
class Effect:
    """said: rare words in the texts; heard: of these, found. false: words of the list that were found and not said.
    others: errors on the words that are not rare, and all words put in."""

    said: int = 0
    heard: int = 0
    false: int = 0
    all: WordErrors = field(default_factory=WordErrors)
    others: WordErrors = field(default_factory=WordErrors)

    def __add__(self, other: Effect) -> Effect:
        return Effect(
            self.said + other.said,
            self.heard + other.heard,
            self.false + other.false,
            self.all + other.all,
            self.others + other.others,
        )


@dataclass(frozen=True, slots=True)
class Line:
    way: str
    listed: str
    words: int
    boost: float
    effect: Effect


def effect(reference: Sequence[str], found: Sequence[str], rare: Collection[str], listed: Collection[str]) -> Effect:
    pairs = alignment(reference, found)
    said = [(at, heard) for at, heard in pairs if at is not None and reference[at] in rare]
    heard = sum(there is not None and found[there] == reference[at] for at, there in said)
    right = {there for at, there in pairs if at is not None and there is not None and reference[at] == found[there]}
    false = sum(word in listed and at not in right for at, word in enumerate(found))
    others = [(at, there) for at, there in pairs if at is None or reference[at] not in rare]
    return Effect(len(said), heard, false, errors(reference, found, pairs), errors(reference, found, others))


def words_of(model: LanguageModel) -> list[str]:
    """By their probability, the likeliest first."""
    tables = model.tables
    texts = [b""] * len(tables.word)
    ids = {}
    for node, word in enumerate(tables.word.tolist()):
        for child in range(tables.first[node], tables.first[node + 1]):
            texts[child] = texts[node] + bytes([tables.label[child]])
        if word >= 0:
            ids[word] = texts[node].decode(errors="replace")
    order = np.argsort(np.abs(tables.unigrams["prob"][: model.counts[0]]), kind="stable")
    return [ids[at] for at in order.tolist() if at in ids and not ids[at].startswith("<")]


def rare_words(texts: Iterable[str], known: Sequence[str], likeliest: int) -> list[str]:
    """known: the language model's words, the likeliest first."""
    common = set(known[:likeliest])
    said = {word for text in texts for word in normalize(text)}
    return sorted(word for word in said if len(word) >= SHORTEST and word not in common)


def unrelated_words(texts: Iterable[str], known: Sequence[str], count: int) -> list[str]:
    """Chosen by chance, the same ones every time."""
    said = {word for text in texts for word in normalize(text)}
    fitting = [word for word in known if word.isalpha() and len(word) >= SHORTEST and word not in said]
    return random.Random(SEED).sample(fitting, count)


class Listener:
    """Searches utterances one after the other."""

    def __init__(self, model: AcousticModel, language_model: LanguageModel, folder: ModelFolder, beam: int) -> None:
        self._vocabulary, settings = model.vocabulary, beam_settings(folder)
        self._search = Beam(1, model.vocabulary, model.blank, settings)
        none = automaton((), language_model.lower)
        self._wishes = Wishes(language_model, none, beam, settings.language_weight, settings.word_bonus)

    def hear(self, speech: Iterable[torch.Tensor], phrases: Sequence[Phrase]) -> list[list[str]]:
        """speech: log-probabilities (frames, tokens)."""
        wishes = replace(self._wishes, hotwords=automaton(phrases, self._wishes.language_model.lower))
        found = []
        for log_probs in speech:
            self._search.begin(0, wishes)
            self._search.advance([0], log_probs[None], [len(log_probs)])
            (best,) = self._search.n_best(0, 1)
            found.append(normalize(" ".join(text for text, _ in self._vocabulary.words(best.tokens))))
        return found


def measure(
    listener: Listener,
    speech: dict[str, list[torch.Tensor]],
    texts: Sequence[str],
    lists: dict[str, list[str]],
    rare: Collection[str],
    boosts: Sequence[float],
) -> list[Line]:
    """A line for each way to hear, list and boost."""
    references = [normalize(text) for text in texts]
    lines = []
    for way, name, boost in track([(way, name, boost) for way in speech for name in lists for boost in boosts]):
        found = listener.hear(speech[way], [Phrase(word, boost) for word in lists[name]])
        listed = set(lists[name])
        parts = (effect(said, heard, rare, listed) for said, heard in zip(references, found, strict=True))
        lines.append(Line(way, name, len(listed), boost, sum(parts, Effect())))
    return lines


def show(console: Console, title: str, lines: Sequence[Line]) -> None:
    table = Table(title=title)
    for heading in ("", "hotwords"):
        table.add_column(heading)
    for heading in ("boost", "rare words found", "false", "WER", "WER of other words"):
        table.add_column(heading, justify="right")
    for line in lines:
        it = line.effect
        table.add_row(
            line.way,
            f"{line.listed} ({line.words:,})",
            f"{line.boost:g}",
            f"{it.heard} of {it.said}, {it.heard / max(it.said, 1):.0%}",
            str(it.false),
            f"{it.all.rate:.2%}",
            f"{it.others.rate:.2%}",
            end_section=line.boost == lines[-1].boost,
        )
    console.print(table)


def numbers(text: str) -> list[float]:
    return [float(number) for number in text.split(",")]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m scripts.hotwords", description=__doc__)
    parser.add_argument("manifest", type=Path, help="as scripts.wer takes it")
    parser.add_argument("--model", type=Path, default=Path("models/en-streaming"), help="default: %(default)s")
    parser.add_argument("--language-model", type=Path, default=Path("models/lm-en/en.lm"), help="default: %(default)s")
    parser.add_argument("--beam", type=int, default=16, help="default: %(default)s")
    parser.add_argument("--boosts", type=numbers, default=BOOSTS, metavar="X,X,...", help="default: 0 to 4")
    parser.add_argument(
        "--likeliest", type=int, default=5_000, metavar="N", help="words that are not rare (default: %(default)s)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    folder, language_model = ModelFolder.read(arguments.model), LanguageModel.read(arguments.language_model)
    model = load_acoustic_model(folder, "cpu", 1, CHUNK_MS)
    samples, texts = read_speech(arguments.manifest)
    hearings: dict[str, Callable[[AcousticModel, NDArray[np.int16]], torch.Tensor]] = {
        "chunks": in_chunks,
        "whole": whole,
    }
    speech = {way: [hear(model, each) for each in track(samples, way)] for way, hear in hearings.items()}
    known = words_of(language_model)
    rare = rare_words(texts, known, arguments.likeliest)
    unrelated = unrelated_words(texts, known, MOST_PHRASES)
    lists = {"rare words": rare, "unrelated": unrelated, "both": (rare + unrelated)[:MOST_PHRASES]}
    listener = Listener(model, language_model, folder, arguments.beam)
    lines = measure(listener, speech, texts, lists, set(rare), arguments.boosts)
    show(Console(), f"{arguments.manifest.parent.name}: {len(rare)} rare words", lines)
    if arguments.json:
        report = {"manifest": str(arguments.manifest), "rare": rare, "lines": [asdict(line) for line in lines]}
        arguments.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
