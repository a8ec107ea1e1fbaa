"""Tokens to words, and the vocabulary's file."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from decoder.errors import ModelError
from decoder.text import SPACE, Vocabulary, timed_words

if TYPE_CHECKING:
    from pathlib import Path


def written(pieces: list[bytes]) -> bytes:
    """Moonshine's format, as its own tools write it."""
    data = b""
    for piece in pieces:
        length = len(piece)
        data += bytes([length]) if length < 128 else bytes([length % 128 + 128, length // 128])
        data += piece
    return data


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("vocabulary") / "tokens.bin"


@given(st.lists(st.one_of(st.binary(max_size=5), st.integers(126, 400).map(bytes)), max_size=8))
def test_round_trip(file: Path, pieces: list[bytes]) -> None:
    file.write_bytes(written(pieces))
    assert list(Vocabulary.read(file).pieces) == pieces


@given(
    st.lists(st.one_of(st.binary(min_size=1, max_size=5), st.just(bytes(200))), min_size=1, max_size=5), st.integers(1)
)
def test_a_file_that_is_cut_off_is_refused(file: Path, pieces: list[bytes], cut: int) -> None:
    last = len(written(pieces[-1:]))
    file.write_bytes(written(pieces)[: -(1 + cut % (last - 1))])
    with pytest.raises(ModelError, match=rf"tokens\.bin: token {len(pieces) - 1} is cut off at byte \d+"):
        Vocabulary.read(file)


def vocabulary(*pieces: str | bytes) -> Vocabulary:
    """'_' is SentencePiece's space."""
    return Vocabulary([p if isinstance(p, bytes) else p.encode().replace(b"_", SPACE) for p in pieces])


@pytest.mark.parametrize(
    ("pieces", "words"),
    [
        ([], []),
        (["_he", "_said"], [("he", range(1)), ("said", range(1, 2))]),
        (["_s", "ai", "d", "."], [("said.", range(4))]),
        (["no", "_space"], [("no", range(1)), ("space", range(1, 2))]),
        (["<s>", "_a", "</s>", "b", "<unk>"], [("ab", range(1, 4))]),
        (["<", "_a", "<>", "b"], [("<", range(1)), ("a<>b", range(1, 4))]),  # not special: that's text
        (["_", "a", "_"], [("a", range(2))]),
        (["__", "_a"], [("a", range(1, 2))]),
        (["_caf", b"\xc3", b"\xa9"], [("café", range(3))]),
        (["_caf", b"\xc3", "_au"], [("caf\ufffd", range(2)), ("au", range(2, 3))]),
        (["_a", "", "b"], [("ab", range(3))]),
    ],
)
def test_words(pieces: list[str | bytes], words: list[tuple[str, range]]) -> None:
    assert vocabulary(*pieces).words(range(len(pieces))) == words


@given(
    st.lists(
        st.text(st.characters(exclude_characters="\u2581<>", exclude_categories=["Cs", "Z", "C"]), min_size=1),
        min_size=1,
    )
)
def test_text_cut_anywhere_into_tokens_comes_back(texts: list[str]) -> None:
    """Even inside a character, as byte tokens do."""
    data = b"".join(SPACE + text.encode() for text in texts)
    starts = {at for at in range(len(data)) if data.startswith(SPACE, at)}
    cuts = sorted(starts | {at for at in range(len(data)) if at % 2 and not any(0 < at - s < 3 for s in starts)})
    pieces = [data[a:b] for a, b in zip(cuts, [*cuts[1:], len(data)], strict=True)]
    words = Vocabulary(pieces).words(range(len(pieces)))
    assert [text for text, _ in words] == texts
    assert [at for _, span in words for at in span] == list(range(len(pieces)))


def test_timed_words() -> None:
    words = [("he", range(1)), ("said", range(1, 3))]
    log_probs = [math.log(0.5), math.log(0.9), math.log(0.4)]
    found = timed_words(words, log_probs, edges=[0, 5, 7, 11], frame_ms=24.0)
    assert [(word.text, word.start_ms, word.end_ms) for word in found] == [("he", 0, 120), ("said", 120, 264)]
    assert [word.confidence for word in found] == pytest.approx([0.5, math.sqrt(0.9 * 0.4)])
