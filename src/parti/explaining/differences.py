"""Whether two accuracies differ by more than chance.

On the same images: Q. McNemar, "Note on the sampling error of the difference between correlated
proportions or percentages", Psychometrika 12, 1947; exact, by the binomial distribution of the
images on which just one of both is right. Its interval: A. Agresti, Y. Min, "Simple improved
confidence intervals for comparing matched proportions", Statistics in Medicine 24, 2005: half an
image is added to each of the four outcomes, so that none is empty.

On different images, or where it is not known who is right on which: A. Agresti, B. Caffo, "Simple
and effective confidence intervals for proportions and differences of proportions", The American
Statistician 54, 2000: one success and one failure are added to each.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from parti.core.errors import InvalidSettings

__all__ = ["Difference", "independent_difference", "paired_difference"]

Z = 1.959964


@dataclass(frozen=True, slots=True)
class Difference:
    """The second accuracy less the first.

    Args:
        value: the difference, from -1 to 1.
        low: lower end of its 95 % interval.
        high: upper end.
        chance: probability of a difference at least as large between equals, as far as the method
            gives it; None otherwise.
        real: whether it is more than chance makes it, at 5 %.
        method: "paired" (McNemar) or "independent" (Agresti and Caffo).
        n: images of the first, or of both.
    """

    value: float
    low: float
    high: float
    chance: float | None
    real: bool
    method: str
    n: int


def paired_difference(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> Difference:
    """Compare two models on the same images.

    Args:
        first: whether the first model is right, for each image.
        second: likewise the second.

    Raises:
        InvalidSettings: there are no images, or not as many of both.
    """
    n = len(first)
    if not n or n != len(second):
        raise InvalidSettings(f"{n} and {len(second)} images: give as many of both, at least one")
    lost, won = int((first & ~second).sum()), int((second & ~first).sum())
    apart, fewer = lost + won, min(lost, won)
    # Twice the lower tail of the binomial distribution with chance one half, in logarithms.
    tail = sum(
        math.exp(
            math.lgamma(apart + 1)
            - math.lgamma(k + 1)
            - math.lgamma(apart - k + 1)
            - apart * math.log(2)
        )
        for k in range(fewer + 1)
    )
    chance = min(1.0, 2 * tail)
    middle = (won - lost) / (n + 2)
    half = Z * math.sqrt(max(0.0, apart + 1 - (won - lost) ** 2 / (n + 2))) / (n + 2)
    low, high = max(-1.0, middle - half), min(1.0, middle + half)
    return Difference((won - lost) / n, low, high, chance, chance < 0.05, "paired", n)


def independent_difference(first: float, n: int, second: float, m: int) -> Difference:
    """Compare two accuracies as if they were measured on different images.

    Args:
        first: accuracy of the first model.
        n: images it was measured on.
        second: accuracy of the second model.
        m: images it was measured on.

    Raises:
        InvalidSettings: a number of images is not positive, or an accuracy is not from 0 to 1.
    """
    if n < 1 or m < 1 or not (0 <= first <= 1 and 0 <= second <= 1):
        raise InvalidSettings(
            f"accuracies {first} of {n} and {second} of {m} images: an accuracy is from 0 to 1, "
            "and there must be at least one image"
        )
    p, q = (first * n + 1) / (n + 2), (second * m + 1) / (m + 2)
    half = Z * math.sqrt(p * (1 - p) / (n + 2) + q * (1 - q) / (m + 2))
    low, high = max(-1.0, q - p - half), min(1.0, q - p + half)
    return Difference(second - first, low, high, None, low > 0 or high < 0, "independent", n)
