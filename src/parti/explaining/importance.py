"""Functional ANOVA: how much of the variance of accuracy each decision explains.

F. Hutter, H. Hoos, K. Leyton-Brown, "An Efficient Approach for Assessing Hyperparameter
Importance", ICML 2014. The variance that a forest of regression trees predicts over the whole
space is split exactly into main effects of single decisions (equation 5 of the paper, from the
marginals of Algorithm 2) and interactions of pairs; each tree gives its own shares, and their
spread is reported.

Departures: options are equally likely, and a decision that does not exist has no effect, so that
conditional spaces are products too (see `parti.explaining.decisions`); interactions are computed
only among the decisions with the largest main effects; a forest that does not predict
architectures it has not seen is said to explain nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from parti.core.architecture import Option
from parti.explaining.forest import Forest, Tree

__all__ = ["FEWEST", "Effect", "Importance", "importance"]

FEWEST = 10
"""Architectures below which nothing is said."""

PAIRED = 8
"""Interactions are computed among so many decisions."""

LEAST_EXPLAINED = 0.05
"""A forest that predicts a smaller share of the variance of unseen architectures is not trusted."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Effect:
    """What one decision, or the interaction of two, does to the metric.

    Args:
        decisions: one name, or two.
        share: of the variance over the space that it explains, from 0 to 1; mean over trees.
        spread: standard deviation of the share over trees.
        options: of a single decision; empty for two.
        means: the mean of the metric over all architectures with each option.
        spreads: standard deviation of the means over trees.
    """

    decisions: tuple[str, ...]
    share: float
    spread: float
    options: tuple[Option, ...] = ()
    means: tuple[float, ...] = ()
    spreads: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Importance:
    """Which decisions matter.

    Args:
        metric: whose variance was split.
        trials: architectures that it was learnt from.
        explained: share of the variance of unseen architectures that the forest predicts.
        error: root mean squared error on unseen architectures, in the metric's unit.
        main: effects of single decisions, largest first.
        pairs: interactions, largest first.
        trusted: whether the forest predicts well enough to be believed.
        note: why it is not, or on what it rests.
    """

    metric: str
    trials: int
    explained: float
    error: float
    main: tuple[Effect, ...]
    pairs: tuple[Effect, ...]
    trusted: bool
    note: str


def importance(forest: Forest | None, metric: str, trials: int) -> Importance:
    """Split the variance of a metric among decisions.

    Args:
        forest: fitted to the metric; None when there were too few architectures for one.
        metric: its name.
        trials: number of architectures measured.

    Returns:
        Effects, or none at all with a note that says why.
    """
    if forest is None or trials < FEWEST:
        note = (
            f"{trials} comparable architectures were measured; at least {FEWEST} that differ are "
            "needed to tell which decisions matter"
        )
        return Importance(metric, trials, 0.0, 0.0, (), (), False, note)
    names = [choice.name for choice in forest.decisions.choices]
    marginals = [_marginals(tree) for tree in forest.trees]
    variances = np.array([_variance(tree) for tree in forest.trees])
    split = np.array(
        [
            [_main(effect, size) for effect, size in zip(each, forest.decisions.sizes, strict=True)]
            for each in marginals
        ]
    )
    means, spreads = _shares(split, variances)
    main = []
    for number in np.argsort(-means, kind="stable"):
        choice = forest.decisions.choices[number]
        by_tree = np.array([each[number][: len(choice.options)] for each in marginals])
        main.append(
            Effect(
                (names[number],),
                float(means[number]),
                float(spreads[number]),
                choice.options,
                tuple(map(float, by_tree.mean(axis=0))),
                tuple(map(float, by_tree.std(axis=0))),
            )
        )
    strongest = [int(n) for n in np.argsort(-means, kind="stable")[:PAIRED] if means[n] > 0]
    pairs = _pairs(forest, sorted(strongest), split, variances, names)
    trusted = forest.explained >= LEAST_EXPLAINED
    note = (
        f"learnt from {trials} architectures; predicts {100 * forest.explained:.0f} % of the "
        "variance of architectures it has not seen"
        if trusted
        else f"a forest over {trials} architectures predicts architectures it has not seen no "
        "better than their mean does, so these shares are not to be relied on"
    )
    return Importance(
        metric, trials, forest.explained, forest.error, tuple(main), pairs, trusted, note
    )


def _variance(tree: Tree) -> float:
    """The variance of a tree over the whole space."""
    mean = tree.weights @ tree.values
    return float(tree.weights @ (tree.values - mean) ** 2)


def _marginals(tree: Tree) -> Floats:
    """The mean of a tree over all architectures with an option, less its mean.

    Returns:
        Shape (choices, most options).
    """
    mean = tree.weights @ tree.values
    # A leaf's weight without one choice: divide by that choice's share, which is never 0.
    without = (tree.weights * (tree.values - mean))[:, None] / tree.shares
    marginals: Floats = np.einsum("lc,lco->co", without, tree.allowed)
    return marginals + mean


def _main(marginal: Floats, size: int) -> float:
    values = marginal[:size]
    return float(np.mean((values - values.mean()) ** 2))


def _shares(split: Floats, variances: Floats) -> tuple[Floats, Floats]:
    """Mean and standard deviation over trees of shares, shape (trees, effects) to two (effects,).

    A tree of a single leaf says nothing and is left out.
    """
    grown = variances > 0
    if not grown.any():
        return np.zeros(split.shape[1]), np.zeros(split.shape[1])
    shares = split[grown] / variances[grown, None]
    return shares.mean(axis=0), shares.std(axis=0)


def _pairs(
    forest: Forest, strongest: Sequence[int], main: Floats, variances: Floats, names: Sequence[str]
) -> tuple[Effect, ...]:
    wanted = list(combinations(strongest, 2))
    if not wanted:
        return ()
    split = np.array(
        [
            [_interaction(tree, i, j) - each[i] - each[j] for i, j in wanted]
            for tree, each in zip(forest.trees, main, strict=True)
        ]
    )
    means, spreads = _shares(np.maximum(split, 0.0), variances)
    return tuple(
        Effect((names[wanted[n][0]], names[wanted[n][1]]), float(means[n]), float(spreads[n]))
        for n in np.argsort(-means, kind="stable")
    )


def _interaction(tree: Tree, i: int, j: int) -> float:
    """The variance of the mean over all architectures with two options."""
    mean = tree.weights @ tree.values
    without = tree.weights * (tree.values - mean) / (tree.shares[:, i] * tree.shares[:, j])
    joint = np.einsum("l,lo,lp->op", without, tree.allowed[:, i], tree.allowed[:, j])
    cells = tree.sizes[i] * tree.sizes[j]
    return float((joint**2).sum() / cells)
