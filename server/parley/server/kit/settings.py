"""Where a process's settings come from: a TOML file, the environment, the command line. Knows none of them by name.

A value is taken from the command line, else the environment, else the file, else its default. All faults of all sources
are collected and raised together, each naming the source that has to be mended.

Settings are a frozen dataclass. A field made by `setting` is one of them; one made by `group` is a dataclass of someone
else's, whose fields lie among the others as if they were written here. Of each field its type says how it is read, its
metadata's "description" what it means, and "bounds", where it has them, what it may be. A field `given` gets the names
of those that are not defaults.
"""

from __future__ import annotations

import argparse
import dataclasses
import enum
import sys
import types
import typing
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Generic, TypeVar, cast, get_args, get_origin

from pydantic import ByteSize, TypeAdapter, ValidationError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

T = TypeVar("T")
DEFAULT = "default"  # where a value is from that nobody gave
NO_SUCH = "no such setting, see --help"
_GROUP, _GIVEN = "group", "given"


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with a setting, and where it was given: the place to mend, or the setting's name."""

    name: str
    problem: str
    source: str = ""

    def __str__(self) -> str:
        return f"{self.source or self.name}: {self.problem}"


class Faults(Exception):
    """Everything that is wrong with a configuration."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(map(str, self.faults)))


@dataclass(frozen=True, slots=True)
class Group:
    """names: what of it is called otherwise here. defaults: which are others here, by its own names. empty: for which
    of its own names an empty text says None. check: what is wrong with values of it, each by its own name."""

    kind: type
    names: Mapping[str, str]
    defaults: Mapping[str, object]
    empty: frozenset[str]
    check: Callable[[Mapping[str, object]], Iterable[Fault]]


@dataclass(frozen=True, slots=True)
class Setting:
    """One of a process's settings. place: the group's field ("" for none) and its own. range: as people read it."""

    name: str
    place: tuple[str, str]
    type: Any
    default: object
    description: str
    range: str
    empty: bool = False

    def read(self, given: object) -> tuple[object, str | None]:
        """The value of a source as this setting's type, or why it is none."""
        value = given
        if self.empty and value == "":
            return None, None
        if isinstance(value, str) and _is_list(self.type):
            value = [part.strip() for part in value.split(",")]
        try:
            return _adapter(self.type).validate_python(value), None
        except ValidationError as error:
            message = error.errors()[0]["msg"]
            return None, f"got {given!r}: {message[0].lower()}{message[1:]}"


def setting(default: T, description: str) -> T:
    """A field of a settings class."""
    made: T = field(default=default, metadata={"description": description})
    return made


def group(
    kind: type[T],
    check: Callable[[Mapping[str, object]], Iterable[Fault]],
    *,
    names: Mapping[str, str] = types.MappingProxyType({}),
    defaults: Mapping[str, object] = types.MappingProxyType({}),
    empty: Iterable[str] = (),
) -> T:
    """A field of a settings class that holds someone else's: see Group."""
    found = Group(kind, names, defaults, frozenset(empty), check)
    made: T = field(default_factory=lambda: kind(**defaults), metadata={_GROUP: found})
    return made


def settings_of(kind: type) -> tuple[Setting, ...]:
    """All settings of a class, in order."""
    return tuple(_settings_of(kind))


def _settings_of(kind: type) -> Iterator[Setting]:
    types = typing.get_type_hints(kind, include_extras=True)
    for one in dataclasses.fields(kind):
        found: Group | None = one.metadata.get(_GROUP)
        if found is not None:
            theirs = typing.get_type_hints(found.kind, include_extras=True)
            for inner in dataclasses.fields(found.kind):
                yield Setting(
                    found.names.get(inner.name, inner.name),
                    (one.name, inner.name),
                    theirs[inner.name],
                    found.defaults.get(inner.name, inner.default),
                    inner.metadata["description"],
                    str(inner.metadata.get("bounds") or ""),
                    inner.name in found.empty,
                )
        elif "description" in one.metadata:
            kind_of = types[one.name]
            text = one.metadata["description"]
            yield Setting(one.name, ("", one.name), kind_of, one.default, text, _range(kind_of))


def _range(kind: Any) -> str:
    """Of a type with bounds, such as Annotated[int, Field(ge=1)]."""
    words = {"ge": "at least", "gt": "more than", "le": "at most", "lt": "less than"}
    given = [bound for each in getattr(kind, "__metadata__", ()) for bound in getattr(each, "metadata", ())]
    found = [f"{words[name]} {getattr(one, name):,}" for one in given for name in words if hasattr(one, name)]
    return " and ".join(found)


def values_of(settings: object) -> dict[str, object]:
    """The values of an instance, by setting."""
    found = {}
    for one in settings_of(type(settings)):
        where, own = one.place
        found[one.name] = getattr(getattr(settings, where) if where else settings, own)
    return found


def read(kind: type[T], values: Mapping[str, object]) -> T:
    """Settings with these values, of no file, environment or command line. Raises Faults."""
    made, faults = _made(kind, values)
    if faults:
        raise Faults(faults)
    return made


