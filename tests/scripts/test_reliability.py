from __future__ import annotations

import asyncio
import json
import random
from dataclasses import replace
from typing import TYPE_CHECKING, cast
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley.clients.config import Encoding
from parley.clients.results import Result, Transcript, Word
from scripts import reliability as module
from scripts.reliability import (
    BINS,
    Heard,
    Pair,
    diagram,
    hear_file,
    hear_stream,
    judged,
    kept,
    main,
    reliability,
    survival,
    survives,
)
from scripts.scoring import count_errors
from scripts.wer import Utterance

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path
    from types import TracebackType

    from parley.clients import AsyncClient, RecognitionConfig, StreamConfig

SVG = "{http://www.w3.org/2000/svg}"
PAIRS = st.lists(st.tuples(st.floats(0, 1), st.booleans()), max_size=60)
WORDS = st.lists(st.sampled_from("abc"), max_size=9)


def word(text: str, confidence: float) -> Word:
    return Word(text, 0.0, 0.0, confidence)


def test_the_error_is_the_mean_distance_weighted_by_count() -> None:
    # 0.9 came true 3 of 4 times, 0.3 came true always, twice: (4 * 0.15 + 2 * 0.7) / 6.
    pairs = [(0.9, True), (0.9, True), (0.9, False), (0.9, True), (0.3, True), (0.3, True)]
    measured = reliability(pairs)
    assert measured.error == pytest.approx((4 * 0.15 + 2 * 0.7) / 6)
    assert (measured.count, measured.unknown) == (6, 0)
    assert measured.mean == pytest.approx(0.7)
    assert measured.share == pytest.approx(5 / 6)
    assert {at: part.count for at, part in enumerate(measured.bins) if part.count} == {4: 2, 13: 4}


def test_opposite_errors_in_one_bin_do_not_show_but_in_two_they_do() -> None:
    assert reliability([(0.95, True), (0.95, False), (0.95, True), (0.95, True)]).error == pytest.approx(0.2)
    assert reliability([(0.5, True), (0.5, False)]).error == pytest.approx(0)
    assert reliability([(0.25, True), (0.75, False)]).error == pytest.approx(0.75)


@pytest.mark.parametrize(("chance", "at"), [(1e-9, 0), (0.2, 3), (0.1999, 2), (1.0, 14), (0.9999, 14), (0.9333, 13)])
def test_each_figure_is_in_one_bin(chance: float, at: int) -> None:
    assert [part.count for part in reliability([(chance, True)]).bins] == [int(other == at) for other in range(BINS)]


def test_what_is_not_known_is_counted_apart() -> None:
    measured = reliability([(0.0, True), (0.0, False), (0.8, True)])
    assert (measured.count, measured.unknown, measured.share) == (1, 2, 1.0)
    assert measured.error == pytest.approx(0.2)


def test_nothing_measured_is_no_error() -> None:
    assert (reliability([]).error, reliability([]).count) == (0.0, 0)


@pytest.mark.parametrize("chance", [-0.1, 1.01, float("nan")])
def test_a_confidence_outside_0_to_1_is_refused(chance: float) -> None:
    with pytest.raises(ValueError, match="expected 0 to 1"):
        reliability([(chance, True)])


@given(PAIRS)
def test_bins_hold_every_pair_once(pairs: list[Pair]) -> None:
    measured = reliability(pairs)
    assert sum(part.count for part in measured.bins) == measured.count == len(pairs) - measured.unknown
    assert sum(part.count * part.share for part in measured.bins) == pytest.approx(measured.count * measured.share)
    assert 0 <= measured.error <= 1
    assert measured.error >= abs(measured.mean - measured.share) - 1e-9
    for part in measured.bins:
        assert not part.count or part.low - 1e-9 <= part.mean <= part.high + 1e-9


def test_chances_that_come_true_as_often_as_they_say_have_a_small_error() -> None:
    chance = random.Random(5)
    said = [chance.random() for _ in range(20_000)]
    assert reliability((each, chance.random() < each) for each in said).error < 0.02
    assert reliability((each, chance.random() < each**3) for each in said).error > 0.2


