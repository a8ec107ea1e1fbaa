"""Where the models lie that come with Parley. Knows folders and their order, not what a model is.

A model is complete once its folder has SHA256SUMS: what puts a model there writes that file last.
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

VARIABLE = "PARLEY_MODELS"
SUMS = "SHA256SUMS"


def checkout() -> Path | None:
    """The repository's models/, if this runs from a checkout."""
    root = Path(__file__).resolve().parents[4]
    return root / "models" if (root / "pyproject.toml").is_file() and (root / "models").is_dir() else None


def home() -> Path:
    """Where `parley models get` puts models: $PARLEY_MODELS, else the checkout's, else the user's cache."""
    if given := os.environ.get(VARIABLE):
        return Path(given).absolute()
    if folder := checkout():
        return folder
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser().absolute() / "parley" / "models"


def places() -> list[Path]:
    """All folders that models may lie in, in the order of the search: home, the checkout's, those of wheels."""
    wheels = importlib.util.find_spec("parley.models")  # no code is there: a wheel puts its model's folder there
    carried = [Path(place) for place in (wheels and wheels.submodule_search_locations) or ()]
    return list(dict.fromkeys(place for place in (home(), checkout(), *carried) if place))


def find(name: str) -> Path:
    """A model's folder. Of one that is complete nowhere, where it would be put."""
    folders = [place / name for place in places()]
    return next((folder for folder in folders if (folder / SUMS).is_file()), folders[0])
