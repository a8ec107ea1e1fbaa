"""The `parley` command: its arguments, and which module runs which of its commands. Imports those when they run."""

from __future__ import annotations

import argparse
import os
import sys
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from parley.clients.cli.common import (
    FAILED,
    INTERRUPTED,
    USAGE,
    UsageFault,
    add_access,
    explain,
    positive,
    problem,
    whole,
)
from parley.clients.cli.extras import WANTED, advice, lacking
from parley.clients.cli.rendering import FORMATS
from parley.clients.config import SAMPLE_BYTES
from parley.clients.core import TRANSCRIBE_TIMEOUT_S
from parley.wire.errors import CallError

if TYPE_CHECKING:
    from collections.abc import Sequence

EXAMPLES = """\
try it:
  parley models get                       the default models, once; no network is needed from then on
  parley serve                            start a node on this machine; leave it running
  parley health --wait 30                 in another shell: wait until it serves
  parley transcribe meeting.mp3           a recording's words
  parley transcribe *.wav --format srt --output-dir subtitles
  parley stream call.wav                  a recording played as if it were live
  parley stream --mic                     your own voice
  parley lm build notes.txt --output my.lm    a language model of your own words
  parley capacity --p99-final 100ms       how many calls this machine holds

`parley COMMAND --help` tells more. Exit status: 0 all went well, 1 something failed, 2 wrong usage.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit status."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    if arguments and arguments[0] in WANTED:
        return _enter(arguments[0], arguments[1:])
    args = _parser().parse_args(arguments)
    try:
        return _run(args)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has gone, as `head` does. Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except UsageFault as fault:
        return _refuse(args.command, str(fault), USAGE)
    except (CallError, OSError, ValueError) as error:
        if _interrupted(error):
            return INTERRUPTED
        text = explain(error, args.server) if isinstance(error, CallError) else problem(error)
        return _refuse(args.command, text, FAILED)


def _enter(command: str, arguments: list[str]) -> int:
    """Runs a command that is a tool of its own, with --help and all, imported when it is asked for."""
    try:
        match command:
            case "serve":
                from parley.server.node.main import main as serve

                return serve(arguments)
            case "lm":
                from parley.training.lm.cli import main as lm

                return lm(arguments)
            case "graph":
                from parley.training.graph.cli import main as graph

                return graph(arguments)
            case "models":
                from parley.training.models.cli import main as models

                return models(arguments)
            case _:
                from parley.clients.capacity.cli import main as capacity

                return capacity(arguments)
    except ModuleNotFoundError as error:
        # Of a package that is not there. One that is there and cannot be imported is no extra's absence.
        extra = lacking(command, error.name)
        if extra is None:
            raise
        return _refuse(command, advice(extra, error.name), USAGE)


def _interrupted(error: BaseException | None) -> bool:
    """Whether it came while a Ctrl-C was handled: that cancels the call, and a cancelled call has its own error."""
    while error is not None:
        if isinstance(error, KeyboardInterrupt):
            return True
        error = error.__context__
    return False


def _run(args: argparse.Namespace) -> int:
    if args.command == "transcribe":
        from parley.clients.cli import transcribe as cli_transcribe

        return cli_transcribe.run(args)
    if args.command == "stream":
        from parley.clients.cli import stream as cli_stream

        return cli_stream.run(args)
    from parley.clients.cli import health as cli_health

    return cli_health.run(args)


def _refuse(command: str, problem: str, status: int) -> int:
    print(f"parley {command}: {problem}", file=sys.stderr)
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="parley",
        description="Turns speech into text, on your own machines: runs a node, and calls one.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"parley {metadata.version('parley-asr')}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", title="commands")
    commands.add_parser("serve", help="run a node; see `parley serve --help`", add_help=False)
    commands.add_parser("lm", help="make and judge language models; see `parley lm --help`", add_help=False)
    commands.add_parser("graph", help="make graphs for the lattice search; see `parley graph --help`", add_help=False)
    commands.add_parser("models", help="get the default models; see `parley models --help`", add_help=False)
    commands.add_parser("capacity", help="how many calls a node holds; see `parley capacity --help`", add_help=False)
    _add_transcribe(commands.add_parser("transcribe", help="turn recordings into text or subtitles"))
    _add_stream(commands.add_parser("stream", help="send live audio, or a recording as if it were live"))
    _add_health(commands.add_parser("health", help="ask a server how it is"))
    return parser


def _add_transcribe(parser: argparse.ArgumentParser) -> None:
    parser.description = "Turns recordings into text or subtitles: many at once, in any format that FFmpeg reads."
    parser.add_argument("files", metavar="FILE", nargs="+", help="a recording; `-` is standard input")
    parser.add_argument("--format", choices=FORMATS, default="txt", help="default: %(default)s; json: one line a file")
    parser.add_argument(
        "--output-dir", metavar="DIR", type=Path, help="write each transcript into a file there, made if need be"
    )
    parser.add_argument("--jobs", metavar="N", type=whole, default=4, help="files at a time (default: %(default)s)")
    parser.add_argument("--words", action="store_true", help="in json: each word with its times")
    _add_wishes(parser)
    parser.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=positive,
        default=TRANSCRIBE_TIMEOUT_S,
        help="give up on a file after so long (default: %(default)g)",
    )
    add_access(parser)


def _add_stream(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Sends audio as it comes and shows the words as they come: those of an open utterance repainted in place, "
        "final ones on lines of their own."
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("file", metavar="FILE", nargs="?", help="a recording; `-` is raw audio on standard input")
    source.add_argument("--mic", action="store_true", help="the microphone, until Ctrl-C; needs parley-asr[mic]")
    parser.add_argument("--no-pace", action="store_true", help="send a recording as fast as the server takes it")
    raw = parser.add_argument_group("raw audio, which has no header")
    names = [encoding.value for encoding in SAMPLE_BYTES]
    raw.add_argument("--encoding", choices=names, help="the audio has no header, and is this")
    raw.add_argument("--rate", metavar="HZ", type=whole, help="its samples a second")
    raw.add_argument("--channels", metavar="N", type=whole, default=1, help="its channels (default: %(default)s)")
    _add_wishes(parser)
    parser.add_argument("--timeout", metavar="SECONDS", type=positive, help="end the call after so long")
    add_access(parser)


def _add_wishes(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--separate-channels", action="store_true", help="one speaker a channel: label who says what")
    parser.add_argument("--model", default="", help="one of those that `parley health` lists (default: the server's)")
    parser.add_argument("--language", metavar="TAG", default="", help="such as en-GB (default: the model's)")
    parser.add_argument("--written", action="store_true", help='numbers and times as one writes them: "25", "3:30"')
    parser.add_argument(
        "--hotword",
        metavar="PHRASE",
        action="append",
        default=[],
        help="to be heard more readily, such as a name; may stand more than once; needs a first pass that searches",
    )
    parser.add_argument(
        "--hotwords",
        metavar="FILE",
        type=Path,
        help="more of them, one a line, perhaps with a tab and a boost (0 to 20)",
    )


def _add_health(parser: argparse.ArgumentParser) -> None:
    parser.description = "Tells whether a server serves, and with which models. Exit status 0 if it does, else 1."
    parser.add_argument("--wait", metavar="SECONDS", type=positive, default=0.0, help="wait so long until it serves")
    parser.add_argument(
        "--timeout", metavar="SECONDS", type=positive, default=5.0, help="for an answer (default: %(default)g)"
    )
    add_access(parser)
