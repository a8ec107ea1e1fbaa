from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from hypothesis import given
from hypothesis import strategies as st

from parley.asr.v1 import speech_pb2 as pb
from parley.decoder.errors import InvalidOption
from parley.decoder.values import (
    AudioFormat,
    Cursors,
    Encoding,
    EndpointRules,
    Hypothesis,
    LatticeArc,
    Phrase,
    Scores,
    SearchOptions,
    Source,
    Word,
    WordLattice,
    WordTiming,
)
from parley.server.wires.messages import channel_tag, from_ms
from parley.server.wires.parley import convert
from tests.server.fakes import final, partial

DEFAULTS = EndpointRules(silence_after_speech_ms=900)


def test_every_encoding_of_the_wire_is_known() -> None:
    assert {number for _, number in pb.AudioEncoding.items()} == convert.ENCODINGS.keys()
    assert set(convert.ENCODINGS.values()) == set(Encoding)


def test_a_files_config() -> None:
    request = convert.file_request(
        pb.RecognitionConfig(
            encoding=pb.AUDIO_ENCODING_MULAW,
            sample_rate_hertz=8_000,
            audio_channel_count=2,
            separate_recognition_per_channel=True,
            max_alternatives=3,
            enable_word_time_offsets=True,
            model="m",
            language_code="en-GB",
        )
    )
    assert request.format == AudioFormat(Encoding.MULAW, 8_000, 2, separate_channels=True)
    assert (request.options.max_alternatives, request.options.word_times) == (3, True)
    assert (request.model, request.options.language) == ("m", "en-GB")
    assert (request.decoders, channel_tag(request, 0), channel_tag(request, 1)) == (2, 1, 2)


def test_an_empty_config_leaves_everything_to_the_audio_and_the_node() -> None:
    request = convert.stream_request(pb.StreamingRecognitionConfig(), DEFAULTS)
    assert request.format == AudioFormat()
    assert request.options.rules == DEFAULTS
    assert not request.options.interim_results
    assert not request.options.single_utterance
    assert (request.options.search, request.options.written) == (SearchOptions(), False)
    assert (request.decoders, channel_tag(request, 0)) == (1, 0)


def test_mixed_down_channels_take_one_decoder() -> None:
    config = pb.StreamingRecognitionConfig(config=pb.RecognitionConfig(audio_channel_count=2))
    assert convert.stream_request(config, DEFAULTS).decoders == 1


def test_a_rule_asked_for_goes_before_the_nodes_even_if_it_is_zero() -> None:
    defaults = EndpointRules(silence_before_speech_ms=5_000)
    asked = pb.EndpointRules(silence_before_speech=Duration(), longest_utterance=Duration(seconds=2, nanos=500_000_000))
    assert convert.endpoint_rules(asked, defaults) == EndpointRules(0, 800, 2_500)


@pytest.mark.parametrize("seconds", [-1, 10_000_000_000])
def test_a_rule_out_of_range_is_refused(seconds: int) -> None:
    with pytest.raises(InvalidOption, match="silence_after_speech"):
        convert.endpoint_rules(pb.EndpointRules(silence_after_speech=Duration(seconds=seconds)), DEFAULTS)


@given(st.text(max_size=200))
def test_a_request_id_is_taken_whole_or_refused(asked: str) -> None:
    fits = len(asked) <= 128 and all(" " <= character <= "~" for character in asked)
    if not fits:
        with pytest.raises(InvalidOption, match="at most 128 printable ASCII characters") as refused:
            convert.request_id(asked)
        assert str(refused.value).isascii()
    else:
        assert convert.request_id(asked) == asked


@given(st.integers(0, 10**9))
def test_milliseconds_survive_the_wire(ms: int) -> None:
    assert from_ms(ms).ToMilliseconds() == ms


@given(st.floats(0, 1e6))
def test_seconds_survive_the_wire_to_the_microsecond(seconds: float) -> None:
    assert abs(convert.from_s(seconds).ToNanoseconds() / 1e9 - seconds) <= 0.51e-6


def test_every_source_and_timing_has_its_own_name_on_the_wire() -> None:
    assert convert.SOURCES.keys() == set(Source)
    assert {0, *convert.SOURCES.values()} == set(pb.FinalSource.values())
    assert convert.TIMINGS.keys() == set(WordTiming)
    assert {0, *convert.TIMINGS.values()} == set(pb.WordTiming.values())
    request = convert.file_request(pb.RecognitionConfig(enable_word_time_offsets=True))
    made = final(source=Source.FIRST_IN_TIME, word_timing=WordTiming.MIXED)
    for result in (convert.final_result(made, request), convert.file_result(made, request)):
        assert (result.source, result.word_timing) == (pb.FINAL_SOURCE_FIRST_PASS_IN_TIME, pb.WORD_TIMING_MIXED)


