"""Every field of a request that the core may find fault with has a name on every wire, or the wire says it has none."""

from __future__ import annotations

import dataclasses
import typing
from typing import TYPE_CHECKING

import pytest

from parley.asr.v1 import speech_pb2 as pb
from parley.decoder.errors import Field, InvalidOption
from parley.decoder.values import AudioFormat, Phrase, StreamOptions
from parley.server.wires.google.fields import FIELDS as GOOGLE
from parley.server.wires.parley.fields import FIELDS as PARLEY
from parley.server.wires.statuses import statuses

if TYPE_CHECKING:
    from collections.abc import Iterator

    from google.protobuf.descriptor import Descriptor

WIRES = pytest.mark.parametrize("fields", [PARLEY, GOOGLE], ids=["parley", "google"])


def paths(kind: type, root: str) -> Iterator[str]:
    """The dotted paths of all that a request's dataclass holds."""
    for name, hint in typing.get_type_hints(kind).items():
        path = f"{root}.{name}"
        yield path
        inner = Phrase if hint == tuple[Phrase, ...] else hint
        if dataclasses.is_dataclass(inner) and isinstance(inner, type):
            yield from paths(inner, path)


CORE = {"audio", "model", "language", *paths(AudioFormat, "format"), *paths(StreamOptions, "options")}


@WIRES
def test_every_core_field_is_in_the_table(fields: dict[str, str | None]) -> None:
    assert "options.search.hotwords.boost" in CORE
    assert fields.keys() == CORE


@WIRES
def test_no_two_fields_have_one_name(fields: dict[str, str | None]) -> None:
    names = [name for name in fields.values() if name is not None]
    assert len(set(names)) == len(names)


def test_the_names_are_fields_of_the_protocol() -> None:
    for name in PARLEY.values():
        if name is not None:
            messages = (pb.RecognitionConfig, pb.StreamingRecognitionConfig, pb.StreamingRecognizeRequest)
            assert any(_has(message.DESCRIPTOR, name.split(".")) for message in messages), name


def _has(message: Descriptor, path: list[str]) -> bool:
    field = message.fields_by_name.get(path[0])
    if field is None or len(path) == 1:
        return field is not None
    return field.message_type is not None and _has(field.message_type, path[1:])


@WIRES
def test_a_fault_is_told_in_the_wires_names(fields: dict[str, str | None]) -> None:
    table = statuses("domain", fields, while_silent="audio")
    for field, name in fields.items():
        error = InvalidOption(field, 3, "2")
        assert table.text(error) == f"{name or field}: got 3, expected 2"
        assert str(error) == f"{field}: got 3, expected 2"
        assert isinstance(error.text[0], Field)
