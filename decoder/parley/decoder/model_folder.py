"""A model's folder: `model.toml` beside the weights. Knows how a config is read, not what the model computes."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from parley.decoder.errors import ModelError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    from pathlib import Path

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What a caller may know of a model."""

    name: str
    languages: tuple[str, ...]
    sample_rate: int
    description: str
    license: str


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """`config`: what model.toml says, all of it."""

    path: Path
    kind: str
    info: ModelInfo
    config: dict[str, Any]

    @classmethod
    def read(cls, path: Path) -> ModelFolder:
        """Raises ModelError if the config is missing, does not parse, or lacks a value."""
        config_path = path / "model.toml"
        try:
            config = tomllib.loads(config_path.read_text(encoding="utf8"))
        except (FileNotFoundError, NotADirectoryError):
            raise ModelError(
                f"{path}: no model.toml there; a model is a folder with one; `parley models get` makes the default ones"
            ) from None
        except (OSError, ValueError) as error:
            raise ModelError(f"{config_path}: not a readable TOML file: {error}") from None
        folder = cls(path, "", ModelInfo("", (), 0, "", ""), config)
        info = ModelInfo(
            name=folder.value("name", str),
            languages=folder.names("languages"),
            sample_rate=folder.value("sample_rate", int),
            description=folder.value("description", str),
            license=folder.value("license", str),
        )
        return cls(path, folder.value("kind", str), info, config)

    def file(self, name: str) -> Path:
        """The path of a file that must be there."""
        found = self.path / name
        if not found.is_file():
            raise ModelError(f"{self.path}: {name} is missing; `parley models get` makes the default models")
        return found

    def value(self, key: str, kind: type[T], section: str = "") -> T:
        """A value of model.toml that must be there, of this type; an int serves for a float."""
        table = self.value(section, dict) if section else self.config
        name = f"{section}.{key}" if section else key
        if key not in table:
            raise self.fault(f"{name} is missing")
        value = table[key]
        if kind is float and type(value) is int:
            value = float(value)
        if type(value) is not kind:  # not isinstance: a bool is no number here
            raise self.fault(f"{name}: got {value!r}, expected a value of type {kind.__name__}")
        return value

    def names(self, key: str) -> tuple[str, ...]:
        """One name or more."""
        names = self.value(key, list)
        if not names or not all(isinstance(name, str) for name in names):
            raise self.fault(f"{key}: got {names!r}, expected one name or more")
        return tuple(names)

    def numbers(self, key: str, count: int, section: str = "") -> tuple[float, ...]:
        """So many numbers."""
        values = self.value(key, list, section)
        if len(values) != count or not all(type(value) in (int, float) for value in values):
            raise self.fault(f"{key}: got {values!r}, expected {count} numbers")
        return tuple(map(float, values))

    def fault(self, problem: str) -> ModelError:
        """The error for something wrong in model.toml."""
        return ModelError(f"{self.path / 'model.toml'}: {problem}")
