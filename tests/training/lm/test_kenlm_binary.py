"""The binary, against what KenLM made of it (data/README.md) and against the decoder's reader."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley.decoder.search.language_model import LanguageModel
from parley.training.lm.arpa import read_arpa
from parley.training.lm.counts import count_ngrams
from parley.training.lm.errors import BadModel
from parley.training.lm.kenlm_binary import (
    VOCABULARY_ENTRY,
    binary_size,
    buckets,
    probing_table,
    word_hashes,
    write_binary,
)
from parley.training.lm.kneser_ney import estimate
from parley.training.lm.model import NgramModel
from parley.training.lm.perplexity import log_probs_of
from parley.training.lm.prune import prune
from tests.training.lm.tables import assembled, sentence_scores, table_of

DATA = Path(__file__).with_name("data")
SCORES = json.loads((DATA / "kenlm.json").read_text(encoding="utf8"))


def test_the_file_is_the_one_that_kenlm_read(tmp_path: Path) -> None:
    write_binary(read_arpa(DATA / "kenlm.arpa"), tmp_path / "a.lm")
    assert (tmp_path / "a.lm").read_bytes() == (DATA / "kenlm.lm").read_bytes()
    assert [each.name for each in tmp_path.iterdir()] == ["a.lm"]


def test_kenlm_scored_it_as_the_tables_say() -> None:
    table = table_of(read_arpa(DATA / "kenlm.arpa"))
    for sentence, scores in SCORES:
        expected = [score * math.log(10) for score in scores]
        assert sentence_scores(table, sentence.split()) == pytest.approx(expected, abs=1e-5), sentence


def test_the_decoder_scores_it_as_kenlm_does() -> None:
    model = LanguageModel.read(DATA / "kenlm.lm")
    for sentence, scores in SCORES:
        expected = [score * math.log(10) for score in scores]
        assert log_probs_of(model, sentence.split()) == pytest.approx(expected, abs=1e-4), sentence


def murmur_hash_64a(data: bytes) -> int:
    """Austin Appleby's, with seed 0."""
    mask, multiplier = (1 << 64) - 1, 0xC6A4A7935BD1E995
    state = len(data) * multiplier & mask
    for at in range(0, len(data) - 7, 8):
        block = int.from_bytes(data[at : at + 8], "little") * multiplier & mask
        block = (block ^ block >> 47) * multiplier & mask
        state = (state ^ block) * multiplier & mask
    if len(data) % 8:
        state = (state ^ int.from_bytes(data[len(data) // 8 * 8 :], "little")) * multiplier & mask
    state = (state ^ state >> 47) * multiplier & mask
    return state ^ state >> 47


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=30), max_size=20))
def test_words_are_hashed_one_like_all(words: list[str]) -> None:
    assert word_hashes(words).tolist() == [murmur_hash_64a(word.encode()) for word in words]


@given(st.sets(st.integers(1, 2**64 - 1) | st.integers(1, 60), max_size=60), st.integers(1, 100))
def test_every_key_is_found_where_readers_look(keys: set[int], spare: int) -> None:
    size = len(keys) + spare
    entries = np.array([(key, index) for index, key in enumerate(sorted(keys))], VOCABULARY_ENTRY)
    table = probing_table(entries, size)
    assert np.count_nonzero(table["key"]) == len(keys)
    for key, index in entries.tolist():
        place = key % size
        while table["key"][place] != key:
            assert table["key"][place], f"{key} is behind an empty place"
            place = (place + 1) % size
        assert table["word"][place] == index


def test_a_key_that_marks_an_empty_place_is_refused() -> None:
    with pytest.raises(BadModel, match="a key is 0"):
        probing_table(np.zeros(1, VOCABULARY_ENTRY), 2)


def test_places_are_counted_in_single_precision() -> None:
    assert buckets(10, 1.5) == 15
    assert buckets(1, 1.5) == 2
    # 25,165,827 has no single-precision number of its own; readers round it as well.
    assert buckets(25_165_827, 1.5) == int(np.float32(1.5) * np.float32(25_165_827)) != int(1.5 * 25_165_827)


