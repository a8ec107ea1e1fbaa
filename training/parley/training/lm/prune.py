"""Takes n-grams out of a model that it hardly misses: relative entropy pruning (Stolcke 1998). Knows no file.

An n-gram goes if the model's perplexity, weighed with its own probabilities, rises by less than the threshold's share
without it. Those that are a context or a suffix of a longer one that stays, stay: the binary format needs them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from parley.training.lm.errors import BadModel
from parley.training.lm.model import SENTENCE_END, SENTENCE_START, Floats, NgramModel, Ngrams

if TYPE_CHECKING:
    from collections.abc import Callable

STEPS = 24  # of the bisection, at most
NEAR_ENOUGH = 0.9995  # of the size asked for
LEAST_THRESHOLD, MOST_THRESHOLD = 1e-14, 1e-1
LEAST_MASS = 1e-9  # what is left of 1 after rounding, no mass for backing off

Mask = npt.NDArray[np.bool_]


def prune(model: NgramModel, threshold: float) -> NgramModel:
    """Without the n-grams whose loss raises the perplexity by less than `threshold` (1e-8 is little, 1e-6 much)."""
    return _prune(model, _rises(model), threshold)


def prune_to_size(
    model: NgramModel, size: Callable[[NgramModel], int], limit: int, step: Callable[[], object]
) -> tuple[NgramModel, float]:
    """The largest model of a size up to `limit`, and the threshold that gives it: 0 if all of it fits. `step` is called
    STEPS times at most."""
    if size(model) <= limit:
        return model, 0.0
    rises = _rises(model)
    low, high = np.log(LEAST_THRESHOLD), np.log(MOST_THRESHOLD)
    best = _prune(model, rises, MOST_THRESHOLD)
    if size(best) > limit:
        raise BadModel(f"{size(best)} bytes are left when all is pruned that can be, expected {limit} or less")
    for _ in range(STEPS):
        if size(best) >= limit * NEAR_ENOUGH:
            break
        middle = (low + high) / 2
        pruned = _prune(model, rises, float(np.exp(middle)))
        if size(pruned) <= limit:
            best, high = pruned, middle
        else:
            low = middle
        step()
    return best, float(np.exp(high))


def with_backoffs(model: NgramModel) -> NgramModel:
    """The model with the back-offs that its probabilities call for, so that each context's sum is 1."""
    orders = list(model.orders)
    for order in range(2, len(orders) + 1):
        left, left_lower = _masses(NgramModel(model.words, tuple(orders)), order)
        lower = orders[order - 2]
        orders[order - 2] = Ngrams(lower.contexts, lower.words, lower.log10_probs, _log10_backoffs(left, left_lower))
    return NgramModel(model.words, tuple(orders))


def _prune(model: NgramModel, rises: list[Floats], threshold: float) -> NgramModel:
    needed = np.zeros(len(model.orders[-1]), bool)
    kept: list[Mask] = []
    for order in range(len(model.orders), 1, -1):
        stays = needed | (rises[order - 2] >= threshold)
        kept.append(stays)
        needed = np.zeros(len(model.orders[order - 2]), bool)
        needed[model.orders[order - 1].contexts[stays]] = True
        needed[model.suffixes[order - 2][stays]] = True
    kept.append(np.ones(len(model.orders[0]), bool))
    return with_backoffs(_subset(model, kept[::-1]))


def _subset(model: NgramModel, kept: list[Mask]) -> NgramModel:
    orders: list[Ngrams] = []
    renumbered = np.zeros(1, np.int64)
    for ngrams, stays in zip(model.orders, kept, strict=True):
        orders.append(
            Ngrams(
                renumbered[ngrams.contexts[stays]],
                ngrams.words[stays],
                ngrams.log10_probs[stays],
                ngrams.log10_backoffs[stays],
            )
        )
        renumbered = np.cumsum(stays) - 1
    return NgramModel(model.words, tuple(orders))


def _masses(model: NgramModel, order: int) -> tuple[Floats, Floats]:
    """For each n-gram of the order below as a context: what its own n-grams leave of 1, and what those words leave of 1
    in the order below."""
    ngrams = model.orders[order - 1]
    contexts = len(model.orders[order - 2])
    seen = np.bincount(ngrams.contexts, 10**ngrams.log10_probs, contexts)
    seen_lower = np.bincount(ngrams.contexts, 10 ** model.lower_log10_probs(order), contexts)
    return np.maximum(1 - seen, 0), np.maximum(1 - seen_lower, 0)


def _log10_backoffs(left: Floats, left_lower: Floats) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        backoffs: Floats = np.log10(left / left_lower)
    # With nothing left to give, or no word to give it to, no weight is right; 0 keeps the file finite.
    weights: Floats = np.where((left > LEAST_MASS) & (left_lower > LEAST_MASS), backoffs, 0.0)
    return weights


def _context_log10_probs(model: NgramModel, order: int) -> Floats:
    """How likely each n-gram of the order is, as a whole."""
    start, end = model.ids.get(SENTENCE_START), model.ids.get(SENTENCE_END)
    total: Floats = model.orders[0].log10_probs.copy()
    if start is not None and end is not None:
        # A sentence begins as often as one ends; the probability that files give <s> is none.
        total[start] = total[end]
    for ngrams in model.orders[1:order]:
        total = total[ngrams.contexts] + ngrams.log10_probs
    return total


def _rises(model: NgramModel) -> list[Floats]:
    return [_rise(model, order) for order in range(2, len(model.orders) + 1)]


def _rise(model: NgramModel, order: int) -> Floats:
    """For each n-gram of the order: by which share the perplexity rises if it alone is taken out."""
    ngrams = model.orders[order - 1]
    contexts = ngrams.contexts
    left, left_lower = _masses(model, order)
    prob, lower = 10**ngrams.log10_probs, 10 ** model.lower_log10_probs(order)
    before = _log10_backoffs(left, left_lower)[contexts]
    after = _log10_backoffs(left[contexts] + prob, left_lower[contexts] + lower)
    change = prob * (model.lower_log10_probs(order) + after - ngrams.log10_probs) + left[contexts] * (after - before)
    weight = 10 ** _context_log10_probs(model, order - 1)[contexts]
    rise: Floats = np.expm1(-weight * change * np.log(10))
    return rise
