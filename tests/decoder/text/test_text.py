"""Tokens to words, and the vocabulary's file."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley.decoder.errors import ModelError
from parley.decoder.text.vocabulary import SPACE, Vocabulary, timed_words


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


@pytest.mark.parametrize(
    ("lines", "pieces"),
    [
        ("<blank>\n<unk>\n▁a\n▁t\nin\n", [b"<blank>", b"<unk>", "▁a".encode(), "▁t".encode(), b"in"]),  # ours
        ("<blank> 0\n<unk> 1\n今 2\n<sos/eos> 3\n", [b"<blank>", b"<unk>", "今".encode(), b"<sos/eos>"]),  # WeNet's
        ("a 1\n<blk> 0\n", [b"<blk>", b"a"]),
        ("<blk>\t0\r\n▁A  1\r\n\r\n\n", [b"<blk>", "▁A".encode()]),
        ("<blk> 0\n#5 1\nB 2\n#0 3\n#1 4\n", [b"<blk>", b"#5", b"B"]),  # icefall's, of a graph
        ("<blk>\n#0\n", [b"<blk>", b"#0"]),
        ("1\n2\n", [b"1", b"2"]),
        ("1 0\n2 1\n", [b"1", b"2"]),
        ("\u3000\n\x85\n\u2028", ["\u3000".encode(), "\x85".encode(), "\u2028".encode()]),
        ("<blk>\n<0xE4>\n<0xbd>\n<0xA0>\n<0xA>\n", [b"<blk>", b"\xe4", b"\xbd", b"\xa0", b"<0xA>"]),
        ("<blk> 0\n<space> 1\n", [b"<blk>", SPACE]),
    ],
)
def test_read_tokens(file: Path, lines: str, pieces: list[bytes]) -> None:
    file.write_text(lines, newline="")
    assert list(Vocabulary.read_tokens(file).pieces) == pieces


ONCE = "expected every id from 0 to 2 once, for 3 lines"


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        (b"", "got an empty table, expected a piece a line"),
        (b"\n\n", "got an empty table, expected a piece a line"),
        (b"a\nb c\n", "line 2: got 'b c', expected a piece alone, as on line 1"),
        (b"a\nb 1\n", "line 2: got 'b 1', expected a piece alone, as on line 1"),
        (b"a\n\nb\n", "line 2: got '', expected a piece alone, as on line 1"),
        (b"a b\n", "line 1: got 'a b', expected a piece alone, as on line 1"),
        (b"a 0\nb\n", "line 2: got 'b', expected a piece and its id"),
        (b"a 0\nb -1\n", "line 2: got 'b -1', expected a piece and its id"),
        (b"a 0\n 1\n", "line 2: got ' 1', expected a piece and its id"),
        (b"a 0\nb 0\nc 1\n", f"line 2: got id 0, which line 1 has; {ONCE}"),
        (b"a 0\nb 1\nc 3\n", f"line 3: got id 3; {ONCE}"),
        (b"a 1\nb 2\nc 3\n", f"line 3: got id 3; {ONCE}"),
        (b"a\n\xffb\n", "byte 2: got no UTF-8, expected a piece a line"),
    ],
)
def test_a_table_that_is_wrong_is_refused(file: Path, lines: bytes, problem: str) -> None:
    file.write_bytes(lines)
    with pytest.raises(ModelError, match=rf"tokens\.bin: {re.escape(problem)}$"):
        Vocabulary.read_tokens(file)


def test_our_own_table() -> None:
    folder = Path(__file__).parents[3] / "models" / "en-streaming"
    ours, config = Vocabulary.read_tokens(folder / "tokens.txt"), json.loads((folder / "config.json").read_text())
    assert (len(ours.pieces), ours.blank()) == (config["vocabulary"], config["blank"])


@pytest.mark.parametrize(
    ("pieces", "blank"),
    [(["<blank>", "a"], 0), (["a", "<blk>"], 1), (["<eps>", "a", "<blk>"], 2), (["a", "<unk>"], None), ([], None)],
)
def test_blank(pieces: list[str], blank: int | None) -> None:
    assert vocabulary(*pieces).blank() == blank


@pytest.mark.parametrize(
    ("pieces", "words"),
    [
        (["今", "天", "好"], [("今", range(1)), ("天", range(1, 2)), ("好", range(2, 3))]),
        (["<blank>", "今", "<unk>", "天"], [("今", range(1, 2)), ("天", range(3, 4))]),
        (["今", b"\xe4", b"\xbd", b"\xa0", "好"], [("今", range(1)), ("你", range(1, 4)), ("好", range(4, 5))]),
        (["", "今"], [("今", range(1, 2))]),
    ],
)
def test_where_no_token_begins_a_word_each_is_one(pieces: list[str | bytes], words: list[tuple[str, range]]) -> None:
    assert vocabulary(*pieces).words(range(len(pieces))) == words


def test_timed_words() -> None:
    words = [("he", range(1)), ("said", range(1, 3))]
    log_probs = [math.log(0.5), math.log(0.9), math.log(0.4)]
    found = timed_words(words, log_probs, spans=[(0, 5), (5, 7), (8, 11)], frame_ms=24.0)
    assert [(word.text, word.start_ms, word.end_ms) for word in found] == [("he", 0, 120), ("said", 120, 264)]
    assert [word.confidence for word in found] == pytest.approx([0.5, math.sqrt(0.9 * 0.4)])