def test_survival_at_thresholds() -> None:
    rows = survival([(0.0, True), (0.5, False), (0.9, True), (0.95, True), (0.92, False)])
    assert [row.threshold for row in rows] == [0.0, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95]
    assert [(row.count, row.share) for row in rows if row.threshold in (0.0, 0.5, 0.9, 0.95)] == [
        (5, 0.6),
        (4, 0.5),
        (3, pytest.approx(2 / 3)),
        (1, 1.0),
    ]
    assert survival([(0.6, True)])[-1].share is None


@pytest.mark.parametrize(
    ("interim", "final", "stands"),
    [
        ("it was", "it was the best", True),
        ("it was", "it was", True),
        ("It was.", "it was, indeed", True),
        ("it was the", "it was", False),
        ("it is", "it was the best", False),
        ("was the", "it was the best", False),
        ("it wa", "it was", False),
        ("it", "", False),
    ],
)
def test_an_interim_result_survives_if_its_words_stand_where_they_stood(interim: str, final: str, stands: bool) -> None:
    assert survives(interim, final) is stands


@pytest.mark.parametrize(
    ("reference", "found", "keeps"),
    [
        ("a b c", "a b c", [True, True, True]),
        ("a b c", "a x c", [True, False, True]),
        ("a b c", "b c", [True, True]),
        ("a b c", "x a b c y", [False, True, True, True, False]),
        ("a b c d", "b c x d e", [True, True, False, True, False]),
        ("a", "", []),
        ("", "a b", [False, False]),
        ("a b b", "b a b", [False, True, True]),
    ],
)
def test_words_are_kept_by_the_shortest_alignment(reference: str, found: str, keeps: list[bool]) -> None:
    assert kept(reference.split(), found.split()) == keeps


@given(WORDS, WORDS)
def test_as_many_words_are_kept_as_are_no_error(reference: list[str], found: list[str]) -> None:
    errors = count_errors(" ".join(reference), " ".join(found))
    keeps = kept(reference, found)
    assert sum(keeps) == len(reference) - errors.substitutions - errors.deletions
    assert len(keeps) == len(found)
    right = iter(reference)
    assert all(each in right for each, keep in zip(found, keeps, strict=True) if keep), "kept words stand in order"


def test_words_are_judged_as_they_are_scored() -> None:
    words = [word("Twenty-five", 0.9), word("—", 0.1), word("People,", 0.8), word("twenty-six", 0.7), word("in", 0.6)]
    assert judged("twenty five people twenty in", words) == ((0.9, True), (0.8, True), (0.7, False), (0.6, True))


UTTERANCE = Utterance("a.flac", "it was the best", 0.25, bytes(8_000), 16_000, Encoding.LINEAR16)
SAID = Result(
    text="",
    is_final=False,
    start_s=0.0,
    end_s=0.0,
    channel=0,
    segment=0,
    stability=0.0,
    confidence=0.0,
    words=(),
    others=(),
    language="en",
    word_timing="",
    source="",
    latency=None,
)
RESULTS = [
    replace(SAID, text="it", stability=0.4),
    replace(SAID, text="it is", stability=0.3),
    replace(SAID, text="it was", stability=0.0),
    replace(SAID, is_final=True, text="It was", words=(word("It", 0.9), word("was", 0.7))),
    replace(SAID, text="a", segment=1, stability=0.5),
    replace(SAID, text="", segment=1),
    replace(SAID, text="a rest", segment=2, stability=0.6),
    replace(SAID, is_final=True, text="a rest", segment=2, words=(word("a", 0.4), word("rest", 0.5))),
]


class Stream:
    def __init__(self, audio: AsyncIterator[bytes], heard: list[bytes]) -> None:
        self._audio, self._heard = audio, heard

    async def __aenter__(self) -> Stream:
        return self

    async def __aexit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        pass

    async def __aiter__(self) -> AsyncIterator[Result]:
        async for piece in self._audio:
            self._heard.append(piece)
        for result in RESULTS:
            yield result


class FakeClient:
    """Says RESULTS, whatever it hears."""

    def __init__(self) -> None:
        self.heard: list[bytes] = []
        self.configs: list[RecognitionConfig] = []

    async def __aenter__(self) -> FakeClient:
        return self

    async def __aexit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        pass

    def stream(self, audio: AsyncIterator[bytes], config: StreamConfig) -> Stream:
        self.configs.append(config)
        return Stream(audio, self.heard)

    async def transcribe(self, recording: bytes, config: RecognitionConfig) -> Transcript:
        self.configs.append(config)
        return Transcript(tuple(result for result in RESULTS if result.is_final), 0.25, 0.1, "")


