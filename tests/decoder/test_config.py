"""A config that checks itself: every fault, as a value and as a text."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley.decoder.bounds import Choices, Fault, Range, out_of_bounds
from parley.decoder.config import BadConfig, RecognizerConfig
from parley.decoder.values import CHUNKS_MS, EndpointRules, Passes

FOLDER = Path("model")
GOOD = RecognizerConfig(second_model_dir=FOLDER)


def faults_of(**given: object) -> list[Fault]:
    with pytest.raises(BadConfig) as caught:
        RecognizerConfig(**given)  # type: ignore[arg-type]
    assert str(caught.value) == "; ".join(map(str, caught.value.faults))
    return list(caught.value.faults)


def test_every_fault_is_named_with_what_was_found_and_expected() -> None:
    found = faults_of(
        first_model_dir=FOLDER,
        devices=("auto", "tpu", "cuda:", "cpu", "cpu"),
        decoders=0,
        threads=-1,
        chunk_ms=200,
        max_chunk_batch=0,
        final_budget_ms=60_001,
        partial_interval_ms=50,
        vad_aggressiveness=4,
        max_batch=0,
        max_batch_s=float("nan"),
        beam=65,
        language_weight=-0.5,
        word_bonus=float("nan"),
    )
    devices = ("auto", "tpu", "cuda:", "cpu", "cpu")
    assert list(map(str, found)) == [
        "decoders: got 0, expected 1 to 100000",
        "threads: got -1, expected 0 to 1024",
        "chunk_ms: got 200, expected one of 160, 320, 640",
        "max_chunk_batch: got 0, expected 1 to 100000",
        "final_budget_ms: got 60001, expected 0 to 60000 ms",
        "partial_interval_ms: got 50, expected 0 (none) or 100 to 10000 ms",
        "max_batch: got 0, expected 1 to 1024",
        "max_batch_s: got nan, expected 1 to 36000 s",
        "beam: got 65, expected 1 to 64",
        "language_weight: got -0.5, expected 0 to 5",
        "word_bonus: got nan, expected -10 to 10",
        "vad_aggressiveness: got 4, expected 0 to 3",
        "second_model_dir: got None, expected a folder: passes = second needs it",
        f"devices: got {devices}, expected one or more, each once",
        f'devices: got {devices}, expected "auto" alone, or devices by name',
        'devices: got \'tpu\', expected "auto", "cpu", "cuda:N" or "cpu:N"',
        'devices: got \'cuda:\', expected "auto", "cpu", "cuda:N" or "cpu:N"',
    ]
    assert Fault("decoders", 0, "1 to 100000") in found


@pytest.mark.parametrize(
    ("passes", "missing"),
    [
        (Passes.FIRST, {"first_model_dir"}),
        (Passes.SECOND, {"second_model_dir"}),
        (Passes.BOTH, {"first_model_dir", "second_model_dir"}),
    ],
)
def test_each_pass_needs_its_model(passes: Passes, missing: set[str]) -> None:
    faults = faults_of(passes=passes)
    assert {fault.field for fault in faults} == missing
    assert {fault.expected for fault in faults} == {f"a folder: passes = {passes.value} needs it"}
    RecognizerConfig(
        first_model_dir=FOLDER if "first_model_dir" in missing else None,
        second_model_dir=FOLDER if "second_model_dir" in missing else None,
        passes=passes,
    )


@pytest.mark.parametrize(
    ("devices", "expected"),
    [
        ((), "one or more, each once"),
        (("cpu", "cpu"), "one or more, each once"),
        (("auto", "cpu"), '"auto" alone, or devices by name'),
        (("cpu", "cpu:1"), 'either "cpu", the whole of it, or shares such as "cpu:0"'),
        *(((device,), '"auto", "cpu", "cuda:N" or "cpu:N"') for device in ("cpu:", "cpu:x", "cpu:-1", "cpu:00")),
    ],
)
def test_devices_that_are_none(devices: tuple[str, ...], expected: str) -> None:
    (fault,) = faults_of(second_model_dir=FOLDER, devices=devices)
    assert (fault.field, fault.expected) == ("devices", expected)


@pytest.mark.parametrize("devices", [("auto",), ("cpu:0", "cpu:1"), ("cpu", "cuda:0", "cuda:12")])
def test_devices(devices: tuple[str, ...]) -> None:
    assert replace(GOOD, devices=devices).devices == devices


@pytest.mark.parametrize("chunk_ms", CHUNKS_MS)
def test_chunks_of_every_size(chunk_ms: int) -> None:
    replace(GOOD, chunk_ms=chunk_ms)


@pytest.mark.parametrize("interval", [0, 100, 10_000])
def test_partials_at_any_interval_or_none(interval: int) -> None:
    replace(GOOD, partial_interval_ms=interval, max_batch_s=1)


@pytest.mark.parametrize("kind", [RecognizerConfig, EndpointRules])
def test_every_field_says_what_it_means_and_keeps_its_own_bounds(kind: type) -> None:
    for one in fields(kind):
        assert len(one.metadata["description"]) > 10
        bounds = one.metadata["bounds"]
        assert bounds is None or one.default is None or one.default in bounds
    assert not list(out_of_bounds(GOOD))


@given(st.integers(-5, 25), st.booleans())
def test_a_range_has_what_lies_between_its_ends_and_zero_if_that_says_something(value: int, zero: bool) -> None:
    allowed = Range(10, 20, zero="none" if zero else "")
    assert (value in allowed) == (10 <= value <= 20 or (zero and value == 0))
    assert "10" not in allowed


def test_bounds_say_what_they_are() -> None:
    assert str(Range(1, 100_000)) == "1 to 100000"
    assert str(Range(0.5, 2, "s", zero="never")) == "0 (never) or 0.5 to 2 s"
    assert str(Choices((1, "b"))) == "one of 1, b"