def _made(kind: type[T], values: Mapping[str, object]) -> tuple[T, list[Fault]]:
    """Settings from the good values, and what is wrong with the others."""
    known = {one.name: one for one in settings_of(kind)}
    faults = [Fault(name, NO_SUCH) for name in values if name not in known]
    good: dict[str, dict[str, object]] = {}
    for name in (name for name in known if name in values):
        value, problem = known[name].read(values[name])
        if problem is not None:
            faults.append(Fault(name, problem))
        else:
            where, own = known[name].place
            good.setdefault(where, {})[own] = value
    mine = good.pop("", {})
    for one in dataclasses.fields(cast("Any", kind)):
        found: Group | None = one.metadata.get(_GROUP)
        if found is not None and one.name in good:
            theirs = good[one.name]
            wrong = list(found.check({**found.defaults, **theirs}))
            faults += [Fault(found.names.get(fault.name, fault.name), fault.problem) for fault in wrong]
            bad = {fault.name for fault in wrong}
            rest = {name: value for name, value in theirs.items() if name not in bad}
            mine[one.name] = found.kind(**{**found.defaults, **rest})
    if any(one.name == _GIVEN for one in dataclasses.fields(cast("Any", kind))):
        mine[_GIVEN] = frozenset(values)
    return kind(**mine), faults


def _is_list(kind: Any) -> bool:
    bare = get_args(kind)[0] if get_origin(kind) is Annotated else kind
    return get_origin(bare) is tuple


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def shown(value: object) -> str:
    """A setting's value for people."""
    match value:
        case None:
            return "none"
        case bool():
            return "yes" if value else "no"
        case tuple():
            return ",".join(value)
        case ByteSize():
            return value.human_readable().replace(".0", "")
        case enum.Enum():
            return str(value.value)
        case _:
            return f"{value:g}" if isinstance(value, float) else str(value)


@dataclass(frozen=True)
class Program(Generic[T]):
    """How a process's settings are given. prefix: of the environment's names. file: read if it is there. sections: of
    --help, each with its first setting. switches: flags that are no settings. shown: see `shown`. example: a setting
    by which --help says how one is given. look: what is wrong with settings on this machine, with these switches."""

    settings: type[T]
    name: str
    description: str
    example: tuple[str, str]
    look: Callable[[T, frozenset[str]], Iterable[Fault]]
    prefix: str = "PARLEY_"
    file: Path = Path("parley.toml")
    sections: Mapping[str, str] = field(default_factory=dict)
    switches: Mapping[str, str] = field(default_factory=dict)
    shown: Callable[[object], str] = shown

    def parser(self) -> argparse.ArgumentParser:
        """The command line's."""
        name, value = self.example
        parser = argparse.ArgumentParser(
            prog=self.name,
            usage=f"{self.name} {''.join(f'[--{one}] ' for one in self.switches)}[--config FILE] [--SETTING VALUE]...",
            description=self.description,
            epilog=f"Each setting can also stand in the TOML file under its name with underscores, or in the "
            f"environment in capitals behind {self.prefix}: {_flag(name)} {value}, {name} = {value}, "
            f"{self.prefix}{name.upper()}={value}. "
            f"A flag goes before the environment, the environment before the file.",
            allow_abbrev=False,
        )
        parser.add_argument("--config", metavar="FILE", help=f"the TOML file (default: {self.file}, if there is one)")
        for switch, text in self.switches.items():
            parser.add_argument(f"--{switch}", action="store_true", help=text)
        titles = {first: title for title, first in self.sections.items()}
        group: argparse._ActionsContainer = parser
        for one in settings_of(self.settings):
            if one.name in titles:
                group = parser.add_argument_group(titles[one.name])
            text = f"{one.description} (default: {self.shown(one.default)})".replace("%", "%%")
            if isinstance(one.default, bool):
                group.add_argument(_flag(one.name), action=argparse.BooleanOptionalAction, default=None, help=text)
            else:
                group.add_argument(_flag(one.name), metavar="VALUE", help=text)
        return parser


@dataclass(frozen=True)
class Loaded(Generic[T]):
    """sources: by setting, where its value is from. switches: that were set."""

    settings: T
    sources: Mapping[str, str]
    switches: frozenset[str]


def load(program: Program[T], argv: Sequence[str], environ: Mapping[str, str]) -> Loaded[T]:
    """The settings, or Faults with every fault there is. `--help` prints and exits."""
    flags, unknown = program.parser().parse_known_args(argv)
    faults = [Fault(" ".join(unknown), NO_SUCH)] if unknown else []
    values: dict[str, object] = {}
    sources: dict[str, str] = {}
    for name, value, source in _given(program, flags, environ, faults):
        values[name], sources[name] = value, source
    switches = frozenset(switch for switch in program.switches if getattr(flags, switch.replace("-", "_")))
    settings, problems = _made(program.settings, values)
    # What cannot even be read is not looked at: one mistake should make one fault.
    bad = {fault.name for fault in problems}
    problems += [fault for fault in program.look(settings, switches) if fault.name not in bad]
    faults += [Fault(fault.name, fault.problem, sources.get(fault.name, "")) for fault in problems]
    if faults:
        raise Faults(faults)
    names = [one.name for one in settings_of(program.settings)]
    return Loaded(settings, {name: sources.get(name, DEFAULT) for name in names}, switches)


def _given(
    program: Program[Any], flags: argparse.Namespace, environ: Mapping[str, str], faults: list[Fault]
) -> Iterator[tuple[str, object, str]]:
    """Names, values and sources, of the weakest source first."""
    file = flags.config or environ.get(f"{program.prefix}CONFIG") or (program.file if program.file.exists() else None)
    if file:
        try:
            with Path(file).open("rb") as opened:
                yield from ((name, value, f"{file}: {name}") for name, value in tomllib.load(opened).items())
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            faults.append(Fault(str(file), f"not a readable TOML file: {error}"))
    for one in settings_of(program.settings):
        variable = program.prefix + one.name.upper()
        # What is empty in the environment is not given, unless that takes a default away.
        if environ.get(variable) or (variable in environ and one.empty and one.default is not None):
            yield one.name, environ[variable], variable
        if (value := getattr(flags, one.name)) is not None:
            yield one.name, value, _flag(one.name)


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")
