"""The words are right, and the same however the audio comes and whatever else the node does."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

import pytest

from scripts.scoring import WordErrors, count_errors
from scripts.speech import CALL as CALL_AUDIO
from scripts.speech import call_text
from tests.end_to_end.calls import (
    CALL,
    Words,
    cut,
    recognize,
    recognize_recording,
    stream,
    stream_recording,
)
from tests.speech import RATE, RECORDINGS, pcm_of, words_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from parley.asr.v1.speech_pb2_grpc import SpeechAsyncStub

    Recognition = Callable[[SpeechAsyncStub, str], Awaitable[Words]]

EITHER_RPC = pytest.mark.parametrize("recognition", [stream_recording, recognize_recording])
CALLS_AT_ONCE = 32
LARGEST_PIECE = 1 << 20  # bytes, as large as a node takes in one message


heard_alone: dict[Recognition, dict[str, Words]] = {}


async def alone(stub: SpeechAsyncStub, recognition: Recognition) -> dict[str, Words]:
    """Every recording, one after the other; once for all tests."""
    if recognition not in heard_alone:
        heard_alone[recognition] = {recording: await recognition(stub, recording) for recording in RECORDINGS}
    return heard_alone[recognition]


@EITHER_RPC
async def test_recordings_give_their_known_words(stub: SpeechAsyncStub, recognition: Recognition) -> None:
    heard = await alone(stub, recognition)
    errors = [count_errors(words_of(recording), words[0]) for recording, words in heard.items()]
    assert sum(errors, WordErrors()).rate <= 0.12


@EITHER_RPC
async def test_calls_at_once_give_the_words_of_calls_one_by_one(
    stub: SpeechAsyncStub, recognition: Recognition
) -> None:
    expected = await alone(stub, recognition)
    # The long recording stands among the short ones, which keep the test short.
    recordings = [*RECORDINGS, *(RECORDINGS[1:] * CALLS_AT_ONCE)][:CALLS_AT_ONCE]
    together = await asyncio.gather(*(recognition(stub, recording) for recording in recordings))
    assert together == [expected[recording] for recording in recordings]


async def test_message_sizes_do_not_change_words(stub: SpeechAsyncStub) -> None:
    audio = pcm_of("two_cities.flac")
    by_size = await asyncio.gather(*(stream(stub, cut(audio, RATE * 2 * ms // 1000)) for ms in (20, 100, 1000)))
    assert by_size[0] == by_size[1] == by_size[2] != {}


async def test_random_pieces_give_the_words_of_the_whole(stub: SpeechAsyncStub) -> None:
    chance = random.Random(7)
    for recording in RECORDINGS:
        audio, pieces, at = pcm_of(recording), list[bytes](), 0
        while at < len(audio):
            # Odd sizes too: a piece may split a sample.
            size = chance.choice((1, 3, 501, 3_200, chance.randrange(1, 60_000)))
            pieces.append(audio[at : at + size])
            at += size
        whole = cut(audio, LARGEST_PIECE)
        assert len(set(map(str, await asyncio.gather(stream(stub, pieces), stream(stub, whole))))) == 1


async def test_a_stereo_call_is_two_speakers(stub: SpeechAsyncStub) -> None:
    audio = CALL_AUDIO.read_bytes()
    streamed = await stream(stub, cut(audio, 1_600), CALL)
    whole = await recognize(stub, audio, CALL)
    for words in (streamed, whole):
        assert words.keys() == {1, 2}
        for channel in (1, 2):
            assert count_errors(call_text(channel), words[channel]).rate <= 0.15


async def test_silence_has_no_words(stub: SpeechAsyncStub) -> None:
    silence = bytes(RATE * 2 * 10)
    assert await stream(stub, cut(silence, 3_200)) == {}
    assert await stream(stub, []) == {}
