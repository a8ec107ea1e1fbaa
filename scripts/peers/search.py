"""How many calls are held within each of several limits, and which count to try next. Knows counts and delays only.

By doubling, then by bisection, the widest limit first; a trial says something about every limit. A count fails at a
limit when its delay is more than twice the limit, or over it two times: one bad second of the machine decides nothing.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

MOST = 512  # calls


class Search:
    def __init__(self, limits_s: Sequence[float], first: int) -> None:
        self._limits_s = sorted(limits_s, reverse=True)
        self._first = first
        self._delays_s: defaultdict[int, list[float]] = defaultdict(list)

    def record(self, count: int, delay_s: float) -> None:
        """A trial's slowest final; infinite for calls that were not held at any limit."""
        self._delays_s[count].append(delay_s)

    def held(self, limit_s: float) -> int:
        """The most calls that were held so far, with no smaller count that was not."""
        bad = self._fewest_failed(limit_s)
        good = (count for count, delays_s in self._delays_s.items() if min(delays_s) <= limit_s)
        return max((count for count in good if bad is None or count < bad), default=0)

    def next_count(self) -> int | None:
        """None: every limit's most is known, to an eighth."""
        return next((count for limit_s in self._limits_s if (count := self._next(limit_s))), None)

    def _next(self, limit_s: float) -> int | None:
        good, bad = self.held(limit_s), self._fewest_failed(limit_s)
        if bad is None:
            return None if good == MOST else min(2 * good, MOST) if good else self._first
        return None if bad - good <= max(1, good // 8) else (good + bad) // 2

    def _fewest_failed(self, limit_s: float) -> int | None:
        failed = (
            count
            for count, delays_s in self._delays_s.items()
            if max(delays_s) > 2 * limit_s or sum(delay_s > limit_s for delay_s in delays_s) >= 2
        )
        return min(failed, default=None)
