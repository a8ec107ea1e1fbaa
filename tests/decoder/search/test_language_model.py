"""Language models from files: scores by the definition of backing off, the words' tree, files that are refused."""

from __future__ import annotations

import gc
import math
import struct
import weakref
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parley.decoder.errors import ModelError
from parley.decoder.search.kenlm import MIDDLE, PARAMETERS, SANITY
from parley.decoder.search.language_model import LanguageModel, _find, follow, no_language_model, word_score
from parley.decoder.search.word_tree import LONGEST_WORD
from parley.decoder.values import MOST_CONTEXT, MOST_ORDER
from parley.training.lm.arpa import read_arpa
from parley.training.lm.kenlm_binary import write_binary
from parley.training.lm.perplexity import log_probs_of
from tests.decoder.searching import random_table, read_model
from tests.training.lm.tables import log10_prob, sentence_scores

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from tests.training.lm.tables import Table

WORDS = ("a", "b", "ab", "abc", "c", "été")
ARPA = """\\data\\
ngram 1=5
ngram 2=3
ngram 3=1

\\1-grams:
-2.0\t<unk>
-99\t<s>\t-0.5
-1.0\t</s>
-0.75\thello\t-0.25
-1.25\tworld\t-0.125

\\2-grams:
-0.5\t<s> hello\t-0.375
-0.625\thello world\t-0.0625
-0.25\tworld </s>

\\3-grams:
-0.1875\t<s> hello world

\\end\\
"""
TABLE: Table = {
    ("<unk>",): (-2.0, 0.0),
    ("<s>",): (-1.0, -0.5),
    ("</s>",): (-1.0, 0.0),
    ("hello",): (-0.75, -0.25),
    ("world",): (-1.25, -0.125),
    ("hello", "world"): (-0.5, 0.0),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


def behind(model: LanguageModel, before: Sequence[str], word: str) -> float:
    """The word's score behind these words of the channel."""
    history = np.full(MOST_CONTEXT, -1, np.int32)
    context = model.context(before)
    history[: len(context)] = context
    return float(word_score(model.tables, history, model.index(word)))


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    order=st.integers(2, MOST_ORDER),
    words=st.lists(st.sampled_from((*WORDS, "unheard")), max_size=8),
)
def test_scores_are_those_of_backing_off(folder: Path, seed: int, order: int, words: list[str]) -> None:
    table = random_table(np.random.default_rng(seed), WORDS, order)
    model = read_model(table, folder / "random.lm")
    assert model.order == order
    assert log_probs_of(model, words) == pytest.approx(sentence_scores(table, words), rel=1e-5)
    history = ["<s>", *(word if word in WORDS else "<unk>" for word in words)]
    for word in WORDS:
        expected = log10_prob(table, history, word) * math.log(10)
        assert behind(model, words, word) == pytest.approx(expected, rel=1e-5)


def test_from_an_arpa_text(folder: Path) -> None:
    """By hand: a trigram, a bigram behind a back-off, back-offs down to the unigram, an unknown word."""
    path = folder / "hand.arpa"
    path.write_text(ARPA)
    write_binary(read_arpa(path), folder / "hand.lm")
    model = LanguageModel.read(folder / "hand.lm")
    assert (model.order, model.lower) == (3, True)
    ours = [score / math.log(10) for score in log_probs_of(model, ["hello", "world"])]
    assert ours == pytest.approx([-0.5, -0.1875, -0.0625 - 0.25])
    ours = [score / math.log(10) for score in log_probs_of(model, ["world", "hello", "unheard"])]
    assert ours == pytest.approx([-0.5 - 1.25, -0.125 - 0.75, -0.25 - 2.0, -1.0])


def test_the_context_of_a_search(folder: Path) -> None:
    """Behind no words a sentence's start; behind enough of them no start any more."""
    for order in range(2, MOST_ORDER + 1):
        model = read_model(random_table(np.random.default_rng(order), WORDS, order), folder / "context.lm")
        ids = [model.index(word) for word in ("a", "b", "unheard", "ab")]
        assert ids[2] == 0
        assert min(ids[0], ids[1], ids[3], model.start) > 0
        assert model.context(()).tolist() == [model.start]
        assert model.context(("a", "b")).tolist() == [ids[1], ids[0], model.start][: order - 1]
        before = ("c", "c", "c", "a", "b", "unheard", "ab")
        assert model.context(before).tolist() == ids[::-1][: order - 1]


