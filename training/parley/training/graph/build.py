"""Graphs from a text: a grammar's or a language model's. Knows what makes one, not how it is searched."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from parley.decoder.search.lattice.ctc_graph import ctc_graph, named
from parley.decoder.search.lattice.graph import FORMAT, Graph, digest, fingerprint
from parley.training.graph.arpa import read_arpa
from parley.training.graph.files import file_digest
from parley.training.graph.fst_text import read_fst_text
from parley.training.graph.jsgf import read_jsgf
from parley.training.graph.ngram import BEGIN, END, UNKNOWN, word_fsa
from parley.training.graph.spelling import Spelling
from parley.training.graph.tokens import spelled

if TYPE_CHECKING:
    from pathlib import Path

    from parley.decoder.text.vocabulary import Vocabulary
    from parley.training.graph.words import Limits


def grammar_graph(text: str, vocabulary: Vocabulary, limits: Limits | None = None, *, blank: int = 0) -> Graph:
    """Of a JSGF grammar, if it begins as one, or of OpenFST's text. Raises GrammarError."""
    spelling = Spelling(vocabulary)

    def known(word: str) -> str | None:
        return None if spelling.spell(word) is None else spelling.folded(word)

    is_jsgf = text.lstrip("\ufeff").startswith("#")
    fsa = (read_jsgf if is_jsgf else read_fst_text)(text, known, limits)
    spellings = [spelling.spell(word) for word in fsa.words]
    graph = ctc_graph(spelled(fsa, spellings), blank=blank)
    kind = "jsgf" if is_jsgf else "fst"
    return named(graph, vocabulary, kind=kind, words=len(fsa.words), word_states=fsa.states, word_arcs=len(fsa.word))


def language_model_graph(path: Path, vocabulary: Vocabulary, *, blank: int = 0) -> Graph:
    """Of an ARPA file. Words that the model's tokens cannot write are left out. Raises GrammarError."""
    spelling = Spelling(vocabulary)
    arpa = read_arpa(path)
    spellings = [spelling.spell(word) for word in arpa.words]
    special = sum(word in (*BEGIN, *END, *UNKNOWN) for word in arpa.words)
    known = np.array([found is not None for found in spellings], bool)
    fsa = word_fsa(arpa, known)
    graph = ctc_graph(spelled(fsa, spellings), blank=blank)
    return named(
        graph,
        vocabulary,
        kind="arpa",
        order=len(arpa.orders),
        grams=" ".join(str(len(grams.words)) for grams in arpa.orders),
        words=sum(known.tolist()),
        words_left_out=len(arpa.words) - special - sum(known.tolist()),
        word_states=fsa.states,
        word_arcs=len(fsa.word),
    )


def grammar_key(text: str, vocabulary: Vocabulary, *, blank: int = 0) -> str:
    """A digest of all that grammar_graph's result depends on."""
    return digest(FORMAT.encode(), b"grammar", text.encode(), fingerprint(vocabulary).encode(), str(blank).encode())


def language_model_key(path: Path, vocabulary: Vocabulary, *, blank: int = 0) -> str:
    """A digest of all that language_model_graph's result depends on."""
    return digest(
        FORMAT.encode(), b"language model", file_digest(path), fingerprint(vocabulary).encode(), str(blank).encode()
    )
