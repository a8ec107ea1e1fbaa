"""The loader of settings, over settings that no process has."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from parley.server.kit.settings import (
    DEFAULT,
    Fault,
    Faults,
    Program,
    group,
    load,
    read,
    setting,
    settings_of,
    shown,
    values_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


@dataclass(frozen=True)
class Engine:
    """Somebody else's."""

    size: int = field(default=2, metadata={"description": "of it", "bounds": "1 to 9"})
    parts: tuple[str, ...] = field(default=("a",), metadata={"description": "of it"})
    extra: Path | None = field(default=None, metadata={"description": "or none"})

    def __post_init__(self) -> None:
        if not 1 <= self.size <= 9:
            raise ValueError("size")


def check(values: Mapping[str, object]) -> Iterator[Fault]:
    size = values.get("size", 2)
    if not isinstance(size, int) or not 1 <= size <= 9:
        yield Fault("size", f"got {size}, expected 1 to 9")


@dataclass(frozen=True)
class Car:
    speed: Annotated[int, Field(ge=0, le=1_000)] = setting(50, "how fast")
    engine: Engine = group(Engine, check, names={"size": "engine_size"}, defaults={"extra": Path("x")}, empty=["extra"])
    loud: bool = setting(False, "or not")
    given: frozenset[str] = field(default=frozenset())


def program(file: Path = Path("nowhere.toml")) -> Program[Car]:
    return Program(
        Car,
        name="car",
        description="Drives.",
        example=("speed", "3"),
        look=lambda car, switches: [Fault("speed", "too fast")] if car.speed == 999 and not switches else [],
        prefix="CAR_",
        file=file,
        switches={"dry": "only say"},
    )


def test_a_groups_fields_lie_among_the_others_under_their_names_here() -> None:
    found = {one.name: (one.default, one.description, one.range) for one in settings_of(Car)}
    assert found == {
        "speed": (50, "how fast", "at least 0 and at most 1,000"),
        "engine_size": (2, "of it", "1 to 9"),
        "parts": (("a",), "of it", ""),
        "extra": (Path("x"), "or none", ""),
        "loud": (False, "or not", ""),
    }
    assert Car().engine == Engine(extra=Path("x"))


def test_values_go_where_they_belong() -> None:
    car = read(Car, {"engine_size": "7", "parts": "b, c", "extra": ""})
    assert car == Car(engine=Engine(7, ("b", "c"), None), given=frozenset({"engine_size", "parts", "extra"}))
    assert values_of(car) == {"speed": 50, "engine_size": 7, "parts": ("b", "c"), "extra": None, "loud": False}


def test_every_fault_is_found_at_once_and_the_rest_is_looked_at() -> None:
    with pytest.raises(Faults) as raised:
        load(program(), ["--speed", "fast", "--engine-size", "10", "--wings", "2"], {"CAR_LOUD": "perhaps"})
    assert [(fault.name, fault.source) for fault in raised.value.faults] == [
        ("--wings 2", ""),
        ("speed", "--speed"),
        ("loud", "CAR_LOUD"),
        ("engine_size", "--engine-size"),
    ]
    assert "--engine-size: got 10, expected 1 to 9" in str(raised.value)


def test_what_is_wrong_on_this_machine_is_a_fault_like_any_other() -> None:
    with pytest.raises(Faults, match=r"^--speed: too fast$"):
        load(program(), ["--speed", "999"], {})
    assert load(program(), ["--speed", "999", "--dry"], {}).switches == {"dry"}


SOURCES = ("file", "environment", "flag")


@given(st.dictionaries(st.sampled_from(SOURCES), st.integers(0, 998)))
def test_the_strongest_source_wins_and_is_named(tmp_path_factory: Any, values: dict[str, int]) -> None:
    file = tmp_path_factory.mktemp("car") / "car.toml"
    if "file" in values:
        file.write_text(f"speed = {values['file']}\n")
    environ = {"CAR_SPEED": str(values["environment"])} if "environment" in values else {}
    argv = ["--speed", str(values["flag"])] if "flag" in values else []
    loaded = load(program(file), argv, environ)
    names = {"file": f"{file}: speed", "environment": "CAR_SPEED", "flag": "--speed"}
    strongest = next((source for source in reversed(SOURCES) if source in values), None)
    assert loaded.settings.speed == (50 if strongest is None else values[strongest])
    assert loaded.sources["speed"] == (DEFAULT if strongest is None else names[strongest])
    assert loaded.settings.given == ({"speed"} if values else set())


def test_what_is_empty_in_the_environment_takes_away_a_default_that_may_be_none() -> None:
    loaded = load(program(), [], {"CAR_EXTRA": "", "CAR_SPEED": ""})
    assert (loaded.settings.engine.extra, loaded.settings.speed) == (None, 50)


def test_values_for_people() -> None:
    assert [shown(one) for one in (None, True, ("a", "b"), 2.50, "x")] == ["none", "yes", "a,b", "2.5", "x"]
