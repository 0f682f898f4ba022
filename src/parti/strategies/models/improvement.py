"""Expected improvement, of one loss and of a hypervolume; lower losses are better.

One loss: Jones, Schonlau, Welch, "Efficient Global Optimization of Expensive Black-Box
Functions", Journal of Global Optimization 13, 1998, equation 15. Hypervolume: Emmerich,
Giannakoglou, Naujoks, "Single- and Multiobjective Evolutionary Optimization Assisted by Gaussian
Random Field Metamodels", IEEE Transactions on Evolutionary Computation 10(4), 2006; Daulton,
Balandat, Bakshy, "Differentiable Expected Hypervolume Improvement for Parallel Multi-Objective
Bayesian Optimization", NeurIPS 2020, for the sum over boxes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from parti.strategies.pareto import nondominated

__all__ = [
    "Boxes",
    "boxes",
    "expected_hypervolume",
    "expected_improvement",
    "probability_below",
    "sampled_hypervolume",
]

Floats = npt.NDArray[np.float64]

CHUNK = 2_000_000
"""Candidates × boxes that are looked at together; it bounds the memory."""


@dataclass(frozen=True, slots=True)
class Boxes:
    """What no point of a front dominates, below a reference, cut into disjoint boxes.

    Args:
        lower: the best corner of each, shape (boxes, objectives); may be -infinity.
        upper: the worst corner of each.
    """

    lower: Floats
    upper: Floats


def probability_below(limit: npt.ArrayLike, mean: Floats, deviation: Floats) -> Floats:
    """Return the probability that a normal variable is at most a limit."""
    from scipy.special import ndtr

    below: Floats = ndtr((np.asarray(limit) - mean) / deviation)
    return below


def expected_improvement(best: npt.ArrayLike, mean: Floats, deviation: Floats) -> Floats:
    """Return by how much a normal variable is expected to fall below a value.

    Args:
        best: the value; it broadcasts, and may be -infinity, below which nothing falls.
        mean: of the variable.
        deviation: of the variable, more than 0.

    Returns:
        E[max(best - Y, 0)], of the broadcast shape.
    """
    best = np.asarray(best, dtype=np.float64)
    reachable = np.isfinite(best)
    gain = np.where(reachable, best, 0.0) - mean
    density = np.exp(-0.5 * (gain / deviation) ** 2) / np.sqrt(2 * np.pi)
    expected = gain * probability_below(gain, np.zeros_like(mean), deviation) + deviation * density
    return np.where(reachable, np.maximum(expected, 0.0), 0.0)


def boxes(front: Floats, reference: Floats) -> Boxes:
    """Cut what a front leaves undominated into boxes.

    Args:
        front: losses, shape (points, objectives); dominated points do no harm, none is needed.
        reference: the worst corner, shape (objectives,).

    Returns:
        One box for one objective, n + 1 for two, at most some n²/2 for three.
    """
    inside = front[(front < reference).all(axis=1)]
    inside = inside[nondominated(inside)]
    if len(reference) == 1:
        best = min(inside[:, 0], default=reference[0])
        return Boxes(np.array([[-np.inf]]), np.array([[best]]))
    # Between two values of the last objective, those points count that are not worse in it.
    inside = inside[np.argsort(inside[:, -1], kind="stable")]
    cuts = np.concatenate([[-np.inf], inside[:, -1], reference[-1:]])
    lower, upper = [], []
    for count in range(len(inside) + 1):
        if cuts[count] < cuts[count + 1]:
            flat = boxes(inside[:count, :-1], reference[:-1])
            lower.append(np.column_stack([flat.lower, np.full(len(flat.lower), cuts[count])]))
            upper.append(np.column_stack([flat.upper, np.full(len(flat.upper), cuts[count + 1])]))
    return Boxes(np.concatenate(lower), np.concatenate(upper))


def expected_hypervolume(free: Boxes, means: Floats, deviations: Floats) -> Floats:
    """Return by how much independent normal losses are expected to enlarge the hypervolume.

    The part of a box [l, u] that a point y dominates is a product over the objectives of
    max(u - y, 0) - max(l - y, 0). Its expectation is a product of differences of expected
    improvements (Daulton 2020, section 3.3, for one candidate, where it is exact).

    Args:
        free: what is not dominated yet.
        means: of the losses, shape (candidates, objectives).
        deviations: likewise, more than 0.

    Returns:
        Shape (candidates,), in the product of the objectives' units.
    """
    gains = np.empty(len(means))
    step = max(1, CHUNK // len(free.upper))
    for start in range(0, len(means), step):
        part = slice(start, start + step)
        volumes = np.ones((len(means[part]), len(free.upper)))
        for objective in range(means.shape[1]):
            ends = np.stack([free.lower[:, objective], free.upper[:, objective]])
            values, places = np.unique(ends, return_inverse=True)
            below = expected_improvement(
                values[None, :], means[part, objective, None], deviations[part, objective, None]
            )
            low, high = places.reshape(ends.shape)
            volumes *= below[:, high] - below[:, low]
        gains[part] = volumes.sum(axis=1)
    return gains


def sampled_hypervolume(
    front: Floats,
    reference: Floats,
    means: Floats,
    deviations: Floats,
    rng: np.random.Generator,
    *,
    samples: int = 4_096,
) -> Floats:
    """Estimate `expected_hypervolume`, in a time that hardly grows with the objectives.

    The expectation is an integral over what is not dominated yet, of the probability that a
    candidate dominates it: the product over the objectives of P(Y ≤ u). It is averaged over
    random places u, the same for all candidates.

    Args:
        front: losses, shape (points, objectives).
        reference: the worst corner, shape (objectives,).
        means: shape (candidates, objectives).
        deviations: likewise, more than 0.
        rng: draws the places.
        samples: how many; the error falls with its square root.

    Returns:
        Shape (candidates,).
    """
    lowest = np.minimum((means - 4 * deviations).min(axis=0), reference)
    places = rng.uniform(lowest, reference, size=(samples, len(reference)))
    for point in front:
        places = places[(places < point).any(axis=1)]
    total = np.zeros(len(means))
    step = max(1, CHUNK // max(1, len(means)))
    for start in range(0, len(places), step):
        part = places[start : start + step]
        chance = np.ones((len(means), len(part)))
        for objective in range(means.shape[1]):
            chance *= probability_below(
                part[None, :, objective],
                means[:, objective, None],
                deviations[:, objective, None],
            )
        total += chance.sum(axis=1)
    return total / samples * float(np.prod(reference - lowest))