def test_what_is_spelled_otherwise_is_another_word(folder: Path) -> None:
    model = read_model({**TABLE, ("Hello",): (-1.5, 0.0)}, folder / "mixed.lm")
    assert not model.lower
    assert model.ids(["Hello", "hello", "HELLO"]) == [model.index("Hello"), model.index("hello"), 0]
    lower = read_model(TABLE, folder / "lower.lm")
    assert lower.lower
    assert lower.ids(["Hello", "hello", "wor", "worlds", ""]) == [lower.index("hello")] * 2 + [0] * 3
    assert lower.index("hello") > 0


def test_words_too_long_for_a_search_are_unknown(folder: Path) -> None:
    longest, longer = "é" * (LONGEST_WORD // 2), "é" * (LONGEST_WORD // 2) + "x"
    table = {**TABLE, (longest,): (-1.5, 0.0), (longer,): (-1.5, 0.0)}
    model = read_model(table, folder / "long.lm")
    assert model.index(longest) > 0
    assert model.index(longer) == 0
    assert log_probs_of(model, ["hello", longest]) == pytest.approx(
        sentence_scores(table, ["hello", longest]), rel=1e-5
    )
    only_long = read_model(
        {
            ("<s>" + "x" * 64,): (-1.0, 0.0),
            ("y" * 65,): (-1.0, 0.0),
            ("<unk>",): (-1.0, 0.0),
            ("y" * 65, "y" * 65): (-0.5, 0.0),
        },
        folder / "only_long.lm",
    )
    assert only_long.index("y") == only_long.index("y" * 65) == only_long.start == 0


@settings(max_examples=30)
@given(words=st.sets(st.text("abcé", min_size=1, max_size=6), max_size=20), seed=st.integers(0, 2**32 - 1))
def test_the_tree_knows_the_best_word_ahead(folder: Path, words: set[str], seed: int) -> None:
    """At every beginning of a word, and nowhere else."""
    rng = np.random.default_rng(seed)
    probs = {word: float(np.float32(-rng.uniform(0.1, 5))) for word in words}
    table: dict[tuple[str, ...], tuple[float, float]] = {**TABLE}
    table |= {(word,): (prob, 0.0) for word, prob in probs.items()}
    spelled = {word[0].encode(): prob for word, (prob, _) in table.items() if len(word) == 1 and word != ("<unk>",)}
    model = read_model(table, folder / "tree.lm")
    beginnings = {word[:end] for word in spelled for end in range(1, len(word) + 1)}
    for text in beginnings | {text + b"a" for text in beginnings}:
        node = 0
        for byte in text:
            node = follow(model.tables, node, byte)
        if text not in beginnings:
            assert node == -1
            continue
        best = max(prob for word, prob in spelled.items() if word.startswith(text))
        assert model.tables.ahead[node] == pytest.approx(best * math.log(10))
        assert bool(model.tables.word[node] > 0) == (text in spelled)
    assert len(model.tables.label) == 1 + len(beginnings)


def test_no_language_model_at_all() -> None:
    model = no_language_model()
    assert (model.order, model.lower) == (0, True)
    assert model.index("a") == model.index("") == 0
    assert model.ids(["A", "b"]) == [0, 0]
    assert model.context(()).tolist() == []
    assert follow(model.tables, 0, ord("a")) == -1


def test_the_file_is_mapped_and_let_go(folder: Path) -> None:
    model = read_model(TABLE, folder / "mapped.lm")
    file = mapped(model.tables.unigrams)
    assert mapped(model.tables.longest).filename == file.filename
    assert not model.tables.unigrams.flags.writeable
    assert not model.tables.longest.flags.writeable
    assert model.file_bytes == (folder / "mapped.lm").stat().st_size
    gone = weakref.ref(file)
    del model, file
    gc.collect()
    assert gone() is None


def mapped(table: NDArray[np.void]) -> np.memmap[Any, Any]:
    """The file's own array that this is a view of."""
    owner = table.base
    while isinstance(owner, np.ndarray) and not isinstance(owner, np.memmap):
        owner = owner.base
    assert isinstance(owner, np.memmap)
    return owner


# Files that are refused.


@pytest.fixture(scope="module")
def sound(folder: Path) -> bytes:
    path = folder / "sound.lm"
    read_model({**TABLE, ("<s>", "hello", "world"): (-0.25, 0.0)}, path)
    return path.read_bytes()


def refusal(folder: Path, data: bytes) -> str:
    path = folder / "refused.lm"
    path.write_bytes(data)
    with pytest.raises(ModelError) as caught:
        LanguageModel.read(path)
    text = str(caught.value)
    assert text.startswith(f"{path}: ")
    return text.removeprefix(f"{path}: ")


AT = len(SANITY)


def patched(data: bytes, at: int, form: str, value: float) -> bytes:
    size = struct.calcsize(form)
    return data[:at] + struct.pack(form, value) + data[at + size :]


def test_a_file_cut_short_anywhere(folder: Path, sound: bytes) -> None:
    for size in range(len(sound)):
        refusal(folder, sound[:size])
    assert "expected KenLM's binary" in refusal(folder, sound[:20])
    assert "a part of one" in refusal(folder, sound[: AT - 1])
    assert "a part of one" in refusal(folder, sound[: AT + PARAMETERS.size - 1])
    assert "in the header" in refusal(folder, sound[: AT + PARAMETERS.size + 3])
    words = len("<unk> <s> </s> hello world ")
    table = refusal(folder, sound[: -words - 1])
    assert f"got {len(sound) - words - 1} bytes, expected {len(sound) - words} and more" in table
    assert "got 4 words, expected 5" in refusal(folder, sound[:-1])


@pytest.mark.parametrize(
    ("at", "form", "value", "expected"),
    [
        (0, "<B", 77, "expected KenLM's binary"),
        (56, "<f", 1.0, "another kind of machine"),  # 0.0, unless bytes are in another order
        (AT, "<B", 1, "got a model of order 1, expected 2 to 5"),
        (AT, "<B", 6, "got a model of order 6, expected 2 to 5"),
        (AT, "<B", 0, "got a model of order 0, expected 2 to 5"),
        (AT + 8, "<I", 2, "type trie, expected probing"),
        (AT + 8, "<I", 5, "type quantized array trie, expected probing"),
        (AT + 8, "<I", 99, "type 99, expected probing"),
        (AT + 12, "<B", 0, "without its words, expected probing with its words"),
        (AT + 4, "<f", math.nan, "got nan buckets for each n-gram, expected more than 1"),
        (AT + 4, "<f", math.inf, "got inf buckets"),
        (AT + 4, "<f", 0.5, "got 0.5 buckets"),
        (AT + PARAMETERS.size, "<Q", 2**63, "expected"),
        (AT + PARAMETERS.size + 8, "<Q", 2**64 - 1, "expected"),
        (AT + PARAMETERS.size, "<Q", 4, "words, expected 4"),
    ],
)
def test_a_header_that_is_not_right(
    folder: Path, sound: bytes, at: int, form: str, value: float, expected: str
) -> None:
    assert expected in refusal(folder, patched(sound, at, form, value))


def test_a_file_that_is_none(folder: Path) -> None:
    assert "expected KenLM's binary" in refusal(folder, ARPA.encode())
    refusal(folder, b"")
    for path in (folder / "missing.lm", folder):
        with pytest.raises(ModelError, match="not a readable language model"):
            LanguageModel.read(path)


def test_a_table_without_an_empty_place_is_searched_to_its_end() -> None:
    full = np.zeros(5, MIDDLE)
    full["key"] = [1, 2, 3, 4, 5]
    full.flags.writeable = False
    assert [_find(full, np.uint64(key)) for key in (5, 6)] == [4, -1]