@pytest.mark.parametrize("asked", [True, False])
def test_an_interim_results_words_come_if_asked_for_and_there(asked: bool) -> None:
    request = convert.file_request(pb.RecognitionConfig(enable_word_time_offsets=asked))
    by_first = convert.interim_result(partial(words=(Word("one", 40, 400, 0.5),)), request)
    (alternative,) = by_first.alternatives
    assert (alternative.transcript, alternative.confidence) == ("one", 0.5)
    assert [(word.word, word.end_time.ToMilliseconds()) for word in alternative.words] == ([("one", 400)] * asked)
    assert by_first.word_timing == (pb.WORD_TIMING_CTC if asked else pb.WORD_TIMING_UNSPECIFIED)
    assert by_first.source == pb.FINAL_SOURCE_UNSPECIFIED
    by_second = convert.interim_result(partial(), request)
    assert by_second.word_timing == pb.WORD_TIMING_UNSPECIFIED


def test_cursors() -> None:
    assert convert.cursors(Cursors(3_000, 2_000, 1_500)) == pb.Cursors(
        received=Duration(seconds=3), processed=Duration(seconds=2), final=Duration(seconds=1, nanos=500_000_000)
    )


def searching(**fields: Any) -> SearchOptions:
    return convert.file_request(pb.RecognitionConfig(**fields)).options.search


def test_a_search_asked_for_is_taken_as_it_is() -> None:
    contexts = [
        pb.SpeechContext(phrases=["marianne dashwood", "willoughby"], boost=4.5),
        pb.SpeechContext(phrases=["brandon"]),
    ]
    search = pb.SearchConfig(beam=8, language_weight=1.5, word_bonus=-2, grammar="menu", lattice=True)
    phrases = (Phrase("marianne dashwood", 4.5), Phrase("willoughby", 4.5), Phrase("brandon"))
    assert searching(speech_contexts=contexts, search=search) == SearchOptions(
        8, 1.5, -2, phrases, "menu", lattice=True
    )


def test_a_weight_of_zero_is_not_a_weight_left_out() -> None:
    assert searching(search=pb.SearchConfig(language_weight=0, word_bonus=0)) == SearchOptions(
        language_weight=0, word_bonus=0
    )


@pytest.mark.parametrize(
    ("field", "asked"),
    [
        ("options.search.beam", {"search": pb.SearchConfig(beam=65)}),
        ("options.search.beam", {"search": pb.SearchConfig(beam=-1)}),
        ("options.search.language_weight", {"search": pb.SearchConfig(language_weight=5.5)}),
        ("options.search.language_weight", {"search": pb.SearchConfig(language_weight=float("nan"))}),
        ("options.search.word_bonus", {"search": pb.SearchConfig(word_bonus=-10.5)}),
        ("options.search.hotwords.boost", {"speech_contexts": [pb.SpeechContext(phrases=["a"], boost=21)]}),
        ("options.search.hotwords.boost", {"speech_contexts": [pb.SpeechContext(phrases=["a"], boost=-1)]}),
        ("options.search.hotwords.text", {"speech_contexts": [pb.SpeechContext(phrases=["a", " "])]}),
        ("options.search.hotwords.text", {"speech_contexts": [pb.SpeechContext(phrases=["a" * 101])]}),
        ("options.search.hotwords", {"speech_contexts": [pb.SpeechContext(phrases=["a"] * 501)] * 2}),
    ],
)
def test_a_search_out_of_range_is_refused_by_its_field(field: str, asked: dict[str, Any]) -> None:
    with pytest.raises(InvalidOption) as refused:
        searching(**asked)
    assert refused.value.field == field


def test_as_many_phrases_as_may_be() -> None:
    assert len(searching(speech_contexts=[pb.SpeechContext(phrases=["a" * 100] * 500)] * 2).hotwords) == 1_000


def test_scores_come_where_a_search_has_them() -> None:
    request = convert.file_request(pb.RecognitionConfig(max_alternatives=2))
    hypotheses = (Hypothesis("one", 0.5, scores=Scores(-5.5, -2.25, 1.5)), Hypothesis("two", 0.25))
    for result in (
        convert.final_result(final(hypotheses=hypotheses), request),
        convert.file_result(final(hypotheses=hypotheses), request),
    ):
        first, second = result.alternatives
        assert first.scores == pb.Scores(acoustic=-5.5, language=-2.25, hotwords=1.5, total=-6.25)
        assert not second.HasField("scores")
        assert not result.HasField("lattice")


def test_a_lattice_comes_where_there_is_one() -> None:
    request = convert.file_request(pb.RecognitionConfig())
    arcs = (LatticeArc(0, 1, "one", 1_250, 1_500, -3.5, -1.25, 0.75), LatticeArc(0, 1, "", 1_250, 1_500, -4, -2, 0.25))
    made = replace(final(), lattice=WordLattice(2, arcs))
    for result in (convert.final_result(made, request), convert.file_result(made, request)):
        assert result.lattice.points == 2
        word, silence = result.lattice.arcs
        assert word == pb.LatticeArc(
            source=0,
            target=1,
            word="one",
            start_time=Duration(seconds=1, nanos=250_000_000),
            end_time=Duration(seconds=1, nanos=500_000_000),
            acoustic=-3.5,
            language=-1.25,
            posterior=0.75,
        )
        assert (silence.word, silence.posterior) == ("", 0.25)


def test_contexts_are_counted_before_they_are_looked_at() -> None:
    many = pb.RecognitionConfig(speech_contexts=[pb.SpeechContext()] * 1_001)
    with pytest.raises(InvalidOption, match=r"options\.search\.hotwords: got 1001 of them, expected at most 1000"):
        convert.file_request(many)
