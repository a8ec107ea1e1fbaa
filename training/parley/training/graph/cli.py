"""`parley graph`: builds and checks what lattice searches run over. Knows files and arguments, not graphs' insides."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from parley.decoder.errors import ParleyError
from parley.decoder.model_folder import ModelFolder
from parley.decoder.models import places
from parley.decoder.search.lattice.graph import read_graph
from parley.decoder.text.vocabulary import Vocabulary
from parley.training.graph.accepted import score_of
from parley.training.graph.build import grammar_graph, grammar_key, language_model_graph, language_model_key
from parley.training.graph.files import cached, write_graph
from parley.training.graph.spelling import Spelling
from parley.training.graph.words import GrammarError, Limits

if TYPE_CHECKING:
    from collections.abc import Sequence

    from parley.decoder.search.lattice.graph import Graph

MODEL = "en-streaming"  # the one that the default first pass has
ARPA = (".arpa", ".arpa.gz")


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status."""
    options = _parser().parse_args(arguments)
    try:
        status: int = options.run(options)
    except (ParleyError, OSError) as error:
        print(f"parley graph: {error}", file=sys.stderr)
        return 1
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="parley graph", description="Graphs for search = k2.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    build = commands.add_parser(
        "build",
        help="make a graph of a language model or a grammar",
        description="Makes a graph of an ARPA language model (.arpa, .arpa.gz), a JSGF grammar or OpenFST's text.",
    )
    build.add_argument("source", type=Path, metavar="FILE", help="the language model or grammar")
    place = build.add_mutually_exclusive_group(required=True)
    place.add_argument("--output", type=Path, metavar="FILE", help="where the graph goes")
    place.add_argument("--cache", type=Path, metavar="FOLDER", help="or a folder, under a name by content; built once")
    build.set_defaults(run=_build)
    check = commands.add_parser("check", help="say what a graph is, whether it is sound, and what it accepts")
    check.add_argument("graph", type=Path, metavar="FILE", help="a graph that `parley graph build` made")
    check.add_argument(
        "--sentence", action="append", default=[], metavar="TEXT", help="is it accepted? may be repeated"
    )
    check.set_defaults(run=_check)
    for command in (build, check):
        command.add_argument(
            "--model", type=Path, default=places.find(MODEL), metavar="FOLDER", help=f"the model (default: {MODEL})"
        )
    return parser


def _build(options: argparse.Namespace) -> int:
    vocabulary = _vocabulary(options.model)
    source: Path = options.source
    blank = vocabulary.blank() or 0
    begun = time.monotonic()
    if source.name.endswith(ARPA):
        key = language_model_key(source, vocabulary, blank=blank)

        def build() -> Graph:
            return language_model_graph(source, vocabulary, blank=blank)
    else:
        text = _text(source)
        key = grammar_key(text, vocabulary, blank=blank)

        def build() -> Graph:
            try:
                return grammar_graph(text, vocabulary, blank=blank)
            except GrammarError as error:
                raise GrammarError(f"{source}: {error}") from None

    if options.cache is not None:
        graph, path = cached(options.cache, key, vocabulary, build), options.cache / f"{key}.graph"
    else:
        graph, path = build(), options.output
        write_graph(graph, path)
    _describe(graph, path)
    print(f"took      {time.monotonic() - begun:.1f} s")
    return 0


def _check(options: argparse.Namespace) -> int:
    vocabulary = _vocabulary(options.model)
    graph = read_graph(options.graph, vocabulary)
    _describe(graph, options.graph)
    spelling, status = Spelling(vocabulary), 0
    for sentence in options.sentence:
        spelled = [spelling.spell(word) for word in sentence.split()]
        known = [tokens for tokens in spelled if tokens is not None]
        score = score_of(graph, [token for tokens in known for token in tokens]) if len(known) == len(spelled) else None
        print(f"{'not accepted' if score is None else f'accepted, score {score:.2f}'}: {sentence}")
        status = status if score is not None else 1
    return status


def _describe(graph: Graph, path: Path) -> None:
    facts = [*graph.about, ("states", str(graph.states)), ("arcs", str(len(graph.arcs)))]
    facts.append(("size", f"{path.stat().st_size / 1e6:.1f} MB"))
    print(path)
    for name, value in facts:
        print(f"  {name.replace('_', ' '):16} {value}")


def _vocabulary(folder: Path) -> Vocabulary:
    return Vocabulary.read_tokens(ModelFolder.read(folder).file("tokens.txt"))


def _text(path: Path) -> str:
    most = Limits().characters
    with path.open("rb") as file:
        data = file.read(4 * most + 1)
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise ParleyError(f"{path}: byte {error.start}: got no UTF-8, expected a grammar's text") from None
