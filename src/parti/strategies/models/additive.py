"""A Gaussian process whose covariance is a sum over views, each with a weight and a lengthscale.

Rasmussen and Williams, "Gaussian Processes for Machine Learning", MIT Press 2006, chapters 2, 4
and 5; sums of kernels over groups of features: Duvenaud, Nickisch, Rasmussen, "Additive Gaussian
Processes", NeurIPS 2011. Which views matter, and how far they reach, is found from the trials: the
logarithms of weights, lengthscales and noise have normal priors, and take their most probable
values. So a view that says nothing fades as trials come in.

The views are lists of columns of one matrix, already scaled (`views`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["Part", "Settings", "Surface", "fit"]

Floats = NDArray[np.float64]
Shape = Literal["exponential", "matern", "gaussian", "linear"]

JITTER = 1e-8
"""Added to the diagonal: the process standardizes its targets, so it is far below all noise."""

NOISE = (-4.0, 1.5)
"""Prior of the logarithm of the variance of the noise: mean and deviation."""

WEIGHT_DEVIATION = 1.5
LENGTHSCALE_DEVIATION = 1.0

STEPS = 40
"""Steps of the optimizer at most."""


@dataclass(frozen=True, slots=True)
class Part:
    """One term of the sum.

    Args:
        columns: of the matrix.
        shape: exponential: exp(-r), rough; matern: of order 5/2, smooth; linear: the dot product.
    """

    columns: slice
    shape: Shape


@dataclass(frozen=True, slots=True)
class Settings:
    """Logarithms of what was found.

    Args:
        weights: of each part's variance.
        lengthscales: of each part.
        noise: of the variance of the noise.
    """

    weights: Floats
    lengthscales: Floats
    noise: float


def fit(parts: Sequence[Part], rows: Floats, targets: Floats) -> Settings:
    """Find the most probable settings.

    Args:
        parts: the terms.
        rows: shape (trials, columns).
        targets: shape (trials,), of mean about 0 and deviation about 1.
    """
    from scipy.optimize import minimize

    count = len(parts)
    centre = np.concatenate([np.full(count, -np.log(count)), np.zeros(count), [NOISE[0]]])
    deviation = np.concatenate(
        [np.full(count, WEIGHT_DEVIATION), np.full(count, LENGTHSCALE_DEVIATION), [NOISE[1]]]
    )
    apart = [_apart(part, rows, rows) for part in parts]
    found = minimize(
        _objective(parts, apart, targets, centre, deviation),
        centre,
        jac=True,
        method="L-BFGS-B",
        bounds=list(zip(centre - 4 * deviation, centre + 4 * deviation, strict=True)),
        options={"maxiter": STEPS},
    )
    return Settings(found.x[:count], found.x[count : 2 * count], float(found.x[-1]))


class Surface:
    """The posterior under given settings; trials are added one after another.

    Args:
        parts: the terms.
        settings: from `fit`.
        rows: shape (trials, columns), the trials.
        targets: shape (trials,).
    """

    def __init__(
        self, parts: Sequence[Part], settings: Settings, rows: Floats, targets: Floats
    ) -> None:
        from scipy.linalg import cho_factor, cho_solve

        self._parts = parts
        self._settings = settings
        self._rows = rows
        covariance = self.covariance(rows, rows)
        covariance[np.diag_indices_from(covariance)] += np.exp(settings.noise) + JITTER
        self._factor = np.tril(cho_factor(covariance, lower=True)[0])
        self._weights = cho_solve((self._factor, True), targets)

    def covariance(self, rows: Floats, columns: Floats) -> Floats:
        """Covariance of the function between places, shape (rows, columns)."""
        total = np.zeros((len(rows), len(columns)))
        for place, part in enumerate(self._parts):
            value = _value(part.shape, _apart(part, rows, columns), self._scale(place))
            total += np.exp(self._settings.weights[place]) * value
        return total

    def predict(self, rows: Floats, across: Floats | None = None) -> tuple[Floats, Floats]:
        """Return mean and standard deviation of the function, without noise, each (rows,).

        Args:
            rows: shape (rows, columns).
            across: the covariance of the rows with the trials, where it is known.
        """
        from scipy.linalg import solve_triangular

        if across is None:
            across = self.covariance(rows, self._rows)
        solved = solve_triangular(self._factor, across.T, lower=True, check_finite=False)
        variance = self._prior(rows) - np.einsum("ij,ij->j", solved, solved)
        return across @ self._weights, np.sqrt(np.maximum(variance, JITTER))

    def _prior(self, rows: Floats) -> Floats:
        total = np.zeros(len(rows))
        for place, part in enumerate(self._parts):
            own = rows[:, part.columns]
            size = np.einsum("ij,ij->i", own, own) if part.shape == "linear" else 1.0
            total += np.exp(self._settings.weights[place]) * size
        return total

    def _scale(self, place: int) -> float:
        return float(np.exp(self._settings.lengthscales[place]))


def _objective(
    parts: Sequence[Part],
    apart: Sequence[Floats],
    targets: Floats,
    centre: Floats,
    deviation: Floats,
) -> Callable[[Floats], tuple[float, Floats]]:
    """The negative logarithm of the posterior density of the settings, and its gradient."""
    from scipy.linalg import cho_solve

    count, trials = len(parts), len(targets)

    def objective(at: Floats) -> tuple[float, Floats]:
        weights, scales, noise = np.exp(at[:count]), np.exp(at[count:-1]), np.exp(at[-1])
        terms, slopes = [], []
        for part, squares, weight, scale in zip(parts, apart, weights, scales, strict=True):
            value, slope = _value_and_slope(part.shape, squares, float(scale))
            terms.append(weight * value)
            slopes.append(weight * slope)
        covariance = np.sum(terms, axis=0)
        covariance[np.diag_indices_from(covariance)] += noise + JITTER
        factor = np.linalg.cholesky(covariance)
        inverse = cho_solve((factor, True), np.eye(trials))
        solved = inverse @ targets
        # Rasmussen and Williams, equations 5.8 and 5.9.
        value = 0.5 * targets @ solved + np.log(np.diag(factor)).sum()
        inner = 0.5 * (inverse - np.outer(solved, solved))
        gradient = np.array(
            [
                *(np.vdot(inner, term) for term in terms),
                *(np.vdot(inner, slope) for slope in slopes),
                noise * np.trace(inner),
            ]
        )
        away = (at - centre) / deviation
        return float(value + 0.5 * away @ away), gradient + away / deviation

    return objective


def _apart(part: Part, rows: Floats, columns: Floats) -> Floats:
    """Squared distances, or dot products for a linear part, shape (rows, columns)."""
    one, other = rows[:, part.columns], columns[:, part.columns]
    dots: Floats = one @ other.T
    if part.shape == "linear":
        return dots
    squares = (one**2).sum(axis=1)[:, None] + (other**2).sum(axis=1)[None, :] - 2 * dots
    apart: Floats = np.maximum(squares, 0.0)
    return apart


def _value(shape: Shape, apart: Floats, scale: float) -> Floats:
    if shape == "linear":
        return apart
    if shape == "exponential":
        rough: Floats = np.exp(-np.sqrt(apart) / scale)
        return rough
    if shape == "gaussian":
        smooth: Floats = np.exp(-0.5 * apart / scale**2)
        return smooth
    distance = np.sqrt(5 * apart) / scale
    matern: Floats = (1 + distance + distance**2 / 3) * np.exp(-distance)
    return matern


def _value_and_slope(shape: Shape, apart: Floats, scale: float) -> tuple[Floats, Floats]:
    """A part's correlation, and its derivative by the logarithm of the lengthscale."""
    if shape == "linear":
        return apart, np.zeros_like(apart)
    if shape == "exponential":
        distance = np.sqrt(apart) / scale
        value = np.exp(-distance)
        return value, distance * value
    if shape == "gaussian":
        value = np.exp(-0.5 * apart / scale**2)
        return value, apart / scale**2 * value
    distance = np.sqrt(5 * apart) / scale
    falling = np.exp(-distance)
    return (
        (1 + distance + distance**2 / 3) * falling,
        distance**2 * (1 + distance) / 3 * falling,
    )
