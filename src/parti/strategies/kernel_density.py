"""A density over vectors of choices: one kernel for each known point, a product over its numbers.

Aitchison and Aitken, "Multivariate Binary Discrimination by the Kernel Method", Biometrika 63(3),
1976, for options without order; a Gaussian kernel for scales. The rule of thumb for bandwidths is
the normal reference rule, h = 1.06 σ n^(-1 / (4 + d)) (Silverman 1986).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from random import Random

import numpy as np
from numpy.typing import NDArray

from parti.core.choice import Choice

__all__ = ["KernelDensity", "decoded", "encoded", "imputed"]

Floats = NDArray[np.float64]


def encoded(choice: Choice, place: int) -> float:
    """The number that stands for an option: its place, or the middle of its share of a scale."""
    return (place + 0.5) / len(choice.options) if choice.ordered else float(place)


def decoded(choice: Choice, number: float) -> int:
    """The place of the option that a number stands for."""
    last = len(choice.options) - 1
    return min(last, int(number * (last + 1))) if choice.ordered else int(number)


def imputed(points: Floats, choices: Sequence[Choice], random: Random) -> Floats:
    """Fill in the choices that do not exist in a point with those of others, drawn at random.

    As the authors of BOHB do it: a point that knows the first one that is lacking gives all that
    are lacking and that it has; where no point has it, any of its options will do.

    Args:
        points: shape (points, choices); NaN where a choice does not exist.
        choices: one for each column.
        random: the source of random numbers.
    """
    filled = points.copy()
    for row in filled:
        while (lacking := np.flatnonzero(np.isnan(row))).size:
            first = int(lacking[0])
            donors = np.flatnonzero(~np.isnan(points[:, first]))
            if donors.size:
                row[lacking] = points[donors[int(random.random() * donors.size)], lacking]
            else:
                choice = choices[first]
                row[first] = encoded(choice, int(random.random() * len(choice.options)))
    return filled


class KernelDensity:
    """The density of points that were seen, and samples from it.

    Args:
        points: shape (points, choices), each number as `encoded`; at least one point.
        choices: one for each column.
        least: no bandwidth is smaller, so that no option is impossible.
    """

    def __init__(self, points: Floats, choices: Sequence[Choice], *, least: float = 1e-3) -> None:
        self.points = points
        self.choices = tuple(choices)
        count, dimensions = points.shape
        rule = 1.06 * points.std(axis=0) * count ** (-1 / (4 + dimensions))
        self.bandwidths = np.minimum(np.maximum(rule, least), self._most())
        self._ordered = np.array([choice.ordered for choice in choices], dtype=bool)

    def log_density(self, at: Floats) -> Floats:
        """Logarithm of the density.

        Args:
            at: shape (places, choices).

        Returns:
            Shape (places,).
        """
        logs = np.zeros((len(at), len(self.points)))
        for column, choice in enumerate(self.choices):
            width = self.bandwidths[column]
            apart = at[:, None, column] - self.points[None, :, column]
            if choice.ordered:
                logs += -0.5 * (apart / width) ** 2 - math.log(width * math.sqrt(2 * math.pi))
            else:
                others = max(1, len(choice.options) - 1)
                logs += np.where(apart == 0, np.log1p(-width), np.log(width / others))
        highest = logs.max(axis=1, keepdims=True)
        summed = np.exp(logs - highest).sum(axis=1)
        return np.asarray(highest[:, 0] + np.log(summed) - math.log(len(self.points)))

    def sample(self, random: Random, *, wider: float = 1.0) -> list[int]:
        """Draw one point from the same density with all bandwidths multiplied by `wider`.

        Returns:
            The place of an option for each choice.
        """
        centre = self.points[int(random.random() * len(self.points))]
        widths = np.minimum(self.bandwidths * wider, self._most())
        drawn: list[int] = []
        for choice, number, width in zip(self.choices, centre, widths, strict=True):
            if choice.ordered:
                drawn.append(decoded(choice, _truncated_normal(random, number, width)))
            elif random.random() < width:
                # The kernel shares its width among the other options, all equally likely.
                other = int(random.random() * (len(choice.options) - 1))
                drawn.append(other + (other >= number))
            else:
                drawn.append(int(number))
        return drawn

    def _most(self) -> Floats:
        """The bandwidths at which kernels say nothing: all options equally likely, a whole scale.

        More than that would make an option unlikely for having been seen.
        """
        return np.array([1.0 if c.ordered else 1 - 1 / len(c.options) for c in self.choices])


def _truncated_normal(random: Random, mean: float, width: float) -> float:
    """A normal number in [0, 1), for a mean in it and a width of at most 1."""
    while True:
        drawn = random.gauss(mean, width)
        if 0 <= drawn < 1:
            return drawn
