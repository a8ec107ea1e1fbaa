from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley.clients.capacity.slo import Duration, FileLimit, Size, Slo

milliseconds = st.integers(1, 99_999)


@given(milliseconds)
def test_a_duration_is_read_back_as_it_is_shown(count: int) -> None:
    duration = Duration.parse(f"{count}ms")
    assert duration.seconds == pytest.approx(count / 1000)
    assert Duration.parse(str(duration)).seconds == pytest.approx(count / 1000)


@given(st.integers(1, 1 << 50))
def test_a_size_is_shown_to_four_figures(count: int) -> None:
    assert Size.parse(f"{count}B") == Size(count)
    assert Size.parse(str(Size(count)).replace("e+", "")).bytes == pytest.approx(count, rel=1e-3, abs=1)


@given(milliseconds, milliseconds)
def test_a_file_limit_is_two_durations(length: int, within: int) -> None:
    limit = FileLimit.parse(f"{length}ms:{within}ms")
    assert (limit.length, limit.within) == (Duration.parse(f"{length}ms"), Duration.parse(f"{within}ms"))


@pytest.mark.parametrize("parse", [Duration.parse, Size.parse, FileLimit.parse])
@given(text=st.text() | st.from_regex(r"[0-9.:msGiB -]{1,12}", fullmatch=True))
def test_any_other_text_is_refused_in_words(parse: type[Duration], text: str) -> None:
    try:
        value = parse(text)  # type: ignore[arg-type]
    except ValueError as fault:
        assert "expected" in str(fault)  # noqa: PT017
    else:
        assert value == parse(text)  # type: ignore[arg-type]


def test_units() -> None:
    assert [Duration.parse(text).seconds for text in ("100ms", "2s", "1.5 m", ".5h")] == [0.1, 2, 90, 1800]
    assert [Size.parse(text).bytes for text in ("4GiB", "0.5 MiB", "7B")] == [4 << 30, 1 << 19, 7]
    assert [str(Duration(seconds)) for seconds in (0.1, 2, 90)] == ["100 ms", "2 s", "90 s"]
    assert [str(Size(size)) for size in (4 << 30, 700_000_000, 3)] == ["4 GiB", "667.6 MiB", "3 B"]


@pytest.mark.parametrize(
    ("parse", "text", "said"),
    [
        (Duration.parse, "100", "got '100', expected such as 100ms, 2s, 10m or 1h"),
        (Duration.parse, "0ms", "got 0 s, expected a time above 0"),
        (Size.parse, "4GB", "got '4GB', expected such as 4GiB"),
        (Size.parse, "0B", "got 0 bytes"),
        (Size.parse, "9" * 400 + "B", "a size that a machine may have"),
        (FileLimit.parse, "30s", "got '30s', expected LENGTH:TIME such as 30s:2s"),
        (FileLimit.parse, "30s:two", "got 'two', expected such as 100ms"),
    ],
)
def test_refusals(parse: type[Duration], text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse(text)  # type: ignore[arg-type]


def test_an_slo_says_what_it_promises_and_needs_one_promise() -> None:
    slo = Slo(Duration(0.1), Duration(0.5), FileLimit.parse("30s:2s"), Size(1 << 30))
    assert str(slo) == (
        "the final within 100 ms of a call's last packet, interim results within 500 ms of their audio, "
        "a file of 30 s back within 2 s with every decoder busy, at most 1 GiB of memory"
    )
    assert slo.tightest_call_s == 0.1
    assert not Slo(file=FileLimit.parse("30s:2s")).calls
    assert Slo(file=FileLimit.parse("30s:2s")).tightest_call_s == math.inf
    with pytest.raises(ValueError, match="expected a limit"):
        Slo(memory=Size(5))
