"""Writes docs/reference/ from the code: settings, errors, metrics, commands, RPC fields. Knows where each is declared.

What a reference says stands in the code: a field's comment, a setting's description, an error's docstring. Only what a
caller is to do about an error stands here. `--check` writes nothing and exits 1 when a page is not what the code gives.
"""

from __future__ import annotations

import argparse
import contextlib
import inspect
import io
import sys
import tempfile
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING
from unittest import mock

import grpc_tools
from google.protobuf import descriptor_pb2
from grpc_tools import protoc

from parley.clients.cli import main as cli
from parley.server.node import settings as node
from parley.server.node.telemetry import Metrics
from parley.server.wires.parley import errors as wire

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pydantic.fields import FieldInfo

ROOT = Path(__file__).resolve().parent.parent
REFERENCE = ROOT / "docs" / "reference"
PROTO = ROOT / "proto" / "parley" / "asr" / "v1" / "speech.proto"
LONGEST_LINE = 120

# By reason: what a caller does about it.
REMEDIES = {
    "INVALID_OPTION": "Mend the field that BadRequest names; its text says what was found and expected.",
    "UNKNOWN_MODEL": "Ask GetModels for what the node has, or leave the field empty.",
    "BAD_MESSAGE": "A fault of the client's program: config first and once, then audio or a control.",
    "NOT_PROTOBUF": "A fault of the client's program: it was built from another protocol, or sends something else.",
    "BAD_AUDIO": "Look at the encoding and rate that were said; the text has the place in the bytes.",
    "AUDIO_TOO_LONG": "Cut the recording, or open another stream; `max_stream_s` and `max_file_s` are the limits.",
    "MESSAGE_TOO_LARGE": "Send smaller pieces (`max_chunk_bytes`), or stream a file that is over `max_file_bytes`.",
    "POOL_EXHAUSTED": "Try another node at once, or this one after RetryInfo's delay, which grows if it happens again. "
    "If it happens often the fleet is too small: see `parley_pool_busy`.",
    "TOO_MANY_STREAMS": "Close a call first. Behind a gateway set `max_streams_per_peer = 0`: it is one peer.",
    "IDLE_STREAM": "Send audio, or `CONTROL_KEEP_ALIVE` while there is none.",
    "UNREAD_RESPONSES": "Read responses while you send.",
    "LOADING": "Wait for the node's health to say SERVING (`parley health --wait 60`), or try another.",
    "DRAINING": "Call another node.",
    "UNAUTHENTICATED": "Send `authorization: Bearer TOKEN` with a token of the node's `tokens_file`.",
    "CANCELLED": "Nothing: you have cancelled it yourself.",
    "MODEL_FAILED": "Tell the operator the request id: the node's log has what happened under it.",
    "DEVICE_FAILED": "Call again: another batch may go well. The node's log tells more under the request id.",
    "DEVICE_LOST": "Call again, after RetryInfo's delay; a node with no device left ends and is started anew.",
    "INTERNAL": "A bug. Tell the operator the request id: the node's log has the traceback under it.",
}


def pages() -> dict[str, str]:
    """By file name, what it says."""
    sections = {
        "settings.md": settings(),
        "errors.md": errors(),
        "metrics.md": metrics(),
        "command-line.md": command_line(),
        "rpc.md": rpc(),
    }
    return {name: "\n".join([*lines, "", GENERATED, ""]) for name, lines in sections.items()}


GENERATED = "*Written by `make reference`; the gate holds it against the code.*"


def settings() -> Iterator[str]:
    yield "# Settings"
    yield from _prose(
        "Of a node, as `parley serve` takes them: a flag (`--pool-wait-s 2`), an environment variable "
        "(`PARLEY_POOL_WAIT_S=2`) or a line of TOML (`pool_wait_s = 2`). Flags go before the environment, "
        "the environment before the file."
    )
    titles = {first: title for title, first in node.SECTIONS.items()}
    for name, setting in node.Settings.model_fields.items():
        if name in titles or name == next(iter(node.Settings.model_fields)):
            yield from ("", f"## {titles[name][0].upper()}{titles[name][1:]}")
        yield from ("", f"### {name}", "")
        yield f"`{_flag(name, setting)}`, `{node.PREFIX}{name.upper()}`"
        yield from _prose(f"Default: {node.shown(setting.default)}. {_range(setting)}".rstrip())
        yield from _prose(_sentence(setting.description or ""))


