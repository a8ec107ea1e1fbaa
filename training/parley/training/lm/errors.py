"""What the language-model tools refuse. Knows no command line."""

from __future__ import annotations


class BadModel(Exception):
    """A model or a corpus is not what it should be; says what was found and what was expected."""