words = st.sampled_from(["a", "b", "c", "d", "e", "\u00e9t\u00e9", "nobody"])


@given(
    st.lists(st.lists(words, min_size=3, max_size=8), min_size=1, max_size=20),
    st.integers(2, 5),
    st.sampled_from([0.0, 1e-3, 1e-2]),
    st.sampled_from([1.05, 1.5, 3.0]),
    st.lists(st.lists(words | st.just("unheard"), max_size=8), max_size=5),
)
def test_any_model_written_is_read_with_its_scores(
    tmp_path_factory: pytest.TempPathFactory,
    text: list[list[str]],
    order: int,
    threshold: float,
    spare: float,
    sentences: list[list[str]],
) -> None:
    model = prune(estimate(count_ngrams(text, order, max_words=5))[0], threshold)
    folder = tmp_path_factory.mktemp("written")
    write_binary(model, folder / "a.lm", spare)
    assert (folder / "a.lm").stat().st_size == binary_size(model.words, model.counts, spare)
    read = LanguageModel.read(folder / "a.lm")
    assert (read.order, read.counts) == (order, model.counts)
    assert [read.index(word) for word in model.words] == [model.ids[word] for word in model.words]
    table = table_of(model)
    for sentence in [*text, *sentences]:
        assert log_probs_of(read, sentence) == pytest.approx(sentence_scores(table, sentence), abs=1e-4)
    shutil.rmtree(folder)


def flags(model: NgramModel, tmp_path: Path) -> dict[tuple[str, ...], tuple[bool, bool]]:
    """Of the n-grams of order 1 and 2: whether a longer one ends with it, and whether one begins with it."""
    write_binary(model, tmp_path / "a.lm")
    tables = LanguageModel.read(tmp_path / "a.lm").tables
    found: dict[tuple[str, ...], tuple[bool, bool]] = {}
    for index, word in enumerate(model.words):
        prob, backoff = tables.unigrams[index]
        found[(word,)] = not np.signbit(prob), not (backoff == 0 and np.signbit(backoff))
    by_prob = {round(float(abs(entry["prob"])), 4): entry for entry in tables.two if entry["key"]}
    for row, prob in zip(model.rows(2).tolist(), model.orders[1].log10_probs.tolist(), strict=True):
        entry = by_prob[round(-prob, 4)]
        ngram = tuple(model.words[each] for each in row)
        found[ngram] = not np.signbit(entry["prob"]), not (entry["backoff"] == 0 and np.signbit(entry["backoff"]))
    return found


def test_signs_say_what_may_be_longer(tmp_path: Path) -> None:
    model = assembled(
        {
            ("<unk>",): (-2.0, 0.0),
            ("a",): (-0.5, 0.0),
            ("b",): (-0.625, 0.0),
            ("c",): (-0.75, -0.25),
            ("a", "b"): (-0.25, 0.0),
            ("b", "c"): (-0.125, 0.0),
            ("a", "b", "c"): (-0.0625, 0.0),
        }
    )
    assert flags(model, tmp_path) == {
        ("<unk>",): (False, False),
        ("a",): (False, True),
        ("b",): (True, True),
        ("c",): (True, True),  # none begins with it, but its back-off is a number to be charged
        ("a", "b"): (False, True),
        ("b", "c"): (True, False),
    }


def test_a_model_of_single_words_has_no_such_file(tmp_path: Path) -> None:
    model = assembled({("a",): (-0.5, 0.0)})
    with pytest.raises(BadModel, match="begins with order 2"):
        write_binary(model, tmp_path / "a.lm")


def test_a_fault_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "a.lm"
    path.write_bytes(b"old")
    whole = read_arpa(DATA / "kenlm.arpa")
    unwritable = NgramModel((*whole.words[:-1], "\ud800"), whole.orders)
    with pytest.raises(UnicodeEncodeError):
        write_binary(unwritable, path)
    assert path.read_bytes() == b"old"
    assert [each.name for each in tmp_path.iterdir()] == ["a.lm"]
