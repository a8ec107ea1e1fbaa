"""Interpolated modified Kneser-Ney smoothing (Chen & Goodman 1998). Knows counts, not text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from parley.training.lm.counts import START_ID
from parley.training.lm.model import Floats, NgramModel, Ngrams, row_places

if TYPE_CHECKING:
    from parley.training.lm.counts import Counts
    from parley.training.lm.model import Ints

NEVER_LOG10 = -99.0  # of <s>, which nothing predicts


@dataclass(frozen=True, slots=True)
class Discounts:
    """What is taken from n-grams that came once, twice, and more often. `guessed`: too little text to tell."""

    once: float = 0.5
    twice: float = 1.0
    more: float = 1.5
    guessed: bool = True

    def of(self, counts: Ints) -> Floats:
        table = np.array([0.0, self.once, self.twice, self.more])
        return table[np.minimum(counts, 3)]


def discounts(counts: Ints) -> Discounts:
    """From how many n-grams came once, twice, three and four times."""
    one, two, three, four = (int(np.count_nonzero(counts == times)) for times in (1, 2, 3, 4))
    if not (one and two and three):
        return Discounts()
    share = one / (one + 2 * two)
    found = Discounts(share, 2 - 3 * share * three / two, 3 - 4 * share * four / three, guessed=False)
    # At 0 a context could keep nothing for the words it never saw.
    return found if found.twice > 0 and found.more > 0 else Discounts()


def estimate(counts: Counts) -> tuple[NgramModel, tuple[Discounts, ...]]:
    """The model, every context's probabilities summing to 1, and the discounts of each order."""
    vocabulary = len(counts.words)
    lowest = counts.tables[0].counts.copy()
    lowest[START_ID] = 0
    found = [discounts(lowest)]
    taken = found[0].of(lowest)
    probs = (lowest - taken + taken.sum() / (vocabulary - 1)) / lowest.sum()
    probs[START_ID] = 10**NEVER_LOG10
    orders = [_ngrams(np.zeros(vocabulary, np.int64), np.arange(vocabulary), probs)]
    lower_ids = counts.tables[0].ids
    suffixes = np.zeros(vocabulary, np.int64)
    for table in counts.tables[1:]:
        found.append(discounts(table.counts))
        lower = orders[-1]
        words = table.ids[:, -1].astype(np.int64)
        contexts = row_places(lower_ids, table.ids[:, :-1])
        suffixes = words if len(orders) == 1 else lower.find(suffixes[contexts], words)
        taken = found[-1].of(table.counts)
        totals = np.bincount(contexts, table.counts, len(lower))
        with np.errstate(divide="ignore", invalid="ignore"):
            backoffs = np.bincount(contexts, taken, len(lower)) / totals
        probs = (table.counts - taken) / totals[contexts] + backoffs[contexts] * 10 ** lower.log10_probs[suffixes]
        # A context that nothing follows, such as one that ends a sentence, hands on to shorter ones whole.
        backoffs[totals == 0] = 1.0
        orders[-1] = Ngrams(lower.contexts, lower.words, lower.log10_probs, np.log10(backoffs))
        orders.append(_ngrams(contexts, words, probs))
        lower_ids = table.ids
    return NgramModel(counts.words, tuple(orders)), tuple(found)


def _ngrams(contexts: Ints, words: Ints, probs: Floats) -> Ngrams:
    return Ngrams(contexts, words, np.log10(probs), np.zeros(len(words)))
