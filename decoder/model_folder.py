"""A model's folder: `model.toml` beside the weights. Knows what the config must say, not what the model computes."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from decoder.errors import ModelError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What a caller may know of a model."""

    name: str
    languages: tuple[str, ...]
    sample_rate: int
    description: str
    license: str


@dataclass(frozen=True, slots=True)
class DecodingLimits:
    """How an attention decoder is driven and kept from inventing words."""

    start_token: int
    end_token: int
    frame_samples: int
    shortest_samples: int
    tokens_per_second: float
    min_log_prob: float
    min_share_on_path: float
    max_spread: float

    def __post_init__(self) -> None:
        for name in ("frame_samples", "shortest_samples", "tokens_per_second"):
            value = getattr(self, name)
            if not value > 0:
                raise ValueError(f"{name}: got {value}, expected more than 0")


@dataclass(frozen=True, slots=True)
class ModelFolder:
    path: Path
    kind: str
    info: ModelInfo
    decoding: DecodingLimits

    @classmethod
    def read(cls, path: Path) -> ModelFolder:
        """Raises ModelError if the config is missing, does not parse, or lacks a value."""
        config_path = path / "model.toml"
        try:
            config = tomllib.loads(config_path.read_text(encoding="utf8"))
        except (FileNotFoundError, NotADirectoryError):
            raise ModelError(f"{path}: no model.toml there; a model is a folder with one") from None
        except (OSError, ValueError) as error:
            raise ModelError(f"{config_path}: not a readable TOML file: {error}") from None
        try:
            info = ModelInfo(
                name=_typed(config, "name", str),
                languages=_names(config, "languages"),
                sample_rate=_typed(config, "sample_rate", int),
                description=_typed(config, "description", str),
                license=_typed(config, "license", str),
            )
            limits = _typed(config, "decoding", dict)
            decoding = DecodingLimits(
                start_token=_typed(limits, "start_token", int),
                end_token=_typed(limits, "end_token", int),
                frame_samples=_typed(limits, "frame_samples", int),
                shortest_samples=_typed(limits, "shortest_samples", int),
                tokens_per_second=_typed(limits, "tokens_per_second", float),
                min_log_prob=_typed(limits, "min_log_prob", float),
                min_share_on_path=_typed(limits, "min_share_on_path", float),
                max_spread=_typed(limits, "max_spread", float),
            )
            return cls(path, _typed(config, "kind", str), info, decoding)
        except ValueError as error:
            raise ModelError(f"{config_path}: {error}") from None

    def file(self, name: str) -> Path:
        """The path of a file that must be there."""
        found = self.path / name
        if not found.is_file():
            raise ModelError(f"{self.path}: {name} is missing; `make setup` makes the embedded model's files")
        return found


def _typed(table: dict[str, Any], key: str, kind: type) -> Any:
    if key not in table:
        raise ValueError(f"{key} is missing")
    value = table[key]
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:  # not isinstance: a bool is no number here
        raise ValueError(f"{key}: got {value!r}, expected a value of type {kind.__name__}")
    return value


def _names(table: dict[str, Any], key: str) -> tuple[str, ...]:
    names = _typed(table, key, list)
    if not names or not all(isinstance(name, str) for name in names):
        raise ValueError(f"{key}: got {names!r}, expected one name or more")
    return tuple(names)
