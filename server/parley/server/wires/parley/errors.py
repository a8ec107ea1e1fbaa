"""How errors leave parley.asr.v1: by the table of all gRPC wires, in this one's names."""

from __future__ import annotations

from parley.server.wires.parley.fields import FIELDS
from parley.server.wires.statuses import statuses

DOMAIN = "parley.asr.v1"  # of every ErrorInfo
STATUSES = statuses(DOMAIN, FIELDS, while_silent="audio, or KEEP_ALIVE while there is none")
