"""The statistics of a comparison: medians of censored counts, ranks, tests, corrections.

Infinity stands for "not within the budget" (a censored count) or "nothing yet" (a regret), and is
larger than any number. So medians, order statistics and ranks need no other rule for it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from parti.core.errors import InvalidSettings

__all__ = ["bootstrap_interval", "holm", "interval_ranks", "median", "ranks", "signed_rank_test"]

Floats = npt.NDArray[np.float64]


def median(values: npt.ArrayLike) -> Any:
    """Return the median along the first axis; infinite when one of the middle two is.

    Args:
        values: shape (runs, ...), infinities allowed.

    Returns:
        Shape (...): a float for one dimension.

    Raises:
        InvalidSettings: there are no values.
    """
    ordered = np.sort(np.asarray(values, dtype=np.float64), axis=0)
    if not len(ordered):
        raise InvalidSettings("a median of no values; give at least one")
    low, high = ordered[(len(ordered) - 1) // 2], ordered[len(ordered) // 2]
    return np.where(low == high, low, (low + high) / 2)[()]  # two infinities have no mean


def interval_ranks(count: int, confidence: float = 0.95) -> tuple[int, int]:
    """Return which order statistics enclose the median, whatever the distribution.

    The number of values below the median is binomial with chance one half; the interval is the
    narrowest symmetric one that holds the median with at least the confidence asked for. With
    fewer than six values (at 95 %) there is none, and the whole range is returned.

    Args:
        count: number of values.
        confidence: chance that the interval holds the median, in (0, 1).

    Returns:
        Places of the lower and of the upper end among the sorted values, from 0.

    Raises:
        InvalidSettings: there are no values, or the confidence is not between 0 and 1.
    """
    if count < 1 or not 0 < confidence < 1:
        raise InvalidSettings(
            f"an interval of {count} values at confidence {confidence}: there must be at least "
            "one value, and the confidence between 0 and 1"
        )
    below = 0
    for place in range(count):
        below += math.comb(count, place)
        if below / 2**count > (1 - confidence) / 2:
            outer = max(0, place - 1)
            return outer, count - 1 - outer
    raise AssertionError("the tails of a binomial distribution hold all of it")


def ranks(values: Sequence[Any]) -> Floats:
    """Return the rank of each value, 1 for the smallest; equal values share their mean rank.

    Args:
        values: anything that can be ordered: numbers, or tuples of numbers.
    """
    order = sorted(range(len(values)), key=values.__getitem__)
    found = np.empty(len(values))
    first = 0
    for place in range(1, len(order) + 1):
        if place == len(order) or values[order[place]] != values[order[first]]:
            found[order[first:place]] = (first + 1 + place) / 2
            first = place
    return found


def signed_rank_test(one: npt.ArrayLike, other: npt.ArrayLike) -> float:
    """Return the two-sided p-value of Wilcoxon's signed-rank test between paired values.

    Zero differences are kept by Pratt's rule. 1 when all differences are zero.

    Args:
        one: shape (pairs,), finite.
        other: likewise.
    """
    from scipy.stats import wilcoxon

    differences = np.asarray(one, dtype=np.float64) - np.asarray(other, dtype=np.float64)
    if not differences.any():
        return 1.0
    result = wilcoxon(differences, zero_method="pratt")
    return float(result.pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values for having tested several hypotheses (Holm 1979), in the order given.

    The smallest of m is multiplied by m, the next by m - 1, and so on; none falls below the one
    before it, and none exceeds 1.
    """
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    for tested, place in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        highest = max(highest, min(1.0, (len(p_values) - tested) * p_values[place]))
        adjusted[place] = highest
    return adjusted


def bootstrap_interval(
    blocks: Sequence[Floats], *, draws: int = 2_000, confidence: float = 0.95, seed: int = 0
) -> tuple[Floats, Floats]:
    """Return percentile bootstrap intervals of the mean over blocks of their mean rows.

    Rows are drawn again within each block: the result says how sure the mean is for these blocks
    (problems), over other rows (seeds).

    Args:
        blocks: arrays of shape (rows, columns) with the same columns.
        draws: number of bootstrap samples.
        confidence: of the intervals.
        seed: of the drawing.

    Returns:
        Lower and upper ends, each of shape (columns,).
    """
    random = np.random.default_rng(seed)
    means = np.zeros((draws, blocks[0].shape[1]))
    for block in blocks:
        # How often each row is drawn is multinomial: counts times rows are all sums at once.
        counts = random.multinomial(len(block), np.full(len(block), 1 / len(block)), size=draws)
        means += counts @ block / len(block)
    tail = (1 - confidence) / 2
    low, high = np.quantile(means / len(blocks), [tail, 1 - tail], axis=0)
    return low, high
