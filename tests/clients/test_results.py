"""What the wire's results become: every way of theirs has a name here, and a newer server's ways do no harm."""

from __future__ import annotations

import pytest
from google.protobuf.duration_pb2 import Duration

from clients import results
from parley.asr.v1 import speech_pb2 as pb

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
        live = results.stream_result(pb.StreamingRecognitionResult(**{field: number}), 0.0, 0)  # type: ignore[arg-type]
        filed = pb.RecognizeResponse(results=[pb.SpeechRecognitionResult(**{field: number})])  # type: ignore[arg-type]
        assert getattr(live, field) == name
        assert getattr(results.transcript(filed).results[0], field) == name


def test_an_interim_results_words_are_shifted_with_it() -> None:
    word = pb.WordInfo(word="how", start_time=Duration(nanos=200_000_000), end_time=Duration(nanos=400_000_000))
    message = pb.StreamingRecognitionResult(
        alternatives=[pb.SpeechRecognitionAlternative(transcript="how", words=[word])],
        result_end_time=Duration(seconds=1),
        word_timing=pb.WORD_TIMING_CTC,
    )
    result = results.stream_result(message, 10.0, 3)
    assert not result.is_final
    assert (result.end_s, result.words) == (11.0, (results.Word("how", 10.2, 10.4, 0.0),))
    assert (result.word_timing, result.source) == ("ctc", "")
