"""What parts of the decoder need beside what all of it needs, and what installs that. Knows names, imports none."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Needs:
    """Packages, by the names that they are imported under, and the extra of the distribution that brings them."""

    extra: str
    packages: tuple[str, ...]

    def missing(self) -> str | None:
        """None if all are here, else one line that says what to do."""
        for package in self.packages:
            if importlib.util.find_spec(package) is None:
                return f"got no package {package}, expected it: pip install 'parley-asr[{self.extra}]'"
        return None
