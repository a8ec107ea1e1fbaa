"""What a stream remembers, on the wire's own messages. Streams that really break are in tests/clients."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley.asr.v1 import speech_pb2 as pb
from parley.wire.held import HELD_LIMIT
from parley.wire.resume import Resume

RATE = 8_000
FRAMES = RATE // 100  # in 10 ms
BEGIN, END = pb.SPEECH_EVENT_TYPE_SPEECH_BEGIN, pb.SPEECH_EVENT_TYPE_SPEECH_END
NONE = pb.SPEECH_EVENT_TYPE_NO_SPEECH


def config(
    encoding: pb.AudioEncoding.ValueType = pb.AUDIO_ENCODING_LINEAR16,
    channels: int = 1,
    single_utterance: bool = False,
    speech_events: bool = False,
) -> pb.StreamingRecognitionConfig:
    return pb.StreamingRecognitionConfig(
        config=pb.RecognitionConfig(
            encoding=encoding,
            sample_rate_hertz=RATE,
            audio_channel_count=channels,
            separate_recognition_per_channel=channels > 1,
        ),
        single_utterance=single_utterance,
        speech_events=speech_events,
    )


def audio(data: bytes) -> pb.StreamingRecognizeRequest:
    return pb.StreamingRecognizeRequest(audio=data)


def final(tag: int = 0, segment: int = 0, end_ms: int = 0) -> pb.StreamingRecognitionResult:
    result = pb.StreamingRecognitionResult(is_final=True, channel_tag=tag, segment=segment)
    result.result_end_time.FromMilliseconds(end_ms)
    return result


def cursor(final_ms: int) -> pb.Cursors:
    cursors = pb.Cursors()
    cursors.final.FromMilliseconds(final_ms)
    return cursors


def test_first_connections_messages_are_left_alone() -> None:
    resume = Resume(config())
    resume.open()
    response = pb.StreamingRecognizeResponse(results=[final(end_ms=400)], cursors=cursor(400), request_id="r")
    before = response.SerializeToString(deterministic=True)
    assert resume.received(response) is response
    assert response.SerializeToString(deterministic=True) == before


def test_empty_piece_behind_what_is_final_does_not_come_again() -> None:
    resume = Resume(config())
    resume.open()
    for data in (bytes(2 * FRAMES), b""):
        resume.keep(audio(data))
    resume.received(pb.StreamingRecognizeResponse(results=[final(end_ms=10)]))
    opening, _ = resume.open()
    assert [message.WhichOneof("request") for message in opening] == ["config"]


@given(
    st.lists(st.integers(1, 40), min_size=1, max_size=6),
    st.integers(1, 3),
    st.sampled_from([pb.AUDIO_ENCODING_LINEAR16, pb.AUDIO_ENCODING_MULAW, pb.AUDIO_ENCODING_ALAW]),
    st.lists(st.integers(1, 700), min_size=1, max_size=4),
)
def test_what_is_sent_again_is_all_that_is_not_final(
    ends: list[int], channels: int, encoding: pb.AudioEncoding.ValueType, cuts: list[int]
) -> None:
    """Each channel is final up to some 10 ms: audio from the earliest of those on comes again, a channel's own final
    speech in it as silence. `ends`: of channels, as far as there are so many."""
    width = 2 if encoding == pb.AUDIO_ENCODING_LINEAR16 else 1
    silence = {pb.AUDIO_ENCODING_LINEAR16: 0, pb.AUDIO_ENCODING_MULAW: 0xFF, pb.AUDIO_ENCODING_ALAW: 0xD5}[encoding]
    frame = width * channels
    whole = bytes(1 + number % 211 for number in range(40 * FRAMES * frame))
    resume = Resume(config(encoding, channels))
    resume.open()
    at = number = 0
    while at < len(whole):
        resume.keep(audio(whole[at : (at := at + cuts[number % len(cuts)])]))
        number += 1
    until = [ends[channel % len(ends)] * FRAMES for channel in range(channels)]
    response = pb.StreamingRecognizeResponse()
    for channel, frames in enumerate(until):
        tag = channel + 1 if channels > 1 else 0
        response.results.append(final(tag, end_ms=frames * 1000 // RATE))
    resume.received(response)
    expected = bytearray(whole)
    for channel, frames in enumerate(until):
        for byte in range(channel * width, (channel + 1) * width):
            expected[byte : frames * frame : frame] = bytes([silence]) * frames
    assert resume.resumable()
    opening, _ = resume.open()
    assert b"".join(message.audio for message in opening[1:]) == expected[min(until) * frame :]


def test_second_connection_counts_on_from_the_first() -> None:
    resume = Resume(config(channels=2))
    resume.open()
    resume.keep(audio(bytes(RATE * 4)))
    resume.received(pb.StreamingRecognizeResponse(results=[final(1, 4, 700), final(2, 0, 500)], cursors=cursor(400)))
    resume.open()
    response = resume.received(
        pb.StreamingRecognizeResponse(results=[final(1, 1, 400), final(2, 0, 300)], cursors=cursor(300))
    )
    assert [(each.channel_tag, each.segment) for each in response.results] == [(1, 6), (2, 1)]
    assert [each.result_end_time.ToMilliseconds() for each in response.results] == [900, 800]  # it began at 500 ms
    assert response.cursors.final.ToMilliseconds() == 800


def test_summary_tells_of_all_connections() -> None:
    resume = Resume(config())
    resume.open()
    resume.keep(audio(bytes(RATE * 4)))
    interim = pb.StreamingRecognitionResult()
    resume.received(pb.StreamingRecognizeResponse(results=[interim, final(end_ms=1000)]))
    assert (resume.complete, resume.breaks) == (False, 0)
    resume.open()
    resume.open()  # one that brought nothing was no part of the stream
    resume.received(pb.StreamingRecognizeResponse(results=[interim, final(end_ms=500)]))
    summary = pb.StreamSummary(finals=1, interims=1)
    summary.audio.FromMilliseconds(1000)
    told = resume.received(pb.StreamingRecognizeResponse(summary=summary)).summary
    assert (told.finals, told.interims, told.audio.ToMilliseconds()) == (2, 2, 2000)
    assert (resume.complete, resume.breaks) == (True, 1)


def test_no_new_connection_for_audio_no_longer_held() -> None:
    resume = Resume(config(), held_limit=1000)
    resume.open()
    resume.keep(audio(bytes(600)))
    assert resume.resumable()
    resume.keep(audio(bytes(600)))
    assert not resume.resumable()
    # The second piece begins at sample 300, 37.5 ms: once that is final the rest is enough.
    resume.received(pb.StreamingRecognizeResponse(cursors=cursor(37)))
    assert not resume.resumable()
    resume.received(pb.StreamingRecognizeResponse(cursors=cursor(38)))
    assert resume.resumable()
    opening, _ = resume.open()
    assert [len(message.audio) for message in opening] == [0, 1200 - 38 * 16]


def test_memory_is_bounded_however_long_the_utterance() -> None:
    resume = Resume(config())
    resume.open()
    piece = audio(bytes(1 << 20))
    for number in range(40):
        resume.keep(piece)
        assert resume.message(number)
    opening, _ = resume.open()
    assert sum(len(message.audio) for message in opening) == HELD_LIMIT


def test_container_is_forgotten_after_its_first_final() -> None:
    resume = Resume(config(pb.AUDIO_ENCODING_MP3))
    resume.open()
    for number in range(3):
        resume.keep(audio(bytes(100)))
        assert resume.message(number)
    resume.received(pb.StreamingRecognizeResponse(results=[final()]))
    resume.keep(audio(b"newest"))
    opening, number = resume.open()
    assert [message.audio for message in opening[1:]] == [b"newest"]
    assert number == 4


@pytest.mark.parametrize("pieces", [[b"RIFF...."], [b"R", b"", b"IF", b"F..."]])
def test_header_in_what_should_have_none_is_seen(pieces: list[bytes]) -> None:
    resume = Resume(config())
    resume.open()
    for piece in pieces:
        resume.keep(audio(piece))
    assert resume.resumable()
    resume.received(pb.StreamingRecognizeResponse(results=[final(end_ms=1)]))
    assert not resume.resumable()


def test_one_utterance_is_not_taken_up_again_after_it() -> None:
    resume = Resume(config(single_utterance=True))
    resume.open()
    resume.keep(audio(bytes(1600)))
    assert resume.resumable()
    resume.received(pb.StreamingRecognizeResponse(results=[final(end_ms=50)]))
    assert not resume.resumable()


def test_every_connection_asks_for_the_same() -> None:
    wanted = config(speech_events=True)
    wanted.config.speech_contexts.add(phrases=["marianne"], boost=2)
    resume = Resume(wanted)
    assert [resume.open()[0][0].config for _ in range(2)] == [wanted, wanted]


def test_events_come_once() -> None:
    """Heard again, their times may have moved a little."""
    resume = Resume(config(speech_events=True))

    def heard(*events: tuple[pb.SpeechEventType.ValueType, float]) -> list[tuple[int, float]]:
        news: list[tuple[int, float]] = []
        for kind, time_s in events:
            response = pb.StreamingRecognizeResponse()
            response.speech_event.type = kind
            response.speech_event.time.FromMilliseconds(round(time_s * 1000))
            if resume.received(response).HasField("speech_event"):
                news.append((response.speech_event.type, response.speech_event.time.ToMilliseconds() / 1000))
        return news

    resume.open()
    assert heard((BEGIN, 1.0), (END, 2.0)) == [(BEGIN, 1.0), (END, 2.0)]
    resume.open()
    assert heard((BEGIN, 1.02), (END, 2.03), (BEGIN, 3.0)) == [(BEGIN, 3.0)]
    resume.open()
    assert heard((BEGIN, 1.01), (END, 1.9), (BEGIN, 3.01), (END, 4.0)) == [(END, 4.0)]
    assert heard((NONE, 5.0), (BEGIN, 6.0)) == [(NONE, 5.0), (BEGIN, 6.0)]


def test_event_of_a_kind_unknown_here_is_passed_on() -> None:
    resume = Resume(config(speech_events=True))
    resume.open()
    begin = pb.StreamingRecognizeResponse(speech_event=pb.SpeechEvent(type=BEGIN))
    assert resume.received(begin).HasField("speech_event")
    unknown = pb.StreamingRecognizeResponse(speech_event=pb.SpeechEvent(type=99))  # type: ignore[arg-type]
    assert resume.received(unknown).HasField("speech_event")
    resume.open()
    again = pb.StreamingRecognizeResponse(speech_event=pb.SpeechEvent(type=BEGIN))
    again.speech_event.time.FromMilliseconds(20)
    assert not resume.received(again).HasField("speech_event")  # still speaking, whatever the unknown kind was


def test_cursors_alone_let_the_memory_go() -> None:
    resume = Resume(config(), held_limit=1000)
    resume.open()
    for number in range(1, 100):
        resume.keep(audio(bytes(2 * FRAMES)))
        resume.received(pb.StreamingRecognizeResponse(cursors=cursor(10 * number)))
    assert resume.resumable()
    assert resume.progressed()
    assert not resume.progressed()