def _flag(name: str, setting: FieldInfo) -> str:
    flag = "--" + name.replace("_", "-")
    return f"{flag}`, `--no-{flag[2:]}" if isinstance(setting.default, bool) else f"{flag} VALUE"


def _range(setting: FieldInfo) -> str:
    bounds = {
        kind: getattr(each, kind)
        for each in setting.metadata
        for kind in ("ge", "gt", "le", "lt")
        if hasattr(each, kind)
    }
    words = {"ge": "at least {}", "gt": "more than {}", "le": "at most {}", "lt": "less than {}"}
    said = " and ".join(words[kind].format(f"{bound:,}") for kind, bound in bounds.items() if bound is not None)
    return f"Range: {said}." if said else ""


def errors() -> Iterator[str]:
    yield "# Errors"
    yield from _prose(
        "A call that fails ends with a gRPC status. The node's own carry google.rpc.ErrorInfo in "
        f"`grpc-status-details-bin`: its domain is `{wire.DOMAIN}`, its `reason` one of these, its `metadata` has the "
        "`request_id` under which the node's log tells more. What gRPC itself ends has no details: a message too large "
        "to be read, too many calls open on the node, a grace that is over."
    )
    rows: list[tuple[type[Exception], wire.Row]] = sorted(
        [*wire.TABLE.items(), (Exception, wire.UNLISTED)], key=lambda row: row[1].reason
    )
    if {row.reason for _, row in rows} != REMEDIES.keys():
        raise SystemExit("scripts/reference.py: REMEDIES needs exactly the reasons of the wire's table")
    for kind, row in rows:
        yield from ("", f"## {row.reason}", "")
        details = f", with google.rpc.{row.details(Exception()).DESCRIPTOR.name}" if row.details else ""
        yield f"{row.code.name}{details}."
        yield from _prose(_when(kind))
        yield from _prose(REMEDIES[row.reason])


def _when(kind: type[Exception]) -> str:
    if kind is Exception:
        return "Anything that is in no other row."
    return " ".join((inspect.getdoc(kind) or "").split())


def metrics() -> Iterator[str]:
    yield "# Metrics"
    yield from _prose("Prometheus, on `metrics_port` under `/metrics`. Times are seconds.")
    for family in Metrics().registry.collect():
        yield from ("", f"## {family.name}", "")
        yield family.documentation


def command_line() -> Iterator[str]:
    yield "# Command line"
    yield from _prose(
        "What `--help` says of each command, in a form that does not change with Python's. The settings of "
        "`parley serve` have a page: [settings](settings.md)."
    )
    for parser in _parsers([]):
        yield from ("", f"## {parser.prog}")
        yield from _prose(parser.description or "")
        for group in parser._action_groups:
            yield from _group(parser, group)
        if parser.epilog:
            yield from ("", "```text", *_fitted(parser.epilog), "```")


def _group(parser: argparse.ArgumentParser, group: argparse._ArgumentGroup) -> Iterator[str]:
    """A group's arguments, but for settings of a node, which have a page."""
    actions = [action for action in group._group_actions if not isinstance(action, argparse._HelpAction)]
    if not actions or group.title in node.SECTIONS:
        return
    yield from ("", f"{(group.title or '').capitalize()}:", "")
    # A formatter is asked for its words only: how it lays out lines differs between versions of Python.
    formatter = argparse.HelpFormatter(parser.prog)
    for action in actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action._choices_actions:
                yield from _item(f"`{command.dest}`: {command.help}")
            continue
        default = action.dest.upper() if action.option_strings else action.dest
        values = "" if action.nargs == 0 else formatter._format_args(action, default)
        names = ", ".join(f"`{name} {values}`" if values else f"`{name}`" for name in action.option_strings)
        needed = ", needed" if action.required and action.option_strings else ""
        yield from _item(f"{names or f'`{values}`'}{needed}: {formatter._expand_help(action)}")


def _item(text: str) -> list[str]:
    shown = "`".join(part if at % 2 else part.replace("<", "\\<") for at, part in enumerate(text.split("`")))
    return _wrapped(f"- {shown}", "  ")


def _fitted(text: str) -> list[str]:
    lines = text.strip("\n").splitlines()
    return [part for line in lines for part in (_wrapped(line) or [""])]