WORDS_JUDGED = ((0.9, True), (0.7, True), (0.4, False), (0.5, False))


def test_interim_results_are_held_against_their_own_final() -> None:
    client = FakeClient()
    heard = asyncio.run(hear_stream(cast("AsyncClient", client), UTTERANCE, "some", 1000.0, interims=True))
    assert heard == Heard(WORDS_JUDGED, ((0.4, True), (0.3, False), (0.0, True), (0.5, False), (0.6, True)))
    assert b"".join(client.heard) == UTTERANCE.audio
    assert [len(piece) for piece in client.heard] == [3200, 3200, 1600]
    config = cast("StreamConfig", client.configs[0])
    assert (config.words, config.interim_results, config.model) == (True, True, "some")


def test_a_files_words_are_judged() -> None:
    client = FakeClient()
    assert asyncio.run(hear_file(cast("AsyncClient", client), UTTERANCE, "")) == Heard(WORDS_JUDGED)
    assert client.configs[0].words


@pytest.mark.parametrize(
    "flags", [["--stability", "--rpc", "file"], ["--stability", "--speed", "0"], ["--stability", "--speed", "nan"]]
)
def test_flags_that_make_no_sense_are_refused(flags: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["manifest.jsonl", *flags])
    assert "expected" in capsys.readouterr().err


@pytest.mark.parametrize("flags", [[], ["--rpc", "file"], ["--stability"]])
def test_a_run_says_what_it_measured(
    flags: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    client = FakeClient()
    monkeypatch.setattr(module, "AsyncClient", lambda _: client)
    monkeypatch.setattr(module, "read_manifest", lambda *_: [UTTERANCE])
    svg, figures = tmp_path / "plot.svg", tmp_path / "figures.json"
    assert main(["m.jsonl", *flags, "--speed", "1000", "--svg", str(svg), "--json", str(figures)]) == 0
    written = json.loads(figures.read_text())
    assert written["words"]["error"] == reliability(WORDS_JUDGED).error
    assert f"{written['words']['error']:.4f}" in capsys.readouterr().out
    stability = written.get("stability")
    assert (stability is not None) == (flags == ["--stability"])
    if stability:
        assert (stability["count"], stability["unknown"]) == (4, 1)
        assert written["survival"][1] == {"threshold": 0.5, "count": 2, "share": 0.5}
    titles = [each.text for each in ElementTree.fromstring(svg.read_text()).iter(f"{SVG}title")]
    assert ("Stability" in str(titles[0])) == (stability is not None)


def rectangles(svg: str, kind: str) -> list[dict[str, float]]:
    found = [each for each in ElementTree.fromstring(svg).iter(f"{SVG}rect") if each.get("class") == kind]
    return [{name: float(each.attrib[name]) for name in ("x", "y", "width", "height")} for each in found]


def test_a_diagrams_bars_are_as_tall_as_the_shares() -> None:
    measured = reliability([(0.95, True), (0.95, False), (0.3, True), (0.3, True), (0.3, False), (0.3, False)])
    svg = diagram([("<a> & b", measured)])
    shares, gaps, counts = (rectangles(svg, kind) for kind in ("share", "gap", "count"))
    assert [each["height"] for each in shares] == [150, 150]
    assert shares[0]["x"] < shares[1]["x"]
    assert [each["height"] for each in gaps] == [pytest.approx(0.2 * 300), pytest.approx(0.45 * 300)]
    assert len(counts) == BINS
    assert [each["height"] for each in counts if each["height"]] == [46, 23]
    assert "&lt;a&gt; &amp; b" in svg


def test_diagrams_stand_side_by_side() -> None:
    one, two = (reliability([(0.5, True)]), reliability([(0.5, False)]))
    left, right = rectangles(diagram([("one", one), ("two", two)]), "share")
    assert right["x"] > left["x"] + 300
    assert (left["height"], right["height"]) == (300, 0)
