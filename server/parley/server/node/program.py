"""How a node's settings are given on a command line, and how they are told. Knows their sections, not their meanings.

See parley.server.kit.settings for where values come from.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from parley.server.kit import settings as kit
from parley.server.kit.settings import Program
from parley.server.node import preflight
from parley.server.node.settings import Settings, shown

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SECTIONS = {
    "where it listens": "host",
    "the models and their devices": "passes",
    "how the first pass searches": "search",
    "utterances, unless a request says otherwise": "vad_aggressiveness",
    "limits": "stream_wait_s",
    "who may call": "tls_cert",
    "logs": "log_level",
}  # title -> first setting
EXPLAIN = "explain"
PROGRAM = Program(
    Settings,
    name="parley serve",
    description="Runs a decode node until SIGTERM or SIGINT; a second signal ends it at once.",
    example=("pool_wait_s", "2"),
    look=lambda settings, switches: preflight.faults(settings, ports=EXPLAIN not in switches),
    sections=SECTIONS,
    switches={
        EXPLAIN: "load the models, say what such a node would be and what it would take, and end; ports are left alone"
    },
    shown=shown,
)


@dataclass(frozen=True)
class Loaded:
    """`sources`: by setting, where its value is from. `explain`: the settings are to be told, not to be run."""

    settings: Settings
    sources: Mapping[str, str]
    explain: bool


def load(argv: Sequence[str], environ: Mapping[str, str]) -> Loaded:
    """The settings, or kit.Faults with every fault there is. `--help` prints and exits."""
    found = kit.load(PROGRAM, argv, environ)
    return Loaded(found.settings, found.sources, EXPLAIN in found.switches)
