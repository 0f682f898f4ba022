"""A forest of regression trees over decisions: each leaf is a product of sets of options.

Random forests: L. Breiman, "Random Forests", Machine Learning 45, 2001. The trees are
scikit-learn's. That their leaves are products lets sums over all architectures be exact, however
large the space is; `parti.explaining.importance` uses it.

A decision that does not exist in an architecture gets a random option in each tree's sample, so
that no tree can tell from it what else was decided; in a prediction it is averaged over.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parti.core.architecture import Option
from parti.explaining.decisions import ABSENT, Decisions

__all__ = ["Forest", "Tree", "fit_forest"]

Floats = NDArray[np.float64]

TREES = 64
FEATURES = 5 / 6
"""Share of the columns that a split looks at, as in SMAC's forests (Hutter et al., 2011)."""


@dataclass(frozen=True)
class Tree:
    """One regression tree.

    Args:
        values: of the leaves, shape (leaves,).
        allowed: which options lead to a leaf, shape (leaves, choices, most options).
        sizes: number of options of each choice, shape (choices,).
    """

    values: Floats
    allowed: NDArray[np.bool_]
    sizes: NDArray[np.int64]

    @cached_property
    def shares(self) -> Floats:
        """Share of each choice's options that lead to a leaf, shape (leaves, choices)."""
        counts: Floats = self.allowed.sum(axis=2) / self.sizes
        return counts

    @cached_property
    def weights(self) -> Floats:
        """Share of all architectures that fall into each leaf, shape (leaves,)."""
        product: Floats = self.shares.prod(axis=1)
        return product

    def predict(self, places: NDArray[np.int64]) -> Floats:
        """Return predictions for rows of `Decisions.places`, shape (rows,)."""
        choices = np.arange(len(self.sizes))
        found = np.empty(len(places))
        for row, taken in enumerate(places):
            fits = np.where(
                taken == ABSENT, self.shares, self.allowed[:, choices, np.maximum(taken, 0)]
            )
            found[row] = fits.prod(axis=1) @ self.values
        return found


@dataclass(frozen=True)
class Forest:
    """Trees, and how well they predict what they were not fitted to.

    Args:
        decisions: of the space.
        trees: at least one.
        values: what the forest was fitted to, shape (architectures,).
        unseen: the prediction for each of these by the trees whose sample it was not in.
    """

    decisions: Decisions
    trees: tuple[Tree, ...]
    values: Floats
    unseen: Floats

    @property
    def error(self) -> float:
        """Root mean squared error on architectures that were left out, in the metric's unit."""
        return float(np.sqrt(np.mean((self.unseen - self.values) ** 2)))

    @property
    def explained(self) -> float:
        """Share of the variance that is predicted of architectures left out; 0 or less is none."""
        spread = float(np.var(self.values))
        return 1 - self.error**2 / spread if spread > 0 else 0.0

    def predict(self, architectures: Sequence[Mapping[str, Option]]) -> Floats:
        """Return what each tree predicts, shape (trees, architectures)."""
        places = self.decisions.places(architectures)
        return np.stack([tree.predict(places) for tree in self.trees])


def fit_forest(
    decisions: Decisions,
    architectures: Sequence[Mapping[str, Option]],
    values: Sequence[float],
    *,
    seed: int = 0,
    trees: int = TREES,
) -> Forest:
    """Fit a forest.

    Args:
        decisions: what the architectures decide.
        architectures: at least two.
        values: of a metric, one for each.
        seed: of the samples and splits.
        trees: how many.
    """
    rng = np.random.default_rng(seed)
    places, target = decisions.places(architectures), np.asarray(values, dtype=np.float64)
    count = len(target)
    grown: list[Tree] = []
    sums, times = np.zeros(count), np.zeros(count)
    for _ in range(trees):
        sample = rng.integers(count, size=count)
        tree = _grow(decisions, places[sample], target[sample], rng)
        left_out = np.setdiff1d(np.arange(count), sample)
        sums[left_out] += tree.predict(places[left_out])
        times[left_out] += 1
        grown.append(tree)
    unseen = np.where(times > 0, sums / np.maximum(times, 1), target.mean())
    return Forest(decisions, tuple(grown), target, unseen)


def _grow(
    decisions: Decisions, places: NDArray[np.int64], target: Floats, rng: np.random.Generator
) -> Tree:
    from sklearn.tree import DecisionTreeRegressor

    drawn = rng.integers(decisions.sizes, size=places.shape)
    filled = np.where(places == ABSENT, drawn, places)
    matrix = np.stack([values[filled[:, choice]] for choice, values in decisions.columns], axis=1)
    fitted = DecisionTreeRegressor(
        max_features=FEATURES, random_state=int(rng.integers(2**31))
    ).fit(matrix, target)
    return _with_products(decisions, fitted.tree_)


def _with_products(decisions: Decisions, fitted: Any) -> Tree:
    """Follow scikit-learn's arrays from the root, and note which options reach each leaf."""
    most = int(decisions.sizes.max())
    everything = np.arange(most)[None, :] < decisions.sizes[:, None]
    values: list[float] = []
    products: list[NDArray[np.bool_]] = []
    open_ = [(0, everything)]
    while open_:
        node, allowed = open_.pop()
        if fitted.children_left[node] < 0:
            values.append(float(fitted.value[node].item()))
            products.append(allowed)
            continue
        choice, column = decisions.columns[fitted.feature[node]]
        low = np.zeros(most, dtype=np.bool_)
        low[: len(column)] = column <= fitted.threshold[node]
        for child, side in ((fitted.children_left, low), (fitted.children_right, ~low)):
            below = allowed.copy()
            below[choice] &= side
            open_.append((int(child[node]), below))
    return Tree(np.array(values), np.array(products), decisions.sizes)
