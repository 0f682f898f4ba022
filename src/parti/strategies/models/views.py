"""Groups of features as matrices: what an additive Gaussian process compares.

The columns of a group are the features of a reference: all members of a small space, else a
sample of it. Features beyond the reference share one column, their length, so that what has never
been seen is still far from everything. Every group is scaled so that two members of the reference
are 1 apart in the mean of squares.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from parti.spaces.paths import Bag

__all__ = ["View", "views_of"]

Floats = NDArray[np.float64]

UNIT = frozenset({"totals", "statistics"})
"""Groups whose features are numbers of different sizes: each is divided by its deviation."""

PAIRS = 4_096
"""Pairs of the reference from which the mean distance is taken, where there are more."""


@dataclass(frozen=True)
class View:
    """One group of features.

    Args:
        name: of the group.
        columns: the place of each feature.
        scale: what each column is multiplied by, shape (columns + 1,).
    """

    name: str
    columns: Mapping[str, int]
    scale: Floats

    def matrix(self, bags: Sequence[Bag]) -> Floats:
        """Write bags as rows, shape (bags, columns + 1)."""
        return _raw(self.columns, bags) * self.scale


def views_of(reference: Sequence[Mapping[str, Bag]]) -> tuple[View, ...]:
    """Return a view of each group in which members of the reference differ.

    Args:
        reference: descriptions of architectures, at least one.
    """
    found = []
    for name in dict.fromkeys(group for each in reference for group in each):
        bags = [each.get(name, {}) for each in reference]
        view = _view(name, bags)
        if view is not None:
            found.append(view)
    return tuple(found)


def _view(name: str, bags: Sequence[Bag]) -> View | None:
    features = sorted(_varying(bags))
    if not features:
        return None
    columns = {feature: place for place, feature in enumerate(features)}
    raw = _raw(columns, bags)
    scale = np.ones(len(features) + 1)
    if name in UNIT:
        deviations = raw.std(axis=0)
        scale = 1 / np.where(deviations > 0, deviations, 1.0)
    apart = _mean_square(raw * scale)
    return View(name, columns, scale / np.sqrt(apart)) if apart > 0 else None


def _varying(bags: Sequence[Bag]) -> Iterable[str]:
    """The features that do not have the same value everywhere."""
    first: dict[str, float] = {}
    seen: dict[str, int] = {}
    varying: set[str] = set()
    for bag in bags:
        for feature, value in bag.items():
            seen[feature] = seen.get(feature, 0) + 1
            if first.setdefault(feature, value) != value:
                varying.add(feature)
    return varying.union(feature for feature, times in seen.items() if times < len(bags))


def _raw(columns: Mapping[str, int], bags: Sequence[Bag]) -> Floats:
    matrix = np.zeros((len(bags), len(columns) + 1))
    for row, bag in enumerate(bags):
        beyond = 0.0
        for feature, value in bag.items():
            column = columns.get(feature)
            if column is None:
                beyond += value * value
            else:
                matrix[row, column] = value
        matrix[row, -1] = np.sqrt(beyond)
    return matrix


def _mean_square(rows: Floats) -> float:
    rng = np.random.default_rng(0)
    one, other = rng.integers(0, len(rows), size=(2, PAIRS))
    return float(((rows[one] - rows[other]) ** 2).sum(axis=1).mean())
