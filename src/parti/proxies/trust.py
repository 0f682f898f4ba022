"""How far a proxy is to be trusted: how well it ranked the candidates that were trained.

Rank correlations of Spearman (1904) and Kendall (tau-b, 1945), with percentile bootstrap intervals
(Efron, 1979). Without torch.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from parti.core.errors import InvalidSettings
from parti.core.study import Objective
from parti.core.trial import State, Trial
from parti.proxies.catalogue import TITLES
from parti.proxies.ranks import ranks

__all__ = ["Trust", "trust", "trust_in"]

ENOUGH = 8
"""With fewer candidates than that, nothing is said about a proxy."""

USEFUL, GOOD = 0.3, 0.6
"""Lower ends of the interval of Spearman's correlation for the words that are used."""

RESAMPLES = 1000


@dataclass(frozen=True, slots=True)
class Trust:
    """How well one proxy ranked candidates whose accuracy is known.

    Args:
        proxy: its name.
        n: candidates that have both a score and an accuracy.
        spearman: rank correlation, from -1 to 1; positive is what the proxy claims; NaN where
            there is no order (fewer than 3 candidates, or all equal).
        low: lower end of its bootstrap interval.
        high: upper end.
        kendall: tau-b; likewise.
        verdict: one sentence.
    """

    proxy: str
    n: int
    spearman: float
    low: float
    high: float
    kendall: float
    verdict: str


def trust(
    proxy: str,
    scores: Sequence[float],
    accuracies: Sequence[float],
    *,
    goal: Literal["min", "max"] = "max",
    confidence: float = 0.95,
    seed: int = 0,
) -> Trust:
    """Compare a proxy's scores with what training found.

    Args:
        proxy: its name.
        scores: one for each candidate; pairs with NaN or an infinite accuracy are left out, an
            infinite score is ranked first or last.
        accuracies: of the same candidates; higher is better.
        goal: whether good networks score high or low.
        confidence: of the interval.
        seed: of the bootstrap.

    Raises:
        InvalidSettings: the lengths differ, or the confidence is no share.
    """
    if len(scores) != len(accuracies) or not 0 < confidence < 1:
        raise InvalidSettings(
            f"{len(scores)} scores, {len(accuracies)} accuracies, confidence {confidence}: give "
            "an accuracy for each score, and a confidence between 0 and 1"
        )
    x, y = (np.asarray(values, dtype=np.float64) for values in (scores, accuracies))
    known = ~np.isnan(x) & np.isfinite(y)
    x, y = x[known] * (-1 if goal == "min" else 1), y[known]
    n = len(x)
    found, tau = _spearman(x, y), _tau(x, y)
    low, high = _interval(x, y, confidence, seed)
    return Trust(proxy, n, found, low, high, tau, _verdict(proxy, n, found, low, high))


def trust_in(
    trials: Iterable[Trial],
    objective: Objective,
    proxies: Sequence[str],
    *,
    goals: dict[str, Literal["min", "max"]] | None = None,
    confidence: float = 0.95,
    seed: int = 0,
) -> list[Trust]:
    """Say of each proxy how well it ranked the trials of a study.

    Candidates that were rejected by a proxy are not among them, so a correlation is that within
    what it let through.

    Args:
        trials: those that are done and have the objective count.
        objective: what training measured (val_accuracy, max).
        proxies: names of metrics, as the trials have them: "proxy_naswot", "params".
        goals: whether good networks score high or low; "max" where not said.
        confidence: of the intervals.
        seed: of the bootstrap.

    Returns:
        One for each proxy, most trusted first: by the lower end of the interval.
    """
    done = [trial for trial in trials if trial.state is State.DONE]
    worth = [-objective.loss(trial) for trial in done]
    found = [
        trust(
            proxy,
            [trial.metric(proxy) for trial in done],
            worth,
            goal=(goals or {}).get(proxy, "max"),
            confidence=confidence,
            seed=seed,
        )
        for proxy in proxies
    ]
    return sorted(found, key=lambda t: -math.inf if math.isnan(t.low) else t.low, reverse=True)


def _verdict(proxy: str, n: int, spearman: float, low: float, high: float) -> str:
    name = proxy.removeprefix("proxy_")
    proxy = TITLES.get(name, name)
    if n < ENOUGH or math.isnan(low):
        return (
            f"{proxy} was compared on {n} trained candidates: too few, or too alike, to say "
            "whether it can be trusted."
        )
    shown = f"Spearman {spearman:.2f}, between {low:.2f} and {high:.2f}, on {n} candidates"
    if low >= GOOD:
        return f"{proxy} ranked well here ({shown}): it may choose what to train."
    if low >= USEFUL:
        return f"{proxy} ranked usefully here ({shown}): it may discard the worst, not choose."
    if high < 0:
        return f"{proxy} misled here ({shown}): it ranked the better candidates lower."
    return f"{proxy} is not to be trusted here ({shown}): let training decide."


def _spearman(x: NDArray[Any], y: NDArray[Any]) -> float:
    if len(x) < 3:
        return math.nan
    one, other = (ranks(values) - (len(x) + 1) / 2 for values in (x, y))
    scale = math.sqrt(float(one @ one) * float(other @ other))
    return float(one @ other) / scale if scale > 0 else math.nan


def _tau(x: NDArray[Any], y: NDArray[Any]) -> float:
    # Ranks, as infinities have no differences.
    one, other = (np.sign(r[:, None] - r[None, :]) for r in (ranks(x), ranks(y)))
    scale = math.sqrt(float((one**2).sum()) * float((other**2).sum()))
    return float((one * other).sum()) / scale if scale > 0 else math.nan


def _interval(
    x: NDArray[Any], y: NDArray[Any], confidence: float, seed: int
) -> tuple[float, float]:
    """Percentiles over candidates drawn with replacement."""
    if math.isnan(_spearman(x, y)):
        return math.nan, math.nan
    random = np.random.default_rng(seed)
    drawn = (random.integers(0, len(x), len(x)) for _ in range(RESAMPLES))
    values = np.array([_spearman(x[places], y[places]) for places in drawn])
    values = values[~np.isnan(values)]
    if not len(values):
        return math.nan, math.nan
    low, high = np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)
