"""pocketsphinx's format: a small file packed here by hand, and the package's own model where it is installed."""

from __future__ import annotations

import math
import random
import struct
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley.training.lm.errors import BadModel
from parley.training.lm.model import UNSEEN_LOG10
from parley.training.lm.sphinx import installed_model, read_sphinx
from tests.training.lm.tables import is_linked, table_of

if TYPE_CHECKING:
    from pathlib import Path

    from parley.training.lm.model import NgramModel

LOG10 = math.log10(1.0001)
Values = dict[tuple[str, ...], tuple[float, float]]


def packed(fields: list[list[tuple[int, int]]]) -> bytes:
    """Rows of (value, width), bit by bit, and the padding behind."""
    number, place = 0, 0
    for row in fields:
        for value, width in row:
            number |= value << place
            place += width
    return number.to_bytes((place + 7) // 8 + 8, "little")


def written(words: list[str], values: Values, surplus: int = 0) -> bytes:
    """The trie of the n-grams: last word first, sorted by id. `surplus`: by how much the counts are too high."""
    order = max(map(len, values))
    ids = {word: index for index, word in enumerate(words)}
    nodes = [
        sorted((tuple(ids[word] for word in ngram[::-1]), value) for ngram, value in values.items() if len(ngram) == n)
        for n in range(1, order + 1)
    ]
    counts = [len(words), *(len(level) + surplus for level in nodes[1:])]
    data = b"Trie Language Model" + struct.pack(f"<B{order}Ii", order, *counts, 1)
    tables: list[list[float]] = []
    for level in nodes[1:]:
        for field in (0, 1) if level is not nodes[-1] else (0,):
            tables.append(sorted({value[field] for _, value in level}))
            data += np.array(tables[-1], "<f4").tobytes().ljust(4 * 65536, b"\0")

    def first_children(level: int) -> list[int]:
        """And where the last one's end."""
        longer = [key for key, _ in nodes[level + 1]]
        return [sum(key[: level + 1] < own for key in longer) for own, _ in nodes[level]] + [len(longer)]

    for (_, (prob, backoff)), child in zip([*nodes[0], ((0,), (0.0, 0.0))], first_children(0), strict=True):
        data += struct.pack("<ffI", prob, backoff, child)
    word_bits = len(words).bit_length()
    for depth in range(1, order):
        own = tables[2 * depth - 2 : 2 * depth]
        rows = []
        children = first_children(depth) if depth < order - 1 else []
        for row, (key, value) in enumerate(nodes[depth]):
            fields = [(key[-1], word_bits)]
            if children:
                fields += [(own[1].index(value[1]), 16), (own[0].index(value[0]), 16)]
                fields.append((children[row], counts[depth + 1].bit_length()))
            else:
                fields.append((own[0].index(value[0]), 16))
            rows.append(fields)
        widths = [width for _, width in rows[0]]
        end = [(0, width) for width in widths[:-1]] + [(children[-1] if children else 0, widths[-1])]
        data += packed([*rows, end, *[[(0, width) for width in widths]] * surplus])
    text = "".join(f"{word}\0" for word in words).encode()
    return data + struct.pack("<I", len(text)) + text


WORDS = ["</s>", "<s>", "b", "be", "a"]
STORED: Values = {
    ("</s>",): (-1000.0, 0.0),
    ("<s>",): (-990000.0, -500.0),
    ("b",): (-3000.0, -125.0),
    ("be",): (-4000.0, 0.0),
    ("a",): (-5000.0, 0.0),
    ("<s>", "a"): (-100.0, -75.0),
    ("a", "b"): (-200.0, -50.0),
    ("b", "be"): (-300.0, 0.0),
    ("be", "</s>"): (-400.0, 0.0),
    ("<s>", "a", "b"): (-10.0, 0.0),
    ("a", "b", "be"): (-20.0, 0.0),
    ("b", "be", "</s>"): (-20.0, 0.0),
}


@pytest.mark.parametrize("surplus", [0, 3])
def test_a_model_is_read(tmp_path: Path, surplus: int) -> None:
    path = tmp_path / "a.lm.bin"
    path.write_bytes(written(WORDS, STORED, surplus))
    model = read_sphinx(path)
    assert model.words == ("<unk>", *WORDS)
    found = table_of(model)
    assert found.pop(("<unk>",)) == (UNSEEN_LOG10, 0.0)
    assert found.keys() == STORED.keys()
    for ngram, (prob, backoff) in STORED.items():
        assert found[ngram] == pytest.approx((prob * LOG10, backoff * LOG10), rel=1e-6)
    assert is_linked(model)


@given(st.data())
def test_models_of_any_shape_are_read(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    order = data.draw(st.integers(2, 4))
    words = [f"w{index}" for index in range(data.draw(st.integers(2, 40)))]
    values: Values = {(word,): (-float(index + 1), -float(index)) for index, word in enumerate(words)}
    ends = st.lists(st.sampled_from(words), min_size=order, max_size=order)
    for drawn in data.draw(st.lists(ends, min_size=1, max_size=20)):
        for length in range(2, order + 1):
            for start in range(order - length + 1):
                key = tuple(drawn[start : start + length])
                values[key] = (-float(len(values)), -float(len(values) % 5) if length < order else 0.0)
    path = tmp_path_factory.mktemp("sphinx") / "a.bin"
    path.write_bytes(written(words, values))
    found = table_of(read_sphinx(path))
    del found[("<unk>",)]
    assert found.keys() == values.keys()
    for ngram, (prob, backoff) in values.items():
        assert found[ngram] == pytest.approx((prob * LOG10, backoff * LOG10), rel=1e-6)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda data: b"mmap" + data[4:], "begins with b'mmap Language Model'"),
        (lambda data: data[:19], "cut short or damaged"),
        (lambda data: data[:1000], "cut short or damaged"),
        (lambda data: data[:-80], "cut short or damaged"),
        (lambda data: data[:-8], "cut short or damaged"),
        (lambda data: data[:19] + b"\1" + data[20:], "order 1, need 2 or more"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, change: object, fault: str) -> None:
    assert callable(change)
    path = tmp_path / "a.lm.bin"
    path.write_bytes(change(written(WORDS, STORED)))
    with pytest.raises(BadModel, match=fault):
        read_sphinx(path)


def test_the_packages_own_model_scores_as_the_package_does() -> None:
    from pocketsphinx import Config, LogMath, NGramModel

    path = installed_model()
    theirs = NGramModel(Config(), LogMath(1.0001), str(path))
    model = read_sphinx(path)
    assert model.counts[0] == 72_548
    rng = random.Random(3)
    rows = model.rows(3)
    for seen in (True, False) * 300:
        ids = rows[rng.randrange(len(rows))].tolist() if seen else [rng.randrange(3, 5000) for _ in range(3)]
        # Theirs: whole numbers of the base's logarithm, last word first.
        expected = theirs.prob([model.words[index] for index in ids[::-1]]) * LOG10
        assert trigram_log10_prob(model, ids) == pytest.approx(expected, abs=1.5 * LOG10), ids


def trigram_log10_prob(model: NgramModel, ids: list[int]) -> float:
    first, second, third = (np.array([index]) for index in ids)
    unigrams, bigrams, trigrams = model.orders
    context, suffix = bigrams.find(first, second), bigrams.find(second, third)
    found = trigrams.find(context, third)
    if context[0] >= 0 and found[0] >= 0:
        return float(trigrams.log10_probs[found[0]])
    if suffix[0] >= 0:
        shorter = bigrams.log10_probs[suffix[0]]
    else:
        shorter = unigrams.log10_backoffs[second[0]] + unigrams.log10_probs[third[0]]
    return float(shorter + (bigrams.log10_backoffs[context[0]] if context[0] >= 0 else 0.0))
