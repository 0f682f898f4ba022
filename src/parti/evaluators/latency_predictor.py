"""Latency from a few measurements: a Gaussian process over what an architecture is made of.

Most of a network's latency is a sum over its operations, as nn-Meter builds it from kernels; the
rest, of memory, fusion and parallel branches, is smooth in the same features. So the covariance
is a sum of a linear kernel for each group of features and a squared exponential over all of them,
with noise; a measured latency, z, has mean zero and deviation one:

    k(a, b) = 1 + sum_g w_g x_g(a) . x_g(b) + w_r exp(-|x(a) - x(b)|^2 / 2) + w_n [a = b]

The weights are the most probable ones under a normal distribution of their logarithms, with the
means below: at first counts of operations are trusted most. (C. E. Rasmussen and C. K. I.
Williams, Gaussian Processes for Machine Learning, 2006, sections 2.2 and 5.4.1.) Where latencies
differ by orders of magnitude, as with widths and resolutions, operations multiply rather than add
up: so z is made of latencies or of their logarithms, whichever makes the measurements more
probable.

What is measured is chosen so that little remains uncertain: each time the architecture whose
latency is the least known, given what is chosen already. Among Gaussian designs this greedy one is
within 1 - 1/e of the most informative (A. Krause, A. Singh, C. Guestrin, Near-Optimal Sensor
Placements in Gaussian Processes, JMLR 2008; Srinivas et al., ICML 2010).

For orientation, not followed: BRP-NAS (L. Dudziak et al., NeurIPS 2020) learns a graph network
from hundreds of measurements, HELP (H. Lee et al., NeurIPS 2021) a network over many devices
before it meets a new one, and nn-Meter (L. L. Zhang et al., MobiSys 2021) kernels one by one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from parti.core.architecture import Architecture
from parti.core.errors import InvalidSettings
from parti.evaluators.latency_features import LatencyFeatures

__all__ = ["LatencyPredictor", "Quality", "cross_validated", "design"]

Floats = NDArray[np.float64]

EXPECTED = {"counts": 0.0, "choices": -2.0, "graph": -2.0, "network": -1.0}
EXPECTED_SMOOTH, EXPECTED_NOISE = -2.0, -3.0
UNCERTAIN = 1.5
"""Means of the logarithms of the weights, and their deviation."""

FEWEST, FEWEST_JUDGED = 4, 8
"""Measurements below which nothing is learned, and below which nothing is said of its error."""

FOLDS = 10
RESAMPLES = 400


@dataclass(frozen=True, slots=True)
class Quality:
    """How well random members of the space are predicted, as far as the measurements tell.

    Args:
        n: measurements.
        rank: Spearman's correlation of predicted and measured latency.
        rank_low: its lower bound, at 95 % (one-sided) if errors are about normal; rare large
            errors that the measurements did not show are not accounted for.
        error: mean of |predicted - measured|, over mean latency.
        error_high: its upper bound, likewise.
    """

    n: int
    rank: float
    rank_low: float
    error: float
    error_high: float

    def __str__(self) -> str:
        """In a line."""
        return (
            f"{self.n} measurements, cross-validated: rank correlation {self.rank:.2f} (at "
            f"least {self.rank_low:.2f}), mean error {self.error:.1%} (at most "
            f"{self.error_high:.1%}), bounds at 95 %"
        )


class LatencyPredictor:
    """A Gaussian process that has seen some measurements.

    Args:
        features: describes architectures.
        architectures: those that were measured.
        latencies: what was measured, in any unit; shape (architectures,).

    Raises:
        InvalidSettings: there are too few measurements, or they are not finite.
    """

    def __init__(
        self,
        features: LatencyFeatures,
        architectures: Sequence[Architecture],
        latencies: Sequence[float],
    ) -> None:
        seen = np.asarray(latencies, dtype=np.float64)
        if len(seen) != len(architectures) or len(seen) < FEWEST or not np.isfinite(seen).all():
            raise InvalidSettings(
                f"{len(seen)} latencies of {len(architectures)} architectures: a predictor needs "
                f"at least {FEWEST}, one of each, and finite"
            )
        self.features = features
        self._rows = features.rows(architectures)
        self._expected = [*(EXPECTED[group] for group in features.groups), EXPECTED_SMOOTH]
        self._fit(seen)

    def predict(self, architectures: Sequence[Architecture]) -> tuple[Floats, Floats]:
        """Predict latencies, in the unit in which they were given.

        Args:
            architectures: members of the space.

        Returns:
            Means and standard deviations, that of a measurement's noise included; both of shape
            (architectures,). Means are not below half of the smallest latency seen.
        """
        mean, deviation = self._believed(architectures)
        if self._logarithmic:
            latency = np.exp(mean)
            return np.maximum(latency, self._least), latency * np.expm1(deviation)
        return np.maximum(mean, self._least), deviation

    def missed(self, architectures: Sequence[Architecture], latencies: Sequence[float]) -> Floats:
        """How far measurements lie from what is believed of them, in deviations.

        Args:
            architectures: members of the space.
            latencies: what was measured; shape (architectures,).
        """
        mean, deviation = self._believed(architectures)
        seen = np.asarray(latencies, dtype=np.float64)
        away: Floats = ((np.log(seen) if self._logarithmic else seen) - mean) / deviation
        return away

    def imagined(
        self, architectures: Sequence[Architecture], factors: Floats, random: np.random.Generator
    ) -> tuple[Floats, Floats]:
        """Draw latencies from what is believed, and compare them with the predictions.

        Args:
            architectures: whose latencies are drawn.
            factors: for each draw, by how much errors exceed what is believed.
            random: draws.

        Returns:
            Spearman's correlation, and mean absolute error over mean latency, of each draw.
        """
        from scipy.stats import rankdata

        mean, _ = self._believed(architectures)
        rows = self.features.rows(architectures)
        across = _covariance(rows, self._rows, self._weights)
        half = np.linalg.solve(self._root, across.T)
        covariance = _covariance(rows, rows, self._weights) - half.T @ half
        root = np.linalg.cholesky(covariance + self._noise * np.eye(len(mean)))
        drawn = random.standard_normal((len(factors), len(mean))) @ root.T
        imagined = mean + self._scale * factors[:, None] * drawn
        if self._logarithmic:
            mean, imagined = np.exp(mean), np.exp(imagined)
        ranked = rankdata(mean)
        ranks = [_correlation(ranked, rankdata(each)) for each in imagined]
        return np.array(ranks), np.abs(imagined - mean).mean(axis=1) / abs(float(mean.mean()))

    def _believed(self, architectures: Sequence[Architecture]) -> tuple[Floats, Floats]:
        """Mean and deviation, of logarithms where those are learned; shape (architectures,)."""
        rows = self.features.rows(architectures)
        across = _covariance(rows, self._rows, self._weights)
        mean: Floats = self._mean + self._scale * (across @ self._solved)
        half = np.linalg.solve(self._root, across.T)
        own = 1.0 + sum(
            weight * (block**2).sum(axis=1)
            for weight, block in zip(self._weights, rows, strict=False)
        )
        variance = own + self._weights[-1] + self._noise - (half**2).sum(axis=0)
        return mean, self._scale * np.sqrt(np.maximum(variance, 1e-12))

    def _fit(self, seen: Floats) -> None:
        self._least = 0.5 * float(seen.min())
        plain, of_plain = self._weighed(seen)
        logs, of_logs = plain, np.inf
        if seen.min() > 0:
            logs, of_logs = self._weighed(np.log(seen))
            of_logs += float(np.log(seen).sum())  # as probabilities of latencies
        self._logarithmic = bool(of_logs < of_plain)
        weights = np.exp(logs if self._logarithmic else plain)
        learned = np.log(seen) if self._logarithmic else seen
        self._mean, self._scale = _mean_and_scale(learned)
        self._weights, self._noise = weights[:-1], float(weights[-1])
        covariance = _covariance(self._rows, self._rows, self._weights)
        self._root = np.linalg.cholesky(covariance + self._noise * np.eye(len(seen)))
        z = (learned - self._mean) / self._scale
        self._solved = np.linalg.solve(self._root.T, np.linalg.solve(self._root, z))

    def _weighed(self, learned: Floats) -> tuple[Floats, float]:
        """The logarithms of the weights, and how surprising they leave what was measured."""
        from scipy.optimize import minimize

        mean, scale = _mean_and_scale(learned)
        parts = [*_kernels(self._rows, self._rows), np.eye(len(learned))]
        expected = np.array([*self._expected, EXPECTED_NOISE])
        found = minimize(
            _surprise, expected, (parts, (learned - mean) / scale, expected), jac=True,
            method="L-BFGS-B", bounds=[(each - 6, each + 6) for each in expected],
        )  # fmt: skip
        return found.x, float(found.fun) + len(learned) * float(np.log(scale))


def cross_validated(
    features: LatencyFeatures, architectures: Sequence[Architecture], latencies: Sequence[float]
) -> Quality:
    """Say how well latencies of random members of the space are predicted.

    What was chosen by `design` differs more than random members do, so a rank correlation over it
    would flatter. Instead, each tenth of the measurements is predicted from the others; by how
    much these errors exceed the deviations that the model claims, so much larger than claimed are
    the errors taken to be over random members of the space, which are drawn from the model.

    Args:
        features: describes architectures.
        architectures: those that were measured.
        latencies: what was measured; shape (architectures,).

    Raises:
        InvalidSettings: there are too few measurements, or they are not finite.
    """
    seen = np.asarray(latencies, dtype=np.float64)
    if len(seen) < FEWEST_JUDGED:
        raise InvalidSettings(
            f"{len(seen)} measurements say nothing of errors; there must be {FEWEST_JUDGED}"
        )
    random = np.random.default_rng(0)
    place = random.permutation(len(seen)) % FOLDS
    missed = np.empty(len(seen))
    for fold in range(min(FOLDS, len(seen))):
        left_out = np.flatnonzero(place == fold).tolist()
        kept = np.flatnonzero(place != fold).tolist()
        model = LatencyPredictor(features, [architectures[i] for i in kept], seen[kept].tolist())
        away = model.missed([architectures[i] for i in left_out], seen[left_out].tolist())
        missed[left_out] = away**2
    again = random.integers(0, len(seen), (RESAMPLES, len(seen)))
    factors = np.sqrt(missed[again].mean(axis=1))
    model = LatencyPredictor(features, architectures, latencies)
    ranks, errors = model.imagined(features.reference, factors, random)
    return Quality(
        n=len(seen),
        rank=float(np.median(ranks)),
        rank_low=float(np.quantile(ranks, 0.05)),
        error=float(np.median(errors)),
        error_high=float(np.quantile(errors, 0.95)),
    )


def design(
    features: LatencyFeatures, pool: Sequence[Architecture], count: int
) -> list[Architecture]:
    """Choose what to measure, before anything is known; a shorter design begins a longer one.

    Args:
        features: describes architectures.
        pool: to choose from.
        count: how many; no more than there are in the pool.
    """
    rows = features.rows(pool)
    weights = np.exp([*(EXPECTED[group] for group in features.groups), EXPECTED_SMOOTH])
    noise = np.exp(EXPECTED_NOISE)
    covariance = _covariance(rows, rows, weights)
    variance = covariance.diagonal().copy()
    chosen: list[int] = []
    explained = np.zeros((len(pool), 0))
    for _ in range(min(count, len(pool))):
        best = int(np.argmax(variance))
        chosen.append(best)
        column = covariance[:, best] - explained @ explained[best]
        column /= np.sqrt(variance[best] + noise)
        explained = np.column_stack([explained, column])
        variance -= column**2
        variance[best] = -np.inf
    return [pool[place] for place in chosen]


def _mean_and_scale(values: Floats) -> tuple[float, float]:
    return float(values.mean()), float(values.std()) or 1.0


def _kernels(one: Sequence[Floats], other: Sequence[Floats]) -> list[Floats]:
    """A linear kernel for each group, and a squared exponential over all."""
    linear = [a @ b.T for a, b in zip(one, other, strict=True)]
    squares = sum(
        (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1) - 2 * product
        for a, b, product in zip(one, other, linear, strict=True)
    )
    return [*linear, np.exp(-0.5 * np.maximum(squares, 0.0))]


def _covariance(one: Sequence[Floats], other: Sequence[Floats], weights: Floats) -> Floats:
    parts = zip(weights, _kernels(one, other), strict=True)
    covariance: Floats = np.asarray(1.0 + sum(weight * part for weight, part in parts))
    return covariance


def _surprise(
    logs: Floats, parts: Sequence[Floats], z: Floats, expected: Floats
) -> tuple[float, Floats]:
    """Minus the logarithm of the probability of weights and measurements, and its gradient."""
    covariance = 1.0 + sum(np.exp(log) * part for log, part in zip(logs, parts, strict=True))
    root = np.linalg.cholesky(covariance)
    inverse = np.linalg.inv(covariance)
    solved = inverse @ z
    away = (logs - expected) / UNCERTAIN
    value = 0.5 * z @ solved + np.log(root.diagonal()).sum() + 0.5 * away @ away
    slopes = [
        0.5 * np.exp(log) * (np.sum(inverse * part) - solved @ part @ solved)
        for log, part in zip(logs, parts, strict=True)
    ]
    return float(value), np.array(slopes) + away / UNCERTAIN


def _correlation(one: Floats, other: Floats) -> float:
    one, other = one - one.mean(), other - other.mean()
    scale = float(np.sqrt((one @ one) * (other @ other)))
    return float(one @ other) / scale if scale > 0 else 0.0
