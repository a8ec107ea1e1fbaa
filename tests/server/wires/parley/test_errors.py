from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from parley.decoder import errors as core
from parley.decoder.errors import BadAudio, Field, InvalidOption, ParleyError, PoolExhausted
from parley.server.kit import errors as kit
from parley.server.kit.errors import KitError
from parley.server.kit.statuses import LONGEST_TEXT, UNLISTED
from parley.server.live import errors as live
from parley.server.live.errors import IdleStream, TooLarge, UnreadResponses
from parley.server.wires import statuses as wire
from parley.server.wires.parley.errors import DOMAIN, STATUSES

if TYPE_CHECKING:
    from collections.abc import Iterator


def descendants(kind: type[Exception]) -> Iterator[type[Exception]]:
    for child in kind.__subclasses__():
        yield child
        yield from descendants(child)


def unpacked(told: grpc.Status) -> dict[str, Any]:
    packed = status_pb2.Status.FromString(dict(told.trailing_metadata)["grpc-status-details-bin"])
    assert packed.code == told.code.value[0]
    assert packed.message == told.details
    kinds = (error_details_pb2.ErrorInfo, error_details_pb2.BadRequest, error_details_pb2.RetryInfo)
    found = {}
    for detail in packed.details:
        for kind in kinds:
            if detail.Is(kind.DESCRIPTOR):
                found[kind.__name__] = kind()
                detail.Unpack(found[kind.__name__])
    assert len(found) == len(packed.details)
    return found


def test_every_error_raised_on_purpose_is_in_the_table() -> None:
    modules = {module.__name__ for module in (core, kit, live, wire)}
    ours = {kind for base in (ParleyError, KitError) for kind in descendants(base) if kind.__module__ in modules}
    assert len(ours) > 15
    assert ours <= STATUSES.rows.keys()


def test_reasons_and_their_meanings_are_unique() -> None:
    rows = [*STATUSES.rows.values(), UNLISTED]
    assert len({row.reason for row in rows}) == len({row.meaning for row in rows}) == len(rows)
    assert all(row.remedy for row in rows)


def test_a_bad_option_names_its_field() -> None:
    told = STATUSES.status(InvalidOption("format.sample_rate", 96_000, "8000 to 48000 Hz"), "id-1")
    details = unpacked(told)
    assert told.code == grpc.StatusCode.INVALID_ARGUMENT
    assert told.details == "sample_rate_hertz: got 96000, expected 8000 to 48000 Hz"
    (violation,) = details["BadRequest"].field_violations
    assert (violation.field, violation.description) == ("sample_rate_hertz", told.details)
    info = details["ErrorInfo"]
    assert (info.reason, info.domain, dict(info.metadata)) == ("INVALID_OPTION", DOMAIN, {"request_id": "id-1"})


def test_bad_audio_is_a_violation_of_the_audio() -> None:
    details = unpacked(STATUSES.status(BadAudio("no sync word", 77), "x"))
    assert [violation.field for violation in details["BadRequest"].field_violations] == ["audio"]


def test_a_contradiction_of_header_and_request_names_the_field_as_the_wire_does() -> None:
    error = BadAudio(("the header says 44100 Hz, ", Field("format.sample_rate"), " 16000"), 24)
    told = STATUSES.status(error, "x")
    assert told.details == "audio at byte 24: the header says 44100 Hz, sample_rate_hertz 16000"
    assert str(error) == "audio at byte 24: the header says 44100 Hz, format.sample_rate 16000"


def test_an_exhausted_pool_says_when_to_try_again() -> None:
    told = STATUSES.status(PoolExhausted(8, 3, 2.0), "x")
    assert told.code == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert unpacked(told)["RetryInfo"].retry_delay.ToSeconds() == 1


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (TooLarge(9, 8), "got 9 bytes, expected at most 8 bytes"),
        (IdleStream(1.5), "1.5 s (idle_timeout_s): send audio, or KEEP_ALIVE while there is none"),
        (UnreadResponses(1.5), "1.5 s (idle_timeout_s)"),
    ],
)
def test_a_limit_stands_in_its_error(error: Exception, text: str) -> None:
    assert text in STATUSES.status(error, "x").details


class Private(core.DeviceError):
    """Somebody else's subclass."""


@pytest.mark.parametrize("error", [KeyError("a secret"), Private("a secret"), core.ModelError("a secret")])
def test_a_bug_leaves_without_its_text(error: Exception) -> None:
    told = STATUSES.status(error, "id-2")
    assert told.code == grpc.StatusCode.INTERNAL
    assert told.details == "internal error, see the node's log for request id-2"
    assert "secret" not in str(unpacked(told))


def test_a_subclass_has_its_parents_row() -> None:
    assert STATUSES.row(Private("")) is STATUSES.rows[core.DeviceError]


def test_a_long_text_is_cut_to_fit_into_headers() -> None:
    told = STATUSES.status(core.UnknownModel("model", "m" * 100_000, ("a",)), "x")
    assert len(told.details) == LONGEST_TEXT
    assert told.details.endswith("...")
    assert len(dict(told.trailing_metadata)["grpc-status-details-bin"]) < 4_000
