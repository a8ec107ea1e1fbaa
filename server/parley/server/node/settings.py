"""A node's settings: names, meanings, units, ranges, and where a value comes from. Knows no file but its own.

A value is taken from the command line, else the environment (PARLEY_...), else the TOML file, else its default. All
faults of all sources are collected and raised together, each naming the source that has to be mended.
"""

from __future__ import annotations

import argparse
import enum
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ByteSize, ConfigDict, Field, ValidationError

from parley.decoder.config import RecognizerConfig
from parley.decoder.values import EndpointRules, Passes, Precision, SearchKind
from parley.server.node import preflight

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pydantic_core import ErrorDetails

PREFIX = "PARLEY_"
DEFAULT_FILE = Path("parley.toml")
MODELS = Path(__file__).resolve().parents[4] / "models"
DEFAULT_FIRST_MODEL = MODELS / "en-streaming"
DEFAULT_SECOND_MODEL = MODELS / "moonshine-tiny-en"
DEFAULT_LANGUAGE_MODEL = MODELS / "lm-en" / "en.lm"
DEFAULT = "default"  # where a value is from that nobody gave
MIB = 1 << 20
EMPTY_SAYS_NONE = ("language_model",)  # of the environment: elsewhere what is empty there is not given
_CORE = RecognizerConfig(DEFAULT_FIRST_MODEL, DEFAULT_SECOND_MODEL)  # its defaults are ours
_RULES = EndpointRules()


def _listed(value: object) -> object:
    return [part.strip() for part in value.split(",")] if isinstance(value, str) else value


def _none_if_empty(value: object) -> object:
    return None if value == "" else value


