"""Why a model cannot be had. Knows no command line."""

from __future__ import annotations


class ModelsError(Exception):
    """What was found, what was expected, and what helps."""
