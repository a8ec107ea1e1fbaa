"""Writes docs/reference/ from the code: settings, errors, metrics, commands, RPC fields. Knows where each is declared.

What a page says stands in the code: a field's comment, a setting's description, an error's meaning. `--check` writes
nothing and exits 1 when a page is not what the code gives.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import sys
import tempfile
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import grpc_tools
from google.protobuf import descriptor_pb2
from grpc_tools import protoc
from pydantic import TypeAdapter

from parley.clients.cli import main as cli
from parley.server.kit.settings import Setting, settings_of
from parley.server.kit.statuses import UNLISTED
from parley.server.node.program import PROGRAM
from parley.server.node.telemetry import Metrics
from parley.server.wires.parley.errors import STATUSES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


ROOT = Path(__file__).resolve().parent.parent
REFERENCE = ROOT / "docs" / "reference"
PROTO = ROOT / "proto" / "parley" / "asr" / "v1" / "speech.proto"
LONGEST_LINE = 120


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
    example, value = PROGRAM.example
    yield from _prose(
        f"Of a node, as `parley serve` takes them: a flag (`{_flag(example)} {value}`), an environment variable "
        f"(`{PROGRAM.prefix}{example.upper()}={value}`) or a line of TOML (`{example} = {value}`). Flags go before the "
        "environment, the environment before the file. The default models are a checkout's, else the user's: `parley "
        "models list` says where they are."
    )
    titles = {first: title for title, first in PROGRAM.sections.items()}
    for one in settings_of(PROGRAM.settings):
        if one.name in titles:
            yield from ("", f"## {_sentence(titles[one.name])}")
        flag = _flag(one.name)
        flags = f"`{flag}`, `--no-{flag[2:]}`" if isinstance(one.default, bool) else f"`{flag} VALUE`"
        yield from ("", f"### {one.name}", "", f"{flags}, `{PROGRAM.prefix}{one.name.upper()}`")
        allowed = _range(one)
        yield from _prose(f"Default: {PROGRAM.shown(one.default)}.{f' Range: {allowed}.' if allowed else ''}")
        yield from _prose(f"{_sentence(one.description)}.")


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _range(one: Setting) -> str:
    """What values a setting may have: as it says itself, or one by one, as its type does."""
    schema = TypeAdapter[Any](one.type).json_schema()
    choices = schema.get("items", schema).get("enum", ())
    return one.range or (f"one of {', '.join(choices)}" if choices else "")


def errors() -> Iterator[str]:
    yield "# Errors"
    yield from _prose(
        "A call that fails ends with a gRPC status. The node's own carry google.rpc.ErrorInfo in "
        f"`grpc-status-details-bin`: its domain is `{STATUSES.domain}`, its `reason` one of these, its `metadata` has "
        "the `request_id` under which the node's log tells more. What gRPC itself ends has no details: a message too "
        "large to be read, too many calls open on the node, a grace that is over."
    )
    for row in sorted({*STATUSES.rows.values(), UNLISTED}, key=lambda row: row.reason):
        details = [name for name, there in (("BadRequest", row.field), ("RetryInfo", row.retry)) if there]
        with_details = f", with google.rpc.{' and '.join(details)}" if details else ""
        yield from ("", f"## {row.reason}", "", f"{row.code.name}{with_details}.")
        yield from _prose(row.meaning)
        yield from _prose(row.remedy)


def metrics() -> Iterator[str]:
    yield "# Metrics"
    yield from _prose(
        "Prometheus, on [`metrics_port`](settings.md#metrics_port) under `/metrics`; beside them those that every "
        "process has (`process_cpu_seconds_total`, `process_resident_memory_bytes` and so on). Times are seconds. A "
        "histogram is shown as `_bucket`, `_sum` and `_count`."
    )
    for one in Metrics().meanings:
        name = f"{one.name}_total" if one.kind == "counter" else one.name
        labels = f", by {', '.join(f'`{label}`' for label in one.labels)}" if one.labels else ""
        yield from ("", f"## {name}", "", f"{one.kind.capitalize()}{labels}.")
        yield from _prose(f"{one.text}.")


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
    if not actions or group.title in PROGRAM.sections:
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
    return text[:1].upper() + text[1:]


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
