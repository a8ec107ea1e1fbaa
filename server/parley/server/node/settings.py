"""A decode node's settings: its own, and those of the decoder by its names. Knows what they are, not how they are read.

What the decoder is made of is written in its config, with its ranges and meanings; here is only what a node calls or
sets otherwise. program.py says how they are given.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import ByteSize, Field

from parley.decoder.config import BadConfig, RecognizerConfig
from parley.decoder.errors import InvalidOption
from parley.decoder.models import places
from parley.decoder.search.registry import KINDS
from parley.decoder.values import EndpointRules, Passes
from parley.server.kit import settings as kit
from parley.server.kit.settings import Fault, group, setting
from parley.server.live.recognition import Terms
from parley.server.live.session import Limits

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

MODELS = places.checkout()
DEFAULT_FIRST_MODEL = places.find("en-streaming")
DEFAULT_SECOND_MODEL = places.find("moonshine-tiny-en")
DEFAULT_LANGUAGE_MODEL = places.find("lm-en") / "en.lm"
MIB = 1 << 20

Port = Annotated[int, Field(ge=0, le=65_535)]
MetricsPort = Annotated[int, Field(ge=-1, le=65_535)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
SecondsOrNone = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0)]
Bytes = Annotated[ByteSize, Field(ge=1024, le=2_000 * MIB)]  # gRPC counts a message's bytes in 31 bits
Protocols = Annotated[tuple[Literal["parley", "google"], ...], Field(min_length=1)]
Level = Literal["debug", "info", "warning", "error"]
Form = Literal["auto", "json", "pretty"]


def _of_recognizer(values: Mapping[str, object]) -> Iterator[Fault]:
    try:
        RecognizerConfig(**values)  # type: ignore[arg-type]  # each was read as its field's type
    except BadConfig as error:
        yield from (Fault(fault.field, fault.problem) for fault in error.faults)


def _of_rules(values: Mapping[str, object]) -> Iterator[Fault]:
    return (fault for name, value in values.items() if (fault := _of_rule(name, value)))


def _of_rule(name: str, value: object) -> Fault | None:
    try:
        EndpointRules(**{name: value})  # type: ignore[arg-type]
    except InvalidOption as error:
        return Fault(name, f"got {error.found}, expected {error.expected}")
    return None


@dataclass(frozen=True)
class Settings:
    """All settings of a node, each valid by itself. given: the names of those that are not defaults."""

    host: str = setting("127.0.0.1", "address to listen on; 0.0.0.0 or :: for all")
    port: Port = setting(50_051, "port to listen on; 0: a free one")
    metrics_host: str = setting("127.0.0.1", "address of the Prometheus metrics")
    metrics_port: MetricsPort = setting(9_090, "port of the Prometheus metrics; 0: a free one, -1: none")
    protocols: Protocols = setting(
        ("parley",),
        "what calls may speak: parley (parley.asr.v1), google (google.cloud.speech.v1, StreamingRecognize only; needs "
        "the extra [google])",
    )

    core: RecognizerConfig = group(
        RecognizerConfig,
        _of_recognizer,
        names={"hotwords": "hotwords_file"},
        defaults={
            "first_model_dir": DEFAULT_FIRST_MODEL,
            "second_model_dir": DEFAULT_SECOND_MODEL,
            "language_model": DEFAULT_LANGUAGE_MODEL,
        },
        empty=("language_model", "hotwords", "graphs_dir"),
    )
    rules: EndpointRules = group(EndpointRules, _of_rules)

    stream_wait_s: SecondsOrNone = setting(0.0, "longest wait of a live call for a free decoder, s; 0: refused at once")
    pool_wait_s: Seconds = setting(5.0, "longest wait of a file for a free decoder, s")
    idle_timeout_s: Seconds = setting(60.0, "longest silence of a stream's client, s; KEEP_ALIVE counts")
    max_stream_s: Seconds = setting(14_400.0, "audio in one stream, at most, s")
    max_file_s: Seconds = setting(14_400.0, "audio in one file, at most, s")
    max_file_bytes: Bytes = setting(ByteSize(128 * MIB), "bytes of one file, at most; 128MiB or a number")
    max_chunk_bytes: Bytes = setting(ByteSize(MIB), "bytes of one streaming message, at most; 1MiB or a number")
    max_streams_per_peer: Count = setting(0, "calls of one client address at once, at most; 0: any number")
    keepalive_s: Seconds = setting(60.0, "quiet time after which a client's connection is probed, s")
    keepalive_timeout_s: Seconds = setting(20.0, "time for the answer to a probe, s")
    grace_s: SecondsOrNone = setting(30.0, "time for live calls after SIGTERM, s")

    tls_cert: Path | None = setting(None, "the node's certificate chain, PEM: turns TLS on")
    tls_key: Path | None = setting(None, "the certificate's private key, PEM")
    tls_client_ca: Path | None = setting(None, "CA of the clients' certificates, PEM: turns mutual TLS on")
    tokens_file: Path | None = setting(None, "bearer tokens, one a line: calls need one, health does not")

    log_level: Level = setting("info", "least level logged: debug, info, warning or error")
    log_format: Form = setting("auto", "json, pretty, or auto: pretty on a terminal")
    log_words: bool = setting(False, "log the transcripts of finals: for debugging only")

    given: frozenset[str] = field(default=frozenset())

    @classmethod
    def of(cls, values: Mapping[str, object]) -> Settings:
        """With these values, by the settings' names: for a node without a command line, as in tests. Raises Faults."""
        return kit.read(cls, values)

    def recognizer(self) -> RecognizerConfig:
        """The decoder's part."""
        return replace(self.core, language_model=self.language_model_file())

    def searches(self) -> bool:
        """Whether the node has a search with a language model and hotwords."""
        return self.core.passes is not Passes.SECOND and KINDS[self.core.search].wishes

    def language_model_file(self) -> Path | None:
        """None without one. That of the default may be missing: nobody has asked for it."""
        path = self.core.language_model
        if path is None or "language_model" in self.given or path.is_file():
            return path
        return None

    def terms(self) -> Terms:
        """What calls are served by."""
        return Terms(
            stream=Limits(self.idle_timeout_s, self.max_chunk_bytes, self.log_words),
            rules=self.rules,
            stream_wait_s=self.stream_wait_s,
            file_wait_s=self.pool_wait_s,
            stream_s=self.max_stream_s,
            file_s=self.max_file_s,
            file_bytes=self.max_file_bytes,
        )


def shown(value: object) -> str:
    """A setting's value for people."""
    if isinstance(value, Path) and MODELS and value.is_relative_to(MODELS):
        return f"{MODELS.name}/{value.relative_to(MODELS)} beside the program"
    return kit.shown(value)
