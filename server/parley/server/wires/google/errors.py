"""How errors leave google.cloud.speech.v1: by the table of all gRPC wires, in this one's names."""

from __future__ import annotations

from parley.server.wires.google.fields import FIELDS
from parley.server.wires.statuses import statuses

DOMAIN = "google.cloud.speech.v1"  # of every ErrorInfo
STATUSES = statuses(DOMAIN, FIELDS, while_silent="audio")