Listed = Annotated[tuple[str, ...], BeforeValidator(_listed), Field(min_length=1)]
OptionalPath = Annotated[Path | None, BeforeValidator(_none_if_empty)]
Weight = Annotated[float | None, Field(allow_inf_nan=False)]
Port = Annotated[int, Field(ge=0, le=65_535)]
MetricsPort = Annotated[int, Field(ge=-1, le=65_535)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Bytes = Annotated[ByteSize, Field(ge=1024, le=2_000 * MIB)]  # gRPC counts a message's bytes in 31 bits


class Settings(BaseModel):
    """All settings of a node, each valid by itself. Sections are for --help only: the TOML file has none."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=False)

    host: str = Field("127.0.0.1", description="address to listen on; 0.0.0.0 or :: for all")
    port: Port = Field(50_051, description="port to listen on; 0: a free one")
    metrics_host: str = Field("127.0.0.1", description="address of the Prometheus metrics")
    metrics_port: MetricsPort = Field(9_090, description="port of the Prometheus metrics; 0: a free one, -1: none")

    passes: Passes = Field(
        _CORE.passes,
        description="what decodes: first (as the audio comes), second (whole utterances, better words), or both "
        "(interim results from the first, finals from the second)",
    )
    first_model_dir: Path = Field(
        DEFAULT_FIRST_MODEL, description="folder of the first pass's model, with its model.toml; unused with second"
    )
    second_model_dir: Path = Field(
        DEFAULT_SECOND_MODEL, description="folder of the second pass's model, with its model.toml; unused with first"
    )
    devices: Listed = Field(
        _CORE.devices,
        description="devices to decode on: auto, cpu, or cuda:0, cuda:1, ...; cpu:0, cpu:1, ...: the CPU in shares, "
        "each with decoders of its own, which under load do more together and alone are slower",
    )
    decoders: int = Field(_CORE.decoders, description="streams and files decoded at once, a device")
    threads: int = Field(
        _CORE.threads,
        description="processor threads of a device; 0: one a core, or of a share of the CPU as many as come to it",
    )
    chunk_ms: int = Field(
        _CORE.chunk_ms,
        description="audio in a step of the first pass, ms: 160, 320 or 640; shorter is sooner, longer costs less",
    )
    max_chunk_batch: int = Field(_CORE.max_chunk_batch, description="calls in a step of the first pass, at most")
    precision: Precision = Field(
        _CORE.precision,
        description="arithmetic of the first pass's own network: int8 (on a CPU with VNNI: twice as fast), float32, or "
        "auto: int8 where it can be had",
    )
    final_budget_ms: int = Field(
        _CORE.final_budget_ms,
        description="with both passes, longest wait of a live final for the second, ms; then it is the first's; 0: any",
    )
    max_batch: int = Field(_CORE.max_batch, description="whole utterances in a batch, at most")
    max_batch_s: float = Field(_CORE.max_batch_s, description="audio in a batch of files, at most, s; padding counts")
    max_live_batch_s: float = Field(
        _CORE.max_live_batch_s, description="audio in a batch of live calls, at most, s; the next final may wait for it"
    )
    partial_interval_ms: int = Field(
        _CORE.partial_interval_ms,
        description="least time between interim results of a stream by the second pass, ms; 0: none by either pass",
    )

    search: SearchKind = Field(
        _CORE.search,
        description="how the first pass's words are found: best_path (the likeliest token of each frame), beam "
        "(hypotheses, with a language model and hotwords) or k2 (for finals and files lattices of whole utterances)",
    )
    beam: int = Field(_CORE.beam, description="hypotheses that an utterance keeps open, 1 to 64; unused with best_path")
    language_model: OptionalPath = Field(
        DEFAULT_LANGUAGE_MODEL,
        description="file of the first pass's language model, as `parley lm build` makes it; an empty string for none",
    )
    language_weight: Weight = Field(
        _CORE.language_weight,
        description="how much the language model counts, 0 to 5; none: as the first pass's model.toml says",
    )
    word_bonus: Weight = Field(
        _CORE.word_bonus,
        description="added for every word beside a language model, natural logarithm, -10 to 10; none: as the first "
        "pass's model.toml says",
    )
    hotwords_file: OptionalPath = Field(
        _CORE.hotwords, description="phrases heard more readily in every call, one a line, its boost behind a tab"
    )

    graphs_dir: OptionalPath = Field(
        _CORE.graphs_dir,
        description="with k2, folder of graphs that lattices are searched over: NAME.graph, by `parley graph build`",
    )
    graph: str = Field(
        _CORE.graph,
        description="with k2, name of the graph for recordings, unless a request names one; tokens: all that the model "
        "can say, which is always there",
    )
    lattice_finals: bool = Field(_CORE.lattice_finals, description="with k2, finals of live calls are searched so too")

    vad_aggressiveness: int = Field(_CORE.vad_aggressiveness, description="how readily sound is called noise, 0 to 3")
    silence_before_speech_ms: int = Field(
        _RULES.silence_before_speech_ms, ge=0, le=3_600_000, description="silence that gives NO_SPEECH, ms; 0: never"
    )
    silence_after_speech_ms: int = Field(
        _RULES.silence_after_speech_ms, ge=100, le=10_000, description="silence that ends an utterance, ms"
    )
    longest_utterance_ms: int = Field(
        _RULES.longest_utterance_ms, ge=2_000, le=30_000, description="length at which an utterance is cut, ms"
    )

    stream_wait_s: float = Field(
        0.0,
        ge=0,
        allow_inf_nan=False,
        description="longest wait of a live call for a free decoder, s; 0: refused at once",
    )
    pool_wait_s: Seconds = Field(5.0, description="longest wait of a file for a free decoder, s")
    idle_timeout_s: Seconds = Field(60.0, description="longest silence of a stream's client, s; KEEP_ALIVE counts")
    max_stream_s: Seconds = Field(14_400.0, description="audio in one stream, at most, s")
    max_file_s: Seconds = Field(14_400.0, description="audio in one file, at most, s")
    max_file_bytes: Bytes = Field(ByteSize(128 * MIB), description="bytes of one file, at most; 128MiB or a number")
    max_chunk_bytes: Bytes = Field(
        ByteSize(MIB), description="bytes of one streaming message, at most; 1MiB or a number"
    )
    max_streams_per_peer: int = Field(
        0, ge=0, description="calls of one client address at once, at most; 0: any number"
    )
    keepalive_s: Seconds = Field(60.0, description="quiet time after which a client's connection is probed, s")
    keepalive_timeout_s: Seconds = Field(20.0, description="time for the answer to a probe, s")
    grace_s: float = Field(30.0, ge=0, allow_inf_nan=False, description="time for live calls after SIGTERM, s")

    tls_cert: Path | None = Field(None, description="the node's certificate chain, PEM: turns TLS on")
    tls_key: Path | None = Field(None, description="the certificate's private key, PEM")
    tls_client_ca: Path | None = Field(None, description="CA of the clients' certificates, PEM: turns mutual TLS on")
    tokens_file: Path | None = Field(None, description="bearer tokens, one a line: calls need one, health does not")

    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="least level logged: debug, info, warning or error"
    )
    log_format: Literal["auto", "json", "pretty"] = Field(
        "auto", description="json, pretty, or auto: pretty on a terminal"
    )
    log_words: bool = Field(False, description="log the transcripts of finals: for debugging only")

    def recognizer(self) -> RecognizerConfig:
        """The decoder's part. Raises ValueError for what only the decoder can judge."""
        return RecognizerConfig(
            first_model_dir=self.first_model_dir,
            second_model_dir=self.second_model_dir,
            passes=self.passes,
            devices=self.devices,
            decoders=self.decoders,
            threads=self.threads,
            chunk_ms=self.chunk_ms,
            max_chunk_batch=self.max_chunk_batch,
            precision=self.precision,
            final_budget_ms=self.final_budget_ms,
            max_batch=self.max_batch,
            max_batch_s=self.max_batch_s,
            max_live_batch_s=self.max_live_batch_s,
            partial_interval_ms=self.partial_interval_ms,
            vad_aggressiveness=self.vad_aggressiveness,
            search=self.search,
            beam=self.beam,
            language_model=self.language_model_file(),
            language_weight=self.language_weight,
            word_bonus=self.word_bonus,
            hotwords=self.hotwords_file,
            graphs_dir=self.graphs_dir,
            graph=self.graph,
            lattice_finals=self.lattice_finals,
        )

    def searches(self) -> bool:
        """Whether the node has a search with a language model and hotwords."""
        return self.passes is not Passes.SECOND and self.search is not SearchKind.BEST_PATH

    def language_model_file(self) -> Path | None:
        """None without one. That of the default may be missing: nobody has asked for it."""
        path = self.language_model
        if path is None or "language_model" in self.model_fields_set or path.is_file():
            return path
        return None

    def model_dirs(self) -> dict[Passes, Path]:
        """The models' folders, by the pass that uses each; of a pass that the node does without, none."""
        folders = {Passes.FIRST: self.first_model_dir, Passes.SECOND: self.second_model_dir}
        return {by: folder for by, folder in folders.items() if self.passes in (by, Passes.BOTH)}

    def endpoint_rules(self) -> EndpointRules:
        """When an utterance ends, unless a request says otherwise."""
        return EndpointRules(
            silence_before_speech_ms=self.silence_before_speech_ms,
            silence_after_speech_ms=self.silence_after_speech_ms,
            longest_utterance_ms=self.longest_utterance_ms,
        )


SECTIONS = {
    "where it listens": "host",
    "the models and their devices": "passes",
    "utterances, unless a request says otherwise": "vad_aggressiveness",
    "limits": "stream_wait_s",
    "who may call": "tls_cert",
    "logs": "log_level",
}  # title -> first setting


class ConfigFaults(Exception):
    """Everything that is wrong with a configuration. `faults` has one line each."""

    def __init__(self, faults: Sequence[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = tuple(faults)


@dataclass(frozen=True)
class Sourced:
    """A value as given, and what the operator calls the place it came from."""

    value: object
    source: str


@dataclass(frozen=True)
class Loaded:
    """`sources`: by setting, where its value is from. `explain`: the settings are to be told, not to be run."""

    settings: Settings
    sources: dict[str, str]
    explain: bool


def load(argv: Sequence[str], environ: Mapping[str, str]) -> Loaded:
    """The settings, or ConfigFaults with every fault there is. `--help` prints and exits."""
    flags, unknown = _parser().parse_known_args(argv)
    faults = [f"{' '.join(unknown)}: no such setting, see --help"] if unknown else []
    given: dict[str, Sourced] = {}
    file = flags.config or environ.get(f"{PREFIX}CONFIG") or (DEFAULT_FILE if DEFAULT_FILE.exists() else None)
    if file:
        try:
            given |= _from_file(Path(file))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            faults.append(f"{file}: not a readable TOML file: {error}")
    for name in Settings.model_fields:
        variable = PREFIX + name.upper()
        if environ.get(variable) or (variable in environ and name in EMPTY_SAYS_NONE):
            given[name] = Sourced(environ[variable], variable)
        if getattr(flags, name) is not None:
            given[name] = Sourced(getattr(flags, name), _flag(name))
    settings, problems = _validated({name: one.value for name, one in given.items()})
    # What cannot even be read is not looked at: one mistake should make one fault.
    found = preflight.problems(settings, ports=not flags.explain)
    problems += [(name, problem) for name, problem in found if name not in dict(problems)]
    faults += [f"{given[name].source if name in given else name}: {problem}" for name, problem in problems]
    if faults:
        raise ConfigFaults(faults)
    sources = {name: given[name].source if name in given else DEFAULT for name in Settings.model_fields}
    return Loaded(settings, sources, flags.explain)


def _validated(values: dict[str, object]) -> tuple[Settings, list[tuple[str, str]]]:
    """Settings from the good values, and what is wrong with the others by name."""
    try:
        return Settings.model_validate(values), []
    except ValidationError as error:
        problems = [(str(one["loc"][0]), _problem(one)) for one in error.errors()]
    bad = dict(problems)
    return Settings.model_validate({name: value for name, value in values.items() if name not in bad}), problems


def _problem(error: ErrorDetails) -> str:
    if error["type"] == "extra_forbidden":
        return "no such setting, see --help"
    return f"got {error['input']!r}: {error['msg'][0].lower()}{error['msg'][1:]}"


def _from_file(path: Path) -> dict[str, Sourced]:
    with path.open("rb") as file:
        return {name: Sourced(value, f"{path}: {name}") for name, value in tomllib.load(file).items()}


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="parley serve",
        usage="parley serve [--explain] [--config FILE] [--SETTING VALUE]...",
        description="Runs a decode node until SIGTERM or SIGINT; a second signal ends it at once.",
        epilog=f"Each setting can also stand in the TOML file under its name with underscores, or in the environment "
        f"in capitals behind {PREFIX}: --pool-wait-s 2, pool_wait_s = 2, {PREFIX}POOL_WAIT_S=2. "
        f"A flag goes before the environment, the environment before the file.",
        allow_abbrev=False,
    )
    parser.add_argument("--config", metavar="FILE", help=f"the TOML file (default: {DEFAULT_FILE}, if there is one)")
    parser.add_argument(
        "--explain",
        action="store_true",
        help="load the models, say what such a node would be and what it would take, and end; ports are left alone",
    )
    titles = {first: title for title, first in SECTIONS.items()}
    group: argparse._ActionsContainer = parser
    for name, setting in Settings.model_fields.items():
        if name in titles:
            group = parser.add_argument_group(titles[name])
        text = f"{setting.description} (default: {shown(setting.default)})".replace("%", "%%")
        if isinstance(setting.default, bool):
            group.add_argument(_flag(name), action=argparse.BooleanOptionalAction, default=None, help=text)
        else:
            group.add_argument(_flag(name), metavar="VALUE", help=text)
    return parser


def shown(value: object) -> str:
    """A setting's value for people."""
    match value:
        case None:
            return "none"
        case bool():
            return "yes" if value else "no"
        case tuple():
            return ",".join(value)
        case ByteSize():
            return value.human_readable().replace(".0", "")
        case enum.Enum():
            return str(value.value)
        case Path() if value.is_relative_to(MODELS):
            return f"{MODELS.name}/{value.relative_to(MODELS)} beside the program"
        case _:
            return f"{value:g}" if isinstance(value, float) else str(value)
