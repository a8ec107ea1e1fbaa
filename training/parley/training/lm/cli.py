"""`parley lm`: its commands and arguments. Knows what a person types, not how a model is made or judged."""

from __future__ import annotations

import argparse
import math
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

FAILED, USAGE, INTERRUPTED = 1, 2, 130
UNITS = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 1 << 10, "MIB": 1 << 20, "GIB": 1 << 30}
LEAST_ORDER, MOST_ORDER = 2, 5
MOST_SPARE = 10.0
# Of the counting options, what each is if nobody gives it.
CORPUS_DEFAULTS = {"order": 3, "min_count": 1, "max_words": None, "keep_spelling": False}

EXAMPLES = """\
try it:
  parley lm build calls.txt notes.txt.gz --output calls.lm     from your own text, one sentence a line
  zcat big.gz | parley lm build - --output big.lm --max-size 100MB --max-words 200000
  parley lm build --arpa theirs.arpa.gz --output theirs.lm     from another tool's model
  parley lm build --sphinx --output models/lm-en/en.lm --max-size 30MB
  parley lm check calls.lm --text held_out.txt                 how well it foretells text
  parley lm check calls.lm --manifest test/manifest.jsonl --model models/en-streaming

`parley lm COMMAND --help` tells more. Exit status: 0 all went well, 1 something failed, 2 wrong usage.
"""


class UsageFault(Exception):
    """The command line asks for something that cannot be. Says what was found and what is expected."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit status."""
    args = parser().parse_args(argv)
    # Imported when it runs: --help should not wait for them.
    from parley.decoder.errors import ParleyError
    from parley.training.lm.errors import BadModel

    try:
        if args.command == "build":
            _build(args)
        else:
            _check(args)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has gone, as `head` does. Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except UsageFault as fault:
        return _refuse(args.command, str(fault), USAGE)
    except OSError as error:
        text = f"{error.filename}: {error.strerror}" if error.filename and error.strerror else str(error)
        return _refuse(args.command, text, FAILED)
    except MemoryError:
        return _refuse(args.command, "out of memory; fewer words (--max-words) or a lower --order take less", FAILED)
    except (BadModel, ParleyError) as error:
        return _refuse(args.command, str(error), FAILED)
    return 0


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="parley lm",
        description="Makes and judges word n-gram language models, in KenLM's binary format (probing).",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND", title="commands")
    _add_build(commands.add_parser("build", help="make a model from text, or from another model"))
    _add_check(commands.add_parser("check", help="say what a model is and how good it is"))
    return top


def _add_build(build: argparse.ArgumentParser) -> None:
    build.description = (
        "Counts n-grams, smooths them (interpolated modified Kneser-Ney), prunes them if asked to, and writes them. "
        "The text has one sentence a line."
    )
    build.add_argument("corpus", metavar="CORPUS", nargs="*", help="text, or text in .gz; `-` is standard input")
    build.add_argument(
        "--output",
        metavar="FILE",
        type=Path,
        required=True,
        help="the model; an ARPA file if its name ends in .arpa or .arpa.gz, else KenLM's binary",
    )
    source = build.add_argument_group("instead of a corpus").add_mutually_exclusive_group()
    source.add_argument("--arpa", metavar="FILE", type=Path, help="a model as ARPA file, perhaps in .gz")
    source.add_argument(
        "--sphinx",
        metavar="FILE",
        nargs="?",
        const="",
        help="a model of pocketsphinx; without FILE the English one in its package",
    )
    counting = build.add_argument_group("counting a corpus")
    counting.add_argument(
        "--order", metavar="N", type=_order, help=f"words in the longest n-gram (default: {CORPUS_DEFAULTS['order']})"
    )
    counting.add_argument("--min-count", metavar="N", type=_whole, help="rarer words are <unk> (default: 1)")
    counting.add_argument("--max-words", metavar="N", type=_whole, help="keep so many words, the most frequent")
    counting.add_argument(
        "--keep-spelling",
        action="store_true",
        default=None,
        help="take words as they stand between blanks (default: lower case, letters and apostrophes only)",
    )
    size = build.add_argument_group("making it smaller")
    pruning = size.add_mutually_exclusive_group()
    pruning.add_argument(
        "--prune",
        metavar="SHARE",
        type=_share,
        help="leave out n-grams without which perplexity rises by less than this share, such as 1e-8",
    )
    pruning.add_argument(
        "--max-size", metavar="SIZE", type=_size, help="leave out the least useful until the binary fits, such as 30MB"
    )
    size.add_argument(
        "--spare",
        metavar="X",
        type=_spare,
        default=1.5,
        help="places in the binary's tables for each n-gram; fewer are smaller and slower (default: %(default)s)",
    )