def _parsers(path: list[str]) -> Iterator[argparse.ArgumentParser]:
    """The parser behind `parley PATH`, and those of the commands below it, in the order that its help has them."""
    asked: list[argparse.ArgumentParser] = []
    with (
        mock.patch.object(argparse.ArgumentParser, "print_help", lambda parser, file=None: asked.append(parser)),
        contextlib.suppress(SystemExit),
        contextlib.redirect_stdout(io.StringIO()),
    ):
        cli.main([*path, "--help"])
    (parser,) = asked
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices:
                yield from _parsers([*path, command])


def rpc() -> Iterator[str]:
    file = _described()
    notes = {tuple(place.path): place.leading_comments for place in file.source_code_info.location}
    yield "# RPC fields"
    yield from ("", f"Package `{file.package}`, in [speech.proto](../../proto/parley/asr/v1/speech.proto).")
    for at, service in enumerate(file.service):
        yield from ("", f"## Service {service.name}", "", *_comment(notes[6, at]))
        for place, method in enumerate(service.method):
            asks, answers = (_type(name) for name in (method.input_type, method.output_type))
            asks = f"stream of {asks}" if method.client_streaming else asks
            answers = f"stream of {answers}" if method.server_streaming else answers
            yield from ("", f"### {method.name}", "", f"- asks: {asks}", f"- answers: {answers}", "")
            yield from _comment(notes[6, at, 2, place])
    yield from ("", "## Messages")
    for at, message in enumerate(file.message_type):
        yield from ("", f"### {message.name}", "", *_comment(notes[4, at]), "")
        for place, field in enumerate(message.field):
            yield f"- `{field.name}` = {field.number}, {_kind(message, field)}:"
            yield from (f"  {line}".rstrip() for line in _comment(notes[4, at, 2, place]))
    yield from ("", "## Enums")
    for at, enum in enumerate(file.enum_type):
        yield from ("", f"### {enum.name}", "", *_comment(notes[5, at]), "")
        for place, value in enumerate(enum.value):
            yield f"- `{value.name}` = {value.number}:"
            yield from (f"  {line}".rstrip() for line in _comment(notes[5, at, 2, place]))


def _described() -> descriptor_pb2.FileDescriptorProto:
    """The protocol with its comments, which generated code does not keep."""
    root = PROTO.parents[3]
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "set"
        well_known = Path(grpc_tools.__path__[0]) / "_proto"
        flags = [f"-I{root}", f"-I{well_known}", f"--descriptor_set_out={out}", "--include_source_info", str(PROTO)]
        if status := protoc.main(["protoc", *flags]):
            raise SystemExit(f"protoc exited with {status}")
        return descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes()).file[0]


def _kind(message: descriptor_pb2.DescriptorProto, field: descriptor_pb2.FieldDescriptorProto) -> str:
    kinds = descriptor_pb2.FieldDescriptorProto
    kind = _type(field.type_name) if field.type_name else f"{kinds.Type.Name(field.type)[len('TYPE_') :].lower()}"
    if field.label == kinds.LABEL_REPEATED:
        return f"repeated {kind}"
    if field.proto3_optional:
        return f"optional {kind}"
    return f"{kind}, of `{message.oneof_decl[field.oneof_index].name}`" if field.HasField("oneof_index") else kind


def _type(full: str) -> str:
    name = full.rsplit(".", 1)[-1]
    return f"[{name}](#{name.lower()})" if full.startswith(".parley.") else name


def _comment(text: str) -> Iterable[str]:
    """A comment's lines, as they stand: some are lists."""
    return (line.removeprefix(" ") for line in text.rstrip().splitlines())


def _prose(text: str) -> Iterator[str]:
    yield ""
    yield from _wrapped(text)


def _wrapped(text: str, indent: str = "") -> list[str]:
    """Lines that fit. Links and flags stay whole."""
    return textwrap.wrap(text, LONGEST_LINE, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + "."


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare with the committed pages instead of writing")
    check = parser.parse_args().check
    fresh = pages()
    committed = {path.name: path.read_text(encoding="utf-8") for path in REFERENCE.glob("*.md")}
    if not check:
        REFERENCE.mkdir(parents=True, exist_ok=True)
        for name in fresh.keys() | committed.keys():
            if name in fresh:
                (REFERENCE / name).write_text(fresh[name], encoding="utf-8")
            else:
                (REFERENCE / name).unlink()
        return 0
    stale = sorted(name for name in fresh.keys() | committed.keys() if fresh.get(name) != committed.get(name))
    for name in stale:
        print(f"docs/reference/{name} is not what the code gives: run `make reference`", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
