"""Options that check themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from parley.decoder.errors import InvalidOption
from parley.decoder.values import AudioFormat, EndpointRules, StreamOptions

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.mark.parametrize(
    ("make", "field", "problem"),
    [
        (lambda: AudioFormat(sample_rate=7_999), "format.sample_rate", "got 7999, expected 8000 to 48000 Hz"),
        (lambda: AudioFormat(sample_rate=48_001), "format.sample_rate", "got 48001, expected 8000 to 48000 Hz"),
        (lambda: AudioFormat(channels=9), "format.channels", "got 9, expected 1 to 8 channels"),
        (lambda: AudioFormat(channels=-1), "format.channels", "got -1, expected 1 to 8 channels"),
        (
            lambda: EndpointRules(silence_before_speech_ms=3_600_001),
            "options.rules.silence_before_speech_ms",
            r"got 3600001 ms, expected 0 \(never\) to 3600 s",
        ),
        (
            lambda: EndpointRules(silence_before_speech_ms=-1),
            "options.rules.silence_before_speech_ms",
            r"got -1 ms, expected 0 \(never\) to 3600 s",
        ),
        (
            lambda: EndpointRules(silence_after_speech_ms=99),
            "options.rules.silence_after_speech_ms",
            "got 99 ms, expected 0.1 s to 10 s",
        ),
        (
            lambda: EndpointRules(silence_after_speech_ms=10_001),
            "options.rules.silence_after_speech_ms",
            "got 10001 ms, expected 0.1 s to 10 s",
        ),
        (
            lambda: EndpointRules(longest_utterance_ms=1_999),
            "options.rules.longest_utterance_ms",
            "got 1999 ms, expected 2 s to 30 s",
        ),
        (
            lambda: EndpointRules(longest_utterance_ms=30_001),
            "options.rules.longest_utterance_ms",
            "got 30001 ms, expected 2 s to 30 s",
        ),
        (lambda: StreamOptions(max_alternatives=0), "options.max_alternatives", "got 0, expected 1 to 10"),
        (lambda: StreamOptions(max_alternatives=11), "options.max_alternatives", "got 11, expected 1 to 10"),
    ],
)
def test_an_option_out_of_range(make: Callable[[], object], field: str, problem: str) -> None:
    with pytest.raises(InvalidOption, match=f"^{field}: {problem}$") as caught:
        make()
    assert caught.value.field == field


def test_the_ends_of_the_ranges_are_in_them() -> None:
    for rate in (0, 8_000, 48_000):
        AudioFormat(sample_rate=rate)
    for channels in (0, 1, 8):
        AudioFormat(channels=channels)
    EndpointRules(0, 100, 2_000)
    EndpointRules(3_600_000, 10_000, 30_000)
    for count in (1, 10):
        StreamOptions(max_alternatives=count)
