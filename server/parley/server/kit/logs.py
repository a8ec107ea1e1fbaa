"""Where log lines go and what they look like. Knows structlog; not who logs what.

One event a line on stderr: JSON, or for people on a terminal. The library's and grpc's own lines come the same way.
What is bound with structlog.contextvars (the request id of a call) stands in every line of its task.
"""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from structlog.typing import Processor


def set_up(form: str, level: str) -> None:
    """`form`: auto (pretty on a terminal), json or pretty. Replaces whatever was set up before."""
    pretty = sys.stderr.isatty() if form == "auto" else form == "pretty"
    common: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    endings: list[Processor] = [structlog.stdlib.ProcessorFormatter.remove_processors_meta]
    if pretty:
        endings.append(structlog.dev.ConsoleRenderer())
    else:
        endings += [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    structlog.configure(
        processors=[*common, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(processors=endings, foreign_pre_chain=common))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
