"""How well inherited accuracies rank architectures: the monitor of weight sharing.

Kendall's rank correlation (Kendall, "A New Measure of Rank Correlation", Biometrika 1938; with
ties as in "The Treatment of Ties in Ranking Problems", Biometrika 1945): of all pairs of
architectures, the share that both measures put in the same order, less the share that they put in
opposite orders. A search cares for the best, among which ranking is harder.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from parti.core.errors import InvalidSettings

__all__ = ["Agreement", "rank_correlation"]


@dataclass(frozen=True, slots=True)
class Agreement:
    """Kendall's tau-b, from -1, reversed, to 1, the same order; NaN where nothing can be ranked.

    Args:
        all: over all architectures.
        best: over those that are truly best.
        count: of all architectures.
        best_count: of the best ones.
    """

    all: float
    best: float
    count: int
    best_count: int


def rank_correlation(pairs: Sequence[tuple[float, float]], best: float = 0.25) -> Agreement:
    """Compare two measures of the same architectures.

    Args:
        pairs: for each architecture its inherited accuracy and its true one (stand-alone, or of a
            table); larger is better.
        best: the share of architectures, by true accuracy, that count as the best.

    Raises:
        InvalidSettings: `best` is no share.
    """
    if not 0 < best <= 1:
        raise InvalidSettings(f"best={best}: choose a share of more than 0 and at most 1")
    values = np.asarray(pairs, dtype=np.float64).reshape(-1, 2)
    top = values[np.argsort(-values[:, 1], kind="stable")[: round(best * len(values))]]
    return Agreement(_tau(values), _tau(top), len(values), len(top))


def _tau(values: NDArray[np.float64]) -> float:
    """Tau-b of two columns."""
    one, other = (np.sign(column[:, None] - column[None, :]) for column in values.T)
    scale = np.sqrt((one**2).sum() * (other**2).sum())
    return float((one * other).sum() / scale) if scale > 0 else float("nan")
