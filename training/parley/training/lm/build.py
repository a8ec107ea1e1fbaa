"""From a text or another model to a file. Knows the steps and their order, not the command line."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from parley.training.lm.arpa import read_arpa, write_arpa
from parley.training.lm.counts import count_ngrams
from parley.training.lm.kenlm_binary import SPARE, binary_size, write_binary
from parley.training.lm.kneser_ney import estimate
from parley.training.lm.prune import STEPS, prune, prune_to_size
from parley.training.lm.sphinx import read_sphinx
from parley.training.lm.text import STANDARD_INPUT, sentences, spoken_words, words_as_they_are

if TYPE_CHECKING:
    from parley.training.lm.model import NgramModel
    from parley.training.lm.reporter import Reporter


@dataclass(frozen=True)
class Corpus:
    """Text files, `-` for standard input, and how to count them. keep_spelling: words are what lies between blanks."""

    sources: tuple[str, ...]
    order: int = 3
    keep_spelling: bool = False
    min_count: int = 1
    max_words: int | None = None


@dataclass(frozen=True)
class Pruning:
    """Neither: nothing goes. threshold: rise in perplexity that an n-gram must be worth; max_bytes: of the binary."""

    threshold: float = 0.0
    max_bytes: int | None = None


def from_corpus(corpus: Corpus, reporter: Reporter) -> NgramModel:
    """Counts and smooths."""
    known = all(source != STANDARD_INPUT for source in corpus.sources)
    total = sum(Path(source).stat().st_size for source in corpus.sources) if known else None
    words_of = words_as_they_are if corpus.keep_spelling else spoken_words
    lines = sentences(corpus.sources, words_of, reporter.step("counting", total))
    counts = count_ngrams(lines, corpus.order, corpus.min_count, corpus.max_words)
    reporter.say(
        f"counted {counts.sentences:,} sentences, {counts.tokens:,} words, {len(counts.words) - 3:,} different; "
        f"{counts.unknown:,} count as <unk>"
    )
    smoothed = reporter.step("smoothing", 1)
    model, discounts = estimate(counts)
    smoothed(1)
    for order, discount in enumerate(discounts, start=1):
        if discount.guessed:
            reporter.say(
                f"order {order}: too little text to measure discounts; took {discount.once:g}, {discount.twice:g} and "
                f"{discount.more:g}"
            )
    return model


def from_arpa(path: Path, reporter: Reporter) -> NgramModel:
    done = reporter.step("reading", 1)
    model = read_arpa(path)
    done(1)
    return model


def from_sphinx(path: Path, reporter: Reporter) -> NgramModel:
    done = reporter.step("reading", 1)
    model = read_sphinx(path)
    done(1)
    return model


def pruned(model: NgramModel, pruning: Pruning, spare: float, reporter: Reporter) -> NgramModel:
    if pruning.max_bytes is not None:
        step = reporter.step("pruning", STEPS)
        smaller, threshold = prune_to_size(
            model, lambda each: binary_size(each.words, each.counts, spare), pruning.max_bytes, lambda: step(1)
        )
        step(STEPS)
    elif pruning.threshold:
        threshold = pruning.threshold
        step = reporter.step("pruning", 1)
        smaller = prune(model, threshold)
        step(1)
    else:
        return model
    gone = sum(model.counts) - sum(smaller.counts)
    reporter.say(f"pruned {gone:,} of {sum(model.counts):,} n-grams, threshold {threshold:.3g}")
    return smaller


def is_arpa(path: Path) -> bool:
    return path.name.endswith((".arpa", ".arpa.gz"))


def write(model: NgramModel, path: Path, reporter: Reporter, spare: float = SPARE) -> None:
    """As the name says: an ARPA file, else KenLM's binary."""
    done = reporter.step("writing", 1)
    if is_arpa(path):
        write_arpa(model, path)
    else:
        write_binary(model, path, spare)
    done(1)
    counts = ", ".join(f"{count:,} {order}-grams" for order, count in enumerate(model.counts[1:], start=2))
    reporter.say(f"wrote {path}: {path.stat().st_size:,} bytes, {len(model.words):,} words, {counts}")
