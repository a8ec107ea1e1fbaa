"""What `parley lm check` says of a model. Knows the measurements and their table, not the command line."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from parley.decoder.search.language_model import LanguageModel
from parley.training.lm.decode import Search, WordErrors, config, word_errors
from parley.training.lm.manifest import read_manifest
from parley.training.lm.perplexity import measure
from parley.training.lm.text import sentences, spoken_words, words_as_they_are

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from parley.decoder.config import RecognizerConfig
    from parley.training.lm.manifest import Recording
    from parley.training.lm.reporter import Reporter


@dataclass(frozen=True)
class Check:
    """A model and what to try it on. model_folder: of the first pass that decodes the manifests' recordings, if any;
    search: how, the model's file apart."""

    file: Path
    texts: tuple[str, ...] = ()
    manifests: tuple[Path, ...] = ()
    keep_spelling: bool = False
    model_folder: Path | None = None
    search: Search = field(default_factory=Search)


def run(check: Check, reporter: Reporter) -> Iterator[str]:
    """Lines of text, the tables in Markdown. Raises ValueError for a search that cannot be."""
    settings = _settings(check)
    model = LanguageModel.read(check.file)
    counts = ", ".join(f"{count:,} {order}-grams" for order, count in enumerate(model.counts[1:], start=2))
    size = check.file.stat().st_size
    yield f"{check.file}: {size:,} bytes, order {model.order}, {model.counts[0]:,} words, {counts}"
    recordings = {path: read_manifest(path) for path in check.manifests}
    if check.texts or check.manifests:
        yield from _foretold(check, model, recordings)
    if settings:
        yield from _decoded(settings, recordings, reporter)


def _foretold(check: Check, model: LanguageModel, recordings: dict[Path, list[Recording]]) -> Iterator[str]:
    words_of = words_as_they_are if check.keep_spelling else spoken_words
    yield ""
    yield "| text | sentences | words | unknown | perplexity | unknown left out |"
    yield "| --- | ---: | ---: | ---: | ---: | ---: |"
    texts: list[tuple[str, Iterator[list[str]]]] = [
        (name, sentences([name], words_of, lambda _: None)) for name in check.texts
    ]
    texts += [(str(path), (words_of(each.text) for each in listed)) for path, listed in recordings.items()]
    for name, lines in texts:
        found = measure(model, (words for words in lines if words))
        yield (
            f"| {name} | {found.sentences:,} | {found.words:,} | {found.unknown_rate:.2%} | {found.of_all:,.1f} "
            f"| {found.of_known:,.1f} |"
        )


def _settings(check: Check) -> tuple[RecognizerConfig, ...]:
    """Without the model and with it; none if nothing is to be decoded."""
    if check.model_folder is None:
        return ()
    folder, search = check.model_folder, check.search
    return (
        config(folder, replace(search, language_model=None, language_weight=None, word_bonus=None)),
        config(folder, replace(search, language_model=check.file)),
    )


def _decoded(
    settings: Sequence[RecognizerConfig], recordings: dict[Path, list[Recording]], reporter: Reporter
) -> Iterator[str]:
    yield ""
    yield "| recordings | words | wrong without | wrong with |"
    yield "| --- | ---: | ---: | ---: |"
    total = len(settings) * sum(map(len, recordings.values()))
    step = reporter.step("decoding", total)
    for path, listed in recordings.items():
        without, using = (word_errors(listed, each, lambda: step(1)) for each in settings)
        yield f"| {path} | {without.words:,} | {_share(without)} | {_share(using)} |"


def _share(errors: WordErrors) -> str:
    return f"{errors.edits:,} ({errors.rate:.2%})"
