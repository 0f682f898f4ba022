"""Several proxies as one: sums of ranks over a set of candidates. Without torch.

Proxies have different units and sizes, so their ranks are added, not their values. A candidate
whose score is NaN ranks last, as if it were the worst value.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from parti.core.errors import InvalidSettings

__all__ = ["log_rank_sum", "rank_mean", "ranks"]

Floats = NDArray[np.float64]
Goals = Mapping[str, Literal["min", "max"]]


def ranks(values: Sequence[float] | NDArray[Any]) -> Floats:
    """Return each value's rank, from 1 for the smallest; equal values share their mean rank.

    Args:
        values: (n,); NaN counts as −∞.
    """
    found = np.asarray(values, dtype=np.float64)
    found = np.where(np.isnan(found), -np.inf, found)
    _, place, counts = np.unique(found, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    means: Floats = (ends - (counts - 1) / 2)[place]
    return means


def rank_mean(scores: Mapping[str, Sequence[float]], goals: Goals | None = None) -> Floats:
    """Combine proxies by the mean of their ranks, each from 0, worst, to 1, best.

    The order is that of the sum of ranks (Borda count).

    Args:
        scores: by proxy, a score for each candidate.
        goals: whether good networks score high or low; "max" where not said.

    Returns:
        (candidates,), higher is better.

    Raises:
        InvalidSettings: there are no scores, or not the same number for each proxy.
    """
    found = _ranked(scores, goals)
    combined: Floats = np.mean((found - 1) / max(found.shape[1] - 1, 1), axis=0)
    return combined


def log_rank_sum(scores: Mapping[str, Sequence[float]], goals: Goals | None = None) -> Floats:
    """Combine proxies as AZ-NAS does: a candidate should be bad at none.

    J. Lee and B. Ham. AZ-NAS: Assembling Zero-Cost Proxies for Network Architecture Search.
    CVPR 2024, equation 10: the sum of log(rank / number of candidates). Theirs are
    `az_expressivity`, `az_progressivity`, `az_trainability` and `macs`.

    Args:
        scores: by proxy, a score for each candidate.
        goals: whether good networks score high or low; "max" where not said.

    Returns:
        (candidates,), higher is better; 0 for one that is best in everything.

    Raises:
        InvalidSettings: there are no scores, or not the same number for each proxy.
    """
    found = _ranked(scores, goals)
    combined: Floats = np.log(found / found.shape[1]).sum(axis=0)
    return combined


def _ranked(scores: Mapping[str, Sequence[float]], goals: Goals | None) -> Floats:
    lengths = {len(values) for values in scores.values()}
    if len(lengths) != 1 or 0 in lengths:
        raise InvalidSettings(
            f"scores of {', '.join(f'{n}: {len(v)}' for n, v in scores.items()) or 'no proxy'} "
            "candidates; give the same candidates to each proxy, at least 1"
        )
    signs = {name: -1.0 if (goals or {}).get(name) == "min" else 1.0 for name in scores}
    return np.stack([ranks(signs[name] * np.asarray(values)) for name, values in scores.items()])
