"""A stream's lead on the clock."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from parley.decoder.engine.pace import LEAD_HALVED_S, OWED_S, SLACK_S, Pace

pieces = st.lists(st.integers(0, 3_000), max_size=60)  # ms of audio between two looks
starts = st.integers(0, 1_000_000).map(float)


def asked(start: float, audio_ms: list[int], elapsed_ms: list[int]) -> list[bool]:
    """What a stream that has had so much audio in so much time is found to be, look by look."""
    pace, at_ms, now = Pace(start), 0, start
    found = []
    for more_ms, passed_ms in zip(audio_ms, elapsed_ms, strict=True):
        at_ms, now = at_ms + more_ms, now + passed_ms / 1000
        found.append(pace.in_a_hurry(at_ms, now))
    return found


@given(starts, pieces)
def test_at_the_pace_of_speech_nobody_is_in_a_hurry(start: float, audio_ms: list[int]) -> None:
    assert not any(asked(start, audio_ms, audio_ms))


@given(starts, st.lists(st.tuples(st.integers(0, 3_000), st.integers(0, 5_000)), max_size=60))
def test_nor_is_who_comes_later_than_that(start: float, late: list[tuple[int, int]]) -> None:
    audio_ms = [audio for audio, _ in late]
    assert not any(asked(start, audio_ms, [audio + more for audio, more in late]))


@given(starts, st.integers(0, 60_000))
def test_what_comes_at_once_is_a_hurry_if_it_is_more_than_the_slack(start: float, audio_ms: int) -> None:
    assert asked(start, [audio_ms], [0]) == [audio_ms > SLACK_S * 1000]


@given(starts, st.integers(100, 2_000), st.integers(2, 10))
def test_who_keeps_on_sending_much_faster_is_in_a_hurry_to_the_end(start: float, piece_ms: int, times: int) -> None:
    looks = 100_000 // piece_ms
    # A lead that grows by (times - 1) a second and is halved every LEAD_HALVED_S settles above 7 s.
    assert asked(start, [piece_ms] * looks, [piece_ms // times] * looks)[looks // 2 :] == [True] * (looks - looks // 2)


@given(starts, st.integers(2_001, 60_000))
def test_a_burst_is_forgiven_in_time(start: float, burst_ms: int) -> None:
    halvings = 5  # of 60 s: less than the slack
    after = int(halvings * LEAD_HALVED_S) + 1
    found = asked(start, [burst_ms, *[1_000] * after], [0, *[1_000] * after])
    assert found[0]
    assert not found[-1]
    assert found == sorted(found, reverse=True)  # and does not come back


@given(starts, st.integers(0, 100_000_000))
def test_more_is_not_owed_than_so_much(start: float, silent_ms: int) -> None:
    """However long a client has sent nothing, it may catch up by OWED_S and the slack."""
    owed_ms = min(silent_ms, int(OWED_S * 1000))
    most_ms = owed_ms + int(SLACK_S * 1000)
    assert asked(start, [0, most_ms - 1], [silent_ms, 0]) == [False, False]
    assert asked(start, [0, most_ms + 1], [silent_ms, 0]) == [False, True]