def _add_check(check: argparse.ArgumentParser) -> None:
    check.description = (
        "Says a model's size, order and counts; of texts its perplexity, with and without the words it does not have, "
        "and their share; of recordings how many words are wrong with it and without it."
    )
    check.add_argument("file", metavar="FILE", type=Path, help="a model as `parley lm build` writes it, or KenLM")
    check.add_argument(
        "--text", metavar="FILE", nargs="+", action="extend", default=[], help="text, one sentence a line, perhaps .gz"
    )
    check.add_argument(
        "--manifest",
        metavar="FILE",
        nargs="+",
        action="extend",
        default=[],
        type=Path,
        help='recordings: a JSON object a line, {"audio": path beside the manifest, "text": what is said}',
    )
    check.add_argument("--keep-spelling", action="store_true", help="take words as they stand between blanks")
    decoding = check.add_argument_group("decoding the recordings")
    decoding.add_argument(
        "--model", metavar="FOLDER", type=Path, help="a first pass's model: decode the manifests' recordings with it"
    )
    decoding.add_argument(
        "--language-weight", metavar="X", type=float, help="of the language model's scores (default: FOLDER's)"
    )
    decoding.add_argument(
        "--word-bonus", metavar="X", type=float, help="for each word, natural log (default: FOLDER's)"
    )
    decoding.add_argument("--beam", metavar="N", type=_whole, help="hypotheses of an utterance (default: the node's)")


def _build(args: argparse.Namespace) -> None:
    from rich.console import Console

    from parley.training.lm import build, sphinx
    from parley.training.lm.reporter import Reporter

    counting = _counting(args)
    if args.output.suffix == ".gz" and not build.is_arpa(args.output):
        raise UsageFault(f"--output: got {args.output}, expected a name that ends in .arpa.gz, or not in .gz")
    if not args.output.parent.is_dir():
        raise UsageFault(f"--output: {args.output.parent} is no folder")
    with Reporter(Console(stderr=True)) as reporter:
        if args.arpa is not None:
            model = build.from_arpa(args.arpa, reporter)
        elif args.sphinx is not None:
            model = build.from_sphinx(Path(args.sphinx) if args.sphinx else sphinx.installed_model(), reporter)
        else:
            model = build.from_corpus(build.Corpus(tuple(args.corpus), **counting), reporter)
        pruning = build.Pruning(args.prune or 0.0, args.max_size)
        model = build.pruned(model, pruning, args.spare, reporter)
        build.write(model, args.output, reporter, args.spare)


def _counting(args: argparse.Namespace) -> dict[str, Any]:
    """The counting options, which only a corpus has a use for."""
    other = "--arpa" if args.arpa is not None else "--sphinx" if args.sphinx is not None else ""
    given = {name: getattr(args, name) for name in CORPUS_DEFAULTS if getattr(args, name) is not None}
    if other and args.corpus:
        raise UsageFault(f"got {args.corpus[0]} and {other}, expected a corpus or another model, not both")
    if other and given:
        raise UsageFault(
            f"--{next(iter(given)).replace('_', '-')} is for counting a corpus, {other} has its counts made"
        )
    if not other and not args.corpus:
        raise UsageFault("expected a CORPUS, --arpa or --sphinx to build from")
    return {**CORPUS_DEFAULTS, **given}


def _check(args: argparse.Namespace) -> None:
    from rich.console import Console

    from parley.training.lm import check
    from parley.training.lm.decode import Search
    from parley.training.lm.reporter import Reporter

    if args.model is not None and not args.manifest:
        raise UsageFault("--model decodes recordings: expected a --manifest that lists some")
    wanted = check.Check(
        args.file,
        tuple(args.text),
        tuple(args.manifest),
        args.keep_spelling,
        args.model,
        Search(None, args.language_weight, args.word_bonus, args.beam),
    )
    with Reporter(Console(stderr=True)) as reporter:
        try:
            for line in check.run(wanted, reporter):
                print(line, flush=True)
        except ValueError as fault:
            raise UsageFault(str(fault)) from None


def _whole(text: str) -> int:
    return int(_number(text, "a whole number above 0", lambda number: number >= 1 and number.is_integer()))


def _order(text: str) -> int:
    expected = f"{LEAST_ORDER} to {MOST_ORDER}"
    return int(_number(text, expected, lambda number: number in range(LEAST_ORDER, MOST_ORDER + 1)))


def _share(text: str) -> float:
    return _number(text, "a share between 0 and 1, such as 1e-8", lambda number: 0 < number < 1)


def _spare(text: str) -> float:
    return _number(text, f"more than 1, {MOST_SPARE:g} at most", lambda number: 1 < number <= MOST_SPARE)


def _size(text: str) -> int:
    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?([KMG]I?B|)", text.strip().upper())
    if found is None or not float(found[1]):
        raise argparse.ArgumentTypeError(f"got {text}, expected a size such as 30MB, 1.5GB or 512KiB")
    return int(float(found[1]) * UNITS[found[2]])


def _number(text: str, expected: str, allowed: Callable[[float], bool]) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not allowed(number):
        raise argparse.ArgumentTypeError(f"got {text}, expected {expected}")
    return number


def _refuse(command: str, problem: str, status: int) -> int:
    sys.stderr.write(f"parley lm {command}: {problem}\n")
    return status


if __name__ == "__main__":
    sys.exit(main())
