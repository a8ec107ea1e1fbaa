"""What the commands that call a server have in common: its address, its credentials, how a failure reads."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from parley.wire.channel import DEFAULT_ADDRESS, Tls
from parley.wire.errors import CallError, NotAuthorized, Unavailable

if TYPE_CHECKING:
    import argparse

FAILED, USAGE, INTERRUPTED = 1, 2, 130


class UsageFault(Exception):
    """The command line asks for something that cannot be. Says what was found and what is expected."""


class Access(TypedDict):
    """What both clients take to reach a server."""

    address: str
    token: str | None
    tls: Tls | None


def add_access(parser: argparse.ArgumentParser) -> None:
    """Which server, and how it is reached."""
    group = parser.add_argument_group("the server")
    group.add_argument(
        "--server",
        metavar="HOST:PORT",
        default=os.environ.get("PARLEY_SERVER", DEFAULT_ADDRESS),
        help=f"where it listens (default: $PARLEY_SERVER, else {DEFAULT_ADDRESS})",
    )
    add_credentials(group)


def add_credentials(group: argparse._ArgumentGroup) -> None:
    """How a server is reached."""
    group.add_argument("--token-file", metavar="FILE", type=Path, help="file that holds the bearer token")
    group.add_argument("--tls", action="store_true", help="use TLS, and trust the usual authorities")
    group.add_argument("--ca", metavar="FILE", type=Path, help="use TLS, and trust this authority (PEM)")
    group.add_argument("--cert", metavar="FILE", type=Path, help="use TLS with this client certificate (PEM)")
    group.add_argument("--key", metavar="FILE", type=Path, help="the client certificate's key (PEM)")


def access(args: argparse.Namespace) -> Access:
    try:
        tls = Tls(args.ca, args.cert, args.key) if args.tls or args.ca or args.cert or args.key else None
    except ValueError as fault:
        raise UsageFault(str(fault)) from None
    token = args.token_file.read_text(encoding="utf-8").strip() if args.token_file else None
    return Access(address=args.server, token=token, tls=tls)


def positive(text: str) -> float:
    """A number above 0, for argparse."""
    number = float(text)
    if not 0 < number < float("inf"):
        raise ValueError
    return number


def whole(text: str) -> int:
    """A whole number above 0, for argparse."""
    number = int(text)
    if number < 1:
        raise ValueError
    return number


# argparse names a type by this when it refuses a value.
positive.__name__ = "number above 0"
whole.__name__ = "whole number above 0"


def problem(error: OSError | ValueError) -> str:
    """A failure on this side, without Python's numbers."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error)


def explain(error: CallError, server: str) -> str:
    """A failed call for the eyes of who typed the command."""
    if isinstance(error, Unavailable):
        return f"no service at {server} ({error.text}). Is a node running there? `parley serve` starts one."
    if isinstance(error, NotAuthorized):
        return f"{error}. Name the file that holds your token with --token-file."
    return str(error)
