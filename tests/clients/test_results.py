"""What the wire's results become: every way of theirs has a name here, and a newer server's ways do no harm."""

from __future__ import annotations

import pytest
from google.protobuf.duration_pb2 import Duration

from parley.asr.v1 import speech_pb2 as pb
from parley.clients import results

UNKNOWN = 99


@pytest.mark.parametrize(
    ("field", "known", "names"),
    [
        (
            "word_timing",
            pb.WordTiming.values(),
            {"": 0, "attention": pb.WORD_TIMING_ATTENTION, "ctc": pb.WORD_TIMING_CTC, "mixed": 4},
        ),
        (
            "source",
            pb.FinalSource.values(),
            {"": 0, "first": pb.FINAL_SOURCE_FIRST_PASS, "second": 2, "first_in_time": 3},
        ),
    ],
)
def test_every_way_has_its_name_in_streams_and_files(field: str, known: list[int], names: dict[str, int]) -> None:
    assert set(names.values()) == set(known)
    for name, number in (*names.items(), ("", UNKNOWN)):
        live = results.stream_result(pb.StreamingRecognitionResult(**{field: number}))  # type: ignore[arg-type]
        filed = pb.RecognizeResponse(results=[pb.SpeechRecognitionResult(**{field: number})])  # type: ignore[arg-type]
        assert getattr(live, field) == name
        assert getattr(results.transcript(filed).results[0], field) == name


def test_an_interim_result_may_have_words() -> None:
    word = pb.WordInfo(word="how", start_time=Duration(nanos=200_000_000), end_time=Duration(nanos=400_000_000))
    message = pb.StreamingRecognitionResult(
        alternatives=[pb.SpeechRecognitionAlternative(transcript="how", words=[word])],
        result_end_time=Duration(seconds=1),
        word_timing=pb.WORD_TIMING_CTC,
    )
    result = results.stream_result(message)
    assert not result.is_final
    assert (result.end_s, result.words) == (1.0, (results.Word("how", 0.2, 0.4, 0.0),))
    assert (result.word_timing, result.source) == ("ctc", "")


def test_scores_and_a_lattice_come_where_there_are_some() -> None:
    scores = pb.Scores(acoustic=-5.5, language=-2.25, hotwords=1.5, total=-6.25)
    alternatives = [
        pb.SpeechRecognitionAlternative(transcript="how", scores=scores),
        pb.SpeechRecognitionAlternative(transcript="who"),
    ]
    arc = pb.LatticeArc(source=0, target=1, word="how", acoustic=-5.5, language=-2.25, posterior=0.75)
    arc.start_time.FromMilliseconds(200)
    arc.end_time.FromMilliseconds(400)
    lattice = pb.Lattice(points=2, arcs=[arc])
    message = pb.StreamingRecognitionResult(alternatives=alternatives, is_final=True, lattice=lattice)
    result = results.stream_result(message)
    assert result.scores == results.Scores(-5.5, -2.25, 1.5, -6.25)
    assert [other.scores for other in result.others] == [None]
    assert result.lattice == results.Lattice(2, (results.LatticeArc(0, 1, "how", 0.2, 0.4, -5.5, -2.25, 0.75),))
    filed = pb.RecognizeResponse(results=[pb.SpeechRecognitionResult(alternatives=alternatives, lattice=lattice)])
    of_a_file = results.transcript(filed).results[0]
    assert of_a_file.scores == result.scores
    assert of_a_file.lattice is not None
    assert [(each.start_s, each.end_s) for each in of_a_file.lattice.arcs] == [(0.2, 0.4)]
    plain = results.stream_result(pb.StreamingRecognitionResult(alternatives=alternatives[1:]))
    assert (plain.scores, plain.lattice) == (None, None)
